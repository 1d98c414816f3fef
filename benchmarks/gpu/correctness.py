"""What a watch sees on this device is what clone and compare sees, and it changes no bit: prints what was held."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when CUDA starts

import click
import torch

import freezeinspect as fi
from benchmarks.machine import describe
from benchmarks.peers import Clones, bits
from benchmarks.training import DEVICE, IS_SMALL, TRAININGS, Training, seeded, with_scaler

EXACT = 4 if IS_SMALL else 20  # steps
ALIKE = 5 if IS_SMALL else 50
KILLED = 3 if IS_SMALL else 30


def sees_what_clones_see(make: Callable[[], Training]) -> str:
    """Compare what was seen to move in each step with clones, tensor by tensor."""
    training, expected = seeded(make), []
    with fi.watch(training.model, training.optimizer, every=1) as watch:
        clones = Clones(training.model)
        for _ in range(EXACT):
            clones.keep()
            training.step()
            expected.append(clones.moved())
    for number, moved in enumerate(expected, start=1):
        seen = [bool(one) for one in watch.history.moved(number)]
        assert seen == moved, f"step {number}: {sum(a != b for a, b in zip(seen, moved, strict=True))} tensors differ"
    return f"{EXACT} steps of {len(expected[0])} tensors, of which {sum(expected[-1])} moved in the last"


def changes_no_bit(make: Callable[[], Training]) -> str:
    """Train twice from one seed, watched and not, and compare every bit of the weights and buffers."""
    torch.use_deterministic_algorithms(True)
    try:
        alone, watched = (trained(make, is_watched) for is_watched in (False, True))
    finally:
        torch.use_deterministic_algorithms(False)
    differ = [name for name in alone if not torch.equal(bits(alone[name]), bits(watched[name]))]
    assert not differ, f"{differ[:5]} differ, of {len(alone)}"
    return f"{len(alone)} tensors after {ALIKE} steps"


def trained(make: Callable[[], Training], is_watched: bool) -> dict[str, Any]:
    training: Training = seeded(make)
    watch = fi.watch(training.model, training.optimizer, every=1, blame=True) if is_watched else None
    for _ in range(ALIKE):
        training.step()
    if watch is not None:
        watch.close()
    return dict(training.model.state_dict())


def keeps_its_log(folder: Path) -> str:
    """Kill a watched training, and read its log: it has every step that had ended, but perhaps the last."""
    log, count = folder / "run.fi.jsonl", folder / "count"
    program = [sys.executable, "-m", "benchmarks.gpu.correctness", "--log", str(log), "--count", str(count)]
    with subprocess.Popen(program) as process:
        while process.poll() is None and (not count.exists() or count.stat().st_size < KILLED):
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
    ended, seen = count.stat().st_size, fi.inspect(log).observed.movement[0]
    logged = sum(line.startswith(b'{"step":') for line in log.read_bytes().splitlines())
    assert ended <= logged <= ended + 1, f"{ended} steps had ended, {logged} are in the log"
    assert (seen.weights.step, seen.stats.forward) == (fi.Answer.MIXED,) * 2, seen  # half of it is frozen
    return f"{ended} steps had ended, {logged} are in the log"


def train_on(log: Path, count: Path) -> None:
    training = with_scaler()
    with fi.watch(training.model, training.optimizer, log=log), count.open("ab", buffering=0) as counter:
        while True:
            training.step()
            counter.write(b".")


def held() -> Iterator[tuple[str, Callable[[], str]]]:
    for name, make in TRAININGS.items():
        yield f"sees what clones see: {name}", partial(sees_what_clones_see, make)
        yield f"changes no bit: {name}", partial(changes_no_bit, make)


@click.command(help=__doc__)
@click.option("--log", type=click.Path(path_type=Path), hidden=True)
@click.option("--count", type=click.Path(path_type=Path), hidden=True)
def main(log: Path | None, count: Path | None) -> None:
    if log and count:
        return train_on(log, count)
    click.echo(f"on {DEVICE}: {describe()}")
    for name, check in held():
        click.echo(f"{name}: {check()}")
    with tempfile.TemporaryDirectory() as folder:
        click.echo(f"its log survives a kill: {keeps_its_log(Path(folder))}")


if __name__ == "__main__":
    main()
