"""What differs between two snapshots: structure, flags, and which tensors have other values."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

from freezeinspect.patterns import MatchesNothing, Pattern
from freezeinspect.state import ABSENT, NO, UNKNOWN, YES, Answer, Snapshot, Structure, Tensor
from freezeinspect.verdicts import OTHER_STATISTICS

FLAGS = ("training", "trainable", "bn_freeze", "drop_freeze", "track_running_stats", "momentum", "dropout")
WRAPPED = "module."  # what DataParallel and DDP put before every name of a state_dict

Changed: TypeAlias = Callable[[int, int], Answer]  # whether a tensor of the one has other values than one of the other


class Change(NamedTuple):
    """One thing that is otherwise: of a module, or of a tensor by its full name; None where it is not there."""

    path: str
    what: str
    before: Any
    after: Any


class Values(NamedTuple):
    """Whether a tensor that both have has other values."""

    name: str
    owner: int  # in the structure after
    kind: str  # "weights", "stats" or "buffers"
    changed: Answer


@dataclass(frozen=True)
class Differences:
    """What differs between two snapshots; empty parts where nothing does."""

    structure: tuple[Change, ...]
    flags: tuple[Change, ...]
    values: tuple[Values, ...]

    def changed(self, kind: str) -> tuple[Values, ...]:
        """Give the tensors of a kind whose values are others."""
        return tuple(one for one in self.values if one.kind == kind and one.changed is YES)

    def only(self, pattern: str) -> Differences:
        """Keep what a pattern matches. Raises BadPattern, MatchesNothing."""
        glob = Pattern(pattern)
        names = [one.path for one in self.structure + self.flags] + [one.name for one in self.values]
        if not any(map(glob.matches, names)):
            raise MatchesNothing(pattern, names)
        return Differences(
            tuple(one for one in self.structure if glob.matches(one.path)),
            tuple(one for one in self.flags if glob.matches(one.path)),
            tuple(one for one in self.values if glob.matches(one.name)),
        )

    def unknown(self) -> tuple[Values, ...]:
        """Give the tensors of which nobody can tell."""
        return tuple(one for one in self.values if one.changed is UNKNOWN)


def compare(before: Snapshot, after: Snapshot, changed: Changed | None = None) -> Differences:
    """Work out what differs. `changed` compares the values of two tensors; without it fingerprints do.

    What one side does not know is no difference. Names that differ by the wrapper's `module.` alone are the same.
    """
    names = _aligned(before.structure, after.structure)
    changed = changed or by_fingerprint(before, after)
    return Differences(
        structure=tuple(_structure(before.structure, after.structure, names)),
        flags=tuple(_flags(before, after, names)),
        values=tuple(_values(before.structure, after.structure, names, changed)),
    )


def by_fingerprint(before: Snapshot, after: Snapshot) -> Changed:
    """Compare values by fingerprints; unknown where one side has none."""

    def changed(one: int, other: int) -> Answer:
        pair = (_at(before.fingerprints, one), _at(after.fingerprints, other))
        if None in pair:
            return UNKNOWN
        return NO if pair[0] == pair[1] else YES

    return changed


def _at(fingerprints: tuple[str | None, ...], i: int) -> str | None:
    return fingerprints[i] if fingerprints else None


class _Names(NamedTuple):
    """The numbers of modules and tensors of both sides, by the names under which they are compared."""

    modules: tuple[dict[str, int], dict[str, int]]
    tensors: tuple[dict[str, int], dict[str, int]]


def _aligned(before: Structure, after: Structure) -> _Names:
    sides = [_numbered(before), _numbered(after)]
    wrapped = [bool(tensors) and all(name.startswith(WRAPPED) for name in tensors) for _, tensors in sides]
    for i, other in ((0, 1), (1, 0)):
        if wrapped[i] and not wrapped[other]:
            sides[i] = _unwrapped(*sides[i])
    return _Names((sides[0][0], sides[1][0]), (sides[0][1], sides[1][1]))


def _numbered(structure: Structure) -> tuple[dict[str, int], dict[str, int]]:
    tensors = {structure.full_name(i): i for i, one in enumerate(structure.tensors) if not one.is_unseen}
    return {path: i for i, path in enumerate(structure.paths)}, tensors


def _unwrapped(modules: dict[str, int], tensors: dict[str, int]) -> tuple[dict[str, int], dict[str, int]]:
    inner = {path.removeprefix(WRAPPED): i for path, i in modules.items() if path.startswith(WRAPPED)}
    root = modules.get(WRAPPED.rstrip("."), 0)
    return {"": root, **inner}, {name.removeprefix(WRAPPED): i for name, i in tensors.items()}


def _structure(before: Structure, after: Structure, names: _Names) -> Iterator[Change]:
    """Give what is otherwise; of what is only on one side, the topmost module alone."""
    one_sided: set[str] = set()
    for path, i, j in _pairs(*names.modules):
        if i is None or j is None:
            one_sided.add(path)
            topmost = path.rpartition(".")[0] not in one_sided
            if topmost and not _may_be_lost(*((after, before, i) if j is None else (before, after, j))):
                kinds = (None if i is None else before.types[i] or "?", None if j is None else after.types[j] or "?")
                yield Change(path, "module", *kinds)
        elif before.types[i] != after.types[j] and None not in (before.types[i], after.types[j]):
            yield Change(path, "type", before.types[i], after.types[j])
    for name, i, j in _pairs(*names.tensors):
        if i is not None and j is not None:
            yield from _reshaped(name, before.tensors[i], after.tensors[j])
        elif name.rpartition(".")[0] not in one_sided:
            lacks, has, number = (after, before, i) if j is None else (before, after, j)
            if not (_is_partial(lacks) and has.tensors[number or 0].kind == "buffer"):
                yield Change(name, "tensor", i is not None, j is not None)


def _is_partial(structure: Structure) -> bool:
    """Tell a state_dict's structure: it lacks buffers that are not persistent, and may lack modules without tensors."""
    return not any(structure.types)


