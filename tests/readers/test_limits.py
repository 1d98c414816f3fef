"""The limits, and the page that lists them."""

from __future__ import annotations

import re
from dataclasses import FrozenInstanceError, asdict
from pathlib import Path

import pytest

from freezeinspect.readers.limits import LIMITS, MIB, cut, past

PAGE = (Path(__file__).parents[2] / "docs/explanation/safety.md").read_text(encoding="utf-8")
UNITS = {"": 1, "Mi": MIB, "MiB": MIB, "GiB": 1024 * MIB}


def test_the_page_has_each_limit_with_its_value() -> None:
    rows = re.findall(r"^\| `(\w+)` \| ([\d,]+) ?(\w*) \|", PAGE, re.MULTILINE)
    assert {name: int(value.replace(",", "")) * UNITS[unit] for name, value, unit in rows} == asdict(LIMITS)


def test_they_are_frozen() -> None:
    with pytest.raises(FrozenInstanceError):
        LIMITS.depth = 1  # type: ignore[misc]


def test_past_one_is_said_with_its_value() -> None:
    assert str(past("modules", "it has at least 70,001 modules")).startswith(
        "it has at least 70,001 modules, and the limit is 70,000"
    )


@pytest.mark.parametrize(
    ("name", "shown"), [("a", "'a'"), ("\x1b[2J\n", "'\\x1b[2J\\n'"), ("a" * 81, "'" + "a" * 80 + "…'"), (7, "'7'")]
)
def test_a_name_in_a_message_is_short_and_cannot_move_the_cursor(name: object, shown: str) -> None:
    assert cut(name) == shown
