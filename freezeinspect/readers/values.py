"""The values of stored tensors: fingerprints from their bytes, read in blocks and never all at once."""

from __future__ import annotations

import mmap
from collections.abc import Iterator, Sequence
from math import prod
from typing import Any, BinaryIO, NamedTuple, Protocol

from freezeinspect.fingerprint import BLOCK, of_bytes
from freezeinspect.readers.archive import Extent
from freezeinspect.readers.stored import Stored
from freezeinspect.readers.tensors import ITEM_SIZES, Place
from freezeinspect.state import NO, UNKNOWN, YES, Answer

_EXPANDED = 2**20  # bytes that a tensor may have beyond those of its storage
_AGAIN = 4  # times that a file may be read, for tensors that are views of each other
_SHOWN_FROM = 2**28  # bytes that are worth a progress bar


class Source(Protocol):
    """A file, or several, whose storages have their bytes somewhere in it; `size` is in bytes."""

    size: int

    @property
    def is_little_endian(self) -> bool:
        """Tell whether the bytes are in this machine's order."""

    def extent(self, storage: str) -> Extent | None:
        """Tell where a storage's bytes are."""


class Seal(NamedTuple):
    """What a zip says of a tensor's bytes without their being read: the checksum and place of its storage.

    One that is `alone` in its storage is all of it.
    """

    crc: int
    size: int
    dtype: str | None
    layout: tuple[int, tuple[int, ...], tuple[int, ...]]
    alone: bool


class Values:
    """The values of a file's tensors, read when they are asked for."""

    def __init__(self, source: Source, stored: Sequence[Stored]) -> None:
        self.source, self.stored = source, stored
        self._known: dict[Any, str | None] = {}
        self._left = _AGAIN * source.size

    def fingerprints(self) -> tuple[str | None, ...]:
        """Digest each tensor as fingerprint.of_tensor would once it is loaded; None where its bytes do not say."""
        total = sum(map(self._length, range(len(self.stored))))
        if total < _SHOWN_FROM:
            return tuple(map(self.fingerprint, range(len(self.stored))))
        from tqdm import tqdm

        found = []
        with tqdm(total=total, unit="B", unit_scale=True, leave=False, disable=None) as bar:
            for i in range(len(self.stored)):
                found.append(self.fingerprint(i))
                bar.update(self._length(i))
        return tuple(found)

    def fingerprint(self, i: int) -> str | None:
        """Digest one tensor, once for all that are at its place."""
        one = self.stored[i].tensor
        key = (one.place, one.dtype, one.plain)
        if key not in self._known:
            blocks = self.blocks(i)
            known = blocks is not None and one.dtype is not None and one.shape is not None
            self._known[key] = of_bytes(one.dtype, one.shape, blocks) if known else None  # type: ignore[arg-type]
        return self._known[key]

    def seal(self, i: int) -> Seal | None:
        """Give what the zip says; None where its writer left the checksum out, or the bytes say too little."""
        one = self.stored[i].tensor
        extent = self.source.extent(one.place.storage) if one.place is not None and one.plain else None
        if one.place is None or extent is None or extent.checksum is None:
            return None
        alone = is_contiguous(one.place) and self._length(i) == extent.length
        return Seal(extent.checksum, extent.length, one.dtype, one.place[1:], alone)

    def blocks(self, i: int) -> Iterator[bytes] | None:
        """Give the elements in row-major order, in blocks; None where the bytes are not the values, or lack some."""
        one = self.stored[i].tensor
        place, size = one.place, ITEM_SIZES.get(one.dtype or "")
        if place is None or size is None or not one.plain or not self.source.is_little_endian:
            return None
        if not prod(place.shape):
            return iter(())
        extent, length = self.source.extent(place.storage), self._length(i)
        if extent is None or (last_element(place) + 1) * size > extent.length:
            return None
        self._left -= length
        if length > extent.length + _EXPANDED or self._left < 0:
            return None
        if is_contiguous(place):
            return _blocks(extent.file, extent.start + place.offset * size, length)
        return _gathered(extent, place, size)

    def _length(self, i: int) -> int:
        one = self.stored[i].tensor
        return ITEM_SIZES.get(one.dtype or "", 0) * prod(one.shape or ())


class Unrecorded(Values):
    """The values of tensors of which none were kept."""

    def __init__(self, count: int) -> None:
        self._count = count

    def fingerprints(self) -> tuple[str | None, ...]:
        """Give None for each tensor."""
        return (None,) * self._count

    def seal(self, i: int) -> Seal | None:
        """Give None."""
        return None

    def blocks(self, i: int) -> Iterator[bytes] | None:
        """Give None."""
        return None


def changed(before: Values, i: int, after: Values, j: int, exact: bool) -> Answer:
    """Tell whether two tensors of equal dtype and shape have other values, from the zips' checksums where they do.

    Equal checksums at equal places mean equal values; others prove a change only of a tensor that is all of its
    storage. Where they tell nothing, or `exact` is asked for, the bytes are compared.
    """
    one, other = (None, None) if exact else (before.seal(i), after.seal(j))
    if one is not None and other is not None:
        if one == other:
            return NO
        if one.alone and other.alone and one.size == other.size and one.crc != other.crc:
            return YES
    blocks, others = before.blocks(i), after.blocks(j)
    if blocks is None or others is None:
        return UNKNOWN
    return NO if _are_equal(blocks, others) else YES


def _are_equal(blocks: Iterator[bytes], others: Iterator[bytes]) -> bool:
    """Compare two streams of bytes, whatever their blocks."""
    one = other = b""
    while True:
        one, other = one or next(blocks, b""), other or next(others, b"")
        if not one or not other:
            return not one and not other
        both = min(len(one), len(other))
        if one[:both] != other[:both]:
            return False
        one, other = one[both:], other[both:]


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


def _blocks(file: BinaryIO, start: int, length: int) -> Iterator[bytes]:
    while length > 0:
        file.seek(start)
        block = file.read(min(BLOCK, length))
        if not block:
            return
        start, length = start + len(block), length - len(block)
        yield block


def _gathered(extent: Extent, place: Place, size: int) -> Iterator[bytes]:
    """Give the elements of a transposed or strided tensor in row-major order, some rows at a time."""
    import numpy as np

    skipped = extent.start % mmap.ALLOCATIONGRANULARITY
    page = extent.start - skipped
    mapped = mmap.mmap(extent.file.fileno(), skipped + extent.length, offset=page, access=mmap.ACCESS_READ)
    elements = np.frombuffer(mapped, dtype=f"V{size}", count=extent.length // size, offset=skipped)
    strides = tuple(stride * size for stride in place.strides)
    whole = np.lib.stride_tricks.as_strided(elements[place.offset :], place.shape, strides, writeable=False)
    rows = max(1, BLOCK // max(1, whole[0].size * size))
    try:
        for first in range(0, place.shape[0], rows):
            yield whole[first : first + rows].tobytes()
    finally:
        del elements, whole  # a map that is looked at cannot be closed
        mapped.close()
