"""The modules of a run over its steps: what each was, and what moved of it, in stretches of steps."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple, TypeAlias

from freezeinspect.chapters import FORWARD, KNOWN, OUTSIDE, STEP, Chapter, Span, State
from freezeinspect.folding import Line, folded
from freezeinspect.state import NO, YES, Answer, Snapshot, combine
from freezeinspect.views.text import ROOT, table, visible

HEADERS = ("module", "mode", "requires_grad", "weights", "running\nstats")
LINES = 60
_SHOWN = 4  # stretches of one cell
WORDS = {"training": {YES: "train", NO: "eval"}, "requires_grad": {YES: "yes", NO: "no"}}
_PLACES = {"weights": (STEP, OUTSIDE), "stats": (FORWARD, STEP | OUTSIDE)}  # where it is usual to move, and where not


class Stretch(NamedTuple):
    """Steps over which a word holds."""

    first: int
    last: int
    word: str


Stretches: TypeAlias = tuple[Stretch, ...]


def timeline(chapter: Chapter, last: int) -> str:
    """Lay a chapter out: a line for each module, or for several that did alike; a subtree that did alike is one."""
    facts = list(zip(*columns(chapter, last), strict=True))
    below = _over_subtrees(chapter, facts)
    lines = list(_opened(chapter, facts, below))
    cells = [[_label(line), *(_cell(below[line.modules[0]][n], last) for n in range(4))] for line in lines[:LINES]]
    more = f"\n… and {len(lines) - LINES:,} more lines" if len(lines) > LINES else ""
    return table(HEADERS, cells) + more


def _label(line: Line) -> str:
    times = f" ×{len(line.modules)}" if len(line.modules) > 1 else ""
    return "  " * line.depth + visible(line.name or ROOT) + times


def _opened(chapter: Chapter, facts: Sequence[object], below: Sequence[Sequence[set[Stretches]]]) -> Iterable[Line]:
    """Give the lines of the tree, without those below a module all of which did the same."""
    closed = len(chapter.structure)
    for line in folded(chapter.structure, facts):
        if line.depth <= closed:
            is_uniform = all(len(found) < 2 for found in below[line.modules[0]])
            closed = line.depth if is_uniform else len(chapter.structure)
            yield line


def columns(chapter: Chapter, last: int) -> list[list[frozenset[Stretches]]]:
    """Give what each module's own mode, flags and tensors did."""
    structure = chapter.structure
    by_part: dict[str, list[set[Stretches]]] = {name: [set() for _ in structure.paths] for name in ("weights", "stats")}
    required: list[set[Stretches]] = [set() for _ in structure.paths]
    flags = _stretches(chapter.states, "requires_grad", last)
    spans: dict[int, list[Span]] = {}
    for (_, number), found in chapter.spans.items():
        spans[number] = max(spans.get(number, []), found, key=_tells)
    for i, tensor in enumerate(structure.tensors):
        part = chapter.parts[i]
        if part in by_part:
            by_part[part][tensor.owner].add(moves(spans.get(i, []), part))
        if part == "weights":
            required[tensor.owner].add(flags[i])
    modes = [{one} for one in _stretches(chapter.states, "training", last)]
    return [[frozenset(one) for one in column] for column in (modes, required, by_part["weights"], by_part["stats"])]


def _tells(spans: Sequence[Span]) -> tuple[int, int]:
    """Choose, of the spans by which several optimizers' steps tell of one tensor, those that tell most."""
    return sum(span.looks for span in spans if span.seen & (FORWARD | STEP | OUTSIDE)), len(spans)


def _stretches(states: Sequence[State], flag: str, last: int) -> list[Stretches]:
    """Give for each entry of a flag's column over which steps it ended as what."""
    ends: dict[int, tuple[Answer, ...]] = {}
    last_column = None
    for state in states:
        column = getattr(state.snapshot, flag)
        if column != last_column:
            ends[state.step] = last_column = column
    starts = sorted(ends)
    words = WORDS[flag]
    found: list[list[Stretch]] = [[] for _ in ends[starts[0]]]
    for start, end in zip(starts, [*(one - 1 for one in starts[1:]), max(last, starts[-1])], strict=True):
        for entry, value in zip(found, ends[start], strict=True):
            _extend(entry, Stretch(start, max(end, start), words.get(value, str(value))))
    return [tuple(one) for one in found]


