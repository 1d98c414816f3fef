"""A chapter of a run: for as long as its structure stays the same, the states, and in spans of steps what moved."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple, TypeAlias

from freezeinspect.observed import Flip
from freezeinspect.state import NO, UNKNOWN, YES, Answer, Snapshot, Structure
from freezeinspect.verdicts import STATISTICS

FORWARD, STEP, OUTSIDE = 1, 2, 4  # where a tensor moved, as bits
PLACES = {"forward": FORWARD, "step": STEP, "outside": OUTSIDE}
KNOWN = 3  # bits to shift: of which places the look could tell
FLAGS = ("training", "trainable", "bn_freeze", "drop_freeze", "track_running_stats", "momentum", "dropout")


Calls: TypeAlias = dict[tuple[str, str], str]  # where a flag was set, by path or tensor name, and flag


class Span(NamedTuple):
    """Steps over which each look at one tensor saw the same: the bits of `seen`, where it moved and what is known."""

    first: int
    last: int
    looks: int
    seen: int

    def moved(self, place: int) -> Answer:
        """Tell whether it moved in one of the places."""
        return YES if self.seen & place else NO if self.seen >> KNOWN & place else UNKNOWN


class State(NamedTuple):
    """The flags from a moment on: before the step of this number, or in it, until the next State."""

    step: int
    within: bool
    snapshot: Snapshot
    calls: Calls


class Stretch(NamedTuple):
    """Steps of one optimizer that began in the same state; steps of others may lie between them."""

    first: int
    last: int
    snapshot: Snapshot

    def sure_looks(self, span: Span) -> int:
        """Give how many looks of a span, of which this is a part, must have been at this part."""
        others = (span.last - span.first) - (self.last - self.first)
        return max(span.looks - others, int(self.first == span.first or self.last == span.last))


Stretches: TypeAlias = dict[int, list[Stretch]]  # by optimizer


@dataclass
class Chapter:
    """A run for as long as the structure stays the same: the states, and by optimizer and tensor the spans."""

    structure: Structure
    first: int  # step
    states: list[State] = field(default_factory=list)
    spans: dict[tuple[int, int], list[Span]] = field(default_factory=dict)

    @cached_property
    def parts(self) -> tuple[str, ...]:
        """Say of each tensor what it is to training."""
        return tuple(part_of(self.structure, i) for i in range(len(self.structure.tensors)))

    def spans_by_tensor(self) -> list[list[Span]]:
        """Give the spans of every tensor over all optimizers, as they began."""
        found: list[list[Span]] = [[] for _ in self.structure.tensors]
        for (_, tensor), spans in self.spans.items():
            found[tensor] += spans
        return list(map(sorted, found))

    def state_at(self, step: int, within: bool) -> State:
        """Give the state as a step began, or as it ended."""
        moments = [(state.step, state.within) for state in self.states]
        return self.states[max(bisect_right(moments, (step, within)) - 1, 0)]

    def in_force(self, last: int) -> Iterator[tuple[int, int, State]]:
        """Give the states in which steps began, to a last one, and over which steps: first and last."""
        starts = [max(state.step + state.within, self.first) for state in self.states]
        for first, end, state in zip(starts, [*starts[1:], last + 1], self.states, strict=True):
            if first < min(end, last + 1):
                yield first, min(end - 1, last), state

    def calls(self, after: int, until: int) -> Calls:
        """Give the calls that set flags after a step and until another one begins, the last for each."""
        return {key: call for one in self.states if after <= one.step <= until for key, call in one.calls.items()}

    def flips(self) -> Iterator[Flip]:
        """Give each flag that changed from one state to the next."""
        for one, other in zip(self.states, self.states[1:], strict=False):
            if one.snapshot is not other.snapshot:
                yield from flips_between(one.snapshot, other)


def part_of(structure: Structure, tensor: int) -> str:
    """Tell what a tensor is to training: one of weights, stats and buffers, the parts of a Movement."""
    found = structure.tensors[tensor]
    if found.kind == "parameter":
        return "weights"
    return "stats" if found.name in STATISTICS else "buffers"


def flips_between(before: Snapshot, state: State) -> Iterator[Flip]:
    """Give each flag that a state has otherwise than a snapshot of the same structure."""
    after, structure = state.snapshot, state.snapshot.structure
    for flag in FLAGS:
        one, other = getattr(before, flag), getattr(after, flag)
        if one != other:
            for i, path in enumerate(structure.paths):
                if one[i] != other[i]:
                    yield Flip(state.step, state.within, path, flag, one[i], other[i], state.calls.get((path, flag)))
    for i, (was, now) in enumerate(zip(before.requires_grad, after.requires_grad, strict=True)):
        if was != now:
            name = structure.full_name(i)
            call = state.calls.get((name, "requires_grad"))
            yield Flip(state.step, state.within, name, "requires_grad", was, now, call)
