"""The story of a run, in a few lines: how far it got, what moved that was frozen, what flipped, and what surprised."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator

from freezeinspect.chapters import FORWARD, KNOWN, OUTSIDE, Chapter, Span
from freezeinspect.history import FAILED, SKIPPED, History
from freezeinspect.observed import Flip, Surprise
from freezeinspect.state import NO, YES
from freezeinspect.views.text import visible

FLIPS = 8  # lines of flips that are told
_NAMED = 3


def story(history: History) -> list[str]:
    """Give the lines; `history` is settled."""
    told = [*_steps(history), *_evidence(history)]
    for chapter in history.chapters:
        told += [*_leaks(chapter), *_outside(chapter)]
    told += _surprises(list(history.surprises()))
    return told + _flips([flip for chapter in history.chapters for flip in chapter.flips()])


def _steps(history: History) -> Iterator[str]:
    optimizers = history.last.states[-1].snapshot.optimizers
    named = " and ".join((kind or "an optimizer").rpartition(".")[2] for kind, _ in optimizers)
    count = _count(len(history.taken), "step" if optimizers else "forward")
    ended = "" if history.ended else "; the run did not end, or not yet"
    yield f"{count}{f' of {named}' if named else ''}{ended}."
    for outcome, said in ((SKIPPED, "skipped by the scaler"), (FAILED, "ended by an exception")):
        steps = [n for n, one in enumerate(history.outcomes, 1) if one == outcome]
        if steps:
            yield f"{_count(len(steps), 'step')} {said}: {_numbers(steps)}."
    if len(history.chapters) > 1:
        yield f"The model itself changed before step {_numbers([one.first for one in history.chapters[1:]])}."


def _evidence(history: History) -> Iterator[str]:
    chapter, steps = history.last, len(history.taken) - history.last.first + 1
    looks: Counter[int] = Counter()
    for (_, tensor), spans in chapter.spans.items():
        if chapter.parts[tensor] == "weights":
            looks[tensor] += sum(span.looks for span in spans)
    if not chapter.spans:
        yield "No values were looked at: what moved is not known."
    elif looks and min(looks.values()) < steps:
        yield f"Each weight was looked at in {min(looks.values())} to {max(looks.values())} of {steps} steps."


def _leaks(chapter: Chapter) -> Iterator[str]:
    """Tell of layers whose running statistics moved while their weights were frozen."""
    structure, found = chapter.structure, defaultdict(list)
    for module in range(len(structure)):
        parts = defaultdict(list)
        for i in structure.own[module]:
            parts[chapter.parts[i]].append(i)
        spans = [span for i in parts["stats"] for span in chapter.spans_of(i)]
        frozen = all(state.snapshot.requires_grad[i] is NO for state in chapter.states for i in parts["weights"])
        if frozen and parts["weights"] and any(span.seen & FORWARD for span in spans):
            often = _often(spans)
            kind = (structure.types[module] or "normalisation").rpartition(".")[2].rstrip("123d")
            found[_top(chapter, module), kind, often].append(module)
    for (top, kind, often), modules in found.items():
        layers = f"{len(modules)} {kind} layers" if len(modules) > 1 else f"{kind} layer {_path(chapter, modules[0])}"
        of = f" of {top}" if top and len(modules) > 1 else ""
        their, was = ("their", "were") if len(modules) > 1 else ("its", "were")
        yield f"{layers}{of} moved {their} running statistics in {often} while {their} weights {was} frozen."


def _often(spans: list[Span]) -> str:
    moved = {(span.first, span.last) for span in spans if span.seen & FORWARD}
    if not any(span.seen >> KNOWN & FORWARD and not span.seen & FORWARD for span in spans):
        return "every step"
    ((first, last),) = moved if len(moved) == 1 else {(0, 0)}
    return f"steps {first} to {last}" if last > first else f"step {first}" if first else "some steps"


def _outside(chapter: Chapter) -> Iterator[str]:
    names = [
        chapter.structure.full_name(i)
        for i, part in enumerate(chapter.parts)
        if part != "buffers" and any(span.seen & OUTSIDE for span in chapter.spans_of(i))
    ]
    if names:
        yield f"{_listed(names, 'tensor')} moved outside forward and step: loaded, or written to."


def _surprises(found: list[Surprise]) -> Iterator[str]:
    for place, predicted, said in (
        ("step", YES, "stayed still in step {} though their flags let them move"),
        ("step", NO, "moved in step {} though their flags held them"),
        ("forward", YES, "stayed still in the forward of step {} though their flags let them move"),
        ("forward", NO, "moved in the forward of step {} though their flags held them"),
    ):
        some = [one for one in found if (one.place, one.predicted) == (place, predicted)]
        if some:
            first, last = min(one.first for one in some), max(one.last for one in some)
            steps = f"{first}" if first == last else f"{first} to {last}"
            yield f"{_listed([one.name for one in some], 'tensor')} {said.format(steps)}."


def _flips(flips: list[Flip]) -> list[str]:
    """Tell flips that fell together as one."""
    groups: dict[tuple[object, ...], list[str]] = {}
    for flip in flips:
        key = (flip.step, flip.within, flip.flag, str(flip.before), str(flip.after), flip.call)
        groups.setdefault(key, []).append(flip.path)
    told = []
    for (step, within, flag, before, after, call), paths in list(groups.items())[:FLIPS]:
        when = f"{'In' if within else 'Before'} step {step}"
        by = f", by {call}" if call else ""
        told.append(f"{when}: {flag} {before} → {after} in {_listed(paths, 'place')}{by}.")
    more = len(groups) - FLIPS
    return told + [f"… and {more:,} more flips: changes() has them all."] * (more > 0)


def _top(chapter: Chapter, module: int) -> str:
    above = list(chapter.structure.ancestors(module))
    return visible(chapter.structure.names[above[-2]]) if len(above) > 2 else ""


def _path(chapter: Chapter, module: int) -> str:
    return visible(chapter.structure.paths[module]) or "(root)"


def _listed(names: list[str], what: str) -> str:
    said = ", ".join(visible(name) or "(root)" for name in names[:_NAMED])
    if len(names) == 1:
        return said
    return f"{_count(len(names), what)} ({said}{', …' if len(names) > _NAMED else ''})"


def _numbers(steps: list[int]) -> str:
    return ", ".join(map(str, steps[:10])) + ("" if len(steps) <= 10 else ", …")


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"
