"""torch.distributed.checkpoint's folders: the checkpoint that `.metadata` describes, its items in files beside it."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator
from pathlib import PurePath
from typing import Any, BinaryIO

from freezeinspect.readers.checkpoints import NESTING, described
from freezeinspect.readers.chunks import Chunk, Files, Item, Tensor, opened
from freezeinspect.readers.directory import METADATA
from freezeinspect.readers.limits import LIMITS, Unreadable, cut, past
from freezeinspect.readers.modules import mapping
from freezeinspect.readers.optimizers import Tally, saved
from freezeinspect.readers.standins import Global, Made, name_of
from freezeinspect.readers.stored import Stored
from freezeinspect.readers.tensors import shape_of
from freezeinspect.readers.unpickle import Pickled, unpickle

FORMAT = "torch.distributed.checkpoint"
_TENSOR = Global("torch._utils", "_rebuild_meta_tensor_no_storage")  # has a shape and a dtype, and no bytes
_GROUPS = "param_groups"
_END = 2**63  # bytes that a file may have
_FLAT = ("state.", f"{_GROUPS}.")


class Checkpoint:
    """A checkpoint as it was before torch.distributed.checkpoint took it apart. Raises Unreadable."""

    def __init__(self, metadata: BinaryIO) -> None:
        metadata.seek(0)
        pickled = unpickle(metadata.read(LIMITS.pickle_bytes + 1))
        about = _attributes(pickled.value, "Metadata")
        entries = mapping(about.get("state_dict_metadata"))
        if entries is None:
            seen = described(pickled.value)
            raise Unreadable(f"a {METADATA} that holds {seen}, and no Metadata of {FORMAT}; get the folder again")
        if len(entries) > LIMITS.entries:
            raise past("entries", f"it has {len(entries):,} names")
        self._entries = {_text(name): one for name, one in entries.items()}
        self._paths = mapping(about.get("planner_data")) or {}
        self._items = dict(_items(mapping(about.get("storage_data")) or {}))
        self._names: dict[Hashable, str] = {}  # of the tensors that stand in the value, by identity
        self.read = [pickled]
        self._values: dict[Item, Any] = {}
        self._known: dict[tuple[int, bytes], Any] = {}
        self._spent = self._looked_at = 0
        self._tally = Tally()
        self.untold = 0  # optimizers of which a part would be missing

    def files(self) -> list[str]:
        """Give the names of its files, all of which stand beside it."""
        names = sorted({item.path for item in self._items.values()})
        if len(names) > LIMITS.groups:
            raise past("groups", f"it names {len(names):,} files")
        return names

    def value(self, files: Files) -> Any:
        """Give the checkpoint, nested as it was saved: its tensors without their bytes, and its optimizers' groups.

        All other values are read too, to tell what loading them would import, and left out.
        """
        _check_ends(self._items.values(), files)
        root: dict[Any, Any] = {}
        made = 0
        for name, entry in self._entries.items():
            path = self._path(name)
            made += _put(root, path, self._leaf(name, entry, _GROUPS in path, files))
            if made > LIMITS.entries:
                raise past("entries", f"its values are nested in at least {made:,} dicts")
        return self._settled(root, NESTING)

    def _leaf(self, name: str, entry: Any, is_of_groups: bool, files: Files) -> Any:
        if _is(entry, "TensorStorageMetadata"):
            return self._tensor(name, entry)
        if _is(entry, "BytesStorageMetadata"):
            value = self._other(name, files)
            return value if is_of_groups else None
        raise Unreadable(f"a {METADATA} in which {cut(name)} is neither tensor nor bytes; get the folder again")

    def left_out(self) -> str:
        """Say what is there and could not be told."""
        packed = sum(item.packed for item in self._items.values())
        said = [f"; not told: {self.untold} optimizer's state"] * bool(self.untold)
        return "".join([*said, *[f"; not read: {packed:,} packed items"] * bool(packed)])

    def names(self, stored: Iterable[Stored]) -> list[str | None]:
        """Give the full names of tensors that were found in the value."""
        return [self._names.get(one.identity[1]) for one in stored]

    def tensor(self, name: str) -> Tensor:
        """Describe a tensor and its chunks."""
        state = _attributes(self._entries[name], "TensorStorageMetadata")
        chunks = state.get("chunks")
        found = [self._chunk(name, one) for one in chunks] if type(chunks) is list else []
        return Tensor(_sizes(state.get("size")), name_of(_properties(state)[0]).removeprefix("torch."), found)

    def _chunk(self, name: str, value: Any) -> Chunk:
        state = _attributes(value, "ChunkStorageMetadata")
        offsets, sizes = _sizes(state.get("offsets")), _sizes(state.get("sizes"))
        return Chunk(offsets or (), sizes or (), self._items.get((name, offsets)))

    def _tensor(self, name: str, entry: Any) -> Made:
        state = _attributes(entry, "TensorStorageMetadata")
        dtype, requires_grad = _properties(state)
        made = Made(_TENSOR, (dtype, state.get("size"), None, requires_grad), allocated=False)
        self._names[id(made)] = name
        return made

    def _other(self, name: str, files: Files) -> Any:
        """Read a value that is no tensor; None where none was saved, or in a form that only its writer can read."""
        item = self._items.get((name, None))
        if item is None or item.packed:
            return None
        if item not in self._values:
            self._values[item] = self._value(name, item, files)
        return self._values[item]

    def _value(self, name: str, item: Item, files: Files) -> Any:
        """Read an item, or take what is known of another of the same bytes: many values are alike."""
        files[item.path].seek(item.start)
        self._looked_at += item.length
        if self._looked_at > LIMITS.pickle_bytes:
            raise past("pickle_bytes", f"its values that are no tensors have at least {self._looked_at:,} bytes in all")
        content = (item.length, files[item.path].read(min(item.length, LIMITS.item_bytes)))
        if content not in self._known:
            self._spent += item.length
            if self._spent > LIMITS.item_bytes:
                raise past("item_bytes", f"its values that are no tensors have at least {self._spent:,} bytes")
            try:
                self.read.append(opened(item, files)[1])
            except Unreadable as error:
                raise Unreadable(f"its {cut(name)} in {cut(item.path)}, byte {item.start:,}: {error}") from None
            self._known[content] = self.read[-1].value
        return self._known[content]

    def _path(self, name: str) -> tuple[Any, ...]:
        """Give the keys that lead to a value, as they were before they were joined by dots."""
        path = self._paths.get(name)
        if type(path) is not tuple or not path or any(type(key) not in (str, int) for key in path[: LIMITS.tree_depth]):
            return (name,)
        if len(path) > LIMITS.tree_depth:
            raise past("tree_depth", f"its values are nested at least {LIMITS.tree_depth + 1} deep")
        return path

    def _settled(self, value: Any, levels: int) -> Any:
        """Make optimizers' states of what was flattened, wherever a checkpoint may have them."""
        if type(value) is not dict or not levels:
            return value
        if _GROUPS in value or _is_flat(value):
            optimizer = _optimizer(value, self._tally) if _GROUPS in value else None
            if optimizer:
                return optimizer
            self.untold += 1
            return {_GROUPS: None}
        return {key: self._settled(part, levels - 1) for key, part in value.items()}


