"""The items of a `.distcp` file: each a small torch zip, of one chunk of a tensor or of one other value."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import replace
from io import BufferedReader, RawIOBase
from itertools import accumulate
from math import prod
from typing import Any, BinaryIO, NamedTuple, TypeAlias, overload

from freezeinspect.readers.archive import Archive, Extent
from freezeinspect.readers.limits import LIMITS, Limits, Unreadable
from freezeinspect.readers.stored import Stored
from freezeinspect.readers.tensors import ITEM_SIZES, Place, rebuilt
from freezeinspect.readers.unpickle import Pickled, unpickle
from freezeinspect.readers.values import is_contiguous


class Item(NamedTuple):
    """Where one was saved; a `packed` one was compressed, or otherwise made into what only its writer can read."""

    path: str
    start: int
    length: int
    packed: bool


class Chunk(NamedTuple):
    """A box of a tensor, and where its elements were saved."""

    offsets: tuple[int, ...]
    sizes: tuple[int, ...]
    item: Item | None


_OF_A_TENSOR = replace(LIMITS, operations=10_000, directory_bytes=2**16)  # torch writes forty, and some hundred bytes

Files: TypeAlias = dict[str, BinaryIO]
Found: TypeAlias = tuple[Place, Extent]


class Tensor(NamedTuple):
    """A tensor of a folder, and the chunks that make it up."""

    shape: tuple[int, ...] | None
    dtype: str
    chunks: list[Chunk]


class Joined(RawIOBase):
    """Parts of files as one file."""

    def __init__(self, parts: Sequence[Extent]) -> None:
        self._parts = parts
        self._ends = list(accumulate(part.length for part in parts))
        self._at = 0

    def readable(self) -> bool:
        """Tell that it can be read."""
        return True

    def seekable(self) -> bool:
        """Tell that it can be sought in."""
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        """Go to a byte, as any file does."""
        self._at = max(0, (0, self._at, self._ends[-1])[whence] + offset)
        return self._at

    def readinto(self, buffer: Any) -> int:
        """Read from one part, at most to its end."""
        number = bisect_right(self._ends, self._at)
        if number == len(self._parts):
            return 0
        part = self._parts[number]
        left = self._ends[number] - self._at
        part.file.seek(part.start + part.length - left)
        data = part.file.read(min(len(buffer), left))
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)


def opened(item: Item, files: Files, limits: Limits = LIMITS) -> tuple[Archive, Pickled]:
    """Read an item's pickle, running none of it. Raises Unreadable."""
    window = Extent(files[item.path], item.start, item.length)
    archive = Archive(BufferedReader(Joined([window])), limits.directory_bytes)
    if archive.pickle_length() > item.length:
        raise Unreadable("a zip whose pickle is deflated, which torch never does; get the file again")
    return archive, unpickle(archive.pickle(), limits)


