"""Size pages of HTML, and time them in headless Chromium: `python -m benchmarks.html_cost`."""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import quantiles
from time import perf_counter
from typing import Any

import click
from playwright.sync_api import Browser, Page, sync_playwright
from tabulate import tabulate
from torch import nn

import freezeinspect as fi
from benchmarks.inspect_cost import llama, mixture_of_experts, transformers_resnet
from benchmarks.machine import describe


def blocks() -> nn.Module:
    """Make 62,001 modules of which few are equal to their neighbours, in blocks that all leak."""
    parts = (nn.Sequential(nn.Linear(1, 1 + i % 7), nn.BatchNorm1d(1), nn.Dropout(), nn.ReLU()) for i in range(12_400))
    return nn.Sequential(*parts).requires_grad_(False)


MODELS: dict[str, Callable[[], nn.Module]] = {
    "ResNet-50 of transformers": transformers_resnet,
    "Llama-70B": llama,
    "mixture of experts": mixture_of_experts,
    "blocks, 12,400 findings": blocks,
}
DATA = re.compile(r'<script type="application/json" id="data">.*?</script>', re.DOTALL)
FALLBACK = re.compile(r"<noscript>.*?</noscript>", re.DOTALL)
FRAMES = """async () => {
  const tree = document.querySelector(".tree"), times = [];
  for (let n = 0; n < 100; n++) {
    const start = performance.now();
    tree.scrollTop += 500;
    await new Promise(requestAnimationFrame);
    times.push(performance.now() - start);
  }
  return times;
}"""


@contextmanager
def chromium() -> Iterator[Browser]:
    path = os.environ.get("CHROMIUM") or shutil.which("chromium")
    with sync_playwright() as playwright:
        yield playwright.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-gpu"])


def opened(browser: Browser, path: Path) -> tuple[Page, float]:
    """Open a page until its first lines are painted; give the seconds."""
    page = browser.new_page(viewport={"width": 1600, "height": 900})
    start = perf_counter()
    page.goto(path.as_uri())
    page.wait_for_selector(".rows .row")
    page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    return page, perf_counter() - start


def measured(browser: Browser, model: nn.Module, folder: Path, rounds: int) -> dict[str, Any]:
    report, path = fi.inspect(model), folder / "page.html"
    start = perf_counter()
    text = report.to_html(path)
    made, times = perf_counter() - start, []
    for _ in range(rounds):
        page, seconds = opened(browser, path)
        times.append(seconds)
        page.close()
    page, _ = opened(browser, path)
    page.uncheck("#fold")
    page.click("#open")
    frames = quantiles(page.evaluate(FRAMES), n=20)
    start = perf_counter()
    page.fill("#search", "**.bias")
    searched = perf_counter() - start
    page.close()
    data, fallback = (len(found.search(text)[0].encode()) for found in (DATA, FALLBACK))
    low, middle, high = quantiles(times, n=4)
    return {
        "modules": len(report),
        "kb": len(text.encode()) / 1000,
        "data_kb": data / 1000,
        "besides_kb": (len(text.encode()) - data - fallback) / 1000,
        "made": made,
        "open": (middle, low, high),
        "frame": (frames[9], frames[18]),
        "searched": searched,
    }


def row(name: str, cost: dict[str, Any]) -> list[str]:
    middle, low, high = cost["open"]
    return [
        name,
        f"{cost['modules']:,}",
        f"{cost['kb']:,.0f}",
        f"{cost['data_kb']:,.0f}",
        f"{cost['besides_kb']:.0f}",
        f"{cost['made']:.2f}",
        f"{middle:.2f} ({low:.2f}–{high:.2f})",
        f"{cost['searched']:.2f}",
        f"{cost['frame'][0]:.0f}, {cost['frame'][1]:.0f}",
    ]


HEADERS = ("model", "modules", "KB", "data", "besides", "made, s", "opens, s", "search, s", "frame, ms: median, 95 %")


@click.command(help=__doc__)
@click.option("--rounds", type=click.IntRange(min=3), default=9, show_default=True)
@click.option("--json", "output", type=click.Path(dir_okay=False, path_type=Path), help="Write the figures here too.")
def main(rounds: int, output: Path | None) -> None:
    with tempfile.TemporaryDirectory() as folder, chromium() as browser:
        costs = {name: measured(browser, make(), Path(folder), rounds) for name, make in MODELS.items()}
    click.echo(tabulate([row(*cost) for cost in costs.items()], HEADERS, "github", disable_numparse=True))
    if output is not None:
        output.write_text(json.dumps({"machine": describe(), "rounds": rounds, "pages": costs}, indent=1) + "\n")


if __name__ == "__main__":
    main()
