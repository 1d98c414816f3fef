"""Take the screenshots of the docs in headless Chromium: `python -m benchmarks.screenshots`."""

from __future__ import annotations

import tempfile
from itertools import islice
from pathlib import Path

import torch
from torch.nn.functional import cross_entropy
from torch.optim import SGD

import freezeinspect as fi
from benchmarks.html_cost import chromium
from benchmarks.resnet import ResNet
from freezeinspect.demo.data import TARGET, batches, load
from freezeinspect.demo.network import pretrained, with_fresh_head

FOLDER = Path(__file__).parents[1] / "docs/img"


def report() -> str:
    """Give the page of a ResNet-50 whose body is frozen as most people do it: its statistics will move."""
    model = ResNet().requires_grad_(False)
    model.fc.requires_grad_(True)
    return fi.inspect(model, SGD(model.fc.parameters(), 0.1)).to_html()


def run() -> str:
    """Give the page of a run: frozen and in eval, until a model.train(); later one block is unfrozen."""
    model = with_fresh_head(pretrained()).eval()
    model.stem.requires_grad_(False)
    model.blocks.requires_grad_(False)
    optimizer = SGD(model.parameters(), 0.01)
    digits = batches(*load(TARGET, train=True), 64, torch.Generator().manual_seed(0))
    with fi.watch(model, optimizer, every=1, blame=True) as watch:
        for step, (images, labels) in enumerate(islice(digits, 24), 1):
            if step == 9:
                model.train()
            if step == 17:
                model.blocks[2].requires_grad_(True)
            optimizer.zero_grad()
            cross_entropy(model(images), labels).backward()
            optimizer.step()
    return watch.to_html()


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, chromium() as browser:
        for name, scheme, text in (("report", "light", report()), ("run", "dark", run())):
            path = Path(folder) / f"{name}.html"
            path.write_text(text, encoding="utf-8")
            page = browser.new_page(color_scheme=scheme, viewport={"width": 1400, "height": 620})
            page.goto(path.as_uri())
            page.click(".row:has-text('BatchNorm2d') >> nth=0")
            page.screenshot(path=FOLDER / f"{name}-{scheme}.png")


if __name__ == "__main__":
    main()
