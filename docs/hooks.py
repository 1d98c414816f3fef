"""Make a page of the tutorial: what its cells show stands below them, pages of HTML as in a notebook."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

NOTEBOOK = Path(__file__).parent / "tutorial.ipynb"
NOTE = "*This page is a notebook: [tutorial.ipynb](tutorial.ipynb). Its tests run it.*"


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the page, which nobody keeps."""
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    title, *rest = map(_told, cells)
    files.append(File.generated(config, "tutorial.md", content="\n\n".join([title, NOTE, *rest])))
    return files


def _told(cell: dict[str, Any]) -> str:
    source = "".join(cell["source"])
    if cell["cell_type"] == "markdown":
        return source
    return "\n\n".join([f"```python\n{source}\n```", *map(_shown, cell["outputs"])])


def _shown(output: dict[str, Any]) -> str:
    if output["output_type"] == "stream":
        return f"```text\n{''.join(output['text']).rstrip()}\n```"
    page = "".join(output["data"]["text/html"])
    return "\n".join(line for line in page.splitlines() if line.strip())  # an empty line would end the block
