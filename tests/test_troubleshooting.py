"""Each section of docs/troubleshooting.md is run by itself, and what it is headed by is really said."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
from pathlib import Path

import pytest

import freezeinspect
from pages import blocks, executed, read

PREAMBLE, *PARTS = re.split(
    r"^(?=### )", re.sub(r"^## .*\n", "", read("troubleshooting.md"), flags=re.MULTILINE), flags=re.MULTILINE
)
SECTIONS = {part.partition("\n")[0].removeprefix("### "): part for part in PARTS}
NEEDS_RANKS = {"RankLost"}  # tests/test_distributed.py raises it


def exceptions() -> set[str]:
    """Name every exception of the package that reaches its user."""
    modules = [one.name for one in pkgutil.walk_packages(freezeinspect.__path__, "freezeinspect.")]
    rooms = [name for name in modules if not re.search(r"__main__|\.integrations\.|\.kernel$", name)]
    found = [kind for room in rooms for kind in vars(importlib.import_module(room)).values() if inspect.isclass(kind)]
    own = {kind for kind in found if issubclass(kind, BaseException) and kind.__module__.startswith("freezeinspect")}
    return {kind.__name__ for kind in own if not kind.__name__.startswith("_")}


@pytest.mark.parametrize("heading", SECTIONS)
def test_a_section_prints_what_stands_there(heading: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    section = PREAMBLE + SECTIONS[heading]
    assert executed(section) == section


@pytest.mark.parametrize("heading", [heading for heading in SECTIONS if heading.startswith("`")])
def test_the_text_that_heads_a_section_is_in_what_its_block_prints(heading: str) -> None:
    *_, last = blocks(SECTIONS[heading])
    assert last.language in ("text", "console")
    assert heading.strip("`") in last.text


@pytest.mark.parametrize("heading", SECTIONS)
def test_a_section_has_a_block_that_prints_and_leads_on(heading: str) -> None:
    assert {"text", "console"} & {block.language for block in blocks(SECTIONS[heading])}
    assert re.search(r"\]\((rules|how-to|explanation|reference|design)\b", SECTIONS[heading])


def test_every_error_of_the_package_has_its_section() -> None:
    named = {name for text in SECTIONS.values() for name in re.findall(r"`(\w+)`", text)}
    assert exceptions() - named == set()


def test_an_error_is_raised_in_the_section_that_names_it() -> None:
    for name in exceptions() - NEEDS_RANKS - {"NotCopyable", "NoSuchRule"}:  # which are shown by their texts
        assert any(re.search(rf"^freezeinspect\.[\w.]+\.{name}: ", text, re.MULTILINE) for text in SECTIONS.values()), (
            name
        )
