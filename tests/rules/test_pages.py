"""Each rule's page is executed: its Example makes it fire, its Use instead makes nothing fire."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import freezeinspect as fi
from freezeinspect.rules import RULES, SEVERITIES, name_of
from freezeinspect.state import Finding
from ranks import torchrun

HEADINGS = ["What it does", "Why it is bad", "Example", "Use instead", "When to allow it", "References"]
IDS = [name_of(rule) for rule in RULES]


def sections(rule: ModuleType) -> dict[str, str]:
    parts = re.split(r"^## (.+)$", rule.__doc__ or "", flags=re.MULTILINE)
    return {heading: text.strip() for heading, text in zip(parts[1::2], parts[2::2], strict=True)}


def findings(text: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Sequence[Finding]:
    """Run a section's program, and check what it leaves: a watch, or a file, or a model with its optimizer."""
    monkeypatch.chdir(folder)
    (program,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    if "init_process_group" in program:
        return on_ranks(program, folder)
    world: dict[str, Any] = {}
    exec(program, world)
    if "watch" in world:
        return fi.check(world["watch"])
    source = world.get("path", world.get("model"))
    return fi.check(source, world.get("optimizer"), policy=world.get("policy"))


ENDING = """
import sys, freezeinspect as fi
found = fi.check(globals().get("report", model), None if "report" in globals() else globals().get("optimizer"))
if distributed.get_rank() == 0:
    open("found.json", "w").write(found.to_json())
distributed.destroy_process_group()
"""


def on_ranks(program: str, folder: Path) -> list[Finding]:
    """Run a program on two ranks, and check there what it leaves: a report of all ranks, or a model."""
    (folder / "program.py").write_text(program + ENDING, encoding="utf-8")
    torchrun(folder / "program.py", ranks=2)
    return [Finding(**one) for one in json.loads((folder / "found.json").read_text(encoding="utf-8"))]


@pytest.mark.parametrize("rule", RULES, ids=IDS)
def test_a_page_has_every_heading_in_order(rule: ModuleType) -> None:
    assert list(sections(rule)) == HEADINGS
    assert all(sections(rule).values())
    assert re.fullmatch(r"FI\d{3}", rule.CODE)
    assert rule.SEVERITY in SEVERITIES


@pytest.mark.parametrize("rule", RULES, ids=IDS)
def test_the_example_fires_the_rule_and_at_most_its_companions(
    rule: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = findings(sections(rule)["Example"], tmp_path, monkeypatch)
    codes = {one.code for one in found}
    assert rule.CODE in codes
    assert codes <= {rule.CODE, *getattr(rule, "COMPANIONS", ())}
    assert {one.severity for one in found if one.code == rule.CODE} == {rule.SEVERITY}


@pytest.mark.parametrize("rule", RULES, ids=IDS)
def test_what_to_use_instead_is_silent(rule: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert list(findings(sections(rule)["Use instead"], tmp_path, monkeypatch)) == []


def test_codes_are_in_order_and_none_stands_twice() -> None:
    codes = [rule.CODE for rule in RULES]
    assert codes == sorted(set(codes))


def test_every_file_of_a_rule_is_in_the_list() -> None:
    files = {path.stem for path in Path(RULES[0].__file__ or "").parent.glob("*.py")} - {"__init__", "facts"}
    assert files == {rule.__name__.rpartition(".")[2] for rule in RULES}
