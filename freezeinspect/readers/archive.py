"""torch's zip format: find the pickle in it that torch would load, or refuse; tensors' bytes are never read."""

from __future__ import annotations

import zlib
from bisect import bisect_right
from functools import cached_property
from struct import unpack
from typing import BinaryIO, NamedTuple
from zipfile import ZIP_DEFLATED, ZIP_STORED, BadZipFile, ZipFile, ZipInfo

from freezeinspect.readers.limits import LIMITS, Unreadable, cut, past

START = b"PK\x03\x04"  # how torch tells its zip from its older formats
_END = b"PK\x05\x06"
_END_64 = b"PK\x06\x06" + (44).to_bytes(8, "little")
_LOCATOR, _ENTRY = b"PK\x06\x07", b"PK\x01\x02"
_END_SIZE, _END_64_SIZE, _HEADER_SIZE = 22, 56 + 20, 30
_PICKLE = "data.pkl"
SCRIPTED = "constants.pkl"  # the member by which torch.load tells a TorchScript archive
EXPORTED = "archive_format"  # the member by which torch.export.load tells its files
_PROGRAM = "serialized_exported_program.json"  # where it was in torch 2.7
OLD_EXPORT = "a file of an older torch.export"
_ENCRYPTED = 0x1 | 0x40 | 0x2000


class Extent(NamedTuple):
    """Where the bytes of one storage are in which file, and their CRC-32 where the file has it."""

    file: BinaryIO
    start: int
    length: int
    checksum: int | None = None


class Archive:
    """A torch zip: its pickle, and where its storages are. Raises Unreadable for what torch may read otherwise."""

    def __init__(self, file: BinaryIO, directory_bytes: int = LIMITS.directory_bytes) -> None:
        self.file = file
        self.size = file.seek(0, 2)
        members, self._end = _directory(file, directory_bytes)
        self._top = _top_folder(members)
        self._members = _by_name(members)
        self._first = members[0].filename
        self._starts = sorted(one.header_offset for one in members)
        self._read = 0

    def names(self) -> list[str]:
        """Give the names of the members below the one folder."""
        return [name.partition("/")[2] for name in self._members]

    def pickle(self) -> bytes:
        """Give the pickle that torch would load."""
        if not self.has(_PICKLE):
            first = cut(self._first)
            raise Unreadable(f"a zip without the {_PICKLE} that torch.save writes; it starts with {first}")
        return self.read(_PICKLE)

    def has(self, name: str) -> bool:
        """Tell whether a member of this name is there."""
        return f"{self._top}/{name}" in self._members

    def pickle_length(self) -> int:
        """Give the length that the pickle says it has, inflated; 0 where there is none."""
        member = self._members.get(f"{self._top}/{_PICKLE}")
        return member.file_size if member else 0

    @property
    def share(self) -> float:
        """Give how much of what it may have it has, or has been read of it: the larger of the two."""
        return max(len(self._members) / LIMITS.members, self._read / LIMITS.pickle_bytes)

    def read(self, name: str) -> bytes:
        """Give a member that is there, inflated; all that are read together stay within one limit."""
        member = self._members[f"{self._top}/{name}"]
        self._read += max(member.compress_size, member.file_size)
        if self._read > LIMITS.pickle_bytes:
            raise past("pickle_bytes", f"the zip's {cut(name)}, with what else is read of it, has {self._read:,} bytes")
        start = self._start(member)
        self.file.seek(start)
        data = self.file.read(member.compress_size)
        if len(data) < member.compress_size:
            raise Unreadable(f"the zip's member {cut(member.filename)} is cut off; get the file again")
        return _inflated(member, data)

    def extent(self, storage: str) -> Extent | None:
        """Tell where a storage's bytes are, if they stand there as they are."""
        member = self._members.get(f"{self._top}/data/{storage}")
        if member is None or member.compress_type != ZIP_STORED:
            return None
        checksum = member.CRC if member.CRC or not member.file_size else None  # torch can save without
        try:
            return Extent(self.file, self._start(member), member.file_size, checksum)
        except Unreadable:  # the model can be told all the same
            return None

    @cached_property
    def is_little_endian(self) -> bool:
        """Tell whether the bytes are in the order that this machine, and nearly every other, has."""
        member = self._members.get(f"{self._top}/byteorder")
        if member is None:
            return True  # written before torch kept note of it
        try:
            self.file.seek(self._start(member))
        except Unreadable:
            return False
        return self.file.read(min(member.file_size, 6)) == b"little"

    def _start(self, member: ZipInfo) -> int:
        """Find a member's bytes. Its checksum is not asked: torch can save without, and never looks."""
        if member.flag_bits & _ENCRYPTED:
            raise Unreadable(f"the zip's member {cut(member.filename)} is encrypted; torch writes none")
        self.file.seek(member.header_offset)
        header = self.file.read(_HEADER_SIZE)
        if not header.startswith(START):
            raise Unreadable(f"the zip's member {cut(member.filename)} does not start as one; get the file again")
        name, extra = (int.from_bytes(header[at : at + 2], "little") for at in (26, 28))
        start = member.header_offset + _HEADER_SIZE + name + extra
        after = bisect_right(self._starts, member.header_offset)
        end = self._starts[after] if after < len(self._starts) else self._end
        if start + member.compress_size > end:
            raise Unreadable(f"the zip's member {cut(member.filename)} overlaps the next one; get the file again")
        return start


