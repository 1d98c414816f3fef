"""Under xdist: each policy is written once, whole, and reported once; a worker that dies leaves no false report."""

from __future__ import annotations

import pytest

from freezeinspect.policy import load
from plugged import installed, policies, run

pytest_plugins = ["pytester"]
__all__ = ["installed"]


def test_all_are_written_and_then_hold(installed: pytest.Pytester) -> None:
    installed.makepyfile(
        test_many="""
        import pytest
        from model import network

        @pytest.mark.parametrize("n", range(12))
        def test_it(freeze_policy, n): freeze_policy(network())
        """
    )
    done = run(installed, "-n", "2", "--freeze-update")
    done.assert_outcomes(passed=12)
    names = policies(installed)
    assert len(names) == 12
    assert [line for line in done.outlines if line.startswith("written: ")] == [f"written: {name}" for name in names]
    assert len({load(installed.path / name) == load(installed.path / names[0]) for name in names}) == 1
    assert [path.name for path in (installed.path / "__freeze__/test_many").iterdir() if path.suffix != ".toml"] == []
    done = run(installed, "-n", "2")
    done.assert_outcomes(passed=12)
    done.stdout.no_fnmatch_line("*freeze policies*")


def test_a_worker_that_dies_leaves_no_false_report(installed: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    installed.makepyfile(
        test_it="""
        import os
        from model import network

        def test_one(freeze_policy): freeze_policy(network())
        def test_dies():
            if os.environ.get("DIE"): os._exit(1)
        """
    )
    run(installed, "--freeze-update")
    monkeypatch.setenv("DIE", "1")
    run(installed, "-n", "1").stdout.no_fnmatch_line("*unused*")
