"""docs/rules is made from the rules' docstrings; `python tests/rules/pages.py` makes it anew."""

from __future__ import annotations

import importlib.util
from pathlib import Path

SPEC = importlib.util.spec_from_file_location("pages", Path(__file__).with_name("pages.py"))
assert SPEC and SPEC.loader
PAGES = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(PAGES)


def test_the_pages_are_those_of_the_rules() -> None:
    written = {path.name: path.read_text(encoding="utf-8") for path in PAGES.FOLDER.glob("*.md")}
    assert written == PAGES.pages()
