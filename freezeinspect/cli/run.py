"""The command run: a script, unchanged, watched."""

from __future__ import annotations

import os
import sys
from functools import partial
from pathlib import Path
from typing import Any

import click

from freezeinspect.cli.output import fail


@click.command(context_settings={"allow_interspersed_args": False})
@click.option(
    "-l", "--log", type=click.Path(dir_okay=False, path_type=Path), help="The log; else SCRIPT.fi.jsonl, here."
)
@click.option("--evidence", type=click.Choice(["auto", "off"]), default="auto", show_default=True)
@click.option("--every", type=click.IntRange(min=1), help="Look at every Nth step whole.")
@click.option("--blame", is_flag=True, help="Find the call behind each flip of a flag.")
@click.option("-m", "is_module", is_flag=True, help="SCRIPT is a module, as for python -m.")
@click.argument("script", type=click.Path())
@click.argument("args", nargs=-1, type=click.UNPROCESSED)
def run(log: Path | None, is_module: bool, script: str, args: tuple[str, ...], **options: Any) -> None:
    """Run SCRIPT, unchanged, and watch what it trains.

    A watch opens at each optimizer's first step, over the model that it steps. What was seen is told on standard error
    when the script has ended, and the log has every step, whatever ends it. All that follows SCRIPT is the script's
    own, and so are its output and its exit code. Exit code 2: there is no such script.
    """
    import atexit

    from freezeinspect.recorder import script as scripts
    from freezeinspect.recorder.follow import Follower, log_of

    log = log or log_of(script)
    if not log.absolute().parent.is_dir():
        fail(f"--log {log}: no such folder; make it, or name another")
    try:
        if not is_module:
            scripts.can_read(script)
    except OSError as error:
        fail(f"can't open file {os.path.abspath(script)!r}: [Errno {error.errno}] {error.strerror}")
    follower = Follower(log, partial(click.echo, file=sys.__stderr__), **options)
    atexit.register(follower.end)  # the first to be registered is the last to run
    root: Any = click.get_current_context().find_root().command
    root.script = partial(scripts.run, [script, *args], is_module)
