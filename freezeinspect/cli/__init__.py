"""The command line: all printing, and all exit codes."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from freezeinspect.cli import check, demo, diff, policy, report, run
from freezeinspect.cli.output import fail


class _Commands(click.Group):
    """Commands that say so where a file's name stands for one. A script runs when click is done with the call."""

    script: Callable[[], None] | None = None

    def main(self, *args: Any, **options: Any) -> Any:
        try:
            return super().main(*args, **options)
        except SystemExit:
            if self.script is None:
                raise
        self.script()

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError:
            if Path(args[0]).exists():
                what, way = ("run", "run") if args[0].endswith(".py") else ("read", "report")
                fail(f"{args[0]} is a file, not a command; to {what} it: freezeinspect {way} {args[0]}")
            raise


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    help="Show the version.",
    callback=lambda *given: _version(given[2]),
)
def main() -> None:
    """Show what is frozen and what trains in a PyTorch model, and prove what moved."""


def _version(asked: bool) -> None:
    if asked:
        from freezeinspect import __version__

        click.echo(f"freezeinspect, version {__version__}")
        sys.exit(0)


for command in (demo.demo, run.run, report.report, diff.diff, check.check, check.explain, policy.policy):
    main.add_command(command)
