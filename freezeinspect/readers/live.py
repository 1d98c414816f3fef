"""Read a live module, and its optimizers, into a Snapshot without touching a value."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from functools import partial
from operator import attrgetter, itemgetter
from typing import Any

import torch
from torch import nn

from freezeinspect.fingerprint import of_tensor
from freezeinspect.readers.flags import (
    FLAGS,
    MISSING,
    RENAMING,
    STRAY_ON_MODULE,
    STRAY_ON_PARAMETER,
    Flags,
    meaning,
    number,
    stray_names,
    ties,
)
from freezeinspect.state import ABSENT, NO, YES, Columns, Group, Optimizer, Reduction, Snapshot, Structure
from freezeinspect.walk import NotAModule, held, in_words, walk


class NotAnOptimizer(TypeError):
    """Something stands where an optimizer was expected."""

    def __init__(self, seen: object) -> None:
        super().__init__(
            f"expected a torch.optim.Optimizer, or a list of them, but got {type(seen).__qualname__}{in_words(seen)}; "
            "pass the optimizer that steps this model"
        )


def read(model: nn.Module, optimizers: Any = None, known: Structure | None = None, values: bool = False) -> Snapshot:
    """Read the flags of every module and parameter, and who is in which optimizer group.

    Given a structure that is still the model's, the snapshot shares it.

    Names are the user's: wrappers of DDP and torch.compile are passed over, as is Accelerate's around an
    optimizer. Unless `values` asks for a fingerprint of each tensor, no value is read, so nothing synchronises. Raises
    NotAModule, NotAnOptimizer.
    """
    if not isinstance(model, nn.Module):
        raise NotAModule(model, groups=False)
    stepping = opened(optimizers)
    seen = _Seen(model)
    types, training, trainable, bn_freeze, drop_freeze, tracking, momentum, dropout = zip(*seen.rows, strict=True)
    structure = Structure(tuple(seen.paths), types, seen.columns(), tuple(sorted(seen.shared, key=itemgetter(1))))
    buffers = (ABSENT,) * len(seen.buffers)
    requires_grad = tuple([YES if parameter.requires_grad else NO for parameter in seen.parameters])
    return Snapshot(
        structure=known if known is not None and known == structure else structure,
        training=training,
        trainable=trainable,
        bn_freeze=bn_freeze,
        drop_freeze=drop_freeze,
        track_running_stats=tracking,
        momentum=momentum,
        dropout=dropout,
        stray=seen.stray,
        requires_grad=requires_grad + buffers,
        fingerprints=_fingerprints(seen.parameters + seen.buffers) if values else (),
        reductions=tuple(_reductions(seen.wrapped)),
        **_stepped(seen, stepping),
    )


def tensors(model: nn.Module) -> list[torch.Tensor]:
    """Give a model's tensors in the order of its snapshot's structure."""
    seen = _Seen(model)
    return seen.parameters + seen.buffers


def replicas(model: nn.Module) -> Iterator[nn.parallel.DistributedDataParallel]:
    """Give each DistributedDataParallel in a model."""
    wrapped: list[tuple[str, nn.Module]] = []
    deque(walk(model, [], wrapped), maxlen=0)
    return (one for _, one in wrapped if isinstance(one, nn.parallel.DistributedDataParallel))


def _reductions(wrapped: list[tuple[str, nn.Module]]) -> Iterator[Reduction]:
    for path, one in wrapped:
        if isinstance(one, nn.parallel.DistributedDataParallel):
            about: Any = one._get_ddp_logging_data
            count = int(about()["num_parameter_tensors"])
            yield Reduction(path, count, tuple(sorted(one.parameters_to_ignore)), bool(one.find_unused_parameters))


def _fingerprints(live: list[torch.Tensor]) -> tuple[str | None, ...]:
    """Digest each tensor, a tied one once."""
    known = {id(tensor): tensor for tensor in live}
    digests = {key: of_tensor(tensor) for key, tensor in known.items()}
    return tuple(digests[id(tensor)] for tensor in live)


class _Seen:
    """What one walk meets: an entry a module; then an entry a parameter, and after those an entry a buffer.

    Columns of strings and numbers, and rows that equal modules share, keep Python's garbage collector out of it:
    with a tuple for each of 62,000 modules it took more time than the walk.
    """

    def __init__(self, model: nn.Module) -> None:
        self.paths: list[str] = []
        self.shared: list[tuple[str, int]] = []
        self.wrapped: list[tuple[str, nn.Module]] = []
        self.rows: list[tuple[Any, ...]] = []
        self.stray: dict[int, tuple[str, ...]] = {}
        self.parameters: list[torch.Tensor] = []
        self.buffers: list[torch.Tensor] = []
        self.owners: tuple[list[int], list[int]] = ([], [])
        self.names: tuple[list[str], list[str]] = ([], [])
        self._collect(model)
        if not STRAY_ON_PARAMETER.isdisjoint(set().union(*[one.__dict__ for one in self.parameters])):
            for here, name, parameter in zip(self.owners[0], self.names[0], self.parameters, strict=True):
                self._note_stray(here, parameter.__dict__, STRAY_ON_PARAMETER, f"{name}.")

    def _collect(self, model: nn.Module) -> None:
        """Walk once; the one hot loop, so each call that it saves counts."""
        paths, rows, missing = self.paths, self.rows, MISSING
        parameters, parameter_owners, parameter_names = self.parameters, self.owners[0], self.names[0]
        buffers, buffer_owners, buffer_names = self.buffers, self.owners[1], self.names[1]
        known: dict[tuple[Any, ...], tuple[Any, ...]] = {}
        for here, (path, module) in enumerate(walk(model, self.shared, self.wrapped)):
            state = module.__dict__
            get = state.get
            try:
                training, own, kept = state["training"], state["_parameters"], state["_buffers"]
            except KeyError:  # a ScriptModule keeps them elsewhere
                get = partial(getattr, module)
                training, own, kept = get("training", missing), held(module, "_parameters"), held(module, "_buffers")
            row = (
                type(module),
                training,
                get("trainable", missing),
                get("bn_freeze", missing),
                get("drop_freeze", missing),
                get("track_running_stats", missing),
                get("momentum", missing),
                get("p", missing),
            )
            paths.append(path)
            try:
                rows.append(known.get(row) or known.setdefault(row, _flags(*row)))
            except TypeError:  # somebody keeps something unhashable under one of these names
                rows.append(_flags(*row))
            if own:
                for name, parameter in own.items():
                    if parameter is not None:
                        parameters.append(parameter)
                        parameter_owners.append(here)
                        parameter_names.append(name)
            if kept:
                for name, buffer in kept.items():
                    if buffer is not None:
                        buffers.append(buffer)
                        buffer_owners.append(here)
                        buffer_names.append(name)
            if "requires_grad" in state or "require_grad" in state or "required_grad" in state:
                self._note_stray(here, state, STRAY_ON_MODULE)

    def _note_stray(self, here: int, state: dict[str, Any], known: frozenset[str], prefix: str = "") -> None:
        if names := stray_names(state, known, prefix):
            self.stray[here] = self.stray.get(here, ()) + names

    def columns(self) -> Columns:
        """Describe each tensor, in the columns of state.Tensor."""
        live = self.parameters + self.buffers
        try:
            plain = {torch.Tensor, nn.Parameter}.issuperset(map(type, live))
            shapes: list[Any] = list(map(tuple if plain else _sizes, map(attrgetter("shape"), live)))
        except RuntimeError:  # a lazy parameter has no shape yet, nor has a nested tensor
            shapes = list(map(_shape, live))
        return (
            tuple(self.owners[0] + self.owners[1]),
            tuple(self.names[0] + self.names[1]),
            ("parameter",) * len(self.parameters) + ("buffer",) * len(self.buffers),
            tuple(shapes),
            tuple(map(_dtype_names.__getitem__, map(attrgetter("dtype"), live))),
            ties(list(map(id, live))),
        )


def _flags(kind: type, *values: Any) -> Flags:
    """Work out what a module's flags mean; a class may set them for its instances."""
    pairs = zip(FLAGS, values, strict=True)
    values = tuple([getattr(kind, flag, MISSING) if value is MISSING else value for flag, value in pairs])
    return meaning(_type_name(kind), kind.__name__, values, _is_disguised(kind))