def imported(read: Iterable[Pickled]) -> Pickled:
    """Join what loading some pickles would import and call."""
    read = list(read)
    names = {str(one): one for pickled in read for one in pickled.imports}
    return Pickled(None, tuple(names.values()), frozenset(one for pickled in read for one in pickled.called))


def _is(value: Any, kind: str) -> bool:
    """Tell an object of one of torch's classes, wherever torch's versions keep it."""
    name = name_of(value.of) if type(value) is Made else ""
    return name.startswith("torch.distributed.") and name.endswith(f".{kind}")


def _attributes(value: Any, kind: str) -> dict[Any, Any]:
    """Give the attributes that an object of a class was pickled with, once as torch does; none of anything else."""
    states = value.states if _is(value, kind) else None
    return states[0] if states and len(states) == 1 and type(states[0]) is dict else {}


def _properties(tensor: dict[Any, Any]) -> tuple[Any, Any]:
    """Give a tensor's dtype and requires_grad: its properties are pickled as a tuple that begins with these."""
    properties = tensor.get("properties")
    states = properties.states if type(properties) is Made and _is(properties, "TensorProperties") else None
    state = states[-1] if states else ()
    return (state[0], state[2]) if type(state) is tuple and len(state) > 2 else (None, None)


def _sizes(value: Any) -> tuple[int, ...] | None:
    try:
        return shape_of(value)
    except ValueError:  # torch.Size takes one argument
        return None