def _may_be_lost(lacks: Structure, has: Structure, module: int | None) -> bool:
    below = has.subtree(module or 0)
    return _is_partial(lacks) and all(has.tensors[n].kind == "buffer" for i in below for n in has.own[i])


def _reshaped(name: str, one: Tensor, other: Tensor) -> Iterator[Change]:
    for what in ("shape", "dtype"):
        pair = getattr(one, what), getattr(other, what)
        if pair[0] != pair[1] and None not in pair:
            yield Change(name, what, *pair)
    if one.kind != other.kind and "unknown" not in (one.kind, other.kind):
        yield Change(name, "kind", one.kind, other.kind)


def _pairs(one: dict[str, int], other: dict[str, int]) -> Iterator[tuple[str, int | None, int | None]]:
    """Give each name of either side with its number on both, those of the second in their place."""
    yield from ((name, one.get(name), number) for name, number in other.items())
    yield from ((name, number, None) for name, number in one.items() if name not in other)


def _flags(before: Snapshot, after: Snapshot, names: _Names) -> Iterator[Change]:
    for path, i, j in _pairs(*names.modules):
        if i is not None and j is not None:
            for flag in FLAGS:
                pair = getattr(before, flag)[i], getattr(after, flag)[j]
                if pair[0] != pair[1] and UNKNOWN not in pair and None not in _numbers(before, after, i, j, flag):
                    yield Change(path, flag, *pair)
    for name, i, j in _pairs(*names.tensors):
        if i is not None and j is not None:
            pair = before.requires_grad[i], after.requires_grad[j]
            if pair[0] != pair[1] and UNKNOWN not in pair and ABSENT not in pair:
                yield Change(name, "requires_grad", *pair)


def _numbers(before: Snapshot, after: Snapshot, i: int, j: int, flag: str) -> tuple[Any, ...]:
    """Give what must be known for two numbers to be compared: None may be a momentum, or what a file has lost."""
    if flag not in ("momentum", "dropout"):
        return ()
    sides = ((before, i), (after, j))
    known = [flag == "momentum" and side.track_running_stats[n] in (YES, NO) for side, n in sides]
    return tuple(0 if known[n] else getattr(side, flag)[m] for n, (side, m) in enumerate(sides))


def _values(before: Structure, after: Structure, names: _Names, changed: Changed) -> Iterator[Values]:
    for name, i, j in _pairs(*names.tensors):
        if i is not None and j is not None:
            one, other = before.tensors[i], after.tensors[j]
            same = (one.shape, one.dtype) == (other.shape, other.dtype)
            yield Values(name, other.owner, _kind(one, other), changed(i, j) if same else YES)


def _kind(one: Tensor, other: Tensor) -> str:
    """Tell running statistics by their names, weights by their kind, where either side knows it.

    `num_batches_tracked` alone is not moving (design, section 2.2): it is a buffer like others.
    """
    if one.name.startswith(OTHER_STATISTICS) and "parameter" not in (one.kind, other.kind):
        return "stats"
    is_buffer = "buffer" in (one.kind, other.kind) or one.name == "num_batches_tracked"
    return "buffers" if is_buffer and "parameter" not in (one.kind, other.kind) else "weights"
