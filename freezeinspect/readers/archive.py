"""torch's zip format: find the pickle in it that torch would load, or refuse; tensors' bytes are never read."""

from __future__ import annotations

import zlib
from typing import BinaryIO
from zipfile import ZIP_DEFLATED, ZIP_STORED, BadZipFile, ZipFile, ZipInfo

from freezeinspect.readers.limits import LIMITS, Unreadable, past

START = b"PK\x03\x04"  # how torch tells its zip from its older formats
_END = b"PK\x05\x06"
_END_SIZE, _HEADER_SIZE = 22, 30
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
        raise Unreadable(f"a zip without the {_PICKLE} that torch.save writes; it starts with {members[0].filename!r}")
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
    """Give the members as the directory lists them, and where it starts.

    zipfile would also find a directory before trailing bytes, and correct for leading ones: neither is torch's.
    """
    size = file.seek(0, 2)
    file.seek(max(size - _END_SIZE, 0))
    tail = file.read(_END_SIZE)
    if not tail.startswith(_END) or not tail.endswith(b"\0\0"):
        raise Unreadable(_without_end(size))
    try:
        archive = ZipFile(_Bounded(file, size))
    except (BadZipFile, NotImplementedError, ValueError, OverflowError, OSError, IndexError) as error:
        if isinstance(error, Unreadable):
            raise
        raise Unreadable(f"a zip whose directory is damaged: {error}; get the file again") from None
    members, start = archive.infolist(), archive.start_dir
    if not members:
        raise Unreadable("an empty zip; torch.save writes at least the pickle")
    if len(members) > LIMITS.members:
        raise past("members", f"the zip has {len(members):,} members")
    _check_layout(members, start)
    return members, start


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
            raise Unreadable(f"the zip's member {member.filename!r} overlaps the one before it; get the file again")
        if not place and member.header_offset:
            raise Unreadable(f"{member.header_offset:,} bytes stand before the zip; torch writes none")
        place = member.header_offset + _HEADER_SIZE + len(member.filename) + member.compress_size
        if member.orig_filename != member.filename:
            raise Unreadable(f"the zip's member {member.orig_filename!r} has a name that torch never writes")
        if len(member.filename) > LIMITS.name_length:
            raise past("name_length", f"a name in the zip has {len(member.filename):,} characters")
    if place > end:
        raise Unreadable("the zip's last member overlaps its directory; get the file again")


def _top_folder(members: list[ZipInfo]) -> str:
    tops = {member.filename.partition("/")[0] for member in members if "/" in member.filename}
    loose = [member.filename for member in members if "/" not in member.filename]
    if len(tops) != 1 or loose:
        names = ", ".join(repr(name) for name in sorted([*tops, *loose])[:4])
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
                f"the zip has both {other!r} and {member.filename!r}: which one torch loads, no name tells"
            )
    return {member.filename: member for member in members}


def _stored(file: BinaryIO, member: ZipInfo, end: int) -> bytes:
    """Read a member's bytes as they are stored. Its checksum is not asked: torch can save without, and never looks."""
    if member.flag_bits & _ENCRYPTED:
        raise Unreadable(f"the zip's member {member.filename!r} is encrypted; torch writes none")
    if max(member.compress_size, member.file_size) > LIMITS.pickle_bytes:
        raise past("pickle_bytes", f"the pickle has {max(member.compress_size, member.file_size):,} bytes")
    file.seek(member.header_offset)
    header = file.read(_HEADER_SIZE)
    if not header.startswith(START):
        raise Unreadable(f"the zip's member {member.filename!r} does not start as one; get the file again")
    name, extra = (int.from_bytes(header[at : at + 2], "little") for at in (26, 28))
    if member.header_offset + _HEADER_SIZE + name + extra + member.compress_size > end:
        raise Unreadable(f"the zip's member {member.filename!r} overlaps the next one; get the file again")
    file.seek(name + extra, 1)
    data = file.read(member.compress_size)
    if len(data) < member.compress_size:
        raise Unreadable(f"the zip's member {member.filename!r} is cut off; get the file again")
    return data


def _inflated(member: ZipInfo, data: bytes) -> bytes:
    if member.compress_type == ZIP_DEFLATED:
        try:
            inflate = zlib.decompressobj(-zlib.MAX_WBITS)
            data = inflate.decompress(data, member.file_size + 1)
        except zlib.error as error:
            raise Unreadable(f"the zip's member {member.filename!r} does not inflate: {error}") from None
    elif member.compress_type != ZIP_STORED:
        raise Unreadable(f"the zip's member {member.filename!r} is packed by a method that torch does not read")
    if len(data) != member.file_size:
        raise Unreadable(f"the zip's member {member.filename!r} is not of the size that its directory says")
    return data
