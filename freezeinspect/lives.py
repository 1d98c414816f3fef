"""What the looks of a chapter add up to: what moved, what did otherwise than its flags said, and which modes turned."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice, pairwise

from freezeinspect.chapters import PLACES, STEP, Chapter, Span, Stretch, Stretches
from freezeinspect.observed import Lived, Moved, Movement, Surprise, Times, Turn
from freezeinspect.state import ABSENT, MIXED, NO, UNKNOWN, YES, Answer, Snapshot, combine
from freezeinspect.verdicts import Verdicts, judge


def movements(chapter: Chapter) -> Iterator[Movement]:
    """Say module by module what moved in its subtree, in any step."""
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


def surprises(
    chapter: Chapter, stretches: Stretches, forwards: Mapping[int, Sequence[int]], outcomes: Sequence[int]
) -> Iterator[Surprise]:
    """Give each tensor that did otherwise than the flags before its steps said."""
    known = _judged(stretches)
    found: dict[tuple[int, str, Answer], list[int]] = {}
    for (optimizer, tensor), spans in chapter.spans.items():
        place = {"weights": "step", "stats": "forward"}.get(chapter.parts[tensor])
        for span in spans if place else ():
            if place == "forward" and not any(forwards.get(optimizer, ())[span.first : span.last + 1]):
                continue  # no forward was seen, so none could move it
            seen = span.moved(PLACES[place or "step"])
            for first, last, snapshot in _parts(stretches, optimizer, span):
                predicted = _predicted(chapter, known[id(snapshot)], tensor)
                if {seen, predicted} == {YES, NO} and (seen is YES or _any_taken(outcomes, first, last)):
                    key = (tensor, place or "", predicted)
                    note = found.setdefault(key, [first, last, 0])
                    note[0], note[1] = min(note[0], first), max(note[1], last)
                    note[2] += min(span.looks, last - first + 1)
    for (tensor, where, predicted), numbers in found.items():
        yield Surprise(chapter.structure.full_name(tensor), where, predicted, *numbers)


def _any_taken(outcomes: Sequence[int], first: int, last: int) -> bool:
    """Tell whether one of the steps was taken to its end: in others weights stay still whatever the flags say."""
    return not all(outcomes[max(first, 1) - 1 : last])


def _judged(stretches: Stretches) -> dict[int, Verdicts]:
    """Work out what the flags said before each step, once for each state, by its id."""
    snapshots = {id(one.snapshot): one.snapshot for many in stretches.values() for one in many}
    return {key: judge(snapshot) for key, snapshot in snapshots.items()}


def _predicted(chapter: Chapter, verdicts: Verdicts, tensor: int) -> Answer:
    if chapter.parts[tensor] == "weights":
        return verdicts.weights[tensor]
    return verdicts.stats[chapter.structure.tensors[tensor].owner]


def _parts(stretches: Stretches, optimizer: int, span: Span) -> Iterator[Stretch]:
    """Give the stretches that a span of looks lies in, as far as it does."""
    many = stretches.get(optimizer, [])
    start = max(bisect_right(many, span.first, key=lambda one: one.first) - 1, 0)
    for one in islice(many, start, None):
        if one.first > span.last:
            return
        if one.last >= span.first:
            yield one._replace(first=max(one.first, span.first), last=min(one.last, span.last))


def holds_any(snapshot: Snapshot, optimizer: int) -> bool:
    """Tell whether an optimizer holds a tensor of the model."""
    its = _groups_of(snapshot, optimizer)
    return any(number in its for numbers in set(snapshot.groups) for number in numbers or ())


def _groups_of(snapshot: Snapshot, optimizer: int) -> range:
    before = sum(len(groups) for _, groups in snapshot.optimizers[:optimizer])
    return range(before, before + len(snapshot.optimizers[optimizer].groups)) if snapshot.optimizers else range(0)


def lives(chapter: Chapter, stretches: Stretches, taken: Sequence[int], outcomes: Sequence[int]) -> Iterator[Lived]:
    """Say of each tensor what the steps did to it."""
    spans: dict[int, list[tuple[int, Span]]] = {}
    for (optimizer, tensor), many in chapter.spans.items():
        spans.setdefault(tensor, []).extend((optimizer, span) for span in many)
    known = _judged(stretches)
    columns = {id(one.snapshot): one.snapshot.requires_grad for many in stretches.values() for one in many}
    required = [combine(answers) for answers in zip(*columns.values(), strict=True)]
    for tensor in range(len(chapter.structure.tensors)):
        answer, its = (required[tensor] if required else ABSENT), spans.get(tensor, [])
        forward, step, outside = (_times((s.looks, s.first) for _, s in its if s.seen & p) for p in PLACES.values())
        moved = _times(_moved_frozen(tensor, its, stretches)) if answer in (NO, MIXED) else Times()
        stale = _times(_stale(tensor, stretches, known, taken)) if answer in (NO, MIXED) else Times()
        stood, grad = Times(), ABSENT
        if answer in (YES, MIXED) and not step.number:
            parts = list(_stood(tensor, its, stretches, known, outcomes))
            stood, grad = _times(part[:2] for part in parts), combine(part[2] for part in parts)
        looks = sum(span.looks for _, span in its)
        yield Lived(answer, looks, forward, step, outside, moved, stood, grad, stale)


def _times(seen: Iterable[tuple[int, int]]) -> Times:
    """Add up looks, each with the first step of them."""
    found = [(count, step) for count, step in seen if count > 0]
    return Times(sum(count for count, _ in found), min((step for _, step in found), default=None))


def _moved_frozen(tensor: int, spans: list[tuple[int, Span]], stretches: Stretches) -> Iterator[tuple[int, int]]:
    """Give the looks that saw a step move a tensor which required no gradient as it began."""
    for optimizer, span in spans:
        for part in _parts(stretches, optimizer, span) if span.seen & STEP else ():
            if part.snapshot.requires_grad[tensor] is NO:
                yield part.sure_looks(span), part.first


def _stale(
    tensor: int, stretches: Stretches, known: Mapping[int, Verdicts], taken: Sequence[int]
) -> Iterator[tuple[int, int]]:
    """Give the steps of optimizers that hold a tensor, which began with it frozen and a gradient that moves it."""
    for optimizer, many in stretches.items():
        for first, last, snapshot in many:
            held = snapshot.groups[tensor] or () if snapshot.groups else ()
            its = _groups_of(snapshot, optimizer)
            moves = snapshot.requires_grad[tensor] is NO and known[id(snapshot)].weights[tensor] is YES
            if moves and any(group in its for group in held):
                yield taken[first - 1 : last].count(optimizer), first


def _stood(
    tensor: int,
    spans: list[tuple[int, Span]],
    stretches: Stretches,
    known: Mapping[int, Verdicts],
    outcomes: Sequence[int],
) -> Iterator[tuple[int, int, Answer]]:
    """Give the looks at steps that were taken and should have moved a tensor, and whether it had a gradient."""
    for optimizer, span in spans:
        for part in _parts(stretches, optimizer, span) if span.moved(STEP) is NO else ():
            should = known[id(part.snapshot)].weights[tensor] is YES
            if should and part.snapshot.requires_grad[tensor] is YES and part.snapshot.has_grad:
                left_out = sum(map(bool, outcomes[part.first - 1 : part.last]))
                yield part.sure_looks(span) - left_out, part.first, part.snapshot.has_grad[tensor]


def turns(chapter: Chapter, last: int) -> Iterator[Turn]:
    """Give the first time that each module began a step in another mode than the one before."""
    told: set[tuple[int, Answer, Answer]] = set()
    for (_, before, one), (step, _, other) in pairwise(chapter.in_force(last)):
        if one.snapshot.training == other.snapshot.training:
            continue
        calls = chapter.calls(before, step)
        for module, (was, now) in enumerate(zip(one.snapshot.training, other.snapshot.training, strict=True)):
            if {was, now} == {YES, NO}:
                required = combine(_required(state.snapshot, module) for state in (one, other))
                if (module, now, required) not in told:
                    told.add((module, now, required))
                    path = chapter.structure.paths[module]
                    yield Turn(step, path, now, required, calls.get((path, "training")))


def _required(snapshot: Snapshot, module: int) -> Answer:
    """Say whether a module's own parameters require a gradient, or else those of the nearest branch that has some."""
    structure = snapshot.structure
    own = combine(snapshot.requires_grad[i] for i in structure.own[module])
    if own is not ABSENT:
        return own
    for above in structure.ancestors(module):
        below = combine(snapshot.requires_grad[i] for one in structure.subtree(above) for i in structure.own[one])
        if below is not ABSENT:
            return below
    return ABSENT
