"""Runs that are killed at random instants: `python tests/killed.py FOLDER RUNS SEED` prints what each log kept.

One process imports torch and forks each run, which trains under a watch and counts its finished steps in a file of its
own; its parent kills it. A line a run: the steps that were finished, and those that the log has.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parent))

import freezeinspect as fi
from freezeinspect.journal import replayed
from freezeinspect.serial import NotARecord
from zoo import Residual


def train(log: Path, count: Path) -> None:
    """Train for ever, flipping a flag now and then."""
    model = Residual()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    counter = os.open(count, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    x = torch.randn(2, 3, 8, 8)
    with fi.watch(model, optimizer, every=1, log=log):
        while True:
            model.layer1.requires_grad_(bool(random.getrandbits(1)))
            optimizer.zero_grad()
            model(x).square().mean().backward()
            optimizer.step()
            os.write(counter, b".")


def told(log: Path) -> str:
    """Say how many steps a log has, and whether it was ended; of a run killed before its first state, none."""
    try:
        with log.open("rb") as lines:
            history = replayed(lines).history
    except (NotARecord, FileNotFoundError):
        return "0 0"
    return f"{len(history.taken)} {int(history.ended)}"


def main() -> None:
    folder, runs, seed = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    torch.set_num_threads(1)
    assert fi.watch  # so that no run imports it
    dice = random.Random(seed)
    for run in range(runs):
        log, count = folder / f"{run}.fi.jsonl", folder / f"{run}.count"
        child = os.fork()
        if not child:
            train(log, count)
        while not count.exists():
            time.sleep(0.001)
        time.sleep(dice.uniform(0, 0.08))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        sys.stdout.write(f"{count.stat().st_size} {told(log)}\n")


if __name__ == "__main__":
    main()
