"""A run as its page shows it: for each module of a chapter, in stretches of steps, its flags and what moved."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence, Set
from typing import Any

from freezeinspect.chapters import Chapter
from freezeinspect.folding import classes
from freezeinspect.history import OUTCOMES, TAKEN, History
from freezeinspect.observed import Flip
from freezeinspect.state import Answer, Finding, Snapshot, combine
from freezeinspect.views import findings, html
from freezeinspect.views.rows import WORD
from freezeinspect.views.story import seen
from freezeinspect.views.text import visible
from freezeinspect.views.timeline import WORDS, Stretch, Stretches, columns

FLAGS = ("training", "trainable", "bn_freeze", "requires_grad")
LANES = (*FLAGS, "weights", "stats")
FLIPS = 1000  # that are listed


def page(history: History, title: str, found: Sequence[Finding], fallback: str) -> str:
    """Make the page of a run; `history` is settled."""
    last = history.last
    sentence, *lines = seen(history)
    data = {
        "steps": len(history.taken),
        "optimizers": [visible((kind or "?").rpartition(".")[2]) for kind, _ in last.states[-1].snapshot.optimizers],
        "taken": list(history.taken) if len(set(history.taken)) > 1 else [],
        "outcomes": {n: OUTCOMES[one] for n, one in enumerate(history.outcomes, 1) if one != TAKEN},
        "chapters": [_chapter(chapter, end) for chapter, end in _ends(history)],
        "flips": [flip for chapter in history.chapters for flip in _flips(chapter)][:FLIPS],
        "findings": list(html.told(last.structure, found)),
    }
    return html.page(
        "run.html.j2",
        ("patterns.js", "tree.js", "search.js", "words.js", "lanes.js", "run.js"),
        title=title,
        sentence=sentence,
        story=lines,
        counted=html.counted(found),
        fallback=fallback,
        data=data,
    )


def _ends(history: History) -> Iterator[tuple[Chapter, int]]:
    """Give each chapter with its last step."""
    starts = [chapter.first for chapter in history.chapters]
    return zip(history.chapters, [*(start - 1 for start in starts[1:]), len(history.taken)], strict=True)


def _chapter(chapter: Chapter, last: int) -> dict[str, Any]:
    structure = chapter.structure
    _, _, weights, stats = columns(chapter, last)
    own = [[{flags[i]} for i in range(len(structure))] for flags in _flags(chapter, last)]
    lanes_of: list[Sequence[Set[Stretches]]] = [*own, weights, stats]
    agreeing = [tuple(map(frozenset, one)) for one in zip(*lanes_of, strict=True)]
    known: dict[Any, int] = {}
    words: dict[str, int] = {}
    lanes = {
        name: html.distinct(tuple(sorted(known.setdefault(one, len(known)) for one in module)) for module in column)
        for name, column in zip(LANES, lanes_of, strict=True)
    }
    tensors, its = html.distinct(
        tuple(visible(structure.tensors[n].name) for n in numbers) for numbers in structure.own
    )
    types, type_of = html.distinct(visible(name or "") for name in structure.types)
    return {
        "first": chapter.first,
        "last": last,
        "names": list(map(visible, structure.names)),
        "depths": _depths(chapter),
        "aliases": {i: list(map(visible, paths)) for i, paths in enumerate(structure.aliases) if paths},
        "same": classes(structure, agreeing),
        "types": types,
        "type": type_of,
        "tensors": tensors,
        "own": its,
        "lanes": lanes,
        "tracks": [[n for one in track for n in (one.first, one.last, _number(words, one.word))] for track in known],
        "words": list(words),
    }


def _number(words: dict[str, int], word: str) -> int:
    return words.setdefault(word, len(words))


def _depths(chapter: Chapter) -> list[int]:
    depths: list[int] = []
    for parent in chapter.structure.parents:
        depths.append(depths[parent] + 1 if depths else 0)
    return depths


def _flags(chapter: Chapter, last: int) -> Iterator[list[Stretches]]:
    """Give each flag of each module as it was when steps ended, and in the step before the first as it began."""
    for flag in FLAGS:
        ends: dict[int, Sequence[str]] = {chapter.first - 1: _words(chapter.states[0].snapshot, flag)}
        before = None
        for state in chapter.states:
            column = getattr(state.snapshot, flag)
            if column != before:
                ends[state.step] = _words(state.snapshot, flag)
                before = column
        yield [_stretches(ends, i, last) for i in range(len(chapter.structure))]


def _words(snapshot: Snapshot, flag: str) -> Sequence[str]:
    """Say a flag of each module; of its own parameters together whether they require a gradient."""
    structure = snapshot.structure
    answers: Iterable[Answer] = getattr(snapshot, flag)
    if flag == "requires_grad":
        kinds = [one.kind for one in structure.tensors]
        mine = ([n for n in numbers if kinds[n] == "parameter"] for numbers in structure.own)
        answers = [combine(snapshot.requires_grad[n] for n in numbers) for numbers in mine]
    words = WORD | WORDS.get(flag, {})
    return [words[one] for one in answers]


def _stretches(ends: dict[int, Sequence[str]], module: int, last: int) -> Stretches:
    found: list[Stretch] = []
    for step, column in ends.items():
        if not found or found[-1].word != column[module]:
            found.append(Stretch(step, step, column[module]))
    stops = [*(one.first - 1 for one in found[1:]), max(last, found[-1].first)]
    return tuple(one._replace(last=stop) for one, stop in zip(found, stops, strict=True))


def _flips(chapter: Chapter) -> Iterator[dict[str, Any]]:
    """Give the flips of a chapter, those that fell together as one."""
    groups: dict[Flip, list[str]] = {}
    for flip in chapter.flips():
        groups.setdefault(flip._replace(path=""), []).append(flip.path)
    owners = {chapter.structure.full_name(i): one.owner for i, one in enumerate(chapter.structure.tensors)}
    named: dict[tuple[str, ...], str] = {}
    for flip, paths in list(groups.items())[:FLIPS]:
        modules = [owners.get(path, chapter.structure.index.get(path, 0)) for path in paths]
        key = tuple(paths)
        if key not in named:
            named[key] = visible(findings.places(chapter.structure, modules))
        yield {
            "step": flip.step,
            "within": flip.within,
            "flag": flip.flag,
            "before": _said(flip.flag, flip.before),
            "after": _said(flip.flag, flip.after),
            "call": visible(flip.call) if flip.call else None,
            "where": named[key],
            "times": len(paths),
            "modules": modules[:1],
        }


def _said(flag: str, value: Answer | float | None) -> str:
    if isinstance(value, Answer):
        return (WORD | WORDS.get(flag, {}))[value]
    return "–" if value is None else f"{value:g}"
