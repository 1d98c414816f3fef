"""The command report: what is frozen in files, or what a run's log tells."""

from __future__ import annotations

import gc
import os
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from freezeinspect.cli.output import fail, put
from freezeinspect.patterns import BadPattern, MatchesNothing
from freezeinspect.readers.limits import Unreadable
from freezeinspect.report import Report, read
from freezeinspect.views.text import visible

if TYPE_CHECKING:
    from freezeinspect.report.run import Run

NARROWEST = 80  # columns; a wider terminal, or COLUMNS, is made use of
WHOLE = {"json": "the whole record", "html": "the whole tree, to search and filter in a browser"}
LEGEND = """\b
move, still  what the next step does to weights, a forward to statistics
mixed        some do, some do not      –  there are none      ?  not told
×3           three modules that agree; the numbers are those of each
≤            at most: some of the elements may be buffers
"""


@click.command(epilog=LEGEND)
@click.argument("files", type=click.Path(allow_dash=True), nargs=-1, required=True, metavar="FILE...")
@click.option(
    "--format",
    "form",
    type=click.Choice(["tree", "table", "json", "markdown", "html"]),
    default="tree",
    show_default=True,
)
@click.option("--depth", type=click.IntRange(min=0), help="Show this many levels below the root.")
@click.option("--filter", "only", metavar="PATTERN", help="Show only what matches, as 'backbone' or '**.bn*'.")
@click.option("--no-fold", is_flag=True, help="Give equal siblings a line each.")
@click.option("--key", help="Which model of a training checkpoint, as 'ema'.")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Write to this file instead.")
def report(files: tuple[str, ...], form: str, key: str | None, output: Path | None, **lines: Any) -> None:
    """Show what is frozen in a FILE, or what a run's log tells.

    A FILE is one of torch.save (new or old format, Lightning's too), TorchScript, torch.export or safetensors, a
    folder of Hugging Face (PEFT's adapters too) or torch.distributed.checkpoint, or the log of freezeinspect run; - is
    standard input. All of them are in docs/reference/formats.md. It is read without running or importing anything that
    it names, and without reading its weights. Of a log the tree is the run's story, and the other formats its end, but
    for JSON, which is the whole record, and of several files a list, and HTML, which is a page of the whole run. Logs
    of the ranks of one run are read as one. Exit code 2: a file cannot be read, or nothing matches.
    """
    gc.disable()  # the process ends with this command, and what it makes is no cycle
    if form in WHOLE and (lines["depth"] is not None or lines["only"] is not None or lines["no_fold"]):
        fail(f"--format {form} is always {WHOLE[form]}; leave --depth, --filter and --no-fold out")
    if output is not None and any(map(partial(_is_same, output), files)):
        fail(f"--output {output} is one of the files to read; name another")
    texts: list[str] = []
    refused: list[str] = []
    runs: list[Run] = []  # of one rank among several
    tell: Callable[[Report | Run], str] = partial(
        _told, form=form, colour=output is None and bool(sys.stdout) and sys.stdout.isatty(), **lines
    )
    for file in _with_progress(files):
        with _refusing(file, refused):
            one = read(file, key)
            if isinstance(one, Report) or one.history.ranks == 1:
                texts.append(tell(one))
            else:
                runs.append(one)
    for run in _of_all_ranks(runs):
        with _refusing(run.source.path or "", refused):
            texts.append(tell(run))
    if form == "html" and len(texts) > 1:
        fail("--format html is one page of one file; name one, and the next in another call")
    if texts:
        several = form == "json" and len(texts) > 1
        put("[\n" + ",\n".join(texts) + "\n]" if several else "\n\n\n".join(texts), output)
    for message in refused:
        click.echo(f"freezeinspect: {visible(message)}", err=True)
    sys.exit(2 if refused else 0)


@contextmanager
def _refusing(file: str, refused: list[str]) -> Iterator[None]:
    """Take note of what cannot be read or shown, and go on."""
    try:
        yield
    except Unreadable as error:
        refused.append(str(error))
    except (BadPattern, MatchesNothing) as error:
        refused.append(f"{file}: {error}")
    except MemoryError:
        refused.append(f"{file}: to show it takes more memory than there is; show fewer levels with --depth")


def _of_all_ranks(runs: list[Run]) -> list[Run]:
    """Read the logs of several ranks as one, where each is of another."""
    if not runs:
        return []
    from freezeinspect.report.run import are_of_one_run, together

    return [together(runs)] if are_of_one_run(runs) else runs


def _is_same(output: Path, file: str) -> bool:
    try:
        return output.samefile(file)
    except (OSError, ValueError):
        return False


def _with_progress(files: tuple[str, ...]) -> Iterable[str]:
    if len(files) == 1:
        return files
    from tqdm import tqdm

    return tqdm(files, unit="file", leave=False, disable=None)


def _told(report: Report | Run, form: str, colour: bool, depth: int | None, only: str | None, no_fold: bool) -> str:
    if form == "json":
        return report.to_json()
    if form == "html":
        return report.to_html().rstrip()
    if not isinstance(report, Report):
        if form == "tree" and depth is None and only is None and not no_fold:
            return str(report)
        report = report.report()
    if form == "table":
        return report.table(depth, not no_fold, only)
    if form == "markdown":
        return report.to_markdown(depth, not no_fold, only).rstrip()
    width = max(NARROWEST, shutil.get_terminal_size((NARROWEST, 0)).columns)
    return report.tree(depth, not no_fold, width, only, colour=colour and not os.environ.get("NO_COLOR"))
