"""Measure how costs grow, and draw them: with modules, steps, the size of a file, ranks.

`python -m benchmarks.scaling --ranks ranks.json` takes the curve of ranks from what benchmarks.ranks_cost wrote.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable
from functools import partial
from math import log
from pathlib import Path
from statistics import median
from time import perf_counter, thread_time
from typing import Any

import click
import torch
import torchinfo
from matplotlib import rc_context
from matplotlib.figure import Figure
from tabulate import tabulate
from torch import nn

import freezeinspect as fi
from benchmarks.check_cost import model_of
from benchmarks.inspect_cost import bare_loop
from benchmarks.machine import describe
from benchmarks.saved import MIB, save_sparse

Curve = dict[int, float]  # from a size to milliseconds, or bytes
Curves = dict[str, Curve]

BLOCKS = (20, 200, 2_000, 12_400)  # of five modules each
TORCHINFO_UP_TO = 2_000  # blocks
STEPS = (100, 1_000, 10_000, 100_000)
EVERY_FLIP = 100  # steps
SIZES = (1, 10, 100, 1_000, 10_000)  # MiB
WHOLE_UP_TO = 1_000  # MiB; the larger are sparse, and only reported
LOADING = "import sys, torch; torch.load(sys.argv[1], weights_only=False)"


def milliseconds(call: Callable[[], object], rounds: int, clock: Callable[[], float] = thread_time) -> float:
    """Time a call: the median of this thread's processor time, or of another clock's."""
    call()
    times = []
    for _ in range(rounds):
        start = clock()
        call()
        times.append(1e3 * (clock() - start))
    return median(times)


def with_modules(rounds: int) -> Curves:
    """Time calls on models of ever more modules."""
    found: Curves = {name: {} for name in ("inspect", "check", "the bare loop", "torchinfo.summary")}
    for blocks in BLOCKS:
        model = model_of(blocks)
        modules = len(list(model.modules()))
        found["inspect"][modules] = milliseconds(partial(fi.inspect, model), rounds)
        found["check"][modules] = milliseconds(partial(fi.check, model), rounds)
        found["the bare loop"][modules] = milliseconds(bare_loop(model), rounds)
        if blocks <= TORCHINFO_UP_TO:
            summary = milliseconds(partial(torchinfo.summary, model, verbose=0), min(rounds, 3))
            found["torchinfo.summary"][modules] = summary
    return found


def with_steps(most: int) -> Curves:
    """Measure the log of ever more steps, without a flip and with one in a hundred."""
    found: Curves = {name: {} for name in ("log, no flips", "log, a flip in 100 steps")}
    for curve, flips in zip(found.values(), (False, True), strict=True):
        model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4))
        optimizer = torch.optim.SGD(model.parameters(), 1e-3)
        x = torch.randn(8, 4)
        with tempfile.TemporaryDirectory() as folder:
            log_ = Path(folder, "run.fi.jsonl")
            with fi.watch(model, optimizer, log=log_) as watch:
                for number in range(1, most + 1):
                    if flips and number % EVERY_FLIP == 0:
                        model[0].requires_grad_(not model[0].weight.requires_grad)
                    optimizer.zero_grad()
                    model(x).sum().backward()
                    optimizer.step()
                    if number in STEPS:
                        _ = watch.run
                        curve[number] = log_.stat().st_size / 1000
    return found


def with_size(rounds: int) -> Curves:
    """Time processes that report files of ever more bytes, or load them."""
    found: Curves = {"freezeinspect report": {}, "torch.load": {}}
    program = str(Path(sys.executable).with_name("freezeinspect"))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.pt")
        for size in SIZES:
            calls = {"freezeinspect report": [program, "report", str(path)]}
            if size <= WHOLE_UP_TO:
                torch.save(nn.Linear(512, size * MIB // 2048), path)
                calls["torch.load"] = [sys.executable, "-c", LOADING, str(path)]
            else:
                save_sparse(path, size * MIB)
            for name, call in calls.items():
                run = partial(subprocess.run, call, check=True, capture_output=True)
                found[name][size] = milliseconds(run, min(rounds, 5), perf_counter)
    return found


def with_ranks(path: Path) -> Curves:
    """Take from the ranks' benchmark what each call costs by ranks: medians."""
    times = json.loads(path.read_text())["ms"]
    names = ("all_gather_object of every flag", "compare_ranks, flags agree", "a step of watch(ranks=True)")
    return {name: {int(ranks): median(of[name]) for ranks, of in times.items()} for name in names}


def growth(curve: Curve) -> float:
    """Give the exponent between the last two points: 1 is linear, 0 is flat."""
    (a, one), (b, other) = sorted(curve.items())[-2:]
    return log(other / one) / log(b / a)


def rows(panels: dict[str, tuple[str, Curves]]) -> Iterable[list[str]]:
    for what, (unit, curves) in panels.items():
        for name, curve in curves.items():
            points = ", ".join(f"{size:,}: {value:,.3g}" for size, value in sorted(curve.items()))
            yield [name, f"{unit} by {what}", points, f"{growth(curve):.2f}"]


def drawn(panels: dict[str, tuple[str, Curves]]) -> Figure:
    """Draw a panel for each way to grow, both axes logarithmic."""
    figure = Figure(figsize=(10, 7), layout="constrained")
    for axes, (what, (unit, curves)) in zip(figure.subplots(2, 2).flat, panels.items(), strict=False):
        for (name, curve), style in zip(curves.items(), ("-o", "-s", "--^", ":d"), strict=False):
            axes.plot(*zip(*sorted(curve.items()), strict=True), style, label=name)
        axes.set(xscale="log", yscale="log", xlabel=what, ylabel=unit)
        axes.grid(alpha=0.3)
        axes.legend(frameon=False, fontsize=9)
    return figure


@click.command(help=__doc__)
@click.option("--rounds", type=click.IntRange(min=2), default=9, show_default=True)
@click.option("--steps", type=click.IntRange(min=STEPS[1]), default=STEPS[-1], show_default=True)
@click.option("--ranks", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="From ranks_cost --json.")
@click.option("--picture", type=click.Path(dir_okay=False, path_type=Path), help="Draw the curves here, as SVG.")
@click.option("--json", "output", type=click.Path(dir_okay=False, path_type=Path), help="Write the figures here too.")
def main(rounds: int, steps: int, ranks: Path | None, picture: Path | None, output: Path | None) -> None:
    panels = {
        "modules": ("ms", with_modules(rounds)),
        "steps": ("KB of log", with_steps(steps)),
        "MiB of a file": ("ms", with_size(rounds)),
    }
    if ranks is not None:
        panels["ranks"] = ("ms", with_ranks(ranks))
    click.echo(tabulate(rows(panels), ["what", "how", "size: figure", "exponent at the end"], "github"))
    if picture is not None:
        with rc_context({"svg.fonttype": "none", "svg.hashsalt": "freezeinspect"}):
            drawn(panels).savefig(picture, metadata={"Date": None})
    if output is not None:
        found: dict[str, Any] = {"machine": describe(), "rounds": rounds, "curves": panels}
        output.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