def _is_disguised(kind: type) -> bool:
    """Tell an InstanceNorm under another name, or compiled: it would pass for a BatchNorm, whose tracking differs."""
    hidden = issubclass(kind, (nn.modules.instancenorm._InstanceNorm, torch.jit.ScriptModule))
    return hidden and "InstanceNorm" not in kind.__name__


def _type_name(kind: type) -> str:
    """Name a class as the user wrote it, without what torch's parametrization and FSDP2 make of it."""
    if kind.__module__ in RENAMING and kind.__name__.startswith(("Parametrized", "FSDP")):
        kind = kind.__bases__[-1]
    return f"{kind.__module__}.{kind.__qualname__}"


class _DtypeNames(dict[torch.dtype, str]):
    def __missing__(self, dtype: torch.dtype) -> str:
        name = self[dtype] = str(dtype).removeprefix("torch.")
        return name


_dtype_names = _DtypeNames()


def _shape(tensor: torch.Tensor) -> tuple[int, ...] | None:
    try:
        return _sizes(tensor.shape)
    except RuntimeError:
        return None


def _sizes(shape: torch.Size) -> tuple[int, ...] | None:
    """Give the sizes; None where one is no number, as in a jagged tensor."""
    return tuple(shape) if all(isinstance(size, int) for size in shape) else None


