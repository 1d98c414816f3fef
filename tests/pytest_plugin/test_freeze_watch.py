"""The fixture freeze_watch: a training test that fails on chosen rules."""

from __future__ import annotations

import pytest

from plugged import installed, run

pytest_plugins = ["pytester"]
__all__ = ["installed"]
TEST = """
    from model import *

    def test_training(freeze_watch):
        model = network()
        optimizer = SGD(model.head.parameters(), 0.1)
        {before}
        with freeze_watch(model, optimizer, {options}) as watch:
            train(model, optimizer)
            {within}
        assert len(watch.run) == 3
"""


def outcome(at: pytest.Pytester, before: str = "pass", options: str = "", within: str = "pass") -> pytest.RunResult:
    at.makepyfile(test_it=TEST.format(before=before, options=options, within=within))
    return run(at)


def test_a_loop_that_keeps_frozen_parts_still_passes(installed: pytest.Pytester) -> None:
    outcome(installed).assert_outcomes(passed=1)


def test_statistics_that_moved_fail_with_module_and_mend(installed: pytest.Pytester) -> None:
    done = outcome(installed, before="model.train()")
    done.assert_outcomes(failed=1)
    done.stdout.fnmatch_lines(
        [
            "what was watched is not as it should be:",
            "FI302 frozen-stats-moved error: body.1: *",
            "    model.body[[]1[]].eval()  # after every model.train()",
        ]
    )


def test_only_chosen_rules_fail(installed: pytest.Pytester) -> None:
    outcome(installed, "model.train()", "fail_on=['FI301']").assert_outcomes(passed=1)
    outcome(installed, "model.train()", "fail_on=['FI301', 'frozen-stats-moved']").assert_outcomes(failed=1)
    outcome(installed, "model.train()", "fail_on='FI301'").assert_outcomes(passed=1)
    outcome(installed, "model.train()", "fail_on='FI302'").assert_outcomes(failed=1)
    outcome(installed, "model.train()", "allow=['FI302:body', 'FI101']").assert_outcomes(passed=1)


def test_a_rule_that_does_not_exist_is_told_before_any_training(installed: pytest.Pytester) -> None:
    done = outcome(installed, options="fail_on='FI999'", within="raise KeyError('too late')")
    done.stdout.fnmatch_lines(["E*NoSuchRule: no rule 'FI999'; there are: FI101*"])
    done.stdout.no_fnmatch_line("*too late*")


def test_a_severity_does(installed: pytest.Pytester) -> None:
    outcome(installed, "model.body[1].requires_grad_(True)", "fail_on='info'").assert_outcomes(failed=1)


def test_a_policy_is_held_against_what_moved(installed: pytest.Pytester) -> None:
    (installed.path / "freeze.toml").write_text("expect = [{pattern = 'head', weights_move = false}]")
    done = outcome(installed, options="policy='freeze.toml'")
    done.assert_outcomes(failed=1)
    done.stdout.fnmatch_lines(["FI601 policy-violated error: head: weights_move is yes, *"])


def test_an_error_of_the_loop_is_the_one_that_is_told(installed: pytest.Pytester) -> None:
    done = outcome(installed, "model.train()", within="raise KeyError('mine')")
    done.stdout.fnmatch_lines(["E*KeyError: 'mine'"])
    done.stdout.no_fnmatch_line("*what was watched*")
