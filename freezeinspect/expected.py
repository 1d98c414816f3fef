"""What is expected rather than seen, as data; and which line of a policy speaks of which module and parameter."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from typing import NamedTuple, TypeAlias

from freezeinspect.observed import Observed
from freezeinspect.patterns import MatchesNothing, Pattern
from freezeinspect.state import ABSENT, MIXED, NO, UNKNOWN, YES, Answer, Snapshot, Structure, combine
from freezeinspect.verdicts import STATISTICS, Verdicts

OF_PARAMETERS = ("requires_grad", "weights_move", "in_optimizer")
OF_MODULES = ("training", "trainable", "bn_freeze", "stats_move", "normalises_with")
KEYS = OF_PARAMETERS + OF_MODULES
NORMS = ("batch", "running", "sample")  # what a layer may normalise with; none is `absent` here

Word: TypeAlias = Answer | str  # a string is one of NORMS
Table: TypeAlias = Mapping[str, Answer]  # of a module's own parameters, by their names


class Expectation(NamedTuple):
    """One line of a policy: what all that its pattern matches is expected to answer, key by key."""

    pattern: str
    answers: Mapping[str, Word | Table]


@dataclass(frozen=True)
class Expected:
    """What is expected of a model, as lines of which the last that matches wins, key by key."""

    lines: tuple[Expectation, ...] = ()
    complete: bool = False  # every module is to be matched by a line


def seen(snapshot: Snapshot, verdicts: Verdicts, observed: Observed = Observed()) -> dict[str, Sequence[Word]]:
    """Give what is so, key by key: an entry a tensor, or one a module, in which `absent` has nothing to say.

    Where the steps of a run were looked at, a weight or a layer's statistics move if they did.
    """
    weights, stats = list(verdicts.weights), list(verdicts.stats)
    for i, lived in enumerate(observed.lived):
        tensor = snapshot.structure.tensors[i]
        moved = YES if lived.forward.number or lived.step.number or lived.outside.number else NO
        if lived.looks and tensor.kind == "parameter":
            weights[i] = moved
        elif lived.looks and tensor.name in STATISTICS and stats[tensor.owner] is not ABSENT:
            stats[tensor.owner] = moved
    norms: dict[str, Word] = {"none": ABSENT, "unknown": UNKNOWN}
    return {
        "requires_grad": snapshot.requires_grad,
        "weights_move": weights,
        "in_optimizer": [_in_optimizer(snapshot, i) for i in range(len(weights))],
        "training": snapshot.training,
        "trainable": snapshot.trainable,
        "bn_freeze": snapshot.bn_freeze,
        "stats_move": stats,
        "normalises_with": [norms.get(word, word) for word in verdicts.normalises_with],
    }


def _in_optimizer(snapshot: Snapshot, tensor: int) -> Answer:
    if snapshot.requires_grad[tensor] is ABSENT:
        return ABSENT
    groups = snapshot.groups[tensor] if snapshot.optimizers else None
    return UNKNOWN if groups is None else YES if groups else NO


class Places(NamedTuple):
    """What a pattern matches: modules and tensors, by their first paths and by their further ones."""

    modules: frozenset[int]
    tensors: frozenset[int]
    shared_modules: frozenset[int]
    shared_tensors: frozenset[int]


@dataclass(frozen=True)
class Names:
    """The names of a structure's modules and tensors, sorted, so that a pattern looks only where it can match."""

    structure: Structure

    @cached_property
    def _sorted(self) -> list[tuple[str, int, int]]:
        """Give each name with its field of Places and its number."""
        structure = self.structure
        found = [(path, 0, i) for i, path in enumerate(structure.paths)]
        found += [(structure.full_name(i), 1, i) for i in range(len(structure.tensors))]
        for i, aliases in enumerate(structure.aliases):
            for alias in aliases:
                found.append((alias, 2, i))
                found += [(f"{alias}.{structure.tensors[n].name}", 3, n) for n in structure.own[i]]
        return sorted(found)

    def matching(self, pattern: str) -> Places:
        """Find what a pattern matches; a shared module by any of its paths."""
        glob = Pattern(pattern)
        found: tuple[list[int], ...] = ([], [], [], [])
        for name, field, number in self._candidates(pattern):
            if glob.matches(name):
                found[field].append(number)
        return Places(*map(frozenset, found))

    def _candidates(self, pattern: str) -> Iterator[tuple[str, int, int]]:
        """Give the names that begin with the names before the first glob."""
        start = _PLAIN.match(pattern)
        prefix = start[0].rstrip(".") if start else ""
        if not prefix:
            yield from self._sorted
            return
        for low, high in ((prefix, prefix + "\0"), (prefix + ".", prefix + "/")):
            yield from self._sorted[bisect_left(self._sorted, (low,)) : bisect_left(self._sorted, (high,))]


