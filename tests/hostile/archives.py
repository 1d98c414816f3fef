"""Zips taken apart, put together, and changed where they describe themselves."""

from __future__ import annotations

import io
import random
import struct
import zipfile

from zoo import quiet


def members(content: bytes) -> list[tuple[str, bytes]]:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return [(one.filename, archive.read(one)) for one in archive.infolist()]


def zipped(parts: list[tuple[str, bytes]], method: int = zipfile.ZIP_STORED) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", method) as archive:
        for name, content in parts:
            archive.writestr(zipfile.ZipInfo(name), content, method)
    return stream.getvalue()


def mutated_zip(content: bytes, dice: random.Random) -> bytes:
    """Change members, or bytes where the zip describes itself."""
    change = dice.randrange(9)
    parts = members(content)
    if change < 4:
        at = dice.randrange(len(parts))
        name, data = parts[at]
        renamed = dice.choice(
            (name.upper(), name + "\0x", "../" + name, "other/" + name, name.rpartition("/")[2], name * 9)
        )
        inserted = dice.choice(
            (name, renamed, "archive/data.pkl", "archive/constants.pkl", "archive/code/__torch__.py")
        )
        parts[at:at] = [(inserted, dice.choice((data, b"N.", b"")))] if change else []
        if change == 0:
            parts[at] = (renamed, data)
        with quiet():
            return zipped(parts, dice.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)))
    if change == 4:
        return content[: dice.randrange(len(content))]
    if change == 5:
        return bytes(dice.randrange(1, 40)) + content if dice.random() < 0.5 else content + bytes(dice.randrange(1, 40))
    return described_otherwise(bytearray(content), dice)


def described_otherwise(content: bytearray, dice: random.Random) -> bytes:
    """Overwrite a field of a header: in the local ones, the directory or its end."""
    marks = [mark for mark in (b"PK\3\4", b"PK\1\2", b"PK\5\6", b"PK\6\6", b"PK\6\7") if mark in content]
    start = content.find(dice.choice(marks), dice.randrange(len(content)) if dice.random() < 0.5 else 0)
    at = max(start, 0) + dice.randrange(4, 46)
    value = struct.pack("<I", dice.choice((0, 1, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, dice.randrange(2**32), len(content))))
    content[at : at + dice.choice((1, 2, 4))] = value[: dice.choice((1, 2, 4))]
    return bytes(content)