class _Bounded:
    """A file that gives no more at once than a zip's directory may have."""

    def __init__(self, file: BinaryIO, size: int, most: int) -> None:
        self.seek, self.tell, self.seekable = file.seek, file.tell, file.seekable
        self._read, self._size, self._most = file.read, size, most

    def read(self, size: int = -1) -> bytes:
        size = self._size - self.tell() if size < 0 else size
        if size > self._most:
            raise past("directory_bytes", f"the zip says that its directory has {size:,} bytes")
        return self._read(size)


def _directory(file: BinaryIO, most: int) -> tuple[list[ZipInfo], int]:
    """Give the members as the directory lists them, and where it starts."""
    size = file.seek(0, 2)
    bounded = _Bounded(file, size, most)
    start = _check_end(bounded, size)
    try:
        archive = ZipFile(bounded)
    except (BadZipFile, NotImplementedError, ValueError, OverflowError, OSError, IndexError) as error:
        if isinstance(error, Unreadable):
            raise
        raise Unreadable(f"a zip whose directory is damaged: {error}; get the file again") from None
    members = archive.infolist()
    if not members:
        raise Unreadable("an empty zip; torch.save writes at least the pickle")
    _check_layout(members, start)
    return members, start


def _check_end(file: _Bounded, size: int) -> int:
    """Give the start of the directory, which must reach from there to the one end that the zip has.

    zipfile would also find it before trailing bytes, correct for leading ones, and look for a 64-bit end elsewhere
    than torch does (CVE-2025-8291).
    """
    file.seek(max(size - _END_SIZE - _END_64_SIZE, 0))
    tail = file.read()
    end, end_64 = tail[-_END_SIZE:], tail[:-_END_SIZE]
    if len(end) < _END_SIZE or not end.startswith(_END) or not end.endswith(b"\0\0"):
        raise Unreadable(_without_end(size))
    count, length, start = map(int, unpack("<HII", end[10:20]))
    place = size - _END_SIZE
    if end_64[-20:].startswith(_LOCATOR):
        place -= _END_64_SIZE
        found = tuple(map(int, unpack("<QQQ", end_64[32:56]))) if len(end_64) == _END_64_SIZE else (-1, -1, -1)
        plain = zip((count, length, start), found, (0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF), strict=True)
        at, record = int.from_bytes(end_64[-12:-4], "little"), end_64[:12]
        if at != place or record != _END_64 or any(one not in (wide, absent) for one, wide, absent in plain):
            raise Unreadable("a zip with two ends that do not agree; get the file again")
        count, length, start = found
    if start + length != place:
        raise Unreadable(f"a zip with {place - start - length:,} bytes too many around its members; get the file again")
    file.seek(start)
    if (seen := file.read(length).count(_ENTRY)) > LIMITS.members:
        raise past("members", f"the zip has {seen:,} members")
    return start


