"""torch.export's files: tensors from their two lists, modules and classes from their graph, none of which is run."""

from __future__ import annotations

import re
from collections.abc import Iterable
from math import prod
from typing import Any, NamedTuple

from freezeinspect.readers import statedicts
from freezeinspect.readers.archive import EXPORTED, OLD_EXPORT, Archive
from freezeinspect.readers.checkpoints import listed
from freezeinspect.readers.documents import parsed
from freezeinspect.readers.flags import NOT_SEEN, RENAMING
from freezeinspect.readers.limits import LIMITS, Unreadable, cut, past
from freezeinspect.readers.statedicts import NO_NAME, Named, as_written
from freezeinspect.readers.stored import Modules, Stored
from freezeinspect.readers.tensors import Place, Rebuilt, place_of
from freezeinspect.state import NO, YES

FORMAT = "torch.export"
DTYPES = {  # torch._export.serde.schema.ScalarType
    1: "uint8",
    2: "int8",
    3: "int16",
    4: "int32",
    5: "int64",
    6: "float16",
    7: "float32",
    8: "float64",
    9: "complex32",
    10: "complex64",
    11: "complex128",
    12: "bool",
    13: "bfloat16",
    28: "uint16",
    29: "float8_e4m3fn",
    30: "float8_e5m2",
    31: "float8_e4m3fnuz",
    32: "float8_e5m2fnuz",
    33: "float8_e8m0fnu",
    34: "uint32",
    35: "uint64",
}
_STRIDED = 7  # the layout
_FILE = "a file of torch.export"
_AGAIN = "get the file again"
_ONLY = "model"  # what torch.export.save calls the one model of a file
_MODELS, _JSON = "models/", ".json"
_WRITTEN = {EXPORTED: b"pt2", "archive_version": b"0"}
_LOADED_BY_OTHERS = ("data.pkl", "constants.pkl")
# What is read of the graph. A text within a text has its quotes escaped, so it is never taken for one of these.
_SAID = re.compile(rb'"(fqn|nn_module_stack|buffer_name)"\s*+:\s*+"([^"\\]*+(?:\\.[^"\\]*+)*+)"', re.DOTALL)
_CALL = re.compile(r"[^,]*,([^,()\[\]@]*),([\w.<>]*\.[\w<>]+)")  # key,path,class


class Program(NamedTuple):
    """One program of a file: its key, where that has to be said, and those of the others; what only running tells."""

    key: str | None
    others: tuple[str, ...]
    modules: Modules
    tensors: list[Stored]
    unread: list[tuple[str, str]]


def read(archive: Archive, key: str | None = None) -> Program:
    """Read a program: the tree of all its modules, parameters and buffers. Raises Unreadable.

    Plain tensors and objects among its constants are no part of a module's record; pickles are named as `unread`.
    """
    _check(archive)
    model, others = _choose(archive, key)
    graph = _said(archive.read(f"{_MODELS}{model}{_JSON}"))
    paths = [path for path in graph["fqn"] if not path or all(path.split("."))]
    classes = _classes(graph["nn_module_stack"])
    weights, constants = _Listed(archive, "weights", model), _Listed(archive, "constants", model)
    hidden = {name: None for name in graph["buffer_name"] if name in constants.entries and name not in weights.entries}
    found = {**weights.tensors(weights.entries), **constants.tensors(hidden)}
    modules, tensors = statedicts.read(found, [*paths, *filter(None, classes)], others="buffer")
    rows = [NOT_SEEN._replace(type=classes.get(path)) for path in modules.paths]
    shown = None if model == _ONLY and not others else model
    return Program(shown, others, modules._replace(rows=rows), tensors, weights.pickled() + constants.pickled())


def _check(archive: Archive) -> None:
    """Refuse what torch.load would read too, and otherwise, and what torch.export.load would not."""
    for other in _LOADED_BY_OTHERS:
        if archive.has(other):
            raise Unreadable(
                f"the zip has both {EXPORTED!r} and {other!r}: which one is loaded, the loader decides; {_AGAIN}"
            )
    for name, written in _WRITTEN.items():
        seen = archive.read(name) if archive.has(name) else b""
        if seen != written:
            raise Unreadable(
                f"its {name!r} is {cut(seen[:20].decode('latin-1'))}, where this version reads {written.decode()!r}"
            )


def _choose(archive: Archive, key: str | None) -> tuple[str, tuple[str, ...]]:
    """Give the model under `key`, or the one that torch.export.load would give, and the others."""
    names = [name for name in archive.names() if name.startswith(_MODELS) and name.endswith(_JSON)]
    models = [name[len(_MODELS) : -len(_JSON)] for name in names]
    if not models:
        raise Unreadable(f"{_FILE} without a program in it: a compiled package has no modules; save the program itself")
    if key is not None and key not in models:
        raise Unreadable(f"it has no model under key {cut(key)}; {listed(models)}")
    chosen = key if key is not None else _ONLY if _ONLY in models else models[0]
    return chosen, tuple(name for name in models if name != chosen)


class _Told(NamedTuple):
    member: str
    is_parameter: bool
    is_pickled: bool
    dtype: int
    requires_grad: bool
    layout: Any
    place: Place


