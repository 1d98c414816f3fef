"""Time `report` and `diff` beside what users do now, as whole processes: `python -m benchmarks.report_cost`.

The peers load the files, running what is in them, and print a summary or compare each tensor. This process stays
small, for the kernel counts a parent's memory as its child's.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median, quantiles
from time import perf_counter
from typing import Any, NamedTuple

import click
from tabulate import tabulate

from benchmarks.machine import describe

LOADING = (
    "import sys, torch, torchinfo; print(torchinfo.summary(torch.load(sys.argv[1], weights_only=False), verbose=0))"
)
COMPARING = """import sys, torch
a, b = (torch.load(path, weights_only=True) for path in sys.argv[1:])
print([name for name in a if not torch.equal(a[name], b[name])])"""
HASHING = """import sys, xxhash
for path in sys.argv[1:]:
    digest = xxhash.xxh3_128()
    with open(path, "rb") as file:
        while block := file.read(2**20):
            digest.update(block)
    print(digest.hexdigest())"""
STARTING = "import click, tabulate"
ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


class Cost(NamedTuple):
    seconds: float
    megabytes: float


def run(*arguments: str) -> Cost:
    """Run a process to its end: its wall time, and the most memory it had."""
    start = perf_counter()
    child = subprocess.Popen([sys.executable, *arguments], stdout=subprocess.DEVNULL, env=ENVIRONMENT)
    _, status, usage = os.wait4(child.pid, 0)
    seconds = perf_counter() - start
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise SystemExit(f"{' '.join(arguments)} ended with {child.returncode}")
    return Cost(seconds, usage.ru_maxrss / 1024)


def command(*arguments: str | Path) -> tuple[str, ...]:
    """Give the command as pip installs it."""
    return (str(Path(sys.executable).with_name("freezeinspect")), *map(str, arguments))


def report(path: Path) -> tuple[str, ...]:
    return command("report", path)


def measured(folder: Path, rounds: int) -> dict[str, list[Cost]]:
    """Run each command once a round, so that all see the machine's moods alike."""
    run("-m", "benchmarks.saved", str(folder))
    both = folder / "before.pt", folder / "after.pt"
    commands = {
        "python, with click and tabulate imported": ("-c", STARTING),
        "report: ResNet-50, 102 MB": report(folder / "resnet50.pt"),
        "torch.load + torchinfo: ResNet-50": ("-c", LOADING, str(folder / "resnet50.pt")),
        "report: ResNet-50 of transformers": report(folder / "transformers.pt"),
        "torch.load + torchinfo: of transformers": ("-c", LOADING, str(folder / "transformers.pt")),
        "report: checkpoint of the first": report(folder / "checkpoint.pt"),
        "report: 5,001 modules": report(folder / "modules.pt"),
        "torch.load + torchinfo: 5,001 modules": ("-c", LOADING, str(folder / "modules.pt")),
        "report: 10 MB, one storage": report(folder / "small.pt"),
        "report: 10 GB, one storage, sparse": report(folder / "large.pt"),
        "diff: two state_dicts of 102 MB": command("diff", *both),
        "diff --exact: the same": command("diff", *both, "--exact"),
        "torch.load + torch.equal: the same": ("-c", COMPARING, *map(str, both)),
        "xxh3 of both files: the same": ("-c", HASHING, *map(str, both)),
    }
    costs: dict[str, list[Cost]] = {name: [] for name in commands}
    for round_ in range(rounds + 1):
        for name, arguments in commands.items():
            cost = run(*arguments)
            if round_:  # the first one fills the caches
                costs[name].append(cost)
    return costs


def peer_of(name: str) -> str:
    """Name the peer of a row."""
    if "the same" in name or name.startswith("diff"):
        return "torch.load + torch.equal: the same"
    model = next((model for model in ("of transformers", "5,001 modules") if model in name), "ResNet-50")
    return f"torch.load + torchinfo: {model}"


def row(name: str, costs: list[Cost], peer: list[Cost]) -> dict[str, Any]:
    low, middle, high = quantiles([cost.seconds for cost in costs], n=4)
    ratio = median(other.seconds / cost.seconds for cost, other in zip(costs, peer, strict=True))
    memory = median(cost.megabytes for cost in costs)
    return {
        "process": name,
        "seconds": f"{middle:.3f} ({low:.3f}–{high:.3f})",
        "MB": f"{memory:.0f}",
        "the peer's time": f"{ratio:.1f} ×",
        "the peer's memory": f"{median(cost.megabytes for cost in peer) / memory:.1f} ×",
    }


@click.command(help=__doc__)
@click.option("--rounds", type=click.IntRange(min=3), default=15, show_default=True)
@click.option("--json", "output", type=click.Path(dir_okay=False, path_type=Path), help="Write the figures here too.")
def main(rounds: int, output: Path | None) -> None:
    with tempfile.TemporaryDirectory() as folder:
        costs = measured(Path(folder), rounds)
    rows = [row(name, cost, costs[peer_of(name)]) for name, cost in costs.items()]
    click.echo(tabulate(rows, headers="keys", tablefmt="github", disable_numparse=True))
    if output is not None:
        output.write_text(json.dumps({"machine": describe(), "rounds": rounds, "costs": costs}, indent=1) + "\n")


if __name__ == "__main__":
    main()
