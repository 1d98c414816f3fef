"""Time what ranks exchange, over gloo on this machine: `python -m benchmarks.ranks_cost`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from statistics import quantiles
from time import perf_counter

import click
import torch
from tabulate import tabulate
from torch import distributed, nn

import freezeinspect as fi
from benchmarks.machine import describe
from benchmarks.resnet import ResNet
from freezeinspect.distributed import Exchange
from freezeinspect.readers import live
from freezeinspect.serial import dumps

RANKS = (2, 4, 8)


def plain(model: nn.Module) -> None:
    """Do as people do: gather every rank's flags whole."""
    flags = [(name, one.training) for name, one in model.named_modules()]
    flags += [(name, one.requires_grad) for name, one in model.named_parameters()]
    found = [None] * distributed.get_world_size()
    distributed.all_gather_object(found, flags)


def timed(call: Callable[[], object], rounds: int) -> list[float]:
    """Give the milliseconds of each call, all ranks having begun together."""
    times = []
    for _ in range(rounds):
        distributed.barrier()
        start = perf_counter()
        call()
        times.append(1e3 * (perf_counter() - start))
    return times


def work(folder: Path, rounds: int) -> None:
    """Be one rank."""
    distributed.init_process_group("gloo")
    torch.manual_seed(0)
    model = ResNet()
    replicated = nn.parallel.DistributedDataParallel(model)
    other = ResNet()
    other.fc.requires_grad_(distributed.get_rank() > 0)
    snapshot, exchange = live.read(model), Exchange()
    steps = iter(range(1, 10**9))
    calls: dict[str, Callable[[], object]] = {
        "all_gather_object of every flag": lambda: plain(model),
        "compare_ranks, flags agree": lambda: fi.compare_ranks(model),
        "compare_ranks, one rank differs": lambda: fi.compare_ranks(other),
        "compare_ranks under DDP, 102 MB read": lambda: fi.compare_ranks(replicated),
        "a step of watch(ranks=True)": lambda: exchange.stepped(next(steps), snapshot),
    }
    found = {name: timed(call, rounds) for name, call in calls.items()}
    if distributed.get_rank() == 0:
        text = dumps(snapshot, fi.Observed(), fi.inspect(model).source)
        sizes = {"snapshot": len(text), "tensors": len(snapshot.structure.tensors)}
        (folder / "found.json").write_text(json.dumps({"times": found, "sizes": sizes}))
    distributed.destroy_process_group()


@click.command(help=__doc__)
@click.option("--rounds", type=click.IntRange(min=3), default=30, show_default=True)
@click.option("--json", "output", type=click.Path(dir_okay=False, path_type=Path), help="Write the figures here too.")
@click.option("--worker", type=click.Path(path_type=Path), hidden=True)
def main(rounds: int, output: Path | None, worker: Path | None) -> None:
    if worker is not None:
        work(worker, rounds)
        return
    figures: dict[int, dict[str, list[float]]] = {}
    for ranks in RANKS:
        with tempfile.TemporaryDirectory() as folder:
            launch = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}", "-m"]
            call = [sys.executable, *launch, "benchmarks.ranks_cost", "--rounds", str(rounds), "--worker", folder]
            subprocess.run(call, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
            found = json.loads((Path(folder) / "found.json").read_text())
        figures[ranks] = found["times"]
    rows = []
    for name in figures[RANKS[0]]:
        spreads = (quantiles(figures[ranks][name], n=4) for ranks in RANKS)
        rows.append([name, *(f"{middle:.2f} ({low:.2f}–{high:.2f})" for low, middle, high in spreads)])
    click.echo(tabulate(rows, ["ms", *(f"{ranks} ranks" for ranks in RANKS)], "github"))
    click.echo(f"\nA snapshot is {found['sizes']['snapshot']:,} bytes of text.")
    if output is not None:
        output.write_text(json.dumps({"machine": describe(), "ms": figures, "sizes": found["sizes"]}, indent=1) + "\n")


if __name__ == "__main__":
    main()
