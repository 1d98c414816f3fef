"""Witness that a piece of code left a model, its optimizer and the random generators exactly as they were.

A snapshot walks everything reachable from its roots once, iteratively, and notes each object under its
identity. It reads `__dict__`, never a module's attributes: on a parametrized module reading `weight`
alone can move a buffer.
"""

from __future__ import annotations

import hashlib
import random
import re
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy
import torch
from torch import Tensor
from torch.jit._script import OrderedDictWrapper
from torch.nn.modules import module as modules
from torch.optim import optimizer as optimizers
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

ATOMS = (str, bytes, int, float, complex, type(None), torch.dtype, torch.device, torch.layout)
CLOSED = (*ATOMS, type, ModuleType, FunctionType, MethodType, BuiltinFunctionType)
COMPRESSED = {
    torch.sparse_csr: (Tensor.crow_indices, Tensor.col_indices, Tensor.values),
    torch.sparse_bsr: (Tensor.crow_indices, Tensor.col_indices, Tensor.values),
    torch.sparse_csc: (Tensor.ccol_indices, Tensor.row_indices, Tensor.values),
    torch.sparse_bsc: (Tensor.ccol_indices, Tensor.row_indices, Tensor.values),
    torch.sparse_coo: (Tensor._indices, Tensor._values),
}
GLOBAL_HOOKS = {
    name: hooks
    for room in (modules, optimizers)
    for name, hooks in vars(room).items()
    if name.startswith("_global_") and isinstance(hooks, dict)
}
REGISTRY = re.compile(r"\._(?:modules|parameters|buffers)\['([^']*)'\]")


@dataclass(frozen=True, eq=False)
class Ref:
    """Compare an object by identity, and keep it alive so that no other object gets its id."""

    thing: Any

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Ref) and self.thing is other.thing

    def __repr__(self) -> str:
        return label(self.thing)


@dataclass(frozen=True)
class Seen:
    """Hold what was noted about one object, and from where it was first met."""

    parent: int | None
    segment: str
    facts: dict[str, Any]


class Snapshot:
    """Note the process's state and all that a model, an optimizer and torch's global hooks can reach."""

    def __init__(self, model: Any, optimizer: Any = None) -> None:
        self.seen = {0: Seen(None, "process", process())}
        for root, segment in ((model, ""), (optimizer, "optimizer"), (GLOBAL_HOOKS, "torch")):
            self._walk(root, segment)

    def _walk(self, root: Any, segment: str) -> None:
        stack = [(root, None, segment)]
        while stack:
            thing, parent, segment = stack.pop()
            if isinstance(thing, CLOSED) or id(thing) in self.seen:
                continue
            facts = describe(thing)
            self.seen[id(thing)] = Seen(parent, segment, facts)
            parts = [(fact.thing, id(thing), name) for name, fact in facts.items() if isinstance(fact, Ref)]
            stack.extend(reversed(parts))

    def place(self, key: int | None, name: str = "") -> str:
        """Spell the path to an object, and to one of its facts, as a user writes it."""
        segments = [name]
        while key is not None:
            segments.append(self.seen[key].segment)
            key = self.seen[key].parent
        path = REGISTRY.sub(r".\1", "".join(reversed(segments)))
        return re.sub(r"<\w+ (\d+)>", self._known, path).removeprefix(".")

    def _known(self, match: re.Match[str]) -> str:
        return self.place(int(match[1])) if int(match[1]) in self.seen else match[0]


@contextmanager
def unchanged(model: Any, optimizer: Any = None) -> Iterator[None]:
    """Raise AssertionError naming each place that the body changed, also when the body raises."""
    before = Snapshot(model, optimizer)
    try:
        yield
    finally:
        if changes := list(differences(before, Snapshot(model, optimizer))):
            raise AssertionError("\n  ".join(["changed:", *changes]))


def differences(before: Snapshot, after: Snapshot) -> Iterator[str]:
    """Describe each fact that differs, of each object that both snapshots hold."""
    for key in filter(after.seen.__contains__, before.seen):
        old, new = before.seen[key].facts, after.seen[key].facts
        changed = [name for name in old | new if old.get(name, ...) != new.get(name, ...)]
        for name in changed:
            yield f"{after.place(key, name)}: {contrast(old, new, name)}"
        if not changed and list(old) != list(new):
            yield f"{after.place(key)}: order {order(old)} -> {order(new)}"


def order(facts: dict[str, Any]) -> str:
    """List the names of facts, less the one that all objects share."""
    return ", ".join(name for name in facts if name != ".__class__")


def contrast(old: dict[str, Any], new: dict[str, Any], name: str) -> str:
    """Show a fact before and after."""
    was, now = (repr(facts[name]) if name in facts else "absent" for facts in (old, new))
    return f"{was} -> {now}" + " (another object)" * (was == now)


