"""The command line: all printing, and all exit codes."""

from __future__ import annotations

import gc
import io
import os
import shutil
import sys
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from freezeinspect.patterns import BadPattern, MatchesNothing
from freezeinspect.readers.limits import Unreadable
from freezeinspect.report import Report, read
from freezeinspect.report import diff as compare
from freezeinspect.views.text import visible

if TYPE_CHECKING:
    import torch

    from freezeinspect.report.run import Run


NARROWEST = 80  # columns; a wider terminal, or COLUMNS, is made use of
LEGEND = """\b
move, still  what the next step does to weights, a forward to statistics
mixed        some do, some do not      –  there are none      ?  not told
×3           three modules that agree; the numbers are those of each
≤            at most: some of the elements may be buffers
"""


class _Check(click.Command):
    """A command whose options have their defaults from pyproject.toml."""

    def make_context(self, *args: Any, **kwargs: Any) -> click.Context:
        return super().make_context(*args, default_map=_settings(), **kwargs)


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


@main.command()
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True)
@click.option("--steps", type=click.IntRange(min=6), default=24, show_default=True, help="Steps of each regime.")
@click.option(
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    help="Write the text (demo.txt) and the figures (demo.json) to this folder too.",
)
def demo(device: str, steps: int, output: Path | None) -> None:
    """Show unfreeze against bn_freeze(False) on a real training loop.

    A small residual network that knows the handwritten digits 0 to 4 is fine-tuned on 5 to 9 under each regime of
    freezing, and looked at before and after every step. Exit code 1: a regime did not come out as it should.
    """
    import torch

    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    elif device == "cuda" and not torch.cuda.is_available():
        fail("--device cuda: torch sees no CUDA device here; use --device cpu, or auto")
    if output is not None:
        _folder(output)
    lines = _Lines()
    figures = _demo(torch.device(device), steps, lines)
    if output is not None:
        import json

        (output / "demo.txt").write_text("\n".join(lines.said) + "\n", encoding="utf-8")
        about = {"device": _name(torch.device(device)), "torch": torch.__version__, "regimes": figures}
        (output / "demo.json").write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
        lines.say(f"\nWritten: {output / 'demo.txt'}, {output / 'demo.json'}")
    if strays := [figure["regime"] for figure in figures if not figure["as_tabled"]]:
        click.echo(f"freezeinspect: not as it should come out: {'; '.join(strays)}", err=True)
        sys.exit(1)


@main.command(context_settings={"allow_interspersed_args": False})
@click.option("--log", type=click.Path(dir_okay=False, path_type=Path), help="The log; else SCRIPT.fi.jsonl, here.")
@click.option("--evidence", type=click.Choice(["auto", "off"]), default="auto", show_default=True)
@click.option("--every", type=click.IntRange(min=1), help="Look at every Nth step whole.")
@click.option("--blame", is_flag=True, help="Find the call behind each flip of a flag.")
@click.option("-m", "is_module", is_flag=True, help="SCRIPT is a module, as for python -m.")
@click.argument("script")
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
    main.script = partial(scripts.run, [script, *args], is_module)


@main.command(epilog=LEGEND)
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@click.option(
    "--format", "form", type=click.Choice(["tree", "table", "json", "markdown"]), default="tree", show_default=True
)
@click.option("--depth", type=click.IntRange(min=0), help="Show this many levels below the root.")
@click.option("--filter", "only", metavar="PATTERN", help="Show only what matches, as 'backbone' or '**.bn*'.")
@click.option("--no-fold", is_flag=True, help="Give equal siblings a line each.")
@click.option("--key", help="Which model of a training checkpoint, as 'ema'.")
@click.option("--output", type=click.Path(path_type=Path), help="Write to this file instead.")
def report(files: tuple[str, ...], form: str, key: str | None, output: Path | None, **lines: Any) -> None:
    """Show what is frozen in a FILE, or what a run's log tells.

    A FILE is one of torch.save (new or old format, Lightning's too), TorchScript, torch.export or safetensors, a folder
    of Hugging Face (PEFT's adapters too) or torch.distributed.checkpoint, or the log of freezeinspect run; - is
    standard input. All of them are in docs/reference/formats.md. It is read without running or importing anything that
    it names, and without reading its weights. Of a log the tree is the run's story, and the other formats its end, but
    for JSON, which is the whole record, and of several files a list. Exit code 2: a file cannot be read, or nothing
    matches.
    """
    gc.disable()  # the process ends with this command, and what it makes is no cycle
    if form == "json" and (lines["depth"] is not None or lines["only"] is not None or lines["no_fold"]):
        fail("--format json is always the whole record; leave --depth, --filter and --no-fold out")
    if output is not None and any(map(partial(_is_same, output), files)):
        fail(f"--output {output} is one of the files to read; name another")
    texts, refused = [], []
    for file in _with_progress(files):
        try:
            texts.append(_told(read(file, key), form, sys.stdout.isatty() and output is None, **lines))
        except Unreadable as error:
            refused.append(str(error))
        except (BadPattern, MatchesNothing) as error:
            refused.append(f"{file}: {error}")
        except MemoryError:
            refused.append(f"{file}: to show it takes more memory than there is; show fewer levels with --depth")
    if texts:
        several = form == "json" and len(files) > 1
        _put("[\n" + ",\n".join(texts) + "\n]" if several else "\n\n\n".join(texts), output)
    for message in refused:
        click.echo(f"freezeinspect: {visible(message)}", err=True)
    sys.exit(2 if refused else 0)


