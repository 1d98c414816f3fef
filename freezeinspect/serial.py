"""JSON, version 1, both ways. The contract is docs/design.md, section 3, and schema.json beside this file."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import asdict
from typing import Any, NamedTuple

from freezeinspect.state import (
    ABSENT,
    UNKNOWN,
    Answer,
    Finding,
    Group,
    Moved,
    Movement,
    Observed,
    Optimizer,
    Snapshot,
    Source,
    Structure,
    Tensor,
)
from freezeinspect.verdicts import judge, summarise

SCHEMA = "freezeinspect/1"
KINDS = ("parameter", "buffer", "unknown")


class NotARecord(ValueError):
    """The text is no record of this project, or of a version that this release cannot read."""


class Record(NamedTuple):
    """What a JSON text holds besides what is worked out from it."""

    source: Source
    snapshot: Snapshot
    observed: Observed


def dumps(snapshot: Snapshot, observed: Observed, source: Source, findings: Iterable[Finding] = ()) -> str:
    """Write a record, and what is worked out from it, as JSON text."""
    verdicts = judge(snapshot)
    record = {
        "schema": SCHEMA,
        "source": asdict(source),
        "summary": asdict(summarise(snapshot, verdicts)),
        "modules": [_module(snapshot, observed, verdicts, i) for i in range(len(snapshot.structure))],
        "optimizers": [
            {"index": i, "type": kind, "groups": [group._asdict() for group in groups]}
            for i, (kind, groups) in enumerate(snapshot.optimizers)
        ],
        "imports": list(observed.imports),
        "findings": [asdict(finding) for finding in findings],
    }
    return json.dumps(record, indent=1, default=str, allow_nan=False)


def _module(snapshot: Snapshot, observed: Observed, verdicts: Any, i: int) -> dict[str, Any]:
    structure = snapshot.structure
    movement = observed.movement[i] if observed.movement else None
    flags = ("training", "trainable", "bn_freeze", "drop_freeze", "track_running_stats", "momentum", "dropout")
    derived = ("requires_grad", "weights_move", "stats_move", "normalises_with")
    return {
        "path": structure.paths[i],
        "aliases": list(structure.aliases[i]),
        "type": structure.types[i],
        **{flag: getattr(snapshot, flag)[i] for flag in flags},
        "stray": list(snapshot.stray.get(i, ())),
        **{name: getattr(verdicts, name)[i] for name in derived},
        "tensors": [_tensor(snapshot, number) for number in structure.own[i]],
        "observed": movement and {part: moved._asdict() for part, moved in movement._asdict().items()},
    }


def _tensor(snapshot: Snapshot, i: int) -> dict[str, Any]:
    tensor = snapshot.structure.tensors[i]
    return {
        "name": tensor.name,
        "kind": tensor.kind,
        "shape": None if tensor.shape is None else list(tensor.shape),
        "dtype": tensor.dtype,
        "tie": tensor.tie,
        "requires_grad": snapshot.requires_grad[i],
        "groups": list(snapshot.groups[i]) if snapshot.groups else [],
        "has_grad": snapshot.has_grad[i] if snapshot.has_grad else _unseen(tensor),
        "has_state": snapshot.has_state[i] if snapshot.has_state else _unseen(tensor),
        "fingerprint": snapshot.fingerprints[i] if snapshot.fingerprints else None,
    }


def _unseen(tensor: Tensor) -> Answer:
    return ABSENT if tensor.kind == "buffer" else UNKNOWN


def loads(text: str | bytes) -> Record:
    """Read a record back; unknown keys are ignored and what is worked out is worked out anew.

    Raises NotARecord, which says where the text differs from the contract.
    """
    try:
        data = json.loads(text)
    except ValueError as error:
        raise NotARecord(f"not JSON: {error}; expected the text that report.to_json() writes") from None
    seen = data.get("schema") if isinstance(data, dict) else type(data).__name__
    if seen != SCHEMA:
        raise NotARecord(f'schema: expected "{SCHEMA}", saw {seen!r}; write it anew with report.to_json()')
    where = ["the record"]
    try:
        return _record(data, where.append)
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        raise NotARecord(f"{where[-1]}: {type(error).__name__}: {error}; see freezeinspect/schema.json") from None


def _record(data: dict[str, Any], at: Callable[[str], None]) -> Record:
    at("modules")
    modules = data["modules"]
    structure, tensors = _structure(modules)
    columns: dict[str, Any] = {}
    for flag in ("training", "trainable", "bn_freeze", "drop_freeze", "track_running_stats"):
        at(f"modules[].{flag}")
        columns[flag] = tuple(Answer(module[flag]) for module in modules)
    at("modules[].tensors")
    requires_grad = tuple(Answer(tensor["requires_grad"]) for tensor in tensors)
    at("optimizers")
    optimizers = tuple(_optimizer(one) for one in data["optimizers"])
    fingerprints = tuple(tensor["fingerprint"] for tensor in tensors)
    snapshot = Snapshot(
        structure=structure,
        **columns,
        momentum=tuple(module["momentum"] for module in modules),
        dropout=tuple(module["dropout"] for module in modules),
        stray={i: tuple(module["stray"]) for i, module in enumerate(modules) if module["stray"]},
        requires_grad=requires_grad,
        optimizers=optimizers,
        groups=tuple(tuple(tensor["groups"]) for tensor in tensors) if optimizers else (),
        has_grad=tuple(Answer(tensor["has_grad"]) for tensor in tensors) if optimizers else (),
        has_state=tuple(Answer(tensor["has_state"]) for tensor in tensors) if optimizers else (),
        fingerprints=fingerprints if any(fingerprints) else (),
    )
    at("modules[].observed")
    movement = tuple(_movement(module["observed"]) for module in modules)
    observed = Observed(movement if any(movement) else (), tuple(data["imports"]))
    at("source")
    return Record(Source(**{key: data["source"][key] for key in asdict(Source())}), snapshot, observed)


def _structure(modules: list[dict[str, Any]]) -> tuple[Structure, list[dict[str, Any]]]:
    paths = tuple(module["path"] for module in modules)
    owned = [(i, tensor) for i, module in enumerate(modules) for tensor in module["tensors"]]
    owned.sort(key=lambda pair: KINDS.index(pair[1]["kind"]))  # stable: parameters first, as everywhere
    tensors = [
        (i, t["name"], t["kind"], None if t["shape"] is None else tuple(t["shape"]), t["dtype"], t["tie"])
        for i, t in owned
    ]
    known = set(paths)
    shared = tuple(
        (alias, i)
        for i, module in enumerate(modules)
        for alias in module["aliases"]
        if alias.rpartition(".")[0] in known
    )
    columns = tuple(zip(*tensors, strict=True)) or ((),) * 6
    types = tuple(module["type"] for module in modules)
    return Structure(paths, types, columns, shared), [tensor for _, tensor in owned]


def _optimizer(data: dict[str, Any]) -> Optimizer:
    groups = (Group(group["lr"], group["weight_decay"], group["orphans"]) for group in data["groups"])
    return Optimizer(data["type"], tuple(groups))


def _movement(data: dict[str, Any] | None) -> Movement | None:
    if data is None:
        return None
    parts = ("weights", "stats", "buffers")
    return Movement(*(Moved(*(Answer(data[part][where]) for where in Moved._fields)) for part in parts))
