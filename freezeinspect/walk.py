"""The one traversal of a module tree: pre-order, every module, not only leaves."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from torch import nn  # at run time only where it is needed: who reads a file needs WRAPPERS and no torch

Modules: TypeAlias = "nn.Module | list[Any] | tuple[Any, ...]"

VISIT_LIMIT = 32  # visits of one shared module: 22 nested sharings would make 8 million paths

WRAPPERS = {  # wrappers that users never named, and where each keeps the module that they did
    "torch._dynamo.eval_frame.OptimizedModule": "_orig_mod",
    "torch.nn.parallel.data_parallel.DataParallel": "module",
    "torch.nn.parallel.distributed.DistributedDataParallel": "module",
    "torch.optim.swa_utils.AveragedModel": "module",
    "torch.distributed.fsdp.fully_sharded_data_parallel.FullyShardedDataParallel": "_fsdp_wrapped_module",
    "torch.distributed.algorithms._checkpoint.checkpoint_wrapper.CheckpointWrapper": "_checkpoint_wrapped_module",
}


class NotAModule(TypeError):
    """Something stands where a module, or a list or tuple of modules, was expected."""

    def __init__(self, seen: object, groups: bool = True) -> None:
        expected = "a torch.nn.Module, or a list or tuple of them," if groups else "a torch.nn.Module"
        way_out = "pass the model itself, or its groups of modules" if groups else "pass the model itself"
        super().__init__(f"expected {expected} but got {type(seen).__qualname__}{in_words(seen)}; {way_out}")


def in_words(seen: object) -> str:
    """Say what was given instead, as far as it can be shown."""
    if _is_module(seen):
        return ", whose __init__ never called super().__init__()"
    try:
        return f" ({str(seen)[:40]!r})"
    except Exception:  # what cannot be shown is still no module
        return ""


def children(m: Modules) -> list[Any]:
    """Give the direct children of a module, each once; a list or tuple is its own children.

    Children are sub-modules, not parameters, and a container is a child too. Raises NotAModule.

    >>> from torch import nn
    >>> children(nn.Sequential(nn.Linear(2, 2), nn.ReLU()))
    [Linear(in_features=2, out_features=2, bias=True), ReLU()]
    """
    if not isinstance(m, list | tuple):
        _class_of(m)
    return [child for _, child in _named_children(m)]


def apply_leaf(m: Modules, f: Callable[[nn.Module], Any]) -> None:
    """Call f on every module of m in pre-order: a module first, then each of its children in turn.

    Despite fastai's name for it, not only on leaves. A list or tuple is walked without calling f on it. A module
    held by two parents is visited under both; one that lies on its own path is skipped there. Where a module would
    be visited more than VISIT_LIMIT times, the rest is one more visit of every module, parents first. Raises
    NotAModule when it meets something else.

    >>> from torch import nn
    >>> apply_leaf(nn.Sequential(nn.Linear(2, 2), nn.ReLU()), lambda m: print(type(m).__name__))
    Sequential
    Linear
    ReLU
    """
    for _, module in walk(m):
        f(module)


def walk(
    m: Modules, shared: list[tuple[str, int]] | None = None, wrapped: list[tuple[str, nn.Module]] | None = None
) -> Iterator[tuple[str, nn.Module]]:
    """Give the path and module of every visit in pre-order, children taken before their parent is handed out.

    Given a list, it enters each module once and adds every further edge to the list (its path, and which module
    in order of visits); it also passes over wrappers that the user never named (WRAPPERS), so the paths are those
    the user wrote, and adds the wrappers to `wrapped` with the path of what is in them.
    """
    visited: dict[int, int] = {}  # how often; or, when once is enough, as which
    plain: set[type] = set()  # classes known to be modules, and no wrappers to pass over
    cut = False
    stack: list[tuple[str, Any, Any]] = [("", m, None)]  # each with the entry that led to it
    while stack:
        path, here, above = entry = stack.pop()
        if type(here) not in plain:
            if isinstance(here, list | tuple):
                stack += [(f"{path}.{i}".lstrip("."), here[i], entry) for i in reversed(range(len(here)))]
                continue
            if shared is not None:
                if wrapped is not None:
                    wrapped += [(path, one) for one in _wrappers(here)]
                here = unwrapped(here)
            plain.add(_class_of(here))
        key = id(here)
        if key not in visited:
            visited[key] = 1 if shared is None else len(visited)
        elif shared is not None:
            shared.append((path, visited[key]))
            continue
        elif _on_path(here, above):
            continue
        elif visited[key] == VISIT_LIMIT:
            cut = True
            continue
        else:
            visited[key] += 1
        try:
            modules = here.__dict__["_modules"]
        except KeyError:
            modules = held(here, "_modules")
        if not modules:
            yield path, here
            continue
        below = _each_once(modules.items()) if shared is None else modules.items()
        yield path, here
        prefix = f"{path}." if path else ""
        stack += [(prefix + name, child, entry) for name, child in reversed(below) if child is not None]
    if cut:
        yield from _parents_first(m)


def _parents_first(m: Modules) -> Iterator[tuple[str, nn.Module]]:
    """Give each module once, after every module that holds it: so a rule that recurses is corrected below."""
    done: list[tuple[str, Any]] = []
    seen = {id(m)}
    stack = [("", m, iter(_named_children(m)))]
    while stack:
        path, here, below = stack[-1]
        name, child = next(below, ("", None))
        if child is None:
            done.append((path, here))
            stack.pop()
        elif id(child) not in seen:
            seen.add(id(child))
            stack.append((f"{path}.{name}".lstrip("."), child, iter(_named_children(child))))
    return ((path, module) for path, module in reversed(done) if _is_module(module))


def _named_children(m: Modules) -> list[tuple[str, Any]]:
    if isinstance(m, list | tuple):
        return [(str(i), child) for i, child in enumerate(m)]
    return [edge for edge in _each_once(held(m, "_modules").items()) if edge[1] is not None]


def _class_of(module: Any) -> type:
    if not _is_module(module):
        raise NotAModule(module)
    return type(module)


def _is_module(value: Any) -> bool:
    from torch import nn

    return isinstance(value, nn.Module)


def unwrapped(module: nn.Module) -> nn.Module:
    """Give the module that the user wrote, without the wrappers around it."""
    for one in _wrappers(module):
        module = held(one, "_modules")[_wrapped_at(type(one))]
    return module


def _wrappers(module: nn.Module) -> Iterator[nn.Module]:
    """Give a wrapper, and those within it, from the outside in."""
    while (attribute := _wrapped_at(type(module))) is not None:
        yield module
        module = held(module, "_modules")[attribute]


def held(module: nn.Module, kind: str) -> Any:
    """Give what a module holds in `_modules`, `_parameters` or `_buffers`. Raises NotAModule where it has none.

    Its `__dict__` has them, but that of a traced module, which keeps them elsewhere.
    """
    found = module.__dict__.get(kind)
    if found is None:
        found = getattr(module, kind, None)
    if found is None:
        raise NotAModule(module)
    return found


def _wrapped_at(kind: type) -> str | None:
    names = (f"{base.__module__}.{base.__qualname__}" for base in kind.__mro__)
    return next((WRAPPERS[name] for name in names if name in WRAPPERS), None)


def _each_once(edges: Iterable[tuple[str, Any]]) -> list[tuple[str, Any]]:
    first: dict[int, tuple[str, Any]] = {}
    for name, child in edges:
        first.setdefault(id(child), (name, child))
    return list(first.values())


def _on_path(module: Any, above: Any) -> bool:
    while above is not None:
        _, held, above = above
        if held is module:
            return True
    return False
