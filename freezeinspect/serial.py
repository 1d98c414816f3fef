"""JSON, version 1, both ways. The contract is docs/design.md, section 3, and schema.json beside this file."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import asdict, replace
from typing import Any, NamedTuple

from freezeinspect.observed import Disagreement, Flip, Lived, Moved, Movement, Observed, Surprise, Times, Turn
from freezeinspect.state import (
    ABSENT,
    UNKNOWN,
    Answer,
    Finding,
    Group,
    Optimizer,
    Reduction,
    Snapshot,
    Source,
    Structure,
    Tensor,
)
from freezeinspect.verdicts import judge, summarise

SCHEMA = "freezeinspect/1"
KINDS = ("parameter", "buffer", "unknown")
_WORDS = {answer.value: answer for answer in Answer}


class NotARecord(ValueError):
    """The text is no record of this project, or of a version that this release cannot read."""


class Record(NamedTuple):
    """What a JSON text holds besides what is worked out from it."""

    source: Source
    snapshot: Snapshot
    observed: Observed


def dumps(snapshot: Snapshot, observed: Observed, source: Source, findings: Iterable[Finding] = ()) -> str:
    """Write a record, and what is worked out from it, as JSON text with a line for each module."""
    verdicts = judge(snapshot)
    modules = ",\n  ".join(_text(_module(snapshot, observed, verdicts, i)) for i in range(len(snapshot.structure)))
    optimizers = [
        {"index": i, "type": kind, "groups": [group._asdict() for group in groups]}
        for i, (kind, groups) in enumerate(snapshot.optimizers)
    ]
    parts = {
        "schema": _text(SCHEMA),
        "source": _text(asdict(source)),
        "summary": _text(asdict(summarise(snapshot, verdicts))),
        "modules": f"[\n  {modules}\n ]",
        "optimizers": _text(optimizers),
        "reductions": _text([one._asdict() for one in snapshot.reductions]),
        "imports": _text(list(observed.imports)),
        "ranks": _text([one._asdict() for one in observed.ranks]),
        "run": _text(_run(snapshot.structure, observed)),
        "findings": _text([asdict(finding) for finding in findings]),
    }
    return "{\n " + ",\n ".join(f'"{key}": {text}' for key, text in parts.items()) + "\n}"


def _text(value: Any) -> str:
    return json.dumps(value, default=str, allow_nan=False)  # without an indent Python's own C code writes it


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
        "groups": _groups(snapshot.groups[i]) if snapshot.groups else [],
        "has_grad": snapshot.has_grad[i] if snapshot.has_grad else _unseen(tensor),
        "has_state": snapshot.has_state[i] if snapshot.has_state else _unseen(tensor),
        "fingerprint": snapshot.fingerprints[i] if snapshot.fingerprints else None,
    }


def _run(structure: Structure, observed: Observed) -> dict[str, Any] | None:
    if observed.steps is None:
        return None
    return {
        "steps": observed.steps,
        "flips": [one._asdict() for one in observed.flips],
        "surprises": [one._asdict() for one in observed.surprises],
        "tensors": [{"name": structure.full_name(i), **one._asdict()} for i, one in enumerate(observed.lived)],
        "turns": [one._asdict() for one in observed.turns],
        "in_eval": observed.in_eval,
        "recomputed": observed.recomputed,
        "orphaned": observed.orphaned,
    }


def _groups(numbers: tuple[int, ...] | None) -> list[int] | None:
    return None if numbers is None else list(numbers)


def _unseen(tensor: Tensor) -> Answer:
    return ABSENT if tensor.kind == "buffer" else UNKNOWN


def loads(text: str | bytes) -> Record:
    """Read a record back; unknown keys are ignored and what is worked out is worked out anew.

    Raises NotARecord, which says where the text differs from the contract.
    """
    try:
        data = json.loads(text, parse_constant=_refused)
    except (ValueError, RecursionError) as error:
        raise NotARecord(f"not JSON: {error}; expected the text that report.to_json() writes") from None
    seen = data.get("schema") if isinstance(data, dict) else type(data).__name__
    if seen != SCHEMA:
        raise NotARecord(f'schema: expected "{SCHEMA}", saw {seen!r}; write it anew with report.to_json()')
    where = ["the record"]
    try:
        return _record(data, where.append)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        why = f"{error} is missing" if isinstance(error, KeyError) else str(error)
        raise NotARecord(f"{where[-1]}: {why}; see freezeinspect/schema.json") from None


def _refused(constant: str) -> Any:
    raise ValueError(f"{constant} is no number of JSON")


def _record(data: dict[str, Any], at: Callable[[str], None]) -> Record:
    at("modules")
    modules = data["modules"]
    structure, tensors = _structure(modules, at)
    at("optimizers")
    optimizers = tuple(_optimizer(one) for one in data["optimizers"])

    def of_modules(key: str, read: Callable[[Any], Any]) -> tuple[Any, ...]:
        return tuple(_read(module, key, read, f"modules: module {module['path']!r}", at) for module in modules)

    def of_tensors(key: str, read: Callable[[Any], Any]) -> tuple[Any, ...]:
        return tuple(_read(tensor, key, read, f"modules: tensor {tensor['name']!r}", at) for tensor in tensors)

    at("reductions")
    reductions = tuple(map(reduction_of, data["reductions"]))
    groups = sum(len(optimizer.groups) for optimizer in optimizers)
    in_groups = of_tensors("groups", lambda numbers: _numbers(numbers, groups))
    has_grad, has_state = of_tensors("has_grad", answer_of), of_tensors("has_state", answer_of)
    fingerprints = of_tensors("fingerprint", _as_it_is)
    snapshot = Snapshot(
        structure=structure,
        training=of_modules("training", answer_of),
        trainable=of_modules("trainable", answer_of),
        bn_freeze=of_modules("bn_freeze", answer_of),
        drop_freeze=of_modules("drop_freeze", answer_of),
        track_running_stats=of_modules("track_running_stats", answer_of),
        momentum=of_modules("momentum", _as_it_is),
        dropout=of_modules("dropout", _as_it_is),
        stray={i: names for i, names in enumerate(of_modules("stray", tuple)) if names},
        requires_grad=of_tensors("requires_grad", answer_of),
        optimizers=optimizers,
        groups=in_groups if optimizers else (),
        has_grad=has_grad if optimizers else (),
        has_state=has_state if optimizers else (),
        fingerprints=fingerprints if any(fingerprints) else (),
        reductions=reductions,
    )
    movement = of_modules("observed", _movement)
    at("imports")
    imports = tuple(data["imports"])
    at("ranks")
    ranks = tuple(map(disagreement_of, data["ranks"]))
    at("run")
    observed = _happened(data["run"], structure, Observed(movement if any(movement) else (), imports, ranks=ranks))
    at("source")
    return Record(Source(**{key: data["source"][key] for key in asdict(Source())}), snapshot, observed)


def _read(data: dict[str, Any], key: str, read: Callable[[Any], Any], where: str, at: Callable[[str], None]) -> Any:
    at(f"{where}, {key}")
    return read(data[key])


def _as_it_is(value: Any) -> Any:
    return value


def answer_of(word: str) -> Answer:
    """Read an Answer's word. Raises ValueError, which lists the words."""
    if word not in _WORDS:
        raise ValueError(f"saw {word!r}, expected one of {', '.join(_WORDS)}")
    return _WORDS[word]


