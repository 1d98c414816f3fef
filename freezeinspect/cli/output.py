"""What the commands print and how they fail: one line on standard error, exit code 2."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import NoReturn

import click

from freezeinspect.views.text import visible


def put(text: str, output: Path | None) -> None:
    """Print a text, or write it; what the terminal's encoding lacks is escaped."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        if output is None:
            click.echo(text)
        else:
            output.write_text(text + "\n", encoding="utf-8")
    except BrokenPipeError:
        raise  # click ends silently
    except OSError as error:
        fail(f"{output or 'standard output'}: {error.strerror}; name a file that can be written with --output")


def fail(message: str) -> NoReturn:
    """End the program for input or a call that cannot be used: one line, exit code 2."""
    click.echo(f"freezeinspect: {visible(message)}", err=True)
    sys.exit(2)
