"""Make docs/reference/json.md anew from the schema: `python tests/json_page.py`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from pages import DOCS, ROOT, executed, read

SCHEMA: dict[str, Any] = json.loads((ROOT / "freezeinspect/schema.json").read_text(encoding="utf-8"))
PAGE = "reference/json.md"
MARK = "## The record\n"
WORDS = {
    "integer": "a number",
    "number": "a number",
    "string": "a string",
    "null": "null",
    "boolean": "true or false",
    "array": "a list",
}
COUNTS = {"Count": "a count", "CountOrNull": "a count, or null"}
INLINE = {"flips": "Flip", "surprises": "Surprise", "turns": "Turn"}  # records without a name of their own


def page() -> str:
    """Give the page: what is written above the mark, and a table for each record of the schema."""
    return "\n".join([read(PAGE).partition(MARK)[0] + MARK, *_table(SCHEMA), *_records()])


def _records() -> Iterator[str]:
    for name, record in SCHEMA["$defs"].items():
        if name not in COUNTS:
            yield from (f"## {name}", "")
            yield from _table(record)
            for key, inner in record.get("properties", {}).items():
                if key in INLINE:
                    yield from (f"## {INLINE[key]}", "")
                    yield from _table(inner["items"])


def _table(record: dict[str, Any]) -> Iterator[str]:
    if said := record.get("description"):
        yield from (said, "")
    if "properties" in record:
        yield from ("| key | is | meaning |", "|---|---|---|")
        yield from (
            f"| `{key}` | {_type(key, one)} | {one['description']} |" for key, one in record["properties"].items()
        )
        yield ""


def _type(key: str, one: dict[str, Any]) -> str:
    if "const" in one:
        return f"`{json.dumps(one['const'])}`"
    if "enum" in one:
        return ", ".join(f"`{json.dumps(word)}`" for word in one["enum"])
    if "$ref" in one:
        name = one["$ref"].rpartition("/")[2]
        return COUNTS.get(name) or f"[{name}](#{name.lower()})"
    if "oneOf" in one:
        return ", or ".join(_type(key, each) for each in reversed(one["oneOf"]))
    kinds = [one["type"]] if isinstance(one["type"], str) else one["type"]
    said = ", or ".join(WORDS[kind] for kind in kinds)
    return said.replace("a list", f"a list of {_of(key, one['items'])}") if "array" in kinds else said


def _of(key: str, items: dict[str, Any]) -> str:
    if key in INLINE:
        return f"[{INLINE[key]}](#{INLINE[key].lower()})"
    if "$ref" in items:
        return _type(key, items).removeprefix("a ").replace("count", "counts")
    return {"string": "strings", "array": "lists"}[items["type"]]


if __name__ == "__main__":
    (DOCS / PAGE).write_text(executed(page()), encoding="utf-8")