def label(thing: Any) -> str:
    """Name an object by its value if that is plain, else by its type and id."""
    return repr(thing) if isinstance(thing, ATOMS) else f"<{type(thing).__name__} {id(thing)}>"


def describe(thing: Any) -> dict[str, Any]:
    """Note all that can change about one object."""
    if isinstance(thing, Tensor):
        with torch._C.DisableTorchFunctionSubclass():
            return flags(thing) | content(thing) | attributes(thing)
    return entries(thing) | attributes(thing)


def attributes(thing: Any) -> dict[str, Any]:
    """Note an object's class and its own attributes, in their order."""
    own = getattr(thing, "__dict__", {})
    return {".__class__": Ref(type(thing))} | {f".{name}": Ref(value) for name, value in own.items()}


def entries(thing: Any) -> dict[str, Any]:
    """Note what an object holds besides its attributes."""
    if isinstance(thing, (dict, OrderedDictWrapper)):
        return {f"[{label(key)}]": Ref(value) for key, value in thing.items()}
    if isinstance(thing, (list, tuple, deque)):
        return {f"[{index}]": Ref(value) for index, value in enumerate(thing)}
    if isinstance(thing, (set, frozenset)):
        return {f"[{label(value)}]": Ref(value) for value in sorted(thing, key=label)}
    if isinstance(thing, numpy.ndarray):
        return {".values": digest(thing.tobytes()), ".shape": thing.shape, ".dtype": str(thing.dtype)}
    return scripted(thing) if isinstance(thing, torch.jit.ScriptModule) else {}


def scripted(thing: torch.jit.ScriptModule) -> dict[str, Any]:
    """Note a scripted module's plain attributes, its mode among them: they live in C++."""
    values = {f".{name}": thing._c.getattr(name) for name in thing._concrete_type.get_attributes()}
    return {name: value for name, value in values.items() if isinstance(value, ATOMS)}


def flags(thing: Tensor) -> dict[str, Any]:
    """Note a tensor's form, its part in autograd, its version and its hooks."""
    return {
        ".form": [thing.dtype, thing.layout, thing.device, None if thing.is_nested else tuple(thing.size())],
        ".requires_grad": thing.requires_grad,
        ".grad": Ref(thing.grad if thing.is_leaf or thing.retains_grad else None),
        ".grad_fn": Ref(thing.grad_fn),
        "._version": None if thing.is_inference() else thing._version,
        "._backward_hooks": Ref(thing._backward_hooks),
        "._post_accumulate_grad_hooks": Ref(thing._post_accumulate_grad_hooks),
    }


def content(thing: Tensor) -> dict[str, Any]:
    """Note where a tensor's memory is and every bit in it, or the tensors that it wraps."""
    if is_traceable_wrapper_subclass(thing):
        return {f".{name}": Ref(getattr(thing, name)) for name in thing.__tensor_flatten__()[0]}
    parts = strided(thing.detach())
    facts = {".memory": [location(part) for part in parts], ".values": [bits(part) for part in parts]}
    return facts | ({".quantizer": quantizer(thing)} if thing.is_quantized else {})


def strided(thing: Tensor) -> list[Tensor]:
    """Take a sparse or nested tensor apart."""
    if thing.is_nested:
        return list(thing.unbind())
    return [part(thing) for part in COMPRESSED[thing.layout]] if thing.layout in COMPRESSED else [thing]


def location(part: Tensor) -> tuple[Any, ...]:
    """Tell where a strided tensor lies in memory."""
    return part.data_ptr(), part.storage_offset(), part.stride()


def bits(part: Tensor) -> str | None:
    """Digest a strided tensor's whole storage: -0.0 is not 0.0, and NaN equals itself."""
    if part.is_meta:
        return None
    raw = torch.empty(0, dtype=torch.uint8, device=part.device).set_(part.untyped_storage())
    return digest(raw.cpu().numpy())


def quantizer(thing: Tensor) -> tuple[Any, ...]:
    """Tell how a quantised tensor's integers become numbers."""
    if thing.qscheme() in (torch.per_tensor_affine, torch.per_tensor_symmetric):
        return thing.q_scale(), thing.q_zero_point()
    return thing.q_per_channel_scales().tolist(), thing.q_per_channel_zero_points().tolist()


def process() -> dict[str, Any]:
    """Note the state of every random generator, and the modes of autograd."""
    _, keys, *position = numpy.random.get_state()
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else None
    return {
        ".torch_rng": digest(torch.get_rng_state().numpy()),
        ".cuda_rng": cuda and [digest(state.numpy()) for state in cuda],
        ".python_rng": digest(repr(random.getstate()).encode()),
        ".numpy_rng": digest(keys.tobytes() + repr(position).encode()),
        ".grad_mode": (torch.is_grad_enabled(), torch.is_inference_mode_enabled()),
    }


def digest(raw: Any) -> str:
    """Shorten bytes to a name for them."""
    return hashlib.blake2b(raw, digest_size=8).hexdigest()