_PLAIN = re.compile(r"[^.*?\[{},\]]+(?:\.[^.*?\[{},\]]+)*(?:\.|\Z)")


class Violation(NamedTuple):
    """What does not hold: of a module with all below it, of itself alone, or of one of its tensors."""

    key: str
    line: int
    expected: Word
    answer: Word
    module: int
    is_whole: bool = False
    tensor: int | None = None


class _Broken(NamedTuple):
    """What does not hold of one module or tensor."""

    line: int
    expected: Word
    answer: Word


FINE = _Broken(-1, UNKNOWN, UNKNOWN)


@dataclass(frozen=True)
class Comparison:
    """What is expected beside what is so; `stats` says of each module whether it has running statistics."""

    expected: Expected
    structure: Structure
    seen: Mapping[str, Sequence[Word]]
    stats: Sequence[Answer]

    @cached_property
    def places(self) -> list[Places]:
        """Give what each line matches."""
        names = Names(self.structure)
        return [names.matching(line.pattern) for line in self.expected.lines]

    def unmatched(self) -> Iterator[MatchesNothing]:
        """Give the lines that match nothing, as the errors that they are."""
        structure = self.structure
        for line, places in zip(self.expected.lines, self.places, strict=True):
            if not any(places):
                names = map(structure.full_name, range(len(structure.tensors)))
                yield MatchesNothing(line.pattern, [*structure.paths, *structure.index, *names])

    def governing(self, key: str) -> list[tuple[int, Word] | None]:
        """Give for each module, or tensor, the last line that speaks of it, and what it says.

        A shared one goes by its first path; by another where no line speaks of the first.
        """
        found: list[tuple[int, Word] | None] = [None] * len(self.seen[key])
        for shared in (True, False):
            for number, (line, places) in enumerate(zip(self.expected.lines, self.places, strict=True)):
                said = line.answers.get(key)
                for i in places[2 * shared + (key in OF_PARAMETERS)] if said is not None else ():
                    word = said.get(self.structure.tensors[i].name) if isinstance(said, Mapping) else said
                    if word is not None:
                        found[i] = number, word
        return found

    def violations(self, key: str) -> Iterator[Violation]:
        """Give what does not hold: the topmost modules in which nothing does, then what else."""
        governing = self.governing(key)
        yield from self._unmixed(key, governing)
        states = [self._state(key, i, said) for i, said in enumerate(governing)]
        if any(state not in (None, FINE) for state in states):
            yield from self._of_tensors(key, states) if key in OF_PARAMETERS else self._of_modules(key, states)

    def _state(self, key: str, i: int, said: tuple[int, Word] | None) -> _Broken | None:
        """Tell what is broken of one; None where it has nothing to say."""
        answer = self.seen[key][i]
        line, word = said or (-1, UNKNOWN)
        if answer is ABSENT and word is not ABSENT and not self._should_have(key, i):
            return None
        return FINE if word in (UNKNOWN, MIXED, answer) else _Broken(line, word, answer)

    def _should_have(self, key: str, module: int) -> bool:
        """Tell attributes that are to be set where they are expected: bn_freeze where there are statistics."""
        return key == "trainable" or (key == "bn_freeze" and self.stats[module] is not ABSENT)

    def _of_tensors(self, key: str, states: Sequence[_Broken | None]) -> Iterator[Violation]:
        own = self.structure.own
        wholes = self._wholes([_joined(states[i] for i in numbers) for numbers in own])
        for module, (inside, whole) in enumerate(wholes):
            if whole is not None and not inside:
                yield Violation(key, *whole, module, True)
            for i in own[module] if not inside and whole is None else ():
                if (state := states[i]) not in (None, FINE):
                    yield Violation(key, *state, module, tensor=i)

    def _of_modules(self, key: str, states: Sequence[_Broken | None]) -> Iterator[Violation]:
        folds = key in ("training", "trainable", "bn_freeze")  # one call mends a subtree
        wholes = self._wholes(states) if folds else [(False, None)] * len(states)
        for module, ((inside, whole), state) in enumerate(zip(wholes, states, strict=True)):
            if whole is not None and not inside:
                yield Violation(key, *whole, module, True)
            elif state not in (None, FINE) and not inside:
                yield Violation(key, *state, module)

    def _wholes(self, own: Sequence[_Broken | None]) -> list[tuple[bool, _Broken | None]]:
        """Say of each module whether one above it is broken as a whole, and how it is itself."""
        structure, below = self.structure, list(own)
        for i in range(len(below) - 1, -1, -1):
            edges = (FINE,) if i in structure.further else ()
            below[i] = _joined((own[i], *edges, *(below[child] for child in structure.children[i])))
        found: list[tuple[bool, _Broken | None]] = []
        for i, (state, parent) in enumerate(zip(below, structure.parents, strict=True)):
            inside = parent >= 0 and (found[parent][0] or found[parent][1] is not None)
            is_whole = state not in (None, FINE) and i in self.places[state.line].modules
            found.append((inside, state if is_whole else None))
        return found

    def _unmixed(self, key: str, governing: Sequence[tuple[int, Word] | None]) -> Iterator[Violation]:
        """Give the lines that expect some to be so and some not, where it is otherwise."""
        for number, line in enumerate(self.expected.lines):
            if line.answers.get(key) is MIXED:
                those = [i for i, said in enumerate(governing) if said is not None and said[0] == number]
                answer = combine(word for i in those if isinstance(word := self.seen[key][i], Answer))
                if those and answer is not MIXED:
                    first = self.structure.tensors[those[0]].owner if key in OF_PARAMETERS else those[0]
                    yield Violation(key, number, MIXED, answer, min(first, *self.places[number].modules, first))

    def uncovered(self) -> Iterator[int]:
        """Give the topmost modules of which no line matches anything, and what else no line matches.

        One that holds others needs a line for its own tensors alone.
        """
        structure = self.structure
        modules = frozenset[int]().union(*(places.modules | places.shared_modules for places in self.places))
        tensors = frozenset[int]().union(*(places.tensors | places.shared_tensors for places in self.places))
        lacks = [i not in modules and not tensors.issuperset(own) for i, own in enumerate(structure.own)]
        bare = [
            not structure.children[i] and i not in structure.further and not structure.own[i] for i in range(len(lacks))
        ]
        lacks = [lack or (leaf and i not in modules) for i, (lack, leaf) in enumerate(zip(lacks, bare, strict=True))]
        matched = list(accumulate((i in modules for i in range(len(lacks))), initial=0))
        lacking = list(accumulate(lacks, initial=0))
        end = 0
        for i, stop in enumerate(structure.ends):
            is_whole = matched[i] == matched[stop] and lacking[i] < lacking[stop]
            if i >= end and (is_whole or lacks[i]):
                yield i
                end = stop if is_whole else end


def _joined(states: Iterable[_Broken | None]) -> _Broken | None:
    """Give what all that say something are: broken in one way, or else fine for the most part."""
    found = {state for state in states if state is not None}
    return found.pop() if len(found) == 1 else FINE if found else None
