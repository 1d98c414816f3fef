"""torch's zip format: find the pickle in it that torch would load, or refuse; tensors' bytes are never read."""

from __future__ import annotations

import zlib
from struct import unpack
from typing import BinaryIO
from zipfile import ZIP_DEFLATED, ZIP_STORED, BadZipFile, ZipFile, ZipInfo

from freezeinspect.readers.limits import LIMITS, Unreadable, cut, past

START = b"PK\x03\x04"  # how torch tells its zip from its older formats
_END = b"PK\x05\x06"
_END_64 = b"PK\x06\x06" + (44).to_bytes(8, "little")
_LOCATOR, _ENTRY = b"PK\x06\x07", b"PK\x01\x02"
_END_SIZE, _END_64_SIZE, _HEADER_SIZE = 22, 56 + 20, 30
_PICKLE, _CODE = "data.pkl", "constants.pkl"
_ENCRYPTED = 0x1 | 0x40 | 0x2000


def pickle_in(file: BinaryIO) -> bytes:
    """Give the pickle of a torch zip, inflated; the rest of the file is not read. Raises Unreadable."""
    members, end = _directory(file)
    top = _top_folder(members)
    by_name = _by_name(members)
    if f"{top}/{_CODE}" in by_name:
        raise Unreadable("a TorchScript archive, which this version does not read; save the module before scripting it")
    member = by_name.get(f"{top}/{_PICKLE}")
    if member is None:
        raise Unreadable(
            f"a zip without the {_PICKLE} that torch.save writes; it starts with {cut(members[0].filename)}"
        )
    following = [one.header_offset for one in members if one.header_offset > member.header_offset]
    return _inflated(member, _stored(file, member, min(following, default=end)))


class _Bounded:
    """A file that gives no more at once than a zip's directory may have."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self.seek, self.tell, self.seekable = file.seek, file.tell, file.seekable
        self._read, self._size = file.read, size

    def read(self, size: int = -1) -> bytes:
        size = self._size - self.tell() if size < 0 else size
        if size > LIMITS.directory_bytes:
            raise past("directory_bytes", f"the zip says that its directory has {size:,} bytes")
        return self._read(size)


def _directory(file: BinaryIO) -> tuple[list[ZipInfo], int]:
    """Give the members as the directory lists them, and where it starts."""
    size = file.seek(0, 2)
    bounded = _Bounded(file, size)
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


def _stored(file: BinaryIO, member: ZipInfo, end: int) -> bytes:
    """Read a member's bytes as they are stored. Its checksum is not asked: torch can save without, and never looks."""
    if member.flag_bits & _ENCRYPTED:
        raise Unreadable(f"the zip's member {cut(member.filename)} is encrypted; torch writes none")
    if max(member.compress_size, member.file_size) > LIMITS.pickle_bytes:
        raise past("pickle_bytes", f"the pickle has {max(member.compress_size, member.file_size):,} bytes")
    file.seek(member.header_offset)
    header = file.read(_HEADER_SIZE)
    if not header.startswith(START):
        raise Unreadable(f"the zip's member {cut(member.filename)} does not start as one; get the file again")
    name, extra = (int.from_bytes(header[at : at + 2], "little") for at in (26, 28))
    if member.header_offset + _HEADER_SIZE + name + extra + member.compress_size > end:
        raise Unreadable(f"the zip's member {cut(member.filename)} overlaps the next one; get the file again")
    file.seek(name + extra, 1)
    data = file.read(member.compress_size)
    if len(data) < member.compress_size:
        raise Unreadable(f"the zip's member {cut(member.filename)} is cut off; get the file again")
    return data


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
