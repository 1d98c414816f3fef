"""The house rules of docs/design.md that no linter knows."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "freezeinspect"
SOURCES = {".py", ".pyi", ".html", ".js", ".css"}
LONGEST = 400
NAMELESS = {"utils", "util", "helpers", "common", "types", "config"}
OF_ONE_MACHINE = re.compile(r"(?<![\w.])/(?:work|home|root|Users)/\w*")


def files(*folders: str) -> Iterator[Path]:
    for folder in folders:
        yield from (path for path in (ROOT / folder).rglob("*") if path.is_file() and "__pycache__" not in path.parts)


def text(path: Path) -> str:
    return path.read_bytes().decode(errors="replace")


def layers() -> list[str]:
    """Give the rooms of the import contract, topmost first, without the mark of those not built yet."""
    return [layer.strip("()") for layer in contract()["layers"]]


def contract() -> dict[str, list[str]]:
    project = tomllib.loads(text(ROOT / "pyproject.toml"))
    return project["tool"]["importlinter"]["contracts"][0]


def rooms_in_design() -> list[str]:
    """Give the rooms in the order in which the page lists them."""
    _, house = text(ROOT / "docs/design.md").split("\nfreezeinspect/\n")
    listed = re.findall(r"^  (\w+)(?:\.py|/)", house.partition("```")[0], re.MULTILINE)
    return [room for room in listed if not room.startswith("__")]


def room_in_design(room: str) -> str:
    """Give what the page says of a room that is a folder."""
    _, house = text(ROOT / "docs/design.md").split("\nfreezeinspect/\n")
    (said,) = re.findall(rf"^  {room}/(.*(?:\n   .*)*)", house.partition("```")[0], re.MULTILINE)
    return str(said)


def rooms_that_exist() -> set[str]:
    return {path.stem for path in PACKAGE.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}


def test_no_file_is_too_long() -> None:
    lengths = {
        str(path.relative_to(ROOT)): text(path).count("\n")
        for path in files("freezeinspect", "tests")
        if path.suffix in SOURCES
    }
    assert {path: lines for path, lines in lengths.items() if lines > LONGEST} == {}


@pytest.mark.parametrize("room", ["readers", "views", "report", "recorder", "demo", "integrations"])
def test_the_design_names_every_file_of_a_room(room: str) -> None:
    there = {path.name for path in (PACKAGE / room).glob("*.py")} - {"__init__.py"}
    assert set(re.findall(r"\w+\.py", room_in_design(room))) == there


def test_the_contract_has_the_order_of_the_design() -> None:
    assert layers() == ["__main__", *reversed(rooms_in_design())]
    assert contract()["exhaustive"] is True


def test_every_room_is_in_the_contract() -> None:
    assert rooms_that_exist() - {"__init__"} <= set(layers())


def test_a_room_in_parentheses_is_not_built_yet() -> None:
    optional = {layer.strip("()") for layer in contract()["layers"] if layer.startswith("(")}
    assert optional & rooms_that_exist() == set()


@pytest.mark.parametrize("folder", ["freezeinspect", "tests"])
def test_no_file_has_a_name_that_says_nothing(folder: str) -> None:
    assert [path.name for path in files(folder) if path.stem in NAMELESS] == []


def test_no_folder_has_a_name_that_says_nothing() -> None:
    assert [path for path in PACKAGE.rglob("*") if path.is_dir() and path.name in NAMELESS] == []


@pytest.mark.parametrize("folder", ["docs", "freezeinspect", "benchmarks"])
def test_no_page_or_file_names_a_path_of_one_machine(folder: str) -> None:
    found = {path.name: OF_ONE_MACHINE.findall(text(path)) for path in files(folder) if path.suffix != ".gz"}
    assert {name: paths for name, paths in found.items() if paths} == {}
