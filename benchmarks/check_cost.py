"""Time every rule on models of many sizes: `python -m benchmarks.check_cost`."""

from __future__ import annotations

import json
from pathlib import Path
from statistics import quantiles
from time import perf_counter

import click
import torch
from tabulate import tabulate
from torch import nn

import freezeinspect as fi
from benchmarks.machine import describe
from freezeinspect.rules import find
from freezeinspect.rules.facts import Facts

BLOCKS = (50, 200, 1_000, 4_000, 12_000)  # of five modules each


def model_of(blocks: int) -> nn.Module:
    """Make blocks, of which half are frozen and leak."""
    parts = [nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2), nn.Dropout(), nn.ReLU()) for _ in range(blocks)]
    model = nn.Sequential(*parts)
    model[: blocks // 2].requires_grad_(False)
    return model


def measured(blocks: int, rounds: int) -> dict[str, float]:
    model = model_of(blocks)
    snapshot = fi.inspect(model, torch.optim.SGD(model.parameters(), 0.1)).snapshot
    times, found = [], 0
    for _ in range(rounds):
        facts = Facts(snapshot)
        _ = facts.verdicts, snapshot.structure.tensors  # which a report has worked out before
        start = perf_counter()
        found = len(list(find(facts)))
        times.append(1e3 * (perf_counter() - start))
    low, middle, high = quantiles(times, n=4)
    modules = len(snapshot.structure)
    spread = {"ms": middle, "low": low, "high": high}
    return {"modules": modules, "findings": found, **spread, "us_a_module": 1e3 * middle / modules}


@click.command(help=__doc__)
@click.option("--rounds", type=click.IntRange(min=3), default=15, show_default=True)
@click.option("--json", "output", type=click.Path(dir_okay=False, path_type=Path), help="Write the figures here too.")
def main(rounds: int, output: Path | None) -> None:
    rows = [measured(blocks, rounds) for blocks in BLOCKS]
    shown = [
        (
            f"{row['modules']:,}",
            f"{row['findings']:,}",
            f"{row['ms']:.2f} ({row['low']:.2f}–{row['high']:.2f})",
            f"{row['us_a_module']:.2f}",
        )
        for row in rows
    ]
    click.echo(tabulate(shown, ["modules", "findings", "ms", "µs a module"], "github", disable_numparse=True))
    if output is not None:
        output.write_text(json.dumps({"machine": describe(), "rounds": rounds, "sizes": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
