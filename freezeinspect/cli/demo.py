"""The command demo: the experiment, printed and written."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from freezeinspect.cli.output import fail

if TYPE_CHECKING:
    import torch


@click.command()
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True)
@click.option("--steps", type=click.IntRange(min=6), default=24, show_default=True, help="Steps of each regime.")
@click.option(
    "-o",
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    help="Write the text (demo.txt), the figures (demo.json) and the page to this folder.",
)
def demo(device: str, steps: int, output: Path | None) -> None:
    """Show unfreeze against bn_freeze(False) on a real training loop.

    A small residual network that knows the handwritten digits 0 to 4 is fine-tuned on 5 to 9 under each regime of
    freezing, and looked at before and after every step. A page of HTML (what_if.html) shows one step under each, side
    by side; without --output it is in a new temporary folder. Exit code 1: a regime did not come out as it should.
    """
    import torch

    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    elif device == "cuda" and not torch.cuda.is_available():
        fail("--device cuda: torch sees no CUDA device here; use --device cpu, or auto")
    if output is not None:
        _folder(output)
    lines = _Lines()
    figures = _run(torch.device(device), steps, lines)
    if output is not None:
        import json

        (output / "demo.txt").write_text("\n".join(lines.said) + "\n", encoding="utf-8")
        about = {"device": _name(torch.device(device)), "torch": torch.__version__, "regimes": figures}
        (output / "demo.json").write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
        lines.say(f"\nWritten: {output / 'demo.txt'}, {output / 'demo.json'}")
    lines.say(f"\nThe regimes side by side, for a browser: {_page(torch.device(device), output)}")
    if strays := [figure["regime"] for figure in figures if not figure["as_tabled"]]:
        click.echo(f"freezeinspect: not as it should come out: {'; '.join(strays)}", err=True)
        sys.exit(1)


class _Lines:
    """What was printed, kept so that it can be written too."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, text: str = "") -> None:
        self.said.append(text)
        click.echo(text)


def _run(device: torch.device, steps: int, lines: _Lines) -> list[dict[str, Any]]:
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


def _page(device: torch.device, output: Path | None) -> Path:
    """Write one step under each regime as a page, and give its path."""
    import tempfile

    from freezeinspect.demo.experiment import side_by_side
    from freezeinspect.demo.network import pretrained

    path = (output or Path(tempfile.mkdtemp(prefix="freezeinspect-"))) / "what_if.html"
    side_by_side(pretrained(device)).to_html(path)
    return path


def _name(device: torch.device) -> str:
    import torch

    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"


def _folder(path: Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        fail(f"--output {path}: {error.strerror}; name a folder that can be written")
