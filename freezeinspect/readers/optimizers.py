"""Optimizers beside the weights: their groups, and which parameters they have stepped."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from freezeinspect.readers.flags import number
from freezeinspect.readers.limits import LIMITS, past
from freezeinspect.readers.modules import class_of, mapping
from freezeinspect.readers.standins import Made
from freezeinspect.state import ABSENT, NO, UNKNOWN, YES, Answer, Group, Optimizer, Snapshot


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
    if (count := sum(len(group["params"]) for group in groups)) > LIMITS.entries:
        raise past("entries", f"an optimizer has {count:,} parameters")
    return Saved(str(kind) if kind else None, state, groups) if len(groups) == len(listed) else None


def beside(snapshot: Snapshot, found: Sequence[Saved], identities: Sequence[Hashable], trusted: bool) -> Snapshot:
    """Add optimizers to the record of the model beside them.

    A parameter is known in its group where the optimizer was pickled whole, with the parameters themselves, or where
    its state_dict has `param_names`, if these are `trusted` to be this model's. Otherwise no tensor's groups are known.
    """
    if not found:
        return snapshot
    structure = snapshot.structure
    names = {structure.full_name(i): i for i in range(len(structure.tensors))} if trusted else {}
    places = {identity: i for i, identity in enumerate(identities)}
    member: dict[int, list[int]] = {}
    stepped: set[int] = set()
    described, first, known = [], 0, True
    for type_, state, groups in found:
        made = []
        for at, group in enumerate(groups, first):
            where = _where(group, names, places) if trusted or type_ else None
            known = known and where is not None
            for key, tensor in zip(group["params"], where or (), strict=False):
                if tensor is not None:
                    member.setdefault(tensor, []).append(at)
                    stepped |= {tensor} if _key(key) in state else set()
            made.append(_group(group, state, where))
        described.append(Optimizer(type_, tuple(made)))
        first += len(groups)
    everywhere = range(len(structure.tensors))
    return replace(
        snapshot,
        optimizers=tuple(described),
        groups=tuple(tuple(member.get(i, ())) if known else None for i in everywhere),
        has_grad=tuple(_has_grad(snapshot, i) for i in everywhere),
        has_state=tuple(_has_state(snapshot, i, stepped, known) for i in everywhere),
    )


def _where(group: dict[Any, Any], names: dict[str, int], places: dict[Hashable, int]) -> list[int | None] | None:
    """Give the tensor of each of a group's parameters, None for one that no module owns; None if nothing tells."""
    params, listed = group["params"], group.get("param_names")
    if any(id(one) in places for one in params):
        return [places.get(id(one)) for one in params]
    if type(listed) is list and len(listed) == len(params) and all(type(name) is str for name in listed):
        return [names.get(name) for name in listed]
    return None


def _group(group: dict[Any, Any], state: dict[Any, Any], where: list[int | None] | None) -> Group:
    return Group(
        lr=number(group.get("lr")),
        weight_decay=number(group.get("weight_decay")),
        orphans=None if where is None else where.count(None),
        parameters=len(group["params"]),
        with_state=sum(_key(key) in state for key in group["params"]),
    )


def _key(key: Any) -> Any:
    return key if type(key) in (int, str, Made) else None


def _has_grad(snapshot: Snapshot, tensor: int) -> Answer:
    kind = snapshot.structure.tensors[tensor].kind  # a pickled Parameter comes back without a gradient
    return {"buffer": ABSENT, "parameter": NO}.get(kind, UNKNOWN)


def _has_state(snapshot: Snapshot, tensor: int, stepped: set[int], known: bool) -> Answer:
    if snapshot.structure.tensors[tensor].kind == "buffer":
        return ABSENT
    if tensor in stepped:
        return YES
    return NO if known else UNKNOWN