class _Listed:
    """One of a program's two lists: what is told of each tensor, and which member has its bytes."""

    def __init__(self, archive: Archive, folder: str, model: str) -> None:
        self._archive, self._folder = archive, folder
        self._dtypes: dict[str, int] = {}
        self.entries = _entries(archive, folder, model)

    def tensors(self, names: Iterable[str]) -> Named:
        """Read the tensors of these names."""
        return {name: self._tensor(name, self.entries[name]) for name in names}

    def pickled(self) -> list[tuple[str, str]]:
        """Name what was pickled on its own."""
        found = [name for name, entry in self.entries.items() if type(entry) is dict and entry.get("use_pickle")]
        return [(name, "a pickle within the file") for name in found]

    def _tensor(self, name: str, entry: Any) -> tuple[tuple[str, Any], Rebuilt]:
        told = _told(name, entry, self._folder)
        one = Rebuilt(told.place.shape, DTYPES.get(told.dtype), YES if told.requires_grad else NO, told.is_parameter)
        if told.is_pickled:
            return ("object", name), one
        self._check_member(name, told.member, told.dtype)
        is_tied = prod(told.place.shape) and self._has_bytes(told.place)
        identity = ("memory", told.place) if is_tied else ("object", name)
        return identity, one._replace(place=told.place, plain=told.layout == _STRIDED)

    def _check_member(self, name: str, path: str, dtype: int) -> None:
        """Refuse a member that is not there, or that torch would read as another dtype: the first that it has."""
        if "/" in path or not self._archive.has(f"data/{self._folder}/{path}"):
            raise _damaged(name, f"has its bytes in {cut(path)}, which is not there")
        if self._dtypes.setdefault(path, dtype) != dtype:
            raise _damaged(name, f"shares {cut(path)} with a tensor of another dtype")

    def _has_bytes(self, place: Place) -> bool:
        """Tell a storage from the empty one that all tensors have that were saved without values."""
        extent = self._archive.extent(place.storage)
        return extent is None or extent.length > 0


def _entries(archive: Archive, folder: str, model: str) -> dict[str, Any]:
    name = f"data/{folder}/{model}_{folder}_config{_JSON}"
    if archive.has(f"data/{folder}/{model}.pt"):
        raise Unreadable(f"{OLD_EXPORT}, which this version does not read; load it, and save it again")
    if not archive.has(name):
        raise Unreadable(f"{_FILE} without {cut(name)}; {_AGAIN}")
    text = archive.read(name)
    if len(text) > LIMITS.directory_bytes:
        raise past("directory_bytes", f"its list of {folder} has {len(text):,} bytes")
    found = parsed(text, _FILE, f"list of {folder}").get("config")
    if type(found) is not dict:
        raise Unreadable(f"{_FILE} whose list of {folder} has no config; {_AGAIN}")
    if len(found) > LIMITS.entries:
        raise past("entries", f"its list of {folder} has {len(found):,} names")
    return found


def _told(name: str, entry: Any, folder: str) -> _Told:
    """Read what a list tells of one tensor. Raises Unreadable."""
    if not all(name.split(".")):
        raise Unreadable(NO_NAME)
    try:
        member, is_parameter, is_pickled, about = (
            entry[key] for key in ("path_name", "is_param", "use_pickle", "tensor_meta")
        )
        dtype, requires_grad, layout = (about[key] for key in ("dtype", "requires_grad", "layout"))
        sizes, strides = ([one["as_int"] for one in about[key]] for key in ("sizes", "strides"))
        place = place_of(f"{folder}/{member}", about["storage_offset"]["as_int"], sizes, strides)
    except (KeyError, TypeError):
        raise _damaged(name, "lacks its place, its dtype or its shape") from None
    if [type(one) for one in (member, is_parameter, is_pickled, dtype, requires_grad)] != [str, bool, bool, int, bool]:
        raise _damaged(name, "has no place, dtype and flags that a tensor can have")
    if place is None:
        raise _damaged(name, "has no shape that a tensor can have")
    return _Told(member, is_parameter, is_pickled, dtype, requires_grad, layout, place)


def _damaged(name: str, how: str) -> Unreadable:
    return Unreadable(f"its tensor {cut(name)} {how}; {_AGAIN}")


def _said(graph: bytes) -> dict[str, list[str]]:
    """Find what the graph says of modules and buffers: each text once, in the order in which they came."""
    found: dict[bytes, dict[bytes, None]] = {b"fqn": {}, b"nn_module_stack": {}, b"buffer_name": {}}
    for one in _SAID.finditer(graph):
        texts = found[one[1]]
        texts[one[2]] = None
        if len(texts) > LIMITS.entries:
            raise past("entries", f"its graph has at least {len(texts):,} names")
    return {key.decode(): [text for one in texts if (text := _text(one)) is not None] for key, texts in found.items()}


def _text(raw: bytes) -> str | None:
    """Read a JSON text as it stands in a file; None for what is none."""
    import json

    try:
        return str(json.loads(b'"%b"' % raw))
    except ValueError:
        return None


def _classes(stacks: list[str]) -> dict[str, str | None]:
    """Map paths to classes by the modules that each operation was called in; None where two are told of one."""
    found: dict[str, str | None] = {}
    for call in _calls(stacks):
        seen = _CALL.fullmatch(call)
        if seen and (not seen[1] or all(seen[1].split("."))):
            path, kind = as_written(seen[1]), None if seen[2].rpartition(".")[0] in RENAMING else seen[2]
            found[path] = kind if found.setdefault(path, kind) == kind else None
    return found


def _calls(stacks: list[str]) -> dict[str, None]:
    """Take stacks apart, each of which has the modules that were open when an operation was called."""
    depths = [stack.count(";") for stack in stacks]
    if max(depths, default=0) > LIMITS.tree_depth:
        raise past("tree_depth", f"its graph has modules that are nested {max(depths):,} deep")
    if sum(depths) > LIMITS.operations:
        raise past("operations", f"its graph names {sum(depths):,} calls of modules")
    found: dict[str, None] = {}
    for stack in stacks:
        found |= dict.fromkeys(stack.split(";"))
        if len(found) > LIMITS.entries:
            raise past("entries", f"its graph names at least {len(found):,} calls of modules")
    return found
