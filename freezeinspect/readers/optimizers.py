"""Optimizers beside the weights: their groups, and which parameters they have stepped."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple, TypeAlias

from freezeinspect.readers.flags import number
from freezeinspect.readers.limits import LIMITS, past
from freezeinspect.readers.modules import class_of, mapping
from freezeinspect.readers.standins import Made, name_of
from freezeinspect.readers.statedicts import as_written
from freezeinspect.readers.tensors import rebuilt
from freezeinspect.state import ABSENT, NO, UNKNOWN, YES, Answer, Group, Optimizer, Snapshot

LIKE_THE_PARAMETER = ("exp_avg", "momentum_buffer", "square_avg", "sum")  # what torch keeps in a parameter's shape


Members: TypeAlias = dict[int, tuple[int, bool]]  # by tensor: in which group, and whether it was stepped


class Saved(NamedTuple):
    """One optimizer of a file: its state by parameter, and its groups as they were pickled."""

    type: str | None
    state: dict[Any, Any]
    groups: list[dict[Any, Any]]


def saved(value: Any) -> Saved | None:
    """Read an optimizer's state_dict, or a whole optimizer; None for anything else."""
    entries, kind = mapping(value), None
    if entries is None and type(value) is Made and value.states and type(value.states[0]) is dict:
        entries, kind = value.states[0], class_of(value)
    listed = (entries or {}).get("param_groups")
    if type(listed) is not list:
        return None
    groups = [group for group in map(mapping, listed) if group is not None and type(group.get("params")) is list]
    state = mapping((entries or {}).get("state")) or {}
    if len(groups) > LIMITS.groups:
        raise past("groups", f"an optimizer has {len(groups):,} groups")
    return Saved(name_of(kind) or None, state, groups) if len(groups) == len(listed) else None


class Tally:
    """What the optimizers of a file have together, counted up to the limits."""

    def __init__(self) -> None:
        self.optimizers = self.groups = self.parameters = 0

    def add(self, one: Saved) -> None:
        """Count one more. Raises Unreadable."""
        self.optimizers += 1
        self.groups += len(one.groups)
        self.parameters += sum(len(group["params"]) for group in one.groups)
        if self.groups > LIMITS.groups:
            raise past("groups", f"its optimizers have {self.groups:,} groups")
        if self.parameters + self.optimizers > LIMITS.entries:
            raise past("entries", f"its optimizers have {self.parameters:,} parameters")


class _Places(NamedTuple):
    """Where a parameter of an optimizer is in the record: by name, and by identity where it was pickled with it."""

    by_name: dict[str, tuple[int, ...]]
    by_identity: dict[Hashable, list[int]]
    shapes: tuple[tuple[int, ...] | None, ...]
    are_parameters: bool  # those of the model were pickled as themselves


def beside(snapshot: Snapshot, found: Sequence[Saved], identities: Sequence[Hashable], trusted: bool) -> Snapshot:
    """Add optimizers to the record of the model beside them.

    A parameter is known in its group where the optimizer was pickled whole, with the parameters themselves, or where
    its state_dict has `param_names` that are all this model's. Names are not `trusted` beside several models. Where
    one optimizer's are not known, no tensor's groups are.
    """
    if not found:
        return snapshot
    places = _places(snapshot, identities, trusted)
    members = _without_rivals(found, [_members(one, places) for one in found])
    first = 0
    joined: dict[int, list[tuple[int, bool]]] = {}
    for one, each in zip(found, members, strict=True):
        for tensor, (at, stepped) in (each or {}).items():
            joined.setdefault(tensor, []).append((first + at, stepped))
        first += len(one.groups)
    known = None not in members
    everywhere = range(len(snapshot.structure.tensors))
    return replace(
        snapshot,
        optimizers=tuple(_optimizer(one, places, each) for one, each in zip(found, members, strict=True)),
        groups=tuple(_groups(snapshot, i, joined, known) for i in everywhere),
        has_grad=tuple(_has_grad(snapshot, i) for i in everywhere),
        has_state=tuple(_has_state(snapshot, i, joined, known) for i in everywhere),
    )


def _places(snapshot: Snapshot, identities: Sequence[Hashable], trusted: bool) -> _Places:
    structure = snapshot.structure
    by_identity: dict[Hashable, list[int]] = {}
    for i, identity in enumerate(identities):
        by_identity.setdefault(identity, []).append(i)
    everywhere = range(len(structure.tensors)) if trusted else ()
    by_name = {structure.full_name(i): tuple(by_identity[identities[i]]) for i in everywhere}
    kinds = {tensor.kind for tensor in structure.tensors}
    shapes = tuple(tensor.shape for tensor in structure.tensors)
    return _Places(by_name, by_identity, shapes, are_parameters="parameter" in kinds)


