"""The record of a run, as data that needs no torch: the state at each boundary, and what moved in each step.

Only changes are kept. A tensor that is seen to do the same in a million steps is one Span.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Mapping
from itertools import pairwise
from typing import NamedTuple, TypeAlias

from freezeinspect.chapters import FORWARD, OUTSIDE, STEP, Calls, Chapter, Span, State, Stretch, Stretches
from freezeinspect.lives import holds_any, lives, movements, surprises, turns
from freezeinspect.observed import Disagreement, Observed, Surprise, Times
from freezeinspect.state import NO, Group, Snapshot, Structure

TAKEN, SKIPPED, FAILED = range(3)  # what became of a step
OUTCOMES = ("taken", "skipped", "failed")
Ranges: TypeAlias = tuple[tuple[int, int], ...]  # of tensors: first, and one past the last


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
        self.rank, self.ranks = 0, 1  # of the process that was watched, and how many there were
        self._ranks: list[Disagreement] = []
        self._recomputed: dict[str, int] = {}  # by path: the first step before which it ran forward in a backward
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

    def recomputed(self, path: str) -> None:
        """Note that a module with statistics ran forward in a backward, before the next step."""
        self._recomputed.setdefault(path, len(self.taken) + 1)

    def ranked(self, found: Iterable[Disagreement]) -> None:
        """Note where the ranks differed as a step began."""
        self._ranks += found

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
        """Say what moved in the last chapter, in any of its steps, and what flipped, turned and surprised."""
        self.settle()
        stretches = self._stretches(self.last)
        return Observed(
            tuple(movements(self.last)),
            flips=tuple(flip for chapter in self.chapters for flip in chapter.flips()),
            surprises=tuple(self.surprises()),
            steps=len(self.taken),
            lived=tuple(lives(self.last, stretches, self.taken, self.outcomes)),
            turns=tuple(turns(self.last, len(self.taken))),
            in_eval=self._in_eval(stretches),
            recomputed=tuple(self._recomputed.items()),
            ranks=tuple(self._ranks),
            orphaned=tuple(self._orphaned()),
        )

    def _orphaned(self) -> Iterator[tuple[int, int]]:
        """Give the groups that hold tensors of an earlier chapter's model, and the first step of the one without."""
        for one, other in pairwise(self.chapters):
            before, after = (_groups(state.snapshot) for state in (one.states[-1], other.states[0]))
            for number, (was, now) in enumerate(zip(before, after, strict=False)):
                if was.parameters == now.parameters and (now.orphans or 0) > (was.orphans or 0):
                    yield number, other.first

    def _stretches(self, chapter: Chapter) -> Stretches:
        """Give in which states the steps of each optimizer began, in a chapter."""
        found: Stretches = {}
        following = next((one.first for one in self.chapters if one.first > chapter.first), len(self.taken) + 1)
        for first, last, state in chapter.in_force(following - 1):
            for optimizer in set(self.taken[first - 1 : last]):
                many = found.setdefault(optimizer, [])
                start = many.pop().first if many and many[-1].snapshot == state.snapshot else first
                many.append(Stretch(start, last, state.snapshot))
        return found

    def _in_eval(self, stretches: Stretches) -> Times:
        """Count the steps of optimizers that hold a parameter of the root, while the root was in eval."""
        found = [
            step
            for optimizer, many in stretches.items()
            for one in many
            if one.snapshot.training[0] is NO and holds_any(one.snapshot, optimizer)
            for step in range(one.first, one.last + 1)
            if self.taken[step - 1] == optimizer and self.outcomes[step - 1] == TAKEN
        ]
        return Times(len(found), min(found, default=None))

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
            yield from surprises(chapter, self._stretches(chapter), self._forwards_of(), self.outcomes)


def _groups(snapshot: Snapshot) -> list[Group]:
    return [group for one in snapshot.optimizers for group in one.groups]
