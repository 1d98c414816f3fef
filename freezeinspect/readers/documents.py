"""JSON within a file: one object in which no name stands twice, or the one error."""

from __future__ import annotations

from typing import Any

from freezeinspect.readers.limits import LIMITS, Unreadable, past

_MARKS = (b",", b":", b"[", b"{")  # one for each value and each name, so as many as the memory that they take


def parsed(text: bytes, file: str, part: str) -> dict[str, Any]:
    """Read a JSON object, the `part` of a `file` in messages. Raises Unreadable.

    A name that stands twice is refused: it would let two readers see two files.
    """
    import json  # here, for most files are torch's and a report is to be quick

    if (seen := sum(map(text.count, _MARKS))) > LIMITS.operations:
        raise past("operations", f"its {part} has {seen:,} commas, colons and brackets")

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            raise Unreadable(f"{file} with one name twice in its {part}; get the file again")
        return found

    try:
        value = json.loads(text.decode(), object_pairs_hook=once)
    except (ValueError, RecursionError) as error:
        if isinstance(error, Unreadable):
            raise
        raise Unreadable(f"{file} whose {part} is no JSON: {str(error)[:80]}; get the file again") from None
    if type(value) is not dict:
        raise Unreadable(f"{file} whose {part} is no JSON object; get the file again")
    return value
