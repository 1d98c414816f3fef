"""Time a watch on ResNet-50's training steps beside what else sees weights move: `python -m benchmarks.watch_cost`.

Each way of watching has a model of its own, and all take a step in turn, so that they see the machine's moods alike.
"""

from __future__ import annotations

import json
import resource
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from statistics import median, quantiles
from time import perf_counter
from typing import Any, TypeAlias

import click
import torch
from tabulate import tabulate
from torch import nn
from torch_audit import Auditor

import freezeinspect as fi
from benchmarks.machine import describe
from benchmarks.peers import CloneAndEqual, torchlens
from benchmarks.resnet import ResNet
from freezeinspect.recorder.evidence import Values
from freezeinspect.recorder.roster import Roster

Step: TypeAlias = Callable[[], object]

BATCH, SIZE = 4, 224


WAYS: dict[str, Callable[[nn.Module, torch.optim.Optimizer], object]] = {
    "the bare step": lambda model, optimizer: None,
    "watch(evidence='off')": lambda model, optimizer: fi.watch(model, optimizer, evidence="off"),
    "watch(): auto": lambda model, optimizer: fi.watch(model, optimizer),
    "watch(every=1)": lambda model, optimizer: fi.watch(model, optimizer, every=1),
    "clone and torch.equal": CloneAndEqual,
    "torch-audit, every step": lambda model, optimizer: Auditor(
        model, optimizer=optimizer, every_n_steps=1, reporters=[]
    ).autopatch(),
    "torchlens, frozen weights": torchlens,
}


def stepping(frozen: bool, watch: Callable[[nn.Module, torch.optim.Optimizer], object]) -> Step:
    """Give a training step of a new ResNet-50, all of it or its head alone, watched in one way."""
    torch.manual_seed(0)
    model = ResNet()
    if frozen:
        model.requires_grad_(False)
        model.fc.requires_grad_(True)
    optimizer = torch.optim.SGD(model.parameters(), 0.01, momentum=0.9)
    watching = watch(model, optimizer)
    images, labels = torch.randn(BATCH, 3, SIZE, SIZE), torch.randint(1000, (BATCH,))

    def step() -> object:
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(images), labels).backward()
        optimizer.step()
        return watching

    return step


def seconds(call: Step) -> float:
    start = perf_counter()
    call()
    return perf_counter() - start


def measured(frozen: bool, rounds: int) -> dict[str, list[float]]:
    """Take a step of each in turn, after some to warm up; in an order that turns, so that none is always last."""
    steps = {name: stepping(frozen, watch) for name, watch in WAYS.items() if frozen or watch is not torchlens}
    times: dict[str, list[float]] = {name: [] for name in steps}
    names = list(steps)
    for number in range(-5, rounds):
        for name in names[number % len(names) :] + names[: number % len(names)]:
            taken = seconds(steps[name])
            if number >= 0:
                times[name].append(taken)
    return times


def rows(times: dict[str, list[float]]) -> list[dict[str, str]]:
    bare = times["the bare step"]
    found = []
    for name, taken in times.items():
        low, middle, high = quantiles(taken, n=4)
        added = median(one - other for one, other in zip(taken, bare, strict=True))
        found.append(
            {
                "step": name,
                "ms": f"{1e3 * middle:.1f} ({1e3 * low:.1f}–{1e3 * high:.1f})",
                "added, ms": f"{1e3 * added:+.2f}",
                "added": f"{added / median(bare):+.1%}",
            }
        )
    return found


def parts() -> dict[str, float]:
    """Time in milliseconds what a watch does in a step of ResNet-50, part by part."""
    model = ResNet()
    optimizer = torch.optim.SGD(model.parameters(), 0.01, momentum=0.9)
    roster = Roster(model, [optimizer])
    values = Values(roster.tensors)
    everything = range(len(roster.tensors))
    peer = CloneAndEqual(model, optimizer)
    calls: dict[str, Step] = {
        "flags, as a step starts": lambda: roster.look(at_start=True),
        "flags, as it ends": lambda: roster.look(at_start=False),
        "one look at every value": lambda: values.look(everything).digests(),
        "clone and torch.equal": lambda: (peer.keep(), peer.moved()),
        "torch._foreach_norm of the weights": lambda: torch._foreach_norm(roster.parameters),
    }
    found: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(60):
        for name, call in calls.items():
            found[name].append(seconds(call))
    return {name: 1e3 * median(times[10:]) for name, times in found.items()}


def growth(steps: int) -> dict[str, float]:
    """Measure in MB what so many steps without a flip leave in memory."""
    found = {}
    for name, options in {"auto": {}, "every=1": {"every": 1}}.items():
        model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4))
        optimizer = torch.optim.SGD(model.parameters(), 1e-3)
        x = torch.randn(8, 4)
        with fi.watch(model, optimizer, **options):
            for number in range(steps + 200):
                if number == 200:
                    tracemalloc.start()
                optimizer.zero_grad()
                model(x).sum().backward()
                optimizer.step()
            found[name] = tracemalloc.get_traced_memory()[0] / 1e6
            tracemalloc.stop()
    return found


@click.command(help=__doc__)
@click.option("--rounds", type=click.IntRange(min=5), default=25, show_default=True)
@click.option("--steps", type=click.IntRange(min=1000), default=100_000, show_default=True)
@click.option("--json", "output", type=click.Path(dir_okay=False, path_type=Path), help="Write the figures here too.")
def main(rounds: int, steps: int, output: Path | None) -> None:
    found: dict[str, Any] = {"machine": describe(), "rounds": rounds, "parts": parts()}
    click.echo(tabulate([(name, f"{ms:.3f}") for name, ms in found["parts"].items()], ["part", "ms"], "github"))
    for name, frozen in {"a frozen backbone": True, "all trained": False}.items():
        found[name] = measured(frozen, rounds)
        click.echo(f"\n{name}:\n\n" + tabulate(rows(found[name]), "keys", "github", disable_numparse=True))
    found["growth"] = growth(steps)
    click.echo(f"\nMB after {steps:,} steps without a flip: {found['growth']}")
    found["peak_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    if output is not None:
        output.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
