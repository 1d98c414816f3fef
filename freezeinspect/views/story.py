"""The story of a run, in a few lines: how far it got, what moved that was frozen, what flipped, and what surprised."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterator

from freezeinspect.chapters import FORWARD, KNOWN, OUTSIDE, Chapter, Span
from freezeinspect.history import FAILED, SKIPPED, History
from freezeinspect.observed import Flip, Surprise
from freezeinspect.state import NO, YES
from freezeinspect.views.text import visible

FLIPS = 8  # lines of flips that are told
_NAMED = 3


def story(history: History) -> list[str]:
    """Give the lines; `history` is settled."""
    return seen(history) + _flips([flip for chapter in history.chapters for flip in chapter.flips()])


def seen(history: History) -> list[str]:
    """Give the lines without those of the flips."""
    told = [*_steps(history), *_evidence(history)]
    for chapter in history.chapters:
        told += [*_leaks(chapter), *_outside(chapter, len(history.taken))]
    return told + list(_surprises(list(history.surprises())))


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
    chapter = history.last
    taken = Counter(history.taken[chapter.first - 1 :])
    looks = [
        (min(sum(span.looks for span in spans), taken[optimizer]), taken[optimizer])
        for (optimizer, tensor), spans in chapter.spans.items()
        if chapter.parts[tensor] == "weights"
    ]
    if not chapter.spans:
        yield "No values were looked at: what moved is not known."
    elif any(looked < steps for looked, steps in looks):
        looked, steps = zip(*looks, strict=True)
        yield f"Each weight was looked at in {_range(looked)} of {_range(steps)} steps."


def _range(numbers: Collection[int]) -> str:
    least, most = min(numbers), max(numbers)
    return f"{least:,}" if least == most else f"{least:,} to {most:,}"


def _leaks(chapter: Chapter) -> Iterator[str]:
    """Tell of layers whose running statistics moved while their weights were frozen."""
    structure, found = chapter.structure, defaultdict(list)
    spans = chapter.spans_by_tensor()
    for module in range(len(structure)):
        parts = defaultdict(list)
        for i in structure.own[module]:
            parts[chapter.parts[i]].append(i)
        mine = [span for i in parts["stats"] for span in spans[i]]
        frozen = all(state.snapshot.requires_grad[i] is NO for state in chapter.states for i in parts["weights"])
        if frozen and parts["weights"] and any(span.seen & FORWARD for span in mine):
            often = _often(mine)
            kind = (structure.types[module] or "normalisation").rpartition(".")[2].rstrip("123d")
            found[kind, often].append(module)
    for (kind, often), modules in found.items():
        their = "their" if len(modules) > 1 else "its"
        layers = _layers(chapter, kind, modules)
        yield f"{layers} moved {their} running statistics in {often} while {their} weights were frozen."


def _often(spans: list[Span]) -> str:
    moved = {(span.first, span.last) for span in spans if span.seen & FORWARD}
    if not any(span.seen >> KNOWN & FORWARD and not span.seen & FORWARD for span in spans):
        return "every step"
    ((first, last),) = moved if len(moved) == 1 else {(0, 0)}
    return f"steps {first} to {last}" if last > first else f"step {first}" if first else "some steps"


def _layers(chapter: Chapter, kind: str, modules: list[int]) -> str:
    """Name layers by what they are all in, or some of them one by one."""
    paths = [_path(chapter, module) for module in modules]
    if len(modules) == 1:
        return f"{kind} layer {paths[0]}"
    tops = {_top(chapter, module) for module in modules}
    named = f"({', '.join(paths[:_NAMED])}{', …' if len(paths) > _NAMED else ''})"
    return f"{len(modules):,} {kind} layers {f'of {tops.pop()}' if len(tops) == 1 and '' not in tops else named}"


def _outside(chapter: Chapter, steps: int) -> Iterator[str]:
    names = [
        chapter.structure.full_name(i)
        for i, spans in enumerate(chapter.spans_by_tensor())
        if chapter.parts[i] != "buffers" and any(span.seen & OUTSIDE for span in spans)
    ]
    if names:
        where = "outside forward and step: loaded, or written to" if steps else "though no step was seen"
        yield f"{_listed(names, 'tensor')} moved {where}."


def _surprises(found: list[Surprise]) -> Iterator[str]:
    for place, predicted, said in (
        ("step", YES, "stayed still in {} though {} flags let {} move"),
        ("step", NO, "moved in {} though {} flags held {}"),
        ("forward", YES, "stayed still in the forward of {} though {} flags let {} move"),
        ("forward", NO, "moved in the forward of {} though {} flags held {}"),
    ):
        some = [one for one in found if (one.place, one.predicted) == (place, predicted)]
        if some:
            first, last = min(one.first for one in some), max(one.last for one in some)
            steps = f"step {first}" if first == last else f"steps {first} to {last}"
            names = list(dict.fromkeys(one.name for one in some))
            whose = ("its", "it") if len(names) == 1 else ("their", "them")
            yield f"{_listed(names, 'tensor')} {said.format(steps, *whose)}."


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
