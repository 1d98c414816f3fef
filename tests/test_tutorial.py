"""The tutorial shows what it gives when it is run."""

from __future__ import annotations

import re
from typing import Any

import nbformat
import pytest

from tutorial import PATH, executed


def shown(notebook: Any) -> list[list[str]]:
    """Give what each cell shows as text, and of pages the table that stands for them."""
    return [
        [
            text
            for output in cell.outputs
            for text in (output.get("text", ""), *map(_plain, sorted(output.get("data", {}).values())))
        ]
        for cell in notebook.cells
        if cell.cell_type == "code"
    ]


def _plain(text: str) -> str:
    return re.sub('data-freezeinspect="[0-9a-f]+"', "", text.partition("<script>")[0])


@pytest.fixture(scope="module")
def committed() -> Any:
    return nbformat.read(PATH, as_version=4)


def test_it_shows_what_it_gives_when_it_is_run(committed: Any) -> None:
    assert shown(executed()) == shown(committed)


def test_what_it_ends_its_cells_with_are_pages(committed: Any) -> None:
    outputs = [output for cell in committed.cells for output in cell.get("outputs", []) if "data" in output]
    assert ["srcdoc" in output.data["text/html"] for output in outputs] == [True] * 3
