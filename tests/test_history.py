"""The record of a run keeps changes only, and gives each step back."""

from __future__ import annotations

import time

from freezeinspect.chapters import FORWARD, KNOWN, OUTSIDE, STEP, Span
from freezeinspect.history import FAILED, SKIPPED, TAKEN, History, Looks
from freezeinspect.readers import live
from freezeinspect.state import NO, UNKNOWN, YES
from training import pair

STILL = STEP << KNOWN
MOVED = STEP | STILL
WEIGHT = 0  # the first tensor of the model


def history() -> History:
    model, optimizer = pair()
    found = History()
    snapshot = live.read(model, [optimizer])
    found.restructured(snapshot.structure)
    found.flagged(snapshot, within=False)
    return found


def look(run: History, seen: int | None, optimizer: int = 0, outcome: int = TAKEN) -> None:
    """Take a step in which the weight was looked at; None where it did as before."""
    run.stepped(optimizer, outcome, 1)
    run.looked(len(run.taken), Looks(((WEIGHT, WEIGHT + 1),), {} if seen is None else {WEIGHT: seen}))


class TestSpans:
    def test_a_tensor_that_does_the_same_for_long_is_one(self) -> None:
        run = history()
        look(run, MOVED)
        for _ in range(1000):
            look(run, None)
        run.settle()
        assert run.last.spans_by_tensor()[WEIGHT] == [Span(1, 1001, 1001, MOVED)]

    def test_another_begins_where_it_does_otherwise(self) -> None:
        run = history()
        for seen in (MOVED, None, STILL, None):
            look(run, seen)
        run.settle()
        assert run.last.spans_by_tensor()[WEIGHT] == [Span(1, 2, 2, MOVED), Span(3, 4, 2, STILL)]
        assert [run.moved(step)[WEIGHT] for step in range(1, 5)] == [STEP, STEP, 0, 0]

    def test_steps_that_nobody_looked_at_lie_between_looks_and_are_not_counted_as_such(self) -> None:
        run = history()
        look(run, MOVED)
        run.stepped(0, TAKEN, 1)
        look(run, None)
        run.settle()
        assert run.last.spans_by_tensor()[WEIGHT] == [Span(1, 3, 2, MOVED)]

    def test_a_step_is_told_by_the_looks_of_its_own_optimizer(self) -> None:
        run = history()
        for seen in (MOVED, None):
            look(run, seen, optimizer=0)
            run.stepped(1, TAKEN, 1)
        assert [run.moved(step)[WEIGHT] for step in (1, 2, 3, 4)] == [STEP, 0, STEP, 0]

    def test_what_is_known_of_a_place_is_one_of_three(self) -> None:
        span = Span(1, 1, 1, STEP | (STEP | OUTSIDE) << KNOWN)
        assert [span.moved(place) for place in (STEP, OUTSIDE, FORWARD)] == [YES, NO, UNKNOWN]


class TestSurprises:
    def test_a_weight_that_stays_though_its_flags_let_it_move_is_one(self) -> None:
        run = history()
        look(run, STILL)
        (one,) = run.surprises()
        assert (one.name, one.place, one.predicted, one.first, one.last) == ("0.weight", "step", YES, 1, 1)

    def test_but_not_in_steps_that_were_skipped_or_failed(self) -> None:
        run = history()
        for outcome in (SKIPPED, FAILED):
            look(run, STILL, outcome=outcome)
        assert not list(run.surprises())


def test_ten_thousand_flips_are_judged_in_no_time() -> None:
    """As in a GAN, whose states come again and again."""
    model, optimizer = pair()
    run = history()
    states = [live.read(model.requires_grad_(flag), [optimizer]) for flag in (False, True)]
    for number in range(10_000):
        run.flagged(states[number % 2], within=False)
        look(run, None if number else MOVED)
    start = time.process_time()
    list(run.surprises())
    assert time.process_time() - start < 2
