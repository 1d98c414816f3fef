"""The experiment: a real loop, looked at before and after every step."""

import pytest
import torch

from freezeinspect.chapters import FORWARD, STEP, part_of
from freezeinspect.demo import experiment, story
from freezeinspect.demo.network import pretrained
from freezeinspect.regimes import REGIMES
from freezeinspect.state import Answer
from witness import unchanged

YES, NO = Answer.YES, Answer.NO
LATER = "unfreeze(), bn_freeze(True), bn_freeze(False)"
LEAK = "plain: requires_grad_(False), train()"


@pytest.fixture(scope="module")
def network():
    torch.set_num_threads(1)
    return pretrained(torch.device("cpu"))


@pytest.fixture(scope="module")
def runs(network):
    with unchanged(network):
        return {regime.name: experiment.run(regime, network, steps=12) for regime in REGIMES}


@pytest.mark.parametrize("regime", REGIMES, ids=lambda regime: regime.name)
def test_every_regime_comes_out_as_tabled(regime, runs):
    assert runs[regime.name].outcome == regime.expected


def test_flags_change_only_between_steps_so_the_state_after_one_is_the_state_before_the_next(runs):
    for run in runs.values():
        for before, after in zip(run.steps, run.steps[1:], strict=False):
            assert before.after is after.before
            assert not after.flips or after.calls


def test_bn_freeze_false_flips_the_attribute_at_once_and_the_statistics_at_the_next_epoch(runs):
    run = runs[LATER]
    called = next(step for step in run.steps if "bn_freeze(False)" in step.calls)
    acted = next(step for step in run.steps if step.number > called.number and "set_train_mode()" in step.calls)
    norm = called.after.structure.index["stem.1"]
    assert (called.before.bn_freeze[norm], called.after.bn_freeze[norm]) == (YES, NO)
    assert (called.before.training[norm], called.after.training[norm]) == (NO, NO)
    assert (acted.before.training[norm], acted.after.training[norm]) == (NO, YES)
    assert run.moved_in("stats") == list(range(acted.number, len(run.steps) + 1))
    assert [step.number for step in run.shown] == [1, 2, called.number, acted.number]


def test_statistics_move_in_the_forward_and_weights_in_the_step(runs):
    for step in runs["unfreeze()"].steps:
        parts = [part_of(step.after.structure, i) for i in range(len(step.moved))]
        assert set(zip(parts, step.moved, strict=True)) == {("weights", STEP), ("stats", FORWARD), ("buffers", FORWARD)}


def test_a_frozen_body_is_the_same_function_after_and_a_leaking_one_is_not(runs):
    assert runs["freeze()"].drift == 0
    assert runs[LEAK].drift > 0.1


def test_the_snapshots_of_a_run_share_one_structure(runs):
    for run in runs.values():
        assert len({id(step.after.structure) for step in run.steps}) == 1


def test_a_run_is_the_same_every_time(network, runs):
    again = experiment.run(REGIMES[0], network, steps=12)
    first = runs[REGIMES[0].name]
    assert (again.accuracy, again.drift) == (first.accuracy, first.drift)
    assert [step.moved for step in again.steps] == [step.moved for step in first.steps]


def test_the_progress_ticks_once_a_step(network):
    ticks = []
    experiment.run(REGIMES[0], network, steps=6, tick=lambda: ticks.append(1))
    assert len(ticks) == 6


def test_the_tables_and_the_answer(runs, snapshot):
    assert story.state_table(runs[LATER]) == snapshot(name="state")
    figures = story.figures(list(runs.values()))
    assert [figure["as_tabled"] for figure in figures] == [True] * 8
    text = story.answer(list(runs.values()))
    assert text.count(". ") + text.count(".\n") == 2  # three sentences
    assert "weights moved in 0 of\n12 steps" in text or "weights moved in 0 of 12" in text
    printed = [story.moved_table(list(runs.values())), story.state_table(runs[LATER]), text]
    assert max(len(line) for text in printed for line in text.splitlines()) <= 80
