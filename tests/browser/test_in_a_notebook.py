"""What a notebook makes of a report: the page where scripts run, the table where they do not."""

from __future__ import annotations

import pytest

import freezeinspect as fi
from browser.conftest import Open
from zoo import Residual

CELL = "<!doctype html><html lang=en><title>notebook</title><body style='background: {}'><p>above</p>{}</body></html>"


def cell(background: str = "#fff", number: int = 1) -> str:
    return CELL.format(background, fi.inspect(Residual())._repr_html_() * number)


def test_where_scripts_run_the_page_is_there_instead_of_the_table(opened: Open) -> None:
    page = opened(cell())
    frame = page.frame_locator("iframe")
    frame.locator("#search").fill("layer2")
    assert frame.locator("#found").inner_text() == "3 of 19 modules"
    page.wait_for_function("document.querySelector('iframe').offsetHeight > 300")
    assert page.locator("[data-freezeinspect] > div").is_hidden()


@pytest.mark.parametrize(("background", "paper"), [("#fff", "rgb(255, 255, 255)"), ("#111", "rgb(20, 23, 28)")])
def test_the_page_is_as_dark_as_the_notebook(opened: Open, background: str, paper: str) -> None:
    frame = opened(cell(background)).frame_locator("iframe")
    frame.locator(".rows .row").first.wait_for()
    assert frame.locator(":root").evaluate("(root) => getComputedStyle(root).backgroundColor") == paper


def test_the_same_report_twice_is_two_pages(opened: Open) -> None:
    page = opened(cell(number=2))
    page.wait_for_function("document.querySelectorAll('iframe').length === 2")
    assert page.locator("[data-freezeinspect] > iframe").count() == 2


def test_the_frame_stands_still_at_its_height(opened: Open) -> None:
    page = opened(cell())
    page.wait_for_function("document.querySelector('iframe').offsetHeight > 300")
    heights = set()
    for _ in range(3):
        page.wait_for_timeout(100)
        heights.add(page.evaluate("document.querySelector('iframe').offsetHeight"))
    assert len(heights) == 1


def test_where_no_script_runs_the_table_stays(opened: Open) -> None:
    page = opened(cell(), java_script_enabled=False)
    assert "layer[1-3].bn" in page.inner_text("table")
    assert page.locator("iframe").count() == 0


def test_styles_of_the_page_do_not_reach_the_notebook(opened: Open) -> None:
    page = opened(cell())
    page.frame_locator("iframe").locator(".rows .row").first.wait_for()
    assert page.locator("style").count() == 0