def _members(one: Saved, places: _Places) -> Members | None:
    """Map each tensor that an optimizer holds to its group and whether it was stepped; None if nothing tells."""
    members: Members = {}
    for at, group in enumerate(one.groups):
        where = _where(group, one.type, places)
        if where is None or not all(map(partial(_fits, one, places), group["params"], where)):
            return None
        for key, tensors in zip(group["params"], where, strict=True):
            members |= {tensor: (at, _key(key) in one.state) for tensor in tensors}
    return members


def _where(group: dict[Any, Any], kind: str | None, places: _Places) -> list[Sequence[int]] | None:
    """Give the tensors of each of a group's parameters, none for one that no module owns; None if nothing tells."""
    params, listed = group["params"], group.get("param_names")
    if kind is not None:
        found: list[Sequence[int]] = [places.by_identity.get(("object", id(one)), ()) for one in params]
        return found if places.are_parameters else None
    if type(listed) is not list or len(listed) != len(params) or not all(type(name) is str for name in listed):
        return None
    without = [".".join(part for part in name.split(".") if part != "module") for name in listed]
    for spelt in (listed, [as_written(name) for name in listed], [as_written(name) for name in without]):
        if all(name in places.by_name for name in spelt):
            return [places.by_name[name] for name in spelt]
    return None


def _fits(one: Saved, places: _Places, key: Any, tensors: Sequence[int]) -> bool:
    """Tell whether what an optimizer keeps for a parameter has its shape: names alone may be another model's."""
    kept = mapping(one.state.get(_key(key))) or {}
    shapes = {found.shape for found in map(rebuilt, map(kept.get, LIKE_THE_PARAMETER)) if found is not None}
    return all(shape in (None, (), places.shapes[tensor]) for tensor in tensors for shape in shapes)


def _without_rivals(found: Sequence[Saved], members: list[Members | None]) -> list[Members | None]:
    """Distrust names that two optimizers claim: one of them may step another model's."""
    claims = Counter(i for one, each in zip(found, members, strict=True) if one.type is None for i in each or ())
    return [
        None if one.type is None and any(claims[i] > 1 for i in each or ()) else each
        for one, each in zip(found, members, strict=True)
    ]


def _optimizer(one: Saved, places: _Places, members: Members | None) -> Optimizer:
    known = members is not None
    where = [_where(group, one.type, places) if known else None for group in one.groups]
    return Optimizer(one.type, tuple(_group(*pair, one.state) for pair in zip(one.groups, where, strict=True)))


def _groups(
    snapshot: Snapshot, tensor: int, members: dict[int, list[tuple[int, bool]]], known: bool
) -> tuple[int, ...] | None:
    if not known or (tensor not in members and snapshot.structure.tensors[tensor].kind == "unknown"):
        return None
    return tuple(group for group, _ in members.get(tensor, ()))


def _group(group: dict[Any, Any], where: list[Sequence[int]] | None, state: dict[Any, Any]) -> Group:
    return Group(
        lr=number(group.get("lr")),
        weight_decay=number(group.get("weight_decay")),
        orphans=None if where is None else sum(not tensors for tensors in where),
        parameters=len(group["params"]),
        with_state=sum(_key(key) in state for key in group["params"]),
        orphan_shapes=() if where is None else _shapes(group["params"], where),
    )


def _shapes(params: list[Any], where: list[Sequence[int]]) -> tuple[tuple[int, ...], ...]:
    """Give the shapes of a group's parameters that no module owns, each once."""
    orphans = {id(one): one for one, tensors in zip(params, where, strict=True) if not tensors}
    found = [one.shape for one in map(rebuilt, orphans.values()) if one is not None]
    return tuple(dict.fromkeys(shape for shape in found if shape is not None))


def _key(key: Any) -> Any:
    return key if type(key) in (int, str, Made) else None


def _has_grad(snapshot: Snapshot, tensor: int) -> Answer:
    kind = snapshot.structure.tensors[tensor].kind  # a pickled Parameter comes back without a gradient
    return {"buffer": ABSENT, "parameter": NO}.get(kind, UNKNOWN)


def _has_state(snapshot: Snapshot, tensor: int, members: dict[int, list[tuple[int, bool]]], known: bool) -> Answer:
    if snapshot.structure.tensors[tensor].kind == "buffer":
        return ABSENT
    if any(stepped for _, stepped in members.get(tensor, ())):
        return YES
    return NO if known and _groups(snapshot, tensor, members, known) is not None else UNKNOWN
