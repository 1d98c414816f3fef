"""A watched loop waits for the device no more often than the bare one: prints the waiting calls and launches of a step.

Where no scaler reads its flag, the whole loop runs while PyTorch makes each wait an error. A picture of one watched
step is drawn, the CPU above the device.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import wraps
from itertools import product
from pathlib import Path
from typing import Any

import click
import torch
from tabulate import tabulate
from torch.profiler import ProfilerActivity, profile, record_function

import freezeinspect as fi
from benchmarks.machine import describe
from benchmarks.picture import OURS, drawn
from benchmarks.training import DEVICE, IS_SMALL, STEADY, Training, seeded
from freezeinspect.recorder.watch import Watch

STEPS, WARM = (2, 1) if IS_SMALL else (20, 20)
WAYS: dict[str, dict[str, Any] | None] = {
    "bare": None,
    "evidence='off'": {"evidence": "off"},
    "auto": {},
    "every=1": {"every": 1},
}
WAITS = {"cudaStreamSynchronize", "cudaDeviceSynchronize", "cudaEventSynchronize", "cudaMemcpy"}
LAUNCHES = ("cudaLaunchKernel", "cuLaunchKernel", "cudaMemcpyAsync", "cudaMemsetAsync", "cudaGraphLaunch")


@contextmanager
def watched(training: Training, options: dict[str, Any] | None) -> Iterator[Training]:
    """Let a loop be watched, and have its first steps behind it."""
    with nullcontext() if options is None else fi.watch(training.model, training.optimizer, **options):
        for _ in range(WARM):
            training.step()
        yield training


@contextmanager
def refusing_to_wait() -> Iterator[None]:
    """Make an error of each call that waits for the device."""
    if IS_SMALL:
        yield
        return
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


def traced(training: Training) -> Any:
    """Trace some steps."""
    activities = [ProfilerActivity.CPU] + ([] if IS_SMALL else [ProfilerActivity.CUDA])
    with profile(activities=activities) as trace:
        for number in range(STEPS):
            with record_function(f"step {number}"):
                training.step()
        if not IS_SMALL:
            torch.cuda.synchronize()
    return trace


def counted(trace: Any) -> tuple[float, float]:
    """Count the calls of a step that wait, and those that launch; one wait is the trace's own, at its end."""
    calls = Counter(event.name for event in trace.events())
    waits = sum(calls[name] for name in WAITS) - (0 if IS_SMALL else 1)
    launches = sum(count for name, count in calls.items() if name.startswith(LAUNCHES))
    return waits / STEPS, launches / STEPS


def named(call: Callable[..., Any]) -> Callable[..., Any]:
    """Show a call in traces as the watch's."""

    @wraps(call)
    def shown(*args: Any) -> Any:
        with record_function(OURS):
            return call(*args)

    return shown


@click.command(help=__doc__)
@click.option(
    "--picture", type=click.Path(path_type=Path), default=Path(os.environ.get("OUT", "gpu-out"), "timeline.svg")
)
def main(picture: Path) -> None:
    click.echo(f"on {DEVICE}: {describe()}")
    for boundary in ("_begin", "_mark", "_end"):
        setattr(Watch, boundary, named(getattr(Watch, boundary)))
    rows = []
    for (name, make), (way, options) in product(STEADY.items(), WAYS.items()):
        with watched(seeded(make), options) as training:
            if training.scaler is None:
                with refusing_to_wait():
                    for _ in range(STEPS):
                        training.step()
            trace = traced(training)
        waits, launches = counted(trace)
        refused = "not asked" if training.scaler or IS_SMALL else "none"
        rows.append([name, way, f"{waits:.2f}", f"{launches:.0f}", refused])
        if training.scaler and way == "every=1":
            picture.parent.mkdir(parents=True, exist_ok=True)
            picture.write_text(drawn(trace.events(), f"step {STEPS - 1}"), encoding="utf-8")
    click.echo(tabulate(rows, ["loop", "watch", "waits a step", "launches a step", "waits refused"], "github"))
    bare = {row[0]: row[2] for row in rows if row[1] == "bare"}
    more = [row for row in rows if float(row[2]) > float(bare[row[0]])]
    if more:
        raise click.ClickException(f"these wait more often than the bare loop: {more}")


if __name__ == "__main__":
    main()
