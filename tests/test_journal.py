"""A history written line by line, and told again."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from freezeinspect import journal
from freezeinspect.chapters import Calls
from freezeinspect.history import History, Looks
from freezeinspect.journal import Writer, replayed
from freezeinspect.readers import live
from freezeinspect.recorder.attention import ranges
from freezeinspect.report.run import Run
from freezeinspect.serial import NotARecord
from training import pair


class Told:
    """A history and its lines, which are told the same."""

    def __init__(self) -> None:
        self.history, self.lines = History(), []
        self.writer = Writer(self.lines.append, {"rank": 0})
        self.model, self.optimizer = pair()
        self.snapshot = live.read(self.model, [self.optimizer])
        self.before: dict[int, dict[int, int]] = {}
        self.restructured()

    @property
    def records(self) -> list[Any]:
        return [self.history, self.writer]

    def restructured(self) -> None:
        self.snapshot = live.read(self.model, [self.optimizer])
        self.before.clear()
        for record in self.records:
            record.restructured(self.snapshot.structure)
        self.flagged(within=False, calls={})

    def flagged(self, within: bool, calls: Calls) -> None:
        self.snapshot = live.read(self.model, [self.optimizer], self.snapshot.structure)
        for record in self.records:
            record.flagged(self.snapshot, within, calls)

    def stepped(self, optimizer: int, outcome: int, seen: dict[int, int]) -> None:
        for record in self.records:
            record.stepped(optimizer, outcome, 1)
        if seen:
            before = self.before.setdefault(optimizer, {})
            looks = Looks(ranges(sorted(seen)), {i: bits for i, bits in seen.items() if before.get(i) != bits})
            before |= seen
            for record in self.records:
                record.looked(len(self.history.taken), looks)


TENSORS = st.dictionaries(st.integers(0, 5), st.integers(0, 63))
EVENTS = st.lists(
    st.one_of(
        st.tuples(st.just("step"), st.integers(0, 2), st.integers(0, 2), TENSORS),
        st.tuples(st.just("mode"), st.integers(0, 3), st.booleans()),
        st.tuples(st.just("freeze"), st.booleans(), st.text(max_size=5)),
        st.tuples(st.just("lr"), st.floats(0, 1)),
        st.tuples(st.just("stray"), st.integers(0, 3)),
        st.tuples(st.just("grow")),
        st.tuples(st.just("skip")),
    ),
    max_size=12,
)


def happens(told: Told, kind: str, *rest: Any) -> None:
    if kind == "step":
        told.stepped(*rest)
    elif kind == "mode":
        told.model[rest[0]].train(rest[1])
        told.flagged(within=rest[1], calls={})
    elif kind == "freeze":
        told.model[0].requires_grad_(rest[0])
        told.flagged(within=False, calls={("0.weight", "requires_grad"): rest[1]})
    elif kind == "lr":
        told.optimizer.param_groups[0]["lr"] = rest[0]
        told.flagged(within=False, calls={})
    elif kind == "stray":
        told.model[rest[0]].require_grad = False
        told.flagged(within=False, calls={})
    elif kind == "grow":
        told.model.append(nn.Linear(1, 1))
        told.restructured()
    elif told.history.taken:
        for record in told.records:
            record.skipped(len(told.history.taken))


@settings(deadline=None)
@given(EVENTS, st.booleans(), st.sampled_from([2, 1000]))
def test_any_history_written_and_replayed_is_the_same(events: list[Any], ends: bool, entries: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(journal, "ENTRIES", entries)  # so that parts are joined
        told = Told()
        for event in events:
            happens(told, *event)
        if ends:
            for record in told.records:
                record.close()
    again = replayed(line.encode() for line in told.lines).history
    assert Run(again).to_json() == Run(told.history).to_json()
    for one, other in zip(again.chapters, told.history.chapters, strict=True):
        assert (one.structure, one.states, one.spans) == (other.structure, other.states, other.spans)


def test_every_line_is_valid_json() -> None:
    told = Told()
    told.model[1].momentum = float("nan")
    told.optimizer.param_groups[0]["lr"] = float("inf")
    told.flagged(within=False, calls={})
    for line in told.lines:
        json.loads(line, parse_constant=pytest.fail)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (b"[]", "expected an object, saw list"),
        (b"{", "line 2: not as"),
        (b'{"skipped": 7}', "step 7 of 0"),
        (b'{"step": 1, "forwards": -1}', "saw -1, expected a number"),
    ],
)
def test_a_line_that_is_not_as_the_schema_says_is_named(line: bytes, said: str) -> None:
    with pytest.raises(NotARecord, match=said):
        replayed([json.dumps({"schema": journal.SCHEMA}).encode() + b"\n", line + b"\n"])
