"""The plugin comes by its entry point, loads none of our rooms and no torch until it is used, and can be left out."""

from __future__ import annotations

import pytest

from plugged import MODEL, installed, run_apart

pytest_plugins = ["pytester"]
__all__ = ["installed"]
SEES = """
import sys

def test_it(request):
    rooms = sorted(name for name in sys.modules if name.startswith("freezeinspect."))
    assert rooms == ["freezeinspect.pytest_plugin"]
    assert not {"torch", "pandas", "numpy"} & sys.modules.keys()
"""


def test_it_loads_nothing_until_it_is_used(installed: pytest.Pytester) -> None:
    installed.makepyfile(SEES)
    run_apart(installed).assert_outcomes(passed=1)
    run_apart(installed, "-n", "1").assert_outcomes(passed=1)


def test_that_test_would_notice(installed: pytest.Pytester) -> None:
    installed.makepyfile("from model import network\nfrom freezeinspect import inspect" + SEES)
    run_apart(installed).assert_outcomes(failed=1)


def test_no_freezeinspect_leaves_it_out(installed: pytest.Pytester) -> None:
    installed.makepyfile(
        """
        def test_without(pytestconfig): assert not pytestconfig.pluginmanager.hasplugin("freezeinspect")
        def test_with(freeze_policy): pass
        """
    )
    done = run_apart(installed, "-p", "no:freezeinspect")
    done.assert_outcomes(passed=1, errors=1)
    done.stdout.fnmatch_lines(["E*fixture 'freeze_policy' not found"])
    assert (
        "unrecognized arguments: --freeze-update"
        in run_apart(installed, "-p", "no:freezeinspect", "--freeze-update").stderr.str()
    )


def test_a_project_without_torch_in_its_tests_runs(installed: pytest.Pytester) -> None:
    assert "torch" in MODEL
    (installed.path / "torch.py").write_text("raise ImportError('torch is not to be imported')")
    installed.makepyfile("def test_it(): pass")
    run_apart(installed).assert_outcomes(passed=1)