def moves(spans: Iterable[Span], part: str) -> Stretches:
    """Say in stretches what the looks at one tensor saw."""
    found: list[Stretch] = []
    for span in sorted(spans):
        _extend(found, Stretch(span.first, span.last, _word(span, part)))
    return tuple(found)


def _word(span: Span, part: str) -> str:
    usual, odd = _PLACES[part]
    if span.seen & odd:
        where = [
            word
            for bit, word in ((FORWARD, "in forward"), (STEP, "in step"), (OUTSIDE, "outside"))
            if span.seen & bit & odd
        ]
        return f"moved {' and '.join(where)}"
    if span.seen & usual:
        return "moved"
    return "still" if span.seen >> KNOWN & usual else "?"


def _extend(found: list[Stretch], one: Stretch) -> None:
    if found and found[-1].word == one.word:
        found[-1] = found[-1]._replace(last=max(one.last, found[-1].last))
    else:
        found.append(one)


def _over_subtrees(chapter: Chapter, facts: Sequence[Sequence[frozenset[Stretches]]]) -> list[list[set[Stretches]]]:
    """Join what each module did with what those below it did; two that differ are enough to know."""
    structure = chapter.structure
    total = [[set(column) for column in own] for own in facts]
    for i in range(len(total) - 1, 0, -1):
        for here, above in zip(total[i], total[structure.parents[i]], strict=True):
            if len(above) < 2:
                above |= here
    return total


def _cell(found: set[Stretches], last: int) -> str:
    if len(found) != 1:
        return "mixed" if found else "–"
    (stretches,) = found
    if len(stretches) < 2:
        return stretches[0].word if stretches else "?"
    if len(stretches) > _SHOWN:
        return f"{'/'.join(dict.fromkeys(one.word for one in stretches))}, {len(stretches) - 1} times"
    return ", ".join(f"{one.word} {one.first}" + (f"–{one.last}" if one.last > one.first else "") for one in stretches)


def side_by_side(before: Snapshot, after: Snapshot, moved: Sequence[frozenset[str]]) -> str:
    """Lay one step out: of each module its flags before → after, and what moved; those that agree are one line."""
    flags = [list(_pairs(before, after, i)) for i in range(len(after.structure))]
    facts = [(tuple(flags[i]), moved[i]) for i in range(len(after.structure))]
    cells = [
        [_label(line), *flags[line.modules[0]], _moves(moved[line.modules[0]])]
        for line in folded(after.structure, facts)
    ]
    columns = [n for n in range(len(_SIDES)) if any(row[n + 1] != "–" for row in cells)]
    headers = ["module", *(_SIDES[n] for n in columns), "moved"]
    return table(headers, [[row[0], *(row[n + 1] for n in columns), row[-1]] for row in cells])


def _moves(found: frozenset[str]) -> str:
    """Say what moved; one question will do where nobody looked."""
    if found and all(one.endswith("?") for one in found):
        return "?"
    return ", ".join(sorted(found)) or "–"


_SIDES = ("mode", "trainable", "bn_freeze", "requires_grad")


def _pairs(before: Snapshot, after: Snapshot, i: int) -> Iterable[str]:
    for flag in ("training", "trainable", "bn_freeze"):
        words = WORDS.get(flag, {})
        yield _arrow(*(words.get(getattr(one, flag)[i], str(getattr(one, flag)[i])) for one in (before, after)))
    own = [n for n in after.structure.own[i] if after.structure.tensors[n].kind == "parameter"]
    yield _arrow(*(str(combine(one.requires_grad[n] for n in own)) for one in (before, after)))


def _arrow(before: str, after: str) -> str:
    said = before if before == after else f"{before} → {after}"
    return "–" if said == "absent" else said