def opened(optimizers: Any) -> list[torch.optim.Optimizer]:
    """Give the optimizers as a list, each without Accelerate's wrapper. Raises NotAnOptimizer."""
    if optimizers is None:
        return []
    return [_opened(one) for one in (optimizers if isinstance(optimizers, list | tuple) else [optimizers])]


def _opened(optimizer: Any) -> torch.optim.Optimizer:
    while isinstance(inner := getattr(optimizer, "__dict__", {}).get("optimizer"), torch.optim.Optimizer):
        optimizer = inner
    if not isinstance(optimizer, torch.optim.Optimizer):
        raise NotAnOptimizer(optimizer)
    return optimizer


def _stepped(seen: _Seen, optimizers: list[torch.optim.Optimizer]) -> dict[str, Any]:
    """Give the optimizers, and per tensor its groups and whether a gradient and a state are there."""
    if not optimizers:
        return {}
    live = seen.parameters + seen.buffers
    owned = set(map(id, live))
    member: dict[int, list[int]] = {}
    described, first = [], 0
    for optimizer in optimizers:
        groups = optimizer.param_groups
        for at, group in enumerate(groups, first):
            for parameter in group["params"]:
                member.setdefault(id(parameter), []).append(at)
        described.append(
            Optimizer(_type_name(type(optimizer)), tuple(_group(group, owned, optimizer.state) for group in groups))
        )
        first += len(groups)
    in_groups = tuple(tuple(member.get(id(tensor), ())) for tensor in live)
    buffers = (ABSENT,) * len(seen.buffers)
    grads = tuple(YES if _has_grad(one) else NO for one in seen.parameters)
    states = tuple(YES if any(one in each.state for each in optimizers) else NO for one in seen.parameters)
    columns = {"groups": in_groups, "has_grad": grads + buffers, "has_state": states + buffers}
    return {"optimizers": tuple(described), **columns}


def _has_grad(tensor: torch.Tensor) -> bool:
    return tensor.is_leaf and tensor.grad is not None


def _group(group: dict[str, Any], owned: set[int], state: Any) -> Group:
    parameters = group["params"]
    orphans = [parameter for parameter in parameters if id(parameter) not in owned]
    return Group(
        lr=_hyperparameter(group.get("lr")),
        weight_decay=_hyperparameter(group.get("weight_decay")),
        orphans=len(orphans),
        parameters=len(parameters),
        with_state=sum(parameter in state for parameter in parameters),
        orphan_shapes=tuple(dict.fromkeys(shape for shape in map(_shape, orphans) if shape is not None)),
    )


def _hyperparameter(value: Any) -> float | None:
    """Read a number that an optimizer may hold as a tensor; on a device it stays unread, for that would wait."""
    if isinstance(value, torch.Tensor):
        value = value.item() if value.device.type == "cpu" and value.numel() == 1 else None
    return number(value)
