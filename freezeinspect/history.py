"""The record of a run, as data that needs no torch: the state at each boundary, and what moved in each step.

Only changes are kept. A tensor that is seen to do the same in a million steps is one Span.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple, TypeAlias

from freezeinspect.state import (
    ABSENT,
    NO,
    UNKNOWN,
    YES,
    Answer,
    Flip,
    Moved,
    Movement,
    Observed,
    Snapshot,
    Structure,
    Surprise,
    combine,
)
from freezeinspect.verdicts import STATISTICS, judge

FORWARD, STEP, OUTSIDE = 1, 2, 4  # where a tensor moved, as bits
PLACES = {"forward": FORWARD, "step": STEP, "outside": OUTSIDE}
KNOWN = 3  # bits to shift: of which places the look could tell
TAKEN, SKIPPED, FAILED = range(3)  # what became of a step
OUTCOMES = ("taken", "skipped", "failed")
FLAGS = ("training", "trainable", "bn_freeze", "drop_freeze", "track_running_stats", "momentum", "dropout")

Ranges: TypeAlias = tuple[tuple[int, int], ...]  # of tensors: first, and one past the last
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


@dataclass
class Chapter:
    """A run for as long as the structure stays the same: the states, and by optimizer and tensor the spans."""

    structure: Structure
    first: int  # step
    states: list[State] = field(default_factory=list)
    spans: dict[tuple[int, int], list[Span]] = field(default_factory=dict)
    optimizers: int = 1  # as far as they have spans

    @cached_property
    def parts(self) -> tuple[str, ...]:
        """Say of each tensor what it is to training."""
        return tuple(part_of(self.structure, i) for i in range(len(self.structure.tensors)))

    def spans_of(self, tensor: int) -> list[Span]:
        """Give the spans of one tensor over all optimizers, as they began."""
        return sorted(span for one in range(self.optimizers) for span in self.spans.get((one, tensor), ()))

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

    def flips(self) -> Iterator[Flip]:
        """Give each flag that changed from one state to the next."""
        for one, other in zip(self.states, self.states[1:], strict=False):
            if one.snapshot is not other.snapshot:
                yield from _flips(one.snapshot, other)


def part_of(structure: Structure, tensor: int) -> str:
    """Tell what a tensor is to training: one of weights, stats and buffers, the parts of a Movement."""
    found = structure.tensors[tensor]
    if found.kind == "parameter":
        return "weights"
    return "stats" if found.name in STATISTICS else "buffers"


def _flips(before: Snapshot, state: State) -> Iterator[Flip]:
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


class Looks(NamedTuple):
    """What one step's looks saw: at which tensors, and of each that did otherwise than in its last look, what."""

    at: Ranges = ()
    changed: Mapping[int, int] = {}


class History:
    """A run so far. `taken` has the number of the optimizer of each step, `outcomes` and `forwards` what came of it."""

    def __init__(self) -> None:
        self.chapters: list[Chapter] = []
        self.taken = array("H")
        self.outcomes = array("B")
        self.forwards = array("H")
        self.ended = False
        self._same: dict[int, list[int]] = {}  # by optimizer: looks like the last ones, first and last step of them
        self._at: dict[int, Ranges] = {}

    @property
    def last(self) -> Chapter:
        """Give the chapter that the run is in."""
        return self.chapters[-1]

    def restructured(self, structure: Structure) -> None:
        """Begin a chapter before the next step."""
        self.settle()
        self._at.clear()
        self.chapters.append(Chapter(structure, len(self.taken) + 1))

    def flagged(self, snapshot: Snapshot, within: bool, calls: Calls | None = None) -> None:
        """Note another state, before the next step or within it."""
        self.last.states.append(State(len(self.taken) + 1, within, snapshot, calls or {}))

    def stepped(self, optimizer: int, outcome: int, forwards: int) -> None:
        """Note a step, and what came of it."""
        self.taken.append(optimizer)
        self.outcomes.append(outcome)
        self.forwards.append(min(forwards, 65535))

    def skipped(self, step: int) -> None:
        """Note that a step, which was called, moved nothing by a scaler's will."""
        self.outcomes[step - 1] = SKIPPED

    def looked(self, step: int, looks: Looks) -> None:
        """Note what was seen of a step."""
        optimizer = self.taken[step - 1] if step else 0
        same = self._same.get(optimizer)
        if same is not None and not looks.changed and self._at.get(optimizer) == looks.at:
            same[0], same[1] = same[0] + 1, step
            return
        self.settle(optimizer)
        self._at[optimizer] = looks.at
        self._same[optimizer] = [1, step]
        self._begin(optimizer, step, looks)

    def _begin(self, optimizer: int, step: int, looks: Looks) -> None:
        """Begin the spans of what changed; the rest is settled with the looks that follow."""
        spans = self.last.spans
        self.last.optimizers = max(self.last.optimizers, optimizer + 1)
        for tensor, seen in looks.changed.items():
            spans.setdefault((optimizer, tensor), []).append(Span(step, step, 0, seen))

    def settle(self, optimizer: int | None = None) -> None:
        """Count the looks of late into the spans that they confirm."""
        for one in [optimizer] if optimizer is not None else list(self._same):
            looks, last = self._same.pop(one, (0, 0))
            for first, end in self._at.get(one, ()) if looks else ():
                for tensor in range(first, end):
                    spans = self.last.spans[one, tensor]
                    spans[-1] = spans[-1]._replace(last=last, looks=spans[-1].looks + looks)

    def close(self) -> None:
        """Note that the run was watched to its end."""
        self.settle()
        self.ended = True

    def observed(self) -> Observed:
        """Say module by module what moved in the last chapter, in any of its steps; and what flipped and surprised."""
        flips = tuple(flip for chapter in self.chapters for flip in chapter.flips())
        surprises = tuple(self.surprises())
        return Observed(tuple(_movements(self.last)), flips=flips, surprises=surprises, steps=len(self.taken))

    def moved(self, step: int) -> tuple[int, ...]:
        """Give for each tensor the bits of where it moved in a step, as far as it was looked at."""
        return tuple(seen & (FORWARD | STEP | OUTSIDE) for seen in self.seen(step))

    def seen(self, step: int) -> tuple[int, ...]:
        """Give for each tensor the bits of where it moved in a step, and of where that is known."""
        self.settle()
        chapter, stepped = self.chapter_of(step), self.taken[step - 1] if step else 0
        found = [0] * len(chapter.structure.tensors)
        for (optimizer, tensor), spans in chapter.spans.items():
            for span in spans if optimizer == stepped else ():
                if span.first <= step <= span.last:
                    found[tensor] |= span.seen
        return tuple(found)

    def chapter_of(self, step: int) -> Chapter:
        """Give the chapter that a step is in."""
        return next((one for one in reversed(self.chapters) if one.first <= step), self.chapters[0])

    def _forwards_of(self) -> dict[int, list[int]]:
        """Give for each optimizer the forwards before its steps, by the number of the step; 0 at those of others."""
        found: dict[int, list[int]] = {one: [0] * (len(self.taken) + 1) for one in set(self.taken)}
        for step, (optimizer, count) in enumerate(zip(self.taken, self.forwards, strict=True), 1):
            found[optimizer][step] = count
        return found

    def surprises(self) -> Iterator[Surprise]:
        """Give each tensor that did otherwise than the flags before its steps said."""
        self.settle()
        for chapter in self.chapters:
            yield from _surprises(chapter, self._forwards_of(), self.outcomes)


