"""Run the tutorial and keep what it shows: `python tests/tutorial.py`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient

PATH = Path(__file__).parents[1] / "docs/tutorial.ipynb"


def executed() -> Any:
    """Give the notebook as a kernel of its own runs it now, from top to bottom."""
    notebook = nbformat.read(PATH, as_version=4)
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": PATH.parent}}).execute()
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)  # when it ran
    return notebook


if __name__ == "__main__":
    nbformat.write(executed(), PATH)
