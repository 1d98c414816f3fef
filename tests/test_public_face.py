"""The public names: which they are, that they come lazily, and that each is one object."""

from __future__ import annotations

import ast
import json
import os
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

import freezeinspect

PACKAGE = Path(freezeinspect.__file__).parent
HEAVY = ("torch", "pandas", "tabulate", "torchinfo", "click")
ROOMS = sorted(
    path.stem
    for path in PACKAGE.iterdir()
    if (path.suffix == ".py" or (path / "__init__.py").exists()) and not path.stem.startswith("__")
)

PUBLIC = [
    "Answer",
    "Diff",
    "Finding",
    "Findings",
    "Observed",
    "Policy",
    "Report",
    "Run",
    "Snapshot",
    "Structure",
    "Unreadable",
    "Watch",
    "WhatIf",
    "apply_leaf",
    "assert_frozen",
    "assert_trainable",
    "bn_freeze",
    "check",
    "children",
    "compare_ranks",
    "diff",
    "freeze",
    "freeze_all_but",
    "freeze_to",
    "inspect",
    "policy_of",
    "set_train_mode",
    "set_trainable",
    "unfreeze",
    "watch",
    "what_if",
]

LIGHT = f"""
import json, sys
import freezeinspect
dir(freezeinspect), freezeinspect.__all__, freezeinspect.__version__, freezeinspect.Answer
print(json.dumps([name for name in {HEAVY} if name in sys.modules]))
"""

ROOM_FIRST = f"""
import importlib, json, sys

def different(room):
    for name in [name for name in sys.modules if name.partition(".")[0] == "freezeinspect"]:
        del sys.modules[name]
    importlib.import_module("freezeinspect." + room)
    face = importlib.import_module("freezeinspect")
    return [name for name in {PUBLIC} if not one_object(face, name)]

def one_object(face, name):
    first = getattr(face, name)
    home = sys.modules[first.__module__]
    return first is getattr(face, name) and first is getattr(home, name)

print(json.dumps({{room: different(room) for room in {ROOMS}}}))
"""


def run(code: str, *flags: str, tree: Path = PACKAGE.parent) -> Any:
    """Run code in a fresh Python that finds the package in `tree`, and give what it prints, read as JSON."""
    done = subprocess.run(
        [sys.executable, *flags, "-c", code],
        env=os.environ | {"PYTHONPATH": str(tree)},
        cwd=tree,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def room_first() -> dict[str, list[str]]:
    """For each room: the names that are not one object when it is imported before the face is used."""
    return run(ROOM_FIRST)


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    shutil.copytree(PACKAGE, tmp_path / "freezeinspect", ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def test_these_are_the_public_names() -> None:
    assert freezeinspect.__all__ == PUBLIC


def test_the_stub_names_where_each_is_defined() -> None:
    stub = ast.parse((PACKAGE / "__init__.pyi").read_text())
    listed = {
        alias.asname: f"{line.module}.{alias.name}"
        for line in stub.body
        if isinstance(line, ast.ImportFrom)
        for alias in line.names
    }
    defined = {name: getattr(freezeinspect, name) for name in PUBLIC}
    assert listed == {name: f"{thing.__module__}.{thing.__name__}" for name, thing in defined.items()}


def test_the_import_is_light() -> None:
    assert run(LIGHT) == []


@pytest.mark.parametrize("heavy", ["torch", "pandas"])
def test_a_heavy_import_would_be_noticed(copy: Path, heavy: str) -> None:
    with (copy / "freezeinspect/__init__.py").open("a") as face:
        face.write(f"\nimport {heavy}\n")
    assert heavy in run(LIGHT, tree=copy)


@pytest.mark.parametrize("room", ROOMS)
def test_a_name_is_one_object_whichever_room_came_first(room_first: dict[str, list[str]], room: str) -> None:
    assert room_first[room] == []


def test_no_name_is_a_room() -> None:
    assert set(PUBLIC) & set(ROOMS) == set()


def test_dir_lists_all() -> None:
    assert dir(freezeinspect) == sorted([*PUBLIC, "__version__"])


def test_star_imports_all() -> None:
    names: dict[str, object] = {}
    exec("from freezeinspect import *", names)
    assert sorted(names.keys() - {"__builtins__"}) == PUBLIC


def test_an_unknown_name_says_the_nearest() -> None:
    with pytest.raises(AttributeError) as error:
        freezeinspect.unfreez  # noqa: B018
    assert str(error.value) == "module 'freezeinspect' has no attribute 'unfreez'; the nearest is 'unfreeze'"


def test_a_name_near_to_none_lists_all() -> None:
    with pytest.raises(AttributeError, match=r"no attribute 'zzz'; it has Answer, Diff, Finding, .*, what_if"):
        freezeinspect.zzz  # noqa: B018


def test_the_version_is_that_of_the_installed_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(vars(freezeinspect), "__version__", raising=False)
    monkeypatch.setattr(metadata, "version", {"freezeinspect": "1.2.3"}.__getitem__)
    assert freezeinspect.__version__ == "1.2.3"


def test_a_plain_tree_has_a_version_too(copy: Path) -> None:
    code = "import freezeinspect, json; print(json.dumps(freezeinspect.__version__))"
    assert run(code, "-S", tree=copy) == "0+unknown"
