"""What a reader sees of a page: its lines, and what the page says of itself."""

from __future__ import annotations

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page

LINES = """() => [...document.querySelectorAll(".tree:not([hidden]) .rows .row")].map((row) => ({
  path: row.querySelector(".name").title.split(" ")[0],
  label: row.querySelector(".label").textContent,
  level: Number(row.ariaLevel),
  open: row.ariaExpanded,
  cells: [...row.querySelectorAll("[role=gridcell]")].map((cell) => cell.innerText.replace(/\\s+/g, " ").trim()),
}))"""


def lines(page: Page) -> list[dict[str, str]]:
    """Give the lines that are drawn."""
    return page.evaluate(LINES)


def all_lines(page: Page) -> list[dict[str, str]]:
    """Give all lines, as they are printed."""
    page.evaluate("window.dispatchEvent(new Event('beforeprint'))")
    found = lines(page)
    page.evaluate("window.dispatchEvent(new Event('afterprint'))")
    return found


def paths(page: Page) -> list[str]:
    """Give the path, or pattern, of each line but the root's."""
    return [line["path"] for line in all_lines(page)[1:]]


def here(page: Page) -> str:
    """Give the path of the module that the reader is at."""
    return page.inner_text("#module .path")


def violations(page: Page) -> list[str]:
    """Give what axe finds wrong with a page for those who cannot see it, or use no mouse."""
    found = Axe().run(page).response["violations"]
    return [f"{one['id']}: {node['html']}" for one in found for node in one["nodes"]]
