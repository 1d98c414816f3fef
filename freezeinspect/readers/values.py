"""The values of stored tensors: fingerprints from their bytes, read in blocks and never all at once."""

from __future__ import annotations

import mmap
from collections.abc import Iterator, Sequence
from math import prod
from typing import Any

from freezeinspect.fingerprint import BLOCK, of_bytes
from freezeinspect.readers.archive import Archive
from freezeinspect.readers.stored import Stored
from freezeinspect.readers.tensors import Place

ITEM_SIZES = {
    **dict.fromkeys(("bool", "uint8", "int8", "float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2", "float8_e5m2fnuz"), 1),
    **dict.fromkeys(("float16", "bfloat16", "int16", "uint16"), 2),
    **dict.fromkeys(("float32", "int32", "uint32", "complex32"), 4),
    **dict.fromkeys(("float64", "int64", "uint64", "complex64"), 8),
    "complex128": 16,
}
_EXPANDED = 2**20  # elements that a tensor may have beyond those of its storage
_SHOWN_FROM = 2**28  # bytes of a file that are worth a progress bar


def fingerprints(stored: Sequence[Stored], archive: Archive) -> tuple[str | None, ...]:
    """Digest each tensor as fingerprint.of_tensor would once it is loaded; None where its bytes do not say."""
    from tqdm import tqdm

    if not archive.is_little_endian:
        return (None,) * len(stored)
    known: dict[Any, str | None] = {}
    total = sum(ITEM_SIZES.get(one.tensor.dtype or "", 0) * (one_elements(one) or 0) for one in stored)
    disable = None if total >= _SHOWN_FROM else True
    with tqdm(total=total, unit="B", unit_scale=True, leave=False, disable=disable) as bar:
        for one in stored:
            key = (one.tensor.place, one.tensor.dtype)
            if key not in known:
                known[key] = _fingerprint(one, archive)
            bar.update(ITEM_SIZES.get(one.tensor.dtype or "", 0) * (one_elements(one) or 0))
    return tuple(known[one.tensor.place, one.tensor.dtype] if one.tensor.plain else None for one in stored)


def one_elements(one: Stored) -> int | None:
    """Count the elements of a stored tensor."""
    return None if one.tensor.shape is None else prod(one.tensor.shape)


def _fingerprint(one: Stored, archive: Archive) -> str | None:
    place, size = one.tensor.place, ITEM_SIZES.get(one.tensor.dtype or "")
    if place is None or size is None or not one.tensor.plain or one.tensor.dtype is None:
        return None
    if not prod(place.shape):
        return of_bytes(one.tensor.dtype, place.shape, [])
    member = archive.storage(place.storage)
    if member is None or (last_element(place) + 1) * size > member.file_size:
        return None
    if prod(place.shape) * size > member.file_size + _EXPANDED:
        return None
    start, _ = archive.span(member)
    if is_contiguous(place):
        blocks = _blocks(archive, start + place.offset * size, prod(place.shape) * size)
    else:
        blocks = _gathered(archive, start, member.file_size, place, size)
    return of_bytes(one.tensor.dtype, place.shape, blocks)


def last_element(place: Place) -> int:
    """Give the number, within the storage, of the last element that a tensor reaches."""
    steps = ((length - 1) * stride for length, stride in zip(place.shape, place.strides, strict=True))
    return place.offset + sum(steps)


def is_contiguous(place: Place) -> bool:
    """Tell whether the elements stand in row-major order, one after the other."""
    expected = 1
    for length, stride in zip(reversed(place.shape), reversed(place.strides), strict=True):
        if length != 1 and stride != expected:
            return False
        expected *= length
    return True


def _blocks(archive: Archive, start: int, length: int) -> Iterator[bytes]:
    archive.file.seek(start)
    while length > 0:
        block = archive.file.read(min(BLOCK, length))
        if not block:
            return
        length -= len(block)
        yield block


def _gathered(archive: Archive, start: int, length: int, place: Place, size: int) -> Iterator[bytes]:
    """Give the elements of a transposed or strided tensor in row-major order, some rows at a time."""
    import numpy as np

    page = start - start % mmap.ALLOCATIONGRANULARITY
    with mmap.mmap(archive.file.fileno(), start - page + length, offset=page, access=mmap.ACCESS_READ) as mapped:
        elements = np.frombuffer(mapped, dtype=f"V{size}", count=length // size, offset=start - page)
        strides = tuple(stride * size for stride in place.strides)
        whole = np.lib.stride_tricks.as_strided(elements[place.offset :], place.shape, strides, writeable=False)
        rows = max(1, BLOCK // max(1, whole[0].size * size))
        for first in range(0, place.shape[0], rows):
            yield whole[first : first + rows].tobytes()
        del elements, whole
