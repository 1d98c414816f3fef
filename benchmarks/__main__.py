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

BENCHMARKS = ("inspect_cost", "report_cost", "watch_cost", "check_cost", "ranks_cost", "html_cost", "scaling")


@click.command(help=__doc__)
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
@click.option("--only", multiple=True, type=click.Choice(BENCHMARKS), help="Run this one alone; repeatable.")
def main(folder: Path, only: tuple[str, ...]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "machine.json").write_text(json.dumps(machine(), indent=1) + "\n")
    for name in only or BENCHMARKS:
        click.echo(f"\n== {name}\n")
        options = ["--json", str(folder / f"{name}.json")]
        if name == "scaling":
            options += ["--picture", str(folder / "scaling.svg")]
            ranks = folder / "ranks_cost.json"
            options += ["--ranks", str(ranks)] if ranks.exists() else []
        subprocess.run([sys.executable, "-m", f"benchmarks.{name}", *options], check=True)
    parts = {path.stem: json.loads(path.read_text()) for path in sorted(folder.glob("*.json")) if path.stem != "bench"}
    (folder / "bench.json").write_text(json.dumps(parts, indent=1) + "\n")


if __name__ == "__main__":
    main()
