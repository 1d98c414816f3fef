"""Time watched steps in turn with bare ones on this device, and digests against its memory's bandwidth.

Each way has a training of its own; all take a step in turn, so that they see the machine's moods alike. A step is timed
until the device is done with it, and so is what the watch adds on the device itself. Writes the figures as JSON too.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from statistics import median, quantiles
from time import perf_counter
from typing import Any

import click
import torch
from tabulate import tabulate
from torch import nn

import freezeinspect as fi
from benchmarks.machine import describe
from benchmarks.peers import CloneAndEqual
from benchmarks.training import DEVICE, IS_SMALL, STEADY, Training, seeded
from freezeinspect.recorder.evidence import Values

Watching = Callable[[nn.Module, torch.optim.Optimizer], object]

ROUNDS, WARM = (3, 0) if IS_SMALL else (100, 20)
SIZES = (2**20,) if IS_SMALL else (10**8, 10**9, 8 * 10**9)  # bytes of weights
WEIGHT = 2**16 if IS_SMALL else 2**22  # bytes of one of them
WAYS: dict[str, Watching | None] = {
    "the bare step": None,
    "watch(evidence='off')": partial(fi.watch, evidence="off"),
    "watch(): auto": fi.watch,
    "watch(every=1)": partial(fi.watch, every=1),
    "clone and torch.equal": CloneAndEqual,
}


def done() -> None:
    """Wait until the device has done all it was given."""
    if not IS_SMALL:
        torch.cuda.synchronize()


def held() -> int:
    """Give the bytes that tensors hold on the device."""
    return 0 if IS_SMALL else torch.cuda.memory_allocated()


def seconds(call: Callable[[], object]) -> float:
    done()
    start = perf_counter()
    call()
    done()
    return perf_counter() - start


def measured(make: Callable[[], Training]) -> tuple[dict[str, list[float]], dict[str, int]]:
    """Time steps of each way in turn, in an order that turns too; and the bytes that each watch holds on the device."""
    steps: dict[str, Callable[[], object]] = {}
    bytes_: dict[str, int] = {}
    kept = []  # a watch lives as long as something holds it
    for name, watching in WAYS.items():
        training: Training = seeded(make)
        for _ in range(2):
            training.step()  # the optimizer's state is there now
        done()
        before = held()
        kept.append(watching(training.model, training.optimizer) if watching else None)
        for _ in range(WARM):
            training.step()
        done()
        steps[name], bytes_[name] = training.step, held() - before
    times: dict[str, list[float]] = {name: [] for name in steps}
    names = list(steps)
    for number in range(ROUNDS):
        for name in names[number % len(names) :] + names[: number % len(names)]:
            times[name].append(seconds(steps[name]))
    return times, bytes_


def rows(times: dict[str, list[float]], bytes_: dict[str, int]) -> Iterator[dict[str, str]]:
    bare = times["the bare step"]
    for name, taken in times.items():
        low, middle, high = quantiles(taken, n=4)
        added = [one - other for one, other in zip(taken, bare, strict=True)]
        first, second, third = (value / median(bare) for value in quantiles(added, n=4))
        yield {
            "step": name,
            "ms": f"{1e3 * middle:.2f} ({1e3 * low:.2f}–{1e3 * high:.2f})",
            "added": f"{second:+.2%} ({first:+.2%} to {third:+.2%})",
            "MB on the device": f"{bytes_[name] / 1e6:.2f}",
        }


def against_bandwidth(size: int) -> dict[str, Any]:
    """Time one look at so many bytes of weights against reading and writing them once, half a copy's traffic."""
    weights = [torch.randn(WEIGHT // 4, device=DEVICE) for _ in range(size // WEIGHT)]
    values, everything = Values(weights), range(len(weights))
    copies = [torch.empty_like(one) for one in weights]
    calls: dict[str, Callable[[], object]] = {
        "look": lambda: values.look(everything).digests(),
        "copy": lambda: torch._foreach_copy_(copies, weights),
        "norm": lambda: torch._foreach_norm(weights),
    }
    times: dict[str, list[float]] = {name: [] for name in calls}
    for number in range(5 + ROUNDS // 3):
        for name, call in calls.items():
            taken = seconds(call)
            if number >= 5:
                times[name].append(taken)
    look, copy, norm = (median(times[name]) for name in ("look", "copy", "norm"))
    floor = copy / 2  # a copy reads each byte and writes one
    return {
        "MB": round(size / 1e6),
        "tensors": len(weights),
        "look, ms": f"{1e3 * look:.3f}",
        "look over floor": f"{look / floor:.2f}",
        "torch._foreach_norm over floor": f"{norm / floor:.2f}",
        "GB/s of the floor": f"{size / floor / 1e9:.0f}",
    }


@click.command(help=__doc__)
@click.option(
    "--json", "output", type=click.Path(path_type=Path), default=Path(os.environ.get("OUT", "gpu-out"), "cost.json")
)
def main(output: Path) -> None:
    click.echo(f"on {DEVICE}: {describe()}")
    found: dict[str, Any] = {"machine": describe(), "rounds": ROUNDS, "loops": {}}
    for name, make in STEADY.items():
        times, bytes_ = measured(make)
        found["loops"][name] = {"seconds": times, "bytes": bytes_}
        click.echo(f"\n{name}:\n\n" + tabulate(list(rows(times, bytes_)), "keys", "github", disable_numparse=True))
    found["bandwidth"] = [against_bandwidth(size) for size in SIZES]
    click.echo("\n" + tabulate(found["bandwidth"], "keys", "github", disable_numparse=True))
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
