"""The command diff: what differs between two files."""

from __future__ import annotations

import sys

import click

from freezeinspect.cli.output import fail, put
from freezeinspect.patterns import BadPattern, MatchesNothing
from freezeinspect.readers.limits import Unreadable
from freezeinspect.report import diff as compare


@click.command()
@click.argument("before", type=click.Path(allow_dash=True))
@click.argument("after", type=click.Path(allow_dash=True))
@click.option("--format", "form", type=click.Choice(["text", "json", "markdown"]), default="text", show_default=True)
@click.option("--exact", is_flag=True, help="Compare bytes, not the zips' checksums.")
@click.option("--key", help="Which model of a training checkpoint, as 'ema'.")
@click.option("--only", metavar="PATTERN", help="Tell only of what matches, as 'backbone' or '**.running_*'.")
@click.option(
    "--fail-on",
    type=click.Choice(["weights", "stats", "flags", "structure", "any"]),
    multiple=True,
    help="End with exit code 1 where these differ; repeatable.",
)
def diff(
    before: str, after: str, form: str, exact: bool, key: str | None, only: str | None, fail_on: tuple[str, ...]
) -> None:
    """Tell what differs between two files.

    That is weights, running statistics, flags and structure. Each is what report reads. Neither is run, and weights are
    read only where the zips' checksums do not tell. Exit code 1: something of --fail-on differs; 2: a file cannot be
    read, or nothing matches.
    """
    try:
        found = compare(before, after, exact=exact, key=key)
        found = found if only is None else found.only(only)
    except (Unreadable, BadPattern, MatchesNothing) as error:
        fail(str(error))
    put(found.to_json() if form == "json" else found.to_markdown().rstrip() if form == "markdown" else str(found), None)
    if ("any" in fail_on and found) or any(found.has(kind) for kind in fail_on):
        sys.exit(1)