def _numbers(numbers: list[int] | None, end: int) -> tuple[int, ...] | None:
    if numbers is None:
        return None
    if any(not 0 <= number < end for number in numbers):
        raise ValueError(f"saw {numbers}, expected numbers of the {end} groups that the optimizers have")
    return tuple(numbers)


def _structure(modules: list[dict[str, Any]], at: Callable[[str], None]) -> tuple[Structure, list[dict[str, Any]]]:
    paths = tuple(_read(module, "path", str, f"modules[{i}]", at) for i, module in enumerate(modules))
    if paths[:1] != ("",):
        raise ValueError(f"the first module is {paths[:1]}, expected the root, whose path is empty")
    owned = [(i, tensor) for i, module in enumerate(modules) for tensor in module["tensors"]]
    at("modules[].tensors[].kind")
    for _, tensor in owned:
        if tensor["kind"] not in KINDS:
            raise ValueError(f"saw {tensor['kind']!r}, expected one of {', '.join(KINDS)}")
    owned.sort(key=lambda pair: KINDS.index(pair[1]["kind"]))  # stable: parameters first, as everywhere
    at("modules[].tensors")
    tensors = [
        (i, t["name"], t["kind"], None if t["shape"] is None else tuple(t["shape"]), t["dtype"], t["tie"])
        for i, t in owned
    ]
    columns = tuple(zip(*tensors, strict=True)) or ((),) * 6
    at("modules[].aliases")
    aliases = {alias: i for i, module in enumerate(modules) for alias in module["aliases"]}
    shared = tuple((alias, i) for alias, i in aliases.items() if _is_edge(alias, set(paths), aliases))
    types = tuple(_read(module, "type", _as_it_is, f"modules: module {module['path']!r}", at) for module in modules)
    return Structure(paths, types, columns, shared), [tensor for _, tensor in owned]