def _without_end(size: int) -> str:
    return (
        f"a zip that does not end as one after {size:,} bytes: it was cut off, or something was added to it; get the "
        "file again"
    )


def _check_layout(members: list[ZipInfo], end: int) -> None:
    """Refuse what torch and zipfile may read differently: overlaps, bytes around the archive, odd names."""
    place = 0
    for member in sorted(members, key=lambda one: one.header_offset):
        if member.header_offset < place:
            raise Unreadable(f"the zip's member {cut(member.filename)} overlaps the one before it; get the file again")
        if not place and member.header_offset:
            raise Unreadable(f"{member.header_offset:,} bytes stand before the zip; torch writes none")
        place = member.header_offset + _HEADER_SIZE + len(member.filename) + member.compress_size
        if member.orig_filename != member.filename:
            raise Unreadable(f"the zip's member {cut(member.orig_filename)} has a name that torch never writes")
        if _has_two_sizes(member.extra):
            raise Unreadable(f"the zip's member {cut(member.filename)} has two 64-bit sizes; get the file again")
        if len(member.filename) > LIMITS.name_length:
            raise past("name_length", f"a name in the zip has {len(member.filename):,} characters")
    if place > end:
        raise Unreadable("the zip's last member overlaps its directory; get the file again")


def _has_two_sizes(extra: bytes) -> bool:
    """Tell an entry of which zipfile would take the second size, and torch the first."""
    found = at = 0
    while at + 4 <= len(extra):
        kind, length = unpack("<HH", extra[at : at + 4])
        found, at = found + (kind == 1), at + 4 + length
    return found > 1


def _top_folder(members: list[ZipInfo]) -> str:
    tops = {member.filename.partition("/")[0] for member in members if "/" in member.filename}
    loose = [member.filename for member in members if "/" not in member.filename]
    if _PROGRAM in loose:
        raise Unreadable(f"{OLD_EXPORT}, which this version does not read; load it, and save it again")
    if len(tops) != 1 or loose:
        names = ", ".join(map(cut, sorted([*tops, *loose])[:4]))
        raise Unreadable(
            f"a zip with {len(tops) + len(loose)} names at its top ({names}); torch.save writes one folder"
        )
    return tops.pop()


def _by_name(members: list[ZipInfo]) -> dict[str, ZipInfo]:
    """Map names to members. Raises Unreadable for two that torch, which ignores case, would take for one."""
    known: dict[str, str] = {}
    for member in members:
        other = known.setdefault(member.filename.casefold(), member.filename)
        if other is not member.filename:
            raise Unreadable(
                f"the zip has both {cut(other)} and {cut(member.filename)}: which one torch loads, no name tells"
            )
    return {member.filename: member for member in members}


def _inflated(member: ZipInfo, data: bytes) -> bytes:
    if member.compress_type == ZIP_DEFLATED:
        try:
            inflate = zlib.decompressobj(-zlib.MAX_WBITS)
            data = inflate.decompress(data, member.file_size + 1)
        except zlib.error as error:
            raise Unreadable(f"the zip's member {cut(member.filename)} does not inflate: {error}") from None
    elif member.compress_type != ZIP_STORED:
        raise Unreadable(f"the zip's member {cut(member.filename)} is packed by a method that torch does not read")
    if len(data) != member.file_size:
        raise Unreadable(f"the zip's member {cut(member.filename)} is not of the size that its directory says")
    return data
