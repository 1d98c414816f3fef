"""A real browser, in which every page is opened; what it complains about, or asks a network for, fails the test."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome")
QUIET = ("--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking", "--disable-sync")


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    path = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)  # or Playwright's own
    with sync_playwright() as playwright:
        yield playwright.chromium.launch(executable_path=path, args=[*QUIET, "--disable-component-update"])


Open = Callable[..., Page]


@pytest.fixture
def opened(browser: Browser, tmp_path: Path) -> Iterator[Open]:
    """Open a page's text in a fresh window, as a file; at the end nothing may have gone wrong in any."""
    contexts, wrong = [], []

    def open_(text: str, *, width: int = 1600, dark: bool = False, hash: str = "", **options: Any) -> Page:
        path = tmp_path / f"{len(contexts)}.html"
        path.write_text(text, encoding="utf-8")
        scheme = "dark" if dark else "light"
        context = browser.new_context(color_scheme=scheme, viewport={"width": width, "height": 900}, **options)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: wrong.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: wrong.append(f"error: {error}"))
        page.on("dialog", lambda dialog: wrong.append(f"dialog: {dialog.message}"))
        page.on("request", lambda one: None if one.url == path.as_uri() else wrong.append(f"asked for {one.url}"))
        page.goto(path.as_uri() + hash)
        return page

    yield open_
    for context in contexts:
        context.close()
    assert wrong == []
