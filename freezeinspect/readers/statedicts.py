"""A state_dict as a record: names, shapes and dtypes; what it has lost is unknown."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, TypeAlias

from freezeinspect.readers.flags import NOT_SEEN
from freezeinspect.readers.limits import LIMITS, Unreadable, past
from freezeinspect.readers.stored import Budget, Modules, Stored, check_path
from freezeinspect.readers.tensors import Rebuilt, rebuilt_once
from freezeinspect.state import NO, UNKNOWN, UNSEEN

NO_NAME = "the name of a tensor is empty, or no plain text, so it has no place in a tree of modules"
EXTRA = "_extra_state"  # what torch calls anything that a module adds to its state_dict
COMPILED = "_orig_mod"  # the name that torch.compile puts before every name of the module it wraps


Named: TypeAlias = dict[str, tuple[tuple[str, Any], Rebuilt]]  # identity and what is known, by full name


def read(found: Named, metadata: Iterable[Any] = (), others: str = "unknown") -> tuple[Modules, list[Stored]]:
    """Read a state_dict: the tree that its names, and those of its metadata, make, and its tensors.

    Which tensors are parameters, and whether one requires a gradient, is known only of those that were pickled as
    Parameters, for a detached tensor says False of all. The kind of the `others` is "buffer" where the file tells
    parameters and buffers apart. Raises Unreadable.
    """
    names = [as_written(name) for name in found]
    if len(set(names)) < len(names):
        names = list(found)
    listed = [as_written(path) for path in metadata if type(path) is str]
    paths = list(_pre_order(_tree([*listed, *(name.rpartition(".")[0] for name in names)])))
    index = {path: i for i, path in enumerate(paths)}
    stored = []
    for full, (identity, one) in zip(names, found.values(), strict=True):
        owner, _, name = full.rpartition(".")
        stored.append(Stored(index[owner], name, "parameter" if one.is_parameter else others, _known(one), identity))
    is_partial = others == "unknown" and not listed  # named_parameters() has no buffers
    if stored and is_partial and all(one.kind == "parameter" for one in stored):
        stored += [Stored(i, UNSEEN, "buffer", Rebuilt(), ("object", (UNSEEN, i))) for i in range(len(paths))]
    return Modules(paths, [NOT_SEEN] * len(paths), [], {}), stored


def _known(one: Rebuilt) -> Rebuilt:
    """Trust a Parameter, and a yes; a plain tensor's no is what detaching made of it."""
    return one._replace(requires_grad=UNKNOWN) if one.requires_grad is NO and not one.is_parameter else one


def tensors(entries: dict[Any, Any]) -> Named:
    """Give the tensors of a mapping by name, each with what tells one memory from another.

    Raises Unreadable for a name that is no text.
    """
    if len(entries) > LIMITS.entries:
        raise past("entries", f"it has {len(entries):,} names")
    found: Named = {}
    known: dict[int, Rebuilt | None] = {}
    for name, value in entries.items():
        one = rebuilt_once(value, known)
        if one is None or type(name) in (int, type(None)) or (type(name) is str and name.endswith(EXTRA)):
            continue
        if type(name) is not str or not all(name.split(".")):
            raise Unreadable(NO_NAME)
        is_itself = one.is_parameter or one.place is None
        found[name] = (("object", id(value)) if is_itself else ("memory", one.place), one)
    return found


def as_written(name: str) -> str:
    """Take out the name that torch.compile put in."""
    return ".".join(part for part in name.split(".") if part != COMPILED) if COMPILED in name else name


def _tree(paths: Iterable[str]) -> dict[str, dict[str, None]]:
    """Map each module to its children, in the order in which they came."""
    children: dict[str, dict[str, None]] = {"": {}}
    budget = Budget()
    for path in dict.fromkeys(paths):
        check_path(path)  # before it is cut into the many that lead to it
        missing = []
        while path not in children:
            missing.append(path)
            path = path.rpartition(".")[0]
        for here in reversed(missing):
            budget.spend(here, 0, 0)
            children[here.rpartition(".")[0]][here] = None
            children[here] = {}
    return children


def _pre_order(children: dict[str, dict[str, None]]) -> Iterator[str]:
    stack = [""]
    while stack:
        path = stack.pop()
        yield path
        stack += reversed(children[path])
