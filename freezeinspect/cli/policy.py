"""The command policy: the state of a file, as what is expected of it."""

from __future__ import annotations

from pathlib import Path

import click

from freezeinspect.cli.output import fail, put
from freezeinspect.readers.limits import Unreadable
from freezeinspect.views.text import visible


@click.command()
@click.argument("file", type=click.Path(allow_dash=True))
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Write to this file, as freeze.toml.")
@click.option("--key", help="Which model of a training checkpoint, as 'ema'.")
def policy(file: str, output: Path | None, key: str | None) -> None:
    """Write the policy that says exactly what a FILE says.

    Of a run's log it is the state at the end. freezeinspect check FILE --policy freeze.toml holds a later state to it.
    What the file does not tell is left out. Exit code 2: the file cannot be read.
    """
    from freezeinspect.report import policy_of

    try:
        found = policy_of(file, key=key)
    except Unreadable as error:
        fail(str(error))
    if not found.expect:
        click.echo(f"freezeinspect: {visible(file)} tells no flags, so its policy expects nothing", err=True)
    put(str(found), output)
