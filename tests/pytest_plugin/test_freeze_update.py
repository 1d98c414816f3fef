"""The option --freeze-update: what it writes, what it leaves, and what it reports."""

from __future__ import annotations

import pytest

from plugged import installed, policies, run

pytest_plugins = ["pytester"]
__all__ = ["installed"]


def test_it_writes_what_is_missing_or_does_not_hold_and_leaves_the_rest(installed: pytest.Pytester) -> None:
    installed.makepyfile(
        test_three="""
        from model import network

        def test_new(freeze_policy): freeze_policy(network())
        def test_changed(freeze_policy): freeze_policy(network())
        def test_held(freeze_policy): freeze_policy(network())
        """
    )
    folder = installed.path / "__freeze__/test_three"
    folder.mkdir(parents=True)
    (folder / "test_changed.toml").write_text('allow = ["FI102"]\nexpect = [{pattern = "body", training = true}]')
    held = 'expect = [{pattern = "body", training = false}]  # by hand'
    (folder / "test_held.toml").write_text(held)
    done = run(installed, "--freeze-update")
    done.assert_outcomes(passed=3)
    done.stdout.fnmatch_lines(["*freeze policies*", "written: *test_changed.toml", "written: *test_new.toml"])
    assert (folder / "test_held.toml").read_text() == held
    new, changed = ((folder / f"test_{name}.toml").read_text() for name in ("new", "changed"))
    assert changed.replace('allow = ["FI102"]\n', "") == new
    assert len(policies(installed)) == 3
    done = run(installed, "--freeze-update")
    done.stdout.no_fnmatch_line("written*")


def test_without_it_nothing_is_written(installed: pytest.Pytester) -> None:
    installed.makepyfile(test_one="from model import network\ndef test_it(freeze_policy): freeze_policy(network())")
    run(installed).assert_outcomes(failed=1)
    assert not (installed.path / "__freeze__").exists()


def test_it_stands_in_the_help(installed: pytest.Pytester) -> None:
    run(installed, "--help").stdout.fnmatch_lines(["freezeinspect:", "*--freeze-update*Write the policies*"])
