"""The blocks of a page, and what they print when they are run: `python tests/pages.py PAGE…` writes it below them."""

from __future__ import annotations

import contextlib
import io
import re
import sys
import tempfile
import traceback
import warnings
from pathlib import Path
from typing import Any, NamedTuple

from click.testing import CliRunner

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PROGRAM = re.compile(r"```python\n(.*?)```\n\n```text\n(.*?)```", re.DOTALL)  # and what it prints
FENCED = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```$", re.MULTILINE | re.DOTALL)
WITH_OUTPUT = re.compile(
    r"^```python\n(?P<code>.*?)^```$(?:\n\n```text\n.*?^```$)?|^```console\n(?P<calls>\$ .*?)^```$",
    re.MULTILINE | re.DOTALL,
)


class Block(NamedTuple):
    """A fenced block of a page."""

    language: str
    text: str


def read(page: str) -> str:
    """Give the text of a page of docs/."""
    return (DOCS / page).read_text(encoding="utf-8")


def blocks(text: str) -> list[Block]:
    """Give a page's blocks in order."""
    return [Block(*found) for found in FENCED.findall(text)]


def executed(text: str, world: dict[str, Any] | None = None) -> str:
    """Give a page with what its blocks print now: they run in order, and each knows the names of those before it.

    Of a block that raises it is the last line of the traceback. A warning is an error.
    """
    world = {"__name__": "page"} if world is None else world
    return WITH_OUTPUT.sub(lambda found: _told(found, world), text)


def _told(found: re.Match[str], world: dict[str, Any]) -> str:
    if found["calls"]:
        calls = re.findall(r"^\$ (.*)$", found["calls"], re.MULTILINE)
        return f"```console\n{''.join(map(_called, calls))}```"
    program = f"```python\n{found['code']}```"
    printed = _printed(found["code"], world)
    return f"{program}\n\n```text\n{printed.rstrip()}\n```" if printed else program


def _printed(code: str, world: dict[str, Any]) -> str:
    out = io.StringIO()
    with contextlib.redirect_stdout(out), warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            exec(compile(code, "page.py", "exec"), world)
        except Exception as error:
            out.write("".join(traceback.format_exception_only(error)))
    return re.sub(r"[ \t]+$", "", out.getvalue(), flags=re.MULTILINE)


def _called(call: str) -> str:
    from freezeinspect.cli import main

    program, *args = call.split()
    assert program == "freezeinspect", call
    done = CliRunner(env={"COLUMNS": "80"}).invoke(main, args, prog_name=program)
    return f"$ {call}\n{done.output}"


def renew(page: Path) -> None:
    """Run a page where the files that it makes are in nobody's way, and write what its blocks print."""
    text = page.read_text(encoding="utf-8")
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        told = executed(text)
    page.write_text(told, encoding="utf-8")


if __name__ == "__main__":
    for name in sys.argv[1:]:
        renew(Path(name))