@main.command()
@click.argument("before")
@click.argument("after")
@click.option("--format", "form", type=click.Choice(["text", "json", "markdown"]), default="text", show_default=True)
@click.option("--exact", is_flag=True, help="Compare bytes, not the zips' checksums.")
@click.option("--key", help="Which model of a training checkpoint, as 'ema'.")
@click.option("--only", metavar="PATTERN", help="Tell only of what matches, as 'backbone' or '**.running_*'.")
@click.option(
    "--fail-on",
    type=click.Choice(["weights", "stats", "flags", "structure", "any"]),
    multiple=True,
    help="End with exit code 1 where these differ; may be given again.",
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
        fail(visible(str(error)))
    _put(
        found.to_json() if form == "json" else found.to_markdown().rstrip() if form == "markdown" else str(found), None
    )
    if ("any" in fail_on and found) or any(found.has(kind) for kind in fail_on):
        sys.exit(1)


@main.command(cls=_Check)
@click.argument("file")
@click.option(
    "--select", multiple=True, metavar="RULE", help="Apply this rule alone, by code or name; may be repeated."
)
@click.option("--ignore", multiple=True, metavar="RULE", help="Leave this rule out; repeatable.")
@click.option("--allow", multiple=True, metavar="RULE[:PATTERN]", help="Allow what it finds, there; repeatable.")
@click.option("--fail-on", type=click.Choice(["error", "warning", "info"]), default="error", show_default=True)
@click.option("--format", "form", type=click.Choice(["text", "json", "github"]), default="text", show_default=True)
@click.option("--key", help="Which model of a training checkpoint, as 'ema'.")
def check(file: str, form: str, fail_on: str, key: str | None, **which: Any) -> None:
    """Find what is wrong in a FILE, or in a run's log.

    `[tool.freezeinspect]` in pyproject.toml, here or above, may have select, ignore, allow and fail-on. Exit code 1:
    there are findings of --fail-on or worse; 2: the file cannot be read, or there is no such rule.
    """
    from freezeinspect.report import check as find
    from freezeinspect.report.findings import NoSuchRule
    from freezeinspect.views.findings import github

    try:
        found = find(file, key=key, **which)
    except (Unreadable, BadPattern, NoSuchRule) as error:
        fail(visible(str(error)))
    _put(found.to_json() if form == "json" else github(found, file) if form == "github" else str(found), None)
    if found.at_least(fail_on):
        sys.exit(1)


@main.command()
@click.argument("rule", required=False)
def explain(rule: str | None) -> None:
    """Show the page of a RULE, or list them all.

    A rule goes by its code or its name.
    """
    from freezeinspect.report.findings import NoSuchRule, rule_of
    from freezeinspect.views.findings import catalogue, page

    try:
        _put(catalogue() if rule is None else page(rule_of(rule)), None)
    except NoSuchRule as error:
        fail(visible(str(error)))


def _settings() -> dict[str, Any]:
    """Read `[tool.freezeinspect]` of the nearest pyproject.toml: defaults for the options of check."""
    import tomllib

    here = Path.cwd()
    file = next((one / "pyproject.toml" for one in (here, *here.parents) if (one / "pyproject.toml").is_file()), None)
    if file is None:
        return {}
    try:
        found = tomllib.loads(file.read_text(encoding="utf-8")).get("tool", {}).get("freezeinspect", {})
    except (OSError, ValueError) as error:
        fail(f"{file}: {error}")
    for key, value in found.items():
        kind = {"select": list, "ignore": list, "allow": list, "fail-on": str}.get(key)
        if kind is None or type(value) is not kind:
            expected = "expected select, ignore, allow: lists, or fail-on: text"
            fail(f"{file}: tool.freezeinspect.{key} = {value!r}: {expected}")
    return {key.replace("-", "_"): value for key, value in found.items()}


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


def _put(text: str, output: Path | None) -> None:
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


def _version(asked: bool) -> None:
    if asked:
        from freezeinspect import __version__

        click.echo(f"freezeinspect, version {__version__}")
        sys.exit(0)


class _Lines:
    """What was printed, kept so that it can be written too."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, text: str = "") -> None:
        self.said.append(text)
        click.echo(text)


def _demo(device: torch.device, steps: int, lines: _Lines) -> list[dict[str, Any]]:
    import torch
    from tqdm import tqdm

    from freezeinspect.demo import experiment, story
    from freezeinspect.demo.network import pretrained
    from freezeinspect.regimes import REGIMES

    torch.set_num_threads(1)  # fastest for so small a network, and the same figures on any number of cores
    network = pretrained(device)
    with tqdm(total=len(REGIMES) * steps, unit="step", leave=False, disable=None) as bar:
        runs = [experiment.run(regime, network, steps, bar.update) for regime in REGIMES]
    lines.say(f"Fine-tuning on {_name(device)}: the state before→after a step, and what moved in it.")
    for run in runs:
        lines.say(f"\n{story.state_table(run)}")
    lines.say(f"\nWhat moved, in how many of {steps} steps; how far the body's output on the digits")
    lines.say(f"that it knew has changed; accuracy on the new ones:\n\n{story.moved_table(runs)}\n")
    lines.say(story.answer(runs))
    return story.figures(runs)


def _name(device: torch.device) -> str:
    import torch

    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"


def _folder(path: Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        fail(f"--output {path}: {error.strerror}; name a folder that can be written")


def fail(message: str) -> NoReturn:
    """End the program for input or a call that cannot be used: one line, exit code 2."""
    click.echo(f"freezeinspect: {message}", err=True)
    sys.exit(2)
