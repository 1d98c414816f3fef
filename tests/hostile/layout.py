"""Zips laid out by hand, field by field: the directory may say other than the members do."""

import struct
import zlib
from typing import NamedTuple

FULL, FULL_16 = 0xFFFFFFFF, 0xFFFF


class Entry(NamedTuple):
    """One member: in the directory as it is here, with what differs in its local header."""

    name: str
    data: bytes
    method: int = 0
    flags: int = 0
    crc: int | None = None
    size: int | None = None  # as claimed, once inflated
    stored: int | None = None  # as claimed
    local_name: str | None = None
    extra: bytes = b""
    at: int | None = None  # where the directory says that it is
    attributes: int = 0
    comment: bytes = b""


def _sizes(one):
    crc = zlib.crc32(one.data) if one.crc is None else one.crc
    stored = len(one.data) if one.stored is None else one.stored
    return crc, stored, len(one.data) if one.size is None else one.size


def local(one):
    named = (one.name if one.local_name is None else one.local_name).encode()
    head = struct.pack("<4s5H3I2H", b"PK\3\4", 45, one.flags, one.method, 0, 33, *_sizes(one), len(named), 0)
    return head + named + one.data


def central(one, at):
    named = one.name.encode()
    at = at if one.at is None else one.at
    fields = (45, 45, one.flags, one.method, 0, 33, *_sizes(one), len(named), len(one.extra))
    head = struct.pack("<4s6H3I5H2I", b"PK\1\2", *fields, len(one.comment), 0, 0, one.attributes, at)
    return head + named + one.extra + one.comment


def end(count, size, at, comment=b""):
    return struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, count, count, size, at, len(comment)) + comment


def end_64(count, size, at):
    return struct.pack("<4sQ2H2I4Q", b"PK\6\6", 44, 45, 45, 0, 0, count, count, size, at)


def locator(at):
    return struct.pack("<4sIQI", b"PK\6\7", 0, at, 1)


def laid_out(members, start=0):
    """Give the members' bytes, and the directory of them."""
    body, listing = b"", b""
    for one in members:
        listing += central(one, start + len(body))
        body += local(one)
    return body, listing


def joined(members, before=b"", between=b"", comment=b"", shift=0, count=None):
    """Give a zip; `shift` is what its end is wrong by on where the directory starts."""
    body, listing = laid_out(members, len(before))
    at = len(before) + len(body) + len(between)
    total = len(members) if count is None else count
    return before + body + between + listing + end(total, len(listing), at + shift, comment)
