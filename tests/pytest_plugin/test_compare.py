"""`assert fi.inspect(a) == fi.inspect(b)` shows what differs."""

from __future__ import annotations

import pytest

from plugged import installed, run

pytest_plugins = ["pytester"]
__all__ = ["installed"]


def test_flags_that_differ_are_shown(installed: pytest.Pytester) -> None:
    installed.makepyfile(
        """
        import freezeinspect as fi
        from model import network

        def test_it():
            assert fi.inspect(network()) == fi.inspect(network().train())
        """
    )
    done = run(installed, "-vv")
    done.assert_outcomes(failed=1)
    done.stdout.fnmatch_lines(
        [
            "E*the freeze states differ (left is before, right is after)",
            "E*module*count*flags",
            "E*body*1*training no*yes",
        ]
    )


def test_optimizers_that_differ_are_told(installed: pytest.Pytester) -> None:
    installed.makepyfile(
        """
        import freezeinspect as fi
        from model import network, SGD

        def test_it():
            model = network()
            assert fi.inspect(model) == fi.inspect(model, SGD(model.parameters(), 0.1))
        """
    )
    run(installed).stdout.fnmatch_lines(["E*the optimizers differ, or their groups, gradients or states"])


def test_other_comparisons_are_pytest_s_own(installed: pytest.Pytester) -> None:
    installed.makepyfile(
        """
        import freezeinspect as fi
        from model import network

        def test_it():
            assert fi.Answer.YES == fi.Answer.NO

        def test_that():
            assert [1, 2] == [1, 3]
        """
    )
    done = run(installed)
    done.assert_outcomes(failed=2)
    done.stdout.fnmatch_lines(["E*At index 1 diff: 2 != 3"])
    done.stdout.no_fnmatch_line("*freeze states*")
