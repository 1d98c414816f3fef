"""The first program of each how-to page, and of the policy's, prints what stands below it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from pages import DOCS, PROGRAM

PAGES = [*(DOCS / "how-to").glob("*.md"), DOCS / "reference/policy.md"]
PROGRAMS = {page.name: PROGRAM.search(page.read_text(encoding="utf-8")) for page in PAGES}


@pytest.mark.parametrize("page", sorted(name for name, found in PROGRAMS.items() if found))
def test_the_page_s_program_prints_what_stands_below_it(page: str, tmp_path: Path) -> None:
    program, output = PROGRAMS[page].groups()
    if "from fastai" in program:
        pytest.importorskip("fastai", reason="fastai is not installed: it asks for torchvision")
    (tmp_path / "program.py").write_text(program, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "program.py"], cwd=tmp_path, capture_output=True, text=True, check=True, timeout=120
    )
    assert done.stdout == output