def _is_edge(alias: str, paths: set[str], aliases: dict[str, int]) -> bool:
    """Tell whether the module that holds this alias is named by a path, not by another alias."""
    above = alias.rpartition(".")[0]
    while above not in paths and above not in aliases:
        above = above.rpartition(".")[0]
    return above in paths


def _optimizer(data: dict[str, Any]) -> Optimizer:
    return Optimizer(data["type"], tuple(group_of(group[key] for key in Group._fields) for group in data["groups"]))


def group_of(values: Iterable[Any]) -> Group:
    """Read a group from the values of its fields."""
    group = Group(*values)
    return group._replace(orphan_shapes=tuple(map(tuple, group.orphan_shapes)))


def reduction_of(data: dict[str, Any]) -> Reduction:
    """Read what DistributedDataParallel settled."""
    path, parameters, ignored, finds_unused = (data[key] for key in Reduction._fields)
    return Reduction(str(path), int(parameters), tuple(map(str, ignored)), bool(finds_unused))


def disagreement_of(data: dict[str, Any]) -> Disagreement:
    """Read where ranks differ."""
    seen = tuple((str(word), tuple(map(int, ranks))) for word, ranks in data["seen"])
    return Disagreement(data["path"], data["tensor"], data["what"], seen, data["step"])


def _happened(run: dict[str, Any] | None, structure: Structure, observed: Observed) -> Observed:
    """Read what happened in a run, where one was watched."""
    if run is None:
        return observed
    flips = (Flip(*(flip[key] for key in Flip._fields)) for flip in run["flips"])
    names = [structure.full_name(i) for i in range(len(structure.tensors))]
    if [one["name"] for one in run["tensors"]] not in ([], names):
        raise ValueError("tensors: expected those of the modules, parameters first")
    return replace(
        observed,
        flips=tuple(flip._replace(before=_flag(flip.before), after=_flag(flip.after)) for flip in flips),
        surprises=tuple(_answered(Surprise, one, "predicted") for one in run["surprises"]),
        steps=run["steps"],
        lived=tuple(map(_lived, run["tensors"])),
        turns=tuple(_answered(Turn, one, "training", "required") for one in run["turns"]),
        in_eval=_times(run["in_eval"]),
        recomputed=tuple((str(path), int(step)) for path, step in run["recomputed"]),
        orphaned=tuple((int(group), int(step)) for group, step in run["orphaned"]),
    )


def _answered(kind: Any, data: dict[str, Any], *answers: str) -> Any:
    """Read a tuple of which some fields are answers."""
    return kind(*(answer_of(str(data[key])) if key in answers else data[key] for key in kind._fields))


def _lived(data: dict[str, Any]) -> Lived:
    keys = ("forward", "step", "outside", "though_frozen", "stood", "stale")
    times = {key: _times(data[key]) for key in keys}
    return Lived(required=answer_of(data["required"]), looks=data["looks"], grad=answer_of(data["grad"]), **times)


def _times(data: list[int | None]) -> Times:
    number, first = data
    if type(number) is not int:
        raise ValueError(f"saw {data}, expected a number and a step")
    return Times(number, first)


def _flag(value: Any) -> Answer | float | None:
    return answer_of(value) if isinstance(value, str) else value


def _movement(data: dict[str, Any] | None) -> Movement | None:
    if data is None:
        return None
    parts = ("weights", "stats", "buffers")
    return Movement(*(Moved(*(answer_of(data[part][where]) for where in Moved._fields)) for part in parts))
