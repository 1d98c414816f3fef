"""torch's format from before 1.6: five pickles, one after the other, and the storages' bytes after them."""

from __future__ import annotations

from dataclasses import replace
from tarfile import BLOCKSIZE, HeaderError, TarInfo
from typing import BinaryIO

from freezeinspect.readers.archive import Extent
from freezeinspect.readers.limits import LIMITS, Limits, Unreadable
from freezeinspect.readers.modules import mapping
from freezeinspect.readers.tensors import storage_of
from freezeinspect.readers.unpickle import Pickled, unpickle

MAGIC = 0x1950A86A20F9469CFC6C
PROTOCOL = 1001
_SHORT = 2**16  # bytes that the first three pickles are looked for in
_KEYS = replace(LIMITS, operations=3 * LIMITS.entries)  # of a list of keys: each takes two
_COUNT = 8  # bytes of a storage's number of elements, before its elements


class Legacy:
    """A file of torch's old format: its pickle, and where its storages are. Raises Unreadable."""

    def __init__(self, file: BinaryIO) -> None:
        self.file, self.size = file, file.seek(0, 2)
        self._at = 0
        _check_no_tar(file)
        magic, protocol, system = (self._next(_SHORT) for _ in range(3))
        if magic.value != MAGIC or protocol.value != PROTOCOL:
            raise Unreadable(f"torch's old format in a version other than {PROTOCOL}; load it and torch.save it again")
        self.is_little_endian = (mapping(system.value) or {}).get("little_endian") is not False
        model = self._next(LIMITS.pickle_bytes)
        keys = self._next(LIMITS.pickle_bytes, _KEYS)
        parts = (magic, protocol, system, model, keys)  # torch would load each
        self.pickled = Pickled(
            model.value,
            tuple(one for part in parts for one in part.imports),
            frozenset().union(*(part.called for part in parts)),
            operations=sum(part.operations for part in parts),
        )
        self.share = self._at / LIMITS.pickle_bytes
        self._extents = self._found(keys.value, dict(filter(None, map(storage_of, model.outside))))

    def _next(self, most: int, limits: Limits = LIMITS) -> Pickled:
        self.file.seek(self._at)
        pickled = unpickle(self.file.read(most), limits)
        self._at += pickled.length
        return pickled

    def _found(self, keys: object, sizes: dict[str, int]) -> dict[str, Extent]:
        """Follow the storages, as long as the size of each is known."""
        found: dict[str, Extent] = {}
        at = self._at
        for key in keys if type(keys) is list else ():
            if type(key) is not str or key not in sizes:
                break
            self.file.seek(at)
            length = int.from_bytes(self.file.read(_COUNT), "little", signed=True) * sizes[key]
            if not 0 <= length <= self.size - at - _COUNT:
                break
            found[key] = Extent(self.file, at + _COUNT, length)
            at += _COUNT + length
        return found

    def extent(self, storage: str) -> Extent | None:
        """Tell where a storage's bytes are."""
        return self._extents.get(storage)


def _check_no_tar(file: BinaryIO) -> None:
    """Refuse what torch would read as its format from before 0.2, for it looks for a tar first.

    The first block tells; tarfile would go on to read a name as long as that says.
    """
    file.seek(0)
    try:
        TarInfo.frombuf(file.read(BLOCKSIZE), "utf-8", "surrogateescape")
    except HeaderError:
        return
    raise Unreadable("a tar archive at the same time, and torch would read that; get the file again")
