"""The regimes side by side, as a reader sees them."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import cross_entropy

import freezeinspect as fi
from browser.conftest import Open
from browser.reading import violations
from zoo import Residual


@pytest.fixture(scope="module")
def found() -> fi.WhatIf:
    torch.manual_seed(0)
    batch = torch.randn(4, 3, 8, 8), torch.tensor([0, 1, 0, 1])
    return fi.what_if(Residual(), batch, lambda model, batch: cross_entropy(model(batch[0]), batch[1]))


def test_each_regime_is_a_line_with_what_moved_in_signs_and_words(opened: Open, found: fi.WhatIf) -> None:
    page = opened(found.to_html())
    rows = {
        row.locator("th").inner_text(): [cell.inner_text() for cell in row.locator("td").all()]
        for row in page.locator("tbody tr").all()
    }
    assert list(rows) == [outcome.regime for outcome in found]
    assert rows["unfreeze()"] == ["● moved 5/5", "● moved 8/8", "● moved 8/8", "batch", "● moved 2/2"]
    assert rows["unfreeze(), bn_freeze(True)"][2:4] == ["○ still 0/8", "running"]
    assert rows["plain: requires_grad_(False), train()"][:4] == ["○ still 0/5", "○ still 0/8", "● moved 8/8", "batch"]


def test_a_regime_that_failed_says_why(opened: Open) -> None:
    found = fi.what_if(Residual(), None, lambda model, batch: model("<b>no</b>"))
    page = opened(found.to_html())
    assert page.locator("tbody tr").count() == 9
    assert page.locator("footer").inner_text().startswith("all: ")


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [1600, 360])
def test_axe_finds_nothing(opened: Open, found: fi.WhatIf, dark: bool, width: int) -> None:
    page = opened(found.to_html(), width=width, dark=dark)
    assert violations(page) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_in_a_notebook_it_is_there_too(opened: Open, found: fi.WhatIf) -> None:
    page = opened(f"<!doctype html><title>notebook</title>{found._repr_html_()}")
    page.frame_locator("iframe").locator("text=unfreeze(), bn_freeze(True)").first.wait_for()
    page.wait_for_function("document.querySelector('iframe').offsetHeight > 300")
