"""Policies that no test uses are reported, where it can be known."""

from __future__ import annotations

import pytest

from plugged import installed, run

pytest_plugins = ["pytester"]
__all__ = ["installed"]
TWO = """
    import pytest
    from model import network

    def test_one(freeze_policy): freeze_policy(network())
    def test_two(freeze_policy): freeze_policy(network())
"""


@pytest.fixture
def renamed(installed: pytest.Pytester) -> pytest.Pytester:
    """Rename a test whose policy was written."""
    installed.makepyfile(test_it=TWO)
    run(installed, "--freeze-update").assert_outcomes(passed=2)
    installed.makepyfile(test_it=TWO.split("    def test_two")[0])
    return installed


def test_that_of_a_test_that_is_gone_is(renamed: pytest.Pytester) -> None:
    done = run(renamed)
    done.assert_outcomes(passed=1)
    done.stdout.fnmatch_lines(["*freeze policies*", "unused: __freeze__/test_it/test_two.toml; no test asks for it, *"])
    assert done.ret == 0


def test_that_of_a_file_that_is_gone_is(renamed: pytest.Pytester) -> None:
    (renamed.path / "__freeze__/test_it").rename(renamed.path / "__freeze__/test_old")
    done = run(renamed, "--freeze-update")
    done.stdout.fnmatch_lines(
        ["unused: __freeze__/test_old/test_one.toml*", "unused: __freeze__/test_old/test_two.toml*"]
    )


def test_that_of_a_call_that_is_gone_is(installed: pytest.Pytester) -> None:
    twice = "from model import network\ndef test_it(freeze_policy):\n    freeze_policy(network())\n"
    installed.makepyfile(test_it=twice + "    freeze_policy(network())\n")
    run(installed, "--freeze-update")
    installed.makepyfile(test_it=twice)
    run(installed).stdout.fnmatch_lines(["unused: __freeze__/test_it/test_it~2.toml*"])


@pytest.mark.parametrize("some", [["-k", "one"], ["test_it.py::test_one"], ["--deselect", "test_it.py::test_three"]])
def test_none_is_where_only_some_tests_are_asked_for(some: list[str], renamed: pytest.Pytester) -> None:
    renamed.makepyfile(test_it=TWO.split("    def test_two")[0] + "    def test_three(): pass\n")
    run(renamed, *some).stdout.no_fnmatch_line("*unused*")


def test_none_is_where_they_are_asked_for_by_another_path(renamed: pytest.Pytester) -> None:
    renamed.makepyfile(test_it=TWO.split("    def test_two")[0] + "    def test_three(): pass\n")
    (renamed.path / "link").symlink_to(renamed.path, target_is_directory=True)
    run(renamed, "link/test_it.py::test_one").stdout.no_fnmatch_line("*unused*")


def test_that_of_a_test_that_failed_or_was_skipped_is_not(renamed: pytest.Pytester) -> None:
    renamed.makepyfile(
        test_it="""
        import pytest

        def test_one(freeze_policy): assert False
        def test_two(freeze_policy): pytest.skip()
        """
    )
    run(renamed).stdout.no_fnmatch_line("*unused*")


def test_under_xdist_too(renamed: pytest.Pytester) -> None:
    done = run(renamed, "-n", "2")
    done.assert_outcomes(passed=1)
    done.stdout.fnmatch_lines(["unused: __freeze__/test_it/test_two.toml*"])
    done.stdout.no_fnmatch_line("unused: *test_one*")
