"""safetensors: a header of names, dtypes and shapes, and the bytes; nothing in it could be run."""

from __future__ import annotations

from itertools import accumulate
from typing import Any, BinaryIO

from freezeinspect.readers.archive import Extent
from freezeinspect.readers.documents import parsed
from freezeinspect.readers.limits import LIMITS, Unreadable, cut, past
from freezeinspect.readers.statedicts import NO_NAME, Named
from freezeinspect.readers.tensors import ITEM_SIZES, Place, Rebuilt, shape_of

DTYPES = {
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
    "I64": "int64",
    "I32": "int32",
    "I16": "int16",
    "I8": "int8",
    "U64": "uint64",
    "U32": "uint32",
    "U16": "uint16",
    "U8": "uint8",
    "BOOL": "bool",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E4M3FNUZ": "float8_e4m3fnuz",
    "F8_E5M2": "float8_e5m2",
    "F8_E5M2FNUZ": "float8_e5m2fnuz",
    "C64": "complex64",
}
_START = 8  # bytes that hold the header's length


class SafeTensors:
    """A safetensors file: its tensors by name, and where their bytes are. Raises Unreadable."""

    is_little_endian = True

    def __init__(self, file: BinaryIO) -> None:
        self.file, self.size = file, file.seek(0, 2)
        header, self._data = _header(file, self.size)
        self.share = self._data / LIMITS.directory_bytes
        self._extents: dict[str, tuple[int, int]] = {}
        self.tensors: Named = {name: self._tensor(name, entry) for name, entry in header.items()}
        _check_cover(sorted(self._extents.values()), self.size - self._data)

    def extent(self, storage: str) -> Extent | None:
        """Tell where a tensor's bytes are."""
        start, end = self._extents[storage]
        return Extent(self.file, self._data + start, end - start)

    def _tensor(self, name: str, entry: Any) -> tuple[tuple[str, Any], Rebuilt]:
        if not all(name.split(".")):
            raise Unreadable(NO_NAME)
        try:
            dtype, size, (start, end) = entry["dtype"], entry["shape"], entry["data_offsets"]
        except (KeyError, TypeError, ValueError):
            raise Unreadable(
                f"its tensor {cut(name)} lacks a dtype, a shape or its offsets; get the file again"
            ) from None
        if type(dtype) is not str:
            raise Unreadable(f"its tensor {cut(name)} has no dtype; get the file again")
        shape, known = shape_of(size), DTYPES.get(dtype)
        if shape is None or not all(type(one) is int and 0 <= one <= self.size for one in (start, end)):
            raise Unreadable(
                f"its tensor {cut(name)} has no shape and offsets that a tensor can have; get the file again"
            )
        self._extents[name] = (start, end)
        *strides, elements = [*accumulate(reversed(shape), lambda a, b: a * b, initial=1)]
        if known is not None and end - start != elements * ITEM_SIZES[known]:
            raise _damaged(name, "has not as many bytes as its shape takes")
        place = Place(name, 0, shape, tuple(reversed(strides)))
        return ("object", name), Rebuilt(shape, known or dtype, place=place, plain=known is not None)


def _damaged(name: str, how: str) -> Unreadable:
    return Unreadable(f"its tensor {cut(name)} {how}; get the file again")


def _header(file: BinaryIO, size: int) -> tuple[dict[str, Any], int]:
    """Read the header: an entry for each tensor, and where the bytes begin."""
    file.seek(0)
    length = int.from_bytes(file.read(_START), "little")
    if length > LIMITS.directory_bytes:
        raise past("directory_bytes", f"its header has {length:,} bytes")
    if _START + length > size:
        raise Unreadable(f"a safetensors file that was cut off in its header, after {size:,} bytes; get the file again")
    header = parsed(file.read(length), "a safetensors file", "header")
    header.pop("__metadata__", None)
    if len(header) > LIMITS.entries:
        raise past("entries", f"it has {len(header):,} names")
    return header, _START + length


def _check_cover(extents: list[tuple[int, int]], length: int) -> None:
    """Refuse what the format does: bytes that belong to no tensor, or to two."""
    place = 0
    for start, end in extents:
        if start != place or end < start:
            raise Unreadable("a safetensors file whose tensors overlap or leave a gap; get the file again")
        place = end
    if place != length:
        raise Unreadable(f"a safetensors file of {length:,} bytes where its tensors take {place:,}; get the file again")
