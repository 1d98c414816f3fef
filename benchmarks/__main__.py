"""Run every benchmark, one after the other, into a folder: `python -m benchmarks FOLDER`, or `make bench`.

Each prints its tables, and leaves its figures as JSON; `bench.json` has them all, and `scaling.svg` the curves.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import click

from benchmarks.inspect_cost import machine

BENCHMARKS = {  # and what makes each quick
    "inspect_cost": ("--seconds", "1"),
    "report_cost": ("--rounds", "3"),
    "watch_cost": ("--rounds", "7", "--steps", "1000"),
    "check_cost": ("--rounds", "5"),
    "ranks_cost": ("--rounds", "5"),
    "html_cost": ("--rounds", "3"),
    "scaling": ("--rounds", "3", "--steps", "10000"),
}


@click.command(help=__doc__)
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
@click.option("--only", multiple=True, type=click.Choice(list(BENCHMARKS)), help="Run this one alone; repeatable.")
@click.option("--quick", is_flag=True, help="Few rounds: minutes instead of half an hour, and wider spreads.")
def main(folder: Path, only: tuple[str, ...], quick: bool) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "machine.json").write_text(json.dumps(machine(), indent=1) + "\n")
    for name in only or BENCHMARKS:
        click.echo(f"\n== {name}\n")
        options = ["--json", str(folder / f"{name}.json"), *(BENCHMARKS[name] if quick else ())]
        if name == "scaling":
            options += ["--picture", str(folder / "scaling.svg")]
            ranks = folder / "ranks_cost.json"
            options += ["--ranks", str(ranks)] if ranks.exists() else []
        subprocess.run([sys.executable, "-m", f"benchmarks.{name}", *options], check=True)
    parts = {path.stem: json.loads(path.read_text()) for path in sorted(folder.glob("*.json")) if path.stem != "bench"}
    (folder / "bench.json").write_text(json.dumps(parts, indent=1) + "\n")


if __name__ == "__main__":
    main()