def _text(name: Any) -> str:
    if type(name) is not str:
        raise Unreadable(f"a {METADATA} with a name that is no text; get the folder again")
    return name


def _items(stored: dict[Any, Any]) -> Iterator[tuple[tuple[str, tuple[int, ...] | None], Item]]:
    """Give where each item is, by its full name and, of a tensor's chunk, the offsets."""
    for index, info in stored.items():
        key, where = _attributes(index, "MetadataIndex"), _attributes(info, "_StorageInfo")
        path, start, length = (where.get(name) for name in ("relative_path", "offset", "length"))
        if type(path) is not str or PurePath(path).name != path or path in ("", ".", "..") or "\0" in path:
            raise Unreadable(f"a {METADATA} that names {cut(path)}, which is no file beside it; get the folder again")
        if type(start) is not int or type(length) is not int or min(start, length) < 0 or start + length > _END:
            raise Unreadable(f"a {METADATA} with an item of {cut(path)} that has no place in it; get the folder again")
        offsets = key.get("offset")
        packed = bool(where.get("transform_descriptors"))
        yield (_text(key.get("fqn")), None if offsets is None else _sizes(offsets)), Item(path, start, length, packed)


def _check_ends(items: Iterable[Item], files: Files) -> None:
    ends = {name: file.seek(0, 2) for name, file in files.items()}
    for item in items:
        if item.start + item.length > ends[item.path]:
            raise Unreadable(
                f"its {cut(item.path)} has {ends[item.path]:,} bytes, and an item of it ends after "
                f"{item.start + item.length:,}; get the folder again"
            )


def _put(root: dict[Any, Any], path: tuple[Any, ...], leaf: Any) -> int:
    """Put a leaf where its path leads, and give how many dicts that took."""
    here, made = root, 0
    for key in path[:-1]:
        made += key not in here
        here = here.setdefault(key, {})
        if type(here) is not dict:
            raise Unreadable(f"a {METADATA} in which {cut(key)} is a value and has values in it; get the folder again")
    here[path[-1]] = leaf
    return made


def _is_flat(entries: dict[Any, Any]) -> bool:
    """Tell an optimizer's state by parameter, of which no key says which of them were in one group."""
    names = [name for name in entries if type(name) is str and name.startswith(_FLAT)]
    return len(names) == len(entries) and any(name.startswith(_FLAT[1]) for name in names)


def _optimizer(entries: dict[Any, Any], tally: Tally) -> dict[str, Any] | None:
    """Give an optimizer's state_dict as it was: groups as a list, keys of the state as numbers where they were."""
    groups = entries[_GROUPS]
    if type(groups) is dict:
        groups = [groups.get(i) for i in range(len(groups))]
    state = dict(mapping(entries.get("state")) or {})
    found = saved({"state": state, _GROUPS: groups})
    if found is None:
        return None
    tally.add(found)  # many may share one list
    if all(type(name) is str for group in found.groups for name in group["params"]):
        for group in found.groups:
            group.setdefault("param_names", group["params"])  # as get_optimizer_state_dict writes them
    else:
        state |= {int(key): one for key, one in state.items() if _is_number(key)}
    return {"state": state, _GROUPS: groups}


def _is_number(key: Any) -> bool:
    return type(key) is str and key.isdecimal() and len(key) < 10