def _movements(chapter: Chapter) -> Iterator[Movement]:
    structure = chapter.structure
    moved = list(map(_moved, chapter.spans_by_tensor()))
    for module in range(len(structure)):
        below = [number for i in structure.subtree(module) for number in structure.own[i]]
        parts = ([moved[i] for i in below if chapter.parts[i] == part] for part in Movement._fields)
        yield Movement(*(Moved(*map(combine, zip(*part, strict=True))) if part else _NOTHING for part in parts))


_NOTHING = Moved(ABSENT, ABSENT, ABSENT)


def _moved(spans: list[Span]) -> Moved:
    """Tell of each place whether the tensor moved there at any time."""
    seen = [{span.moved(place) for span in spans} for place in PLACES.values()]
    return Moved(*(next((one for one in (YES, NO) if one in found), UNKNOWN) for found in seen))


def _surprises(chapter: Chapter, forwards: Mapping[int, Sequence[int]], outcomes: Sequence[int]) -> Iterator[Surprise]:
    predictions = _Predictions(chapter)
    found: dict[tuple[int, str, Answer], list[int]] = {}
    for (optimizer, tensor), spans in chapter.spans.items():
        place = {"weights": "step", "stats": "forward"}.get(chapter.parts[tensor])
        for span in spans if place else ():
            if place == "forward" and not any(forwards.get(optimizer, ())[span.first : span.last + 1]):
                continue  # no forward was seen, so none could move it
            seen = span.moved(PLACES[place or "step"])
            for first, last, predicted in predictions.over(tensor, span):
                if {seen, predicted} == {YES, NO} and (seen is YES or _any_taken(outcomes, first, last)):
                    key = (tensor, place or "", predicted)
                    note = found.setdefault(key, [first, last, 0])
                    note[0], note[1] = min(note[0], first), max(note[1], last)
                    note[2] += min(span.looks, last - first + 1)
    for (tensor, where, predicted), numbers in found.items():
        yield Surprise(chapter.structure.full_name(tensor), where, predicted, *numbers)


def _any_taken(outcomes: Sequence[int], first: int, last: int) -> bool:
    """Tell whether one of the steps was taken to its end: in others weights stay still whatever the flags say."""
    return any(outcomes[step - 1] == TAKEN for step in range(max(first, 1), last + 1))


class _Predictions:
    """What the flags said before each step, worked out once for each state."""

    def __init__(self, chapter: Chapter) -> None:
        self.chapter = chapter
        self.starts = [state.step + state.within for state in chapter.states]  # the first step that it is before
        snapshots = {id(state.snapshot): state.snapshot for state in chapter.states}
        self.known = {key: judge(snapshot) for key, snapshot in snapshots.items()}

    def over(self, tensor: int, span: Span) -> Iterator[tuple[int, int, Answer]]:
        """Give what was predicted over a span, and over which of its steps."""
        first = span.first
        while first <= span.last:
            at = bisect_right(self.starts, first)
            last = min(span.last, self.starts[at] - 1) if at < len(self.starts) else span.last
            yield first, last, self._of(tensor, self.chapter.states[max(at - 1, 0)].snapshot)
            first = last + 1

    def _of(self, tensor: int, snapshot: Snapshot) -> Answer:
        verdicts = self.known[id(snapshot)]
        if self.chapter.parts[tensor] == "weights":
            return verdicts.weights[tensor]
        return verdicts.stats[self.chapter.structure.tensors[tensor].owner]