class Chunks:
    """The tensors of a folder as a source of bytes, in which a storage is a whole tensor, by its name."""

    is_little_endian = True  # a chunk in another order is not found

    def __init__(self, files: Files, described: Callable[[str], Tensor]) -> None:
        self.size = sum(file.seek(0, 2) for file in files.values())
        self._files, self._described = files, described
        self._found: dict[str, Found | None] = {}
        self._items: dict[tuple[Item, str], Found | None] = {}
        self._left = LIMITS.entries  # chunks that are looked at, for many tensors may share one list

    def place(self, name: str) -> Place | None:
        """Tell how a tensor's elements stand in its bytes; None where they are not found."""
        found = self._of(name)
        return found[0]._replace(storage=name) if found else None

    def extent(self, storage: str) -> Extent | None:
        """Tell where a tensor's bytes are."""
        found = self._of(storage)
        return found[1] if found else None

    def _of(self, name: str) -> Found | None:
        if name not in self._found:
            tensor = self._described(name) if self._left > 0 else None
            self._left -= len(tensor.chunks) if tensor else 0
            self._found[name] = self._whole(tensor) if tensor else None
        return self._found[name]

    def _whole(self, tensor: Tensor) -> Found | None:
        """Find a tensor in one chunk, however it is strided, or in slabs along the first dimension, as FSDP cuts it."""
        filled = [one for one in tensor.chunks if prod(one.sizes)]
        chunks = sorted(filled, key=lambda one: one.offsets) or tensor.chunks[:1]
        if len(chunks) == 1:
            whole = chunks[0].sizes == tensor.shape and not any(chunks[0].offsets)
            return self._part(chunks[0], tensor.dtype) if whole else None
        if tensor.shape is None or not _are_slabs(chunks, tensor.shape):
            return None
        parts = [_contiguous(self._part(one, tensor.dtype), tensor.dtype) for one in chunks]
        known = [part for part in parts if part is not None]
        if len(known) < len(parts):
            return None
        joined = BufferedReader(Joined(known))
        return _row_major(tensor.shape), Extent(joined, 0, sum(part.length for part in known))

    def _part(self, chunk: Chunk, dtype: str) -> Found | None:
        if chunk.item is None or chunk.item.packed:
            return None
        key = (chunk.item, dtype)
        if key not in self._items:
            self._items[key] = self._read(*key)
        found = self._items[key]
        return found if found and found[0].shape == chunk.sizes else None

    def _read(self, item: Item, dtype: str) -> Found | None:
        """Find the elements of the one tensor that an item holds."""
        try:
            archive, pickled = opened(item, self._files, _OF_A_TENSOR)
        except Unreadable:  # the model can be told all the same
            return None
        one = rebuilt(pickled.value)
        if one is None or one.place is None or not one.plain or one.dtype != dtype or not archive.is_little_endian:
            return None
        inner = archive.extent(one.place.storage)
        start = item.start + (inner.start if inner else 0)
        return (one.place, inner._replace(file=self._files[item.path], start=start)) if inner else None


def _are_slabs(chunks: list[Chunk], shape: tuple[int, ...]) -> bool:
    """Tell chunks that follow each other along the first dimension, with nothing between, up to the whole."""
    first = 0
    for one in chunks:
        if (
            len(one.sizes) != len(shape)
            or one.offsets != (first, *[0] * (len(shape) - 1))
            or one.sizes[1:] != shape[1:]
        ):
            return False
        first += one.sizes[0]
    return shape[:1] == (first,)


def _contiguous(found: Found | None, dtype: str) -> Extent | None:
    """Give the bytes of a chunk alone, if they stand in row-major order."""
    size = ITEM_SIZES.get(dtype)
    if found is None or size is None or not is_contiguous(found[0]):
        return None
    place, extent = found
    start, length = place.offset * size, prod(place.shape) * size
    return Extent(extent.file, extent.start + start, length) if start + length <= extent.length else None


def _row_major(shape: tuple[int, ...]) -> Place:
    strides = [prod(shape[at + 1 :]) for at in range(len(shape))]
    return Place("", 0, shape, tuple(strides))


class Located(Sequence[Stored]):
    """The tensors of a folder, each with its place, which is looked up in its file when it is asked for."""

    def __init__(self, stored: Sequence[Stored], names: Sequence[str | None], chunks: Chunks) -> None:
        self._stored, self._names, self._chunks = stored, names, chunks

    def __len__(self) -> int:
        return len(self._stored)

    @overload
    def __getitem__(self, i: int) -> Stored: ...

    @overload
    def __getitem__(self, i: slice) -> list[Stored]: ...

    def __getitem__(self, i: int | slice) -> Stored | list[Stored]:
        if isinstance(i, slice):
            return [self[at] for at in range(len(self))[i]]
        one, name = self._stored[i], self._names[i]
        place = None if name is None else self._chunks.place(name)
        return one._replace(tensor=one.tensor._replace(place=place, plain=place is not None))
