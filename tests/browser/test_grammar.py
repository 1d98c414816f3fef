"""The grammar of patterns in a page is that of the rest of freezeinspect."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from playwright.sync_api import Browser, Page

from freezeinspect import views
from freezeinspect.folding import joined
from freezeinspect.patterns import BadPattern, Pattern

SOURCE = (Path(views.__file__).parent / "pages/patterns.js").read_text(encoding="utf-8")
MATCHES = f"""([text, paths]) => {{
{SOURCE}
  try {{ return paths.map(pattern(text)); }} catch (error) {{
    if (!(error instanceof BadPattern)) throw error;
    return error.message;
  }}
}}"""
PIECES = [
    "*",
    "**",
    "**.",
    ".**",
    "?",
    "[0-3]",
    "[0-23]",
    "[7-113]",
    "[ab]",
    "[!a]",
    "[a-c]",
    "[^]",
    "[]]",
    "{",
    "}",
    ",",
]
PATTERNS = st.lists(st.sampled_from([*PIECES, "[", "]", "a", "b", "layer", ".", "1", "12", "-", "\\", "^", "$", "é"]))
NAMES = st.text(st.sampled_from("ab0129-[]{}*?^\\é𝟘"), min_size=1, max_size=4)
PATHS = st.lists(st.one_of(NAMES, st.sampled_from(["layer", "1", "12", "23"])), max_size=4).map(".".join)
OPTIONS = {"max_examples": 400, "deadline": None, "suppress_health_check": [HealthCheck.function_scoped_fixture]}


@pytest.fixture(scope="module")
def page(browser: Browser) -> Page:
    return browser.new_page()


def told(text: str, paths: list[str]) -> Any:
    try:
        return list(map(Pattern(text).matches, paths))
    except BadPattern as error:
        return str(error).removeprefix(f"pattern {text!r}: ")


@settings(**OPTIONS)
@given(PATTERNS.map("".join).filter(bool), st.lists(PATHS, max_size=8))
def test_a_pattern_matches_the_same_paths(page: Page, text: str, paths: list[str]) -> None:
    assert page.evaluate(MATCHES, [text, paths]) == told(text, paths)


@settings(**OPTIONS)
@given(st.integers(0, 2000), st.integers(0, 2000))
def test_a_range_matches_the_same_numbers(page: Page, low: int, high: int) -> None:
    paths = [f"layer{number}" for number in {0, 7, low - 1, low, (low + high) // 2, high, high + 1}]
    assert page.evaluate(MATCHES, [f"layer[{low}-{high}]", paths]) == told(f"layer[{low}-{high}]", paths)


@settings(**OPTIONS)
@given(st.lists(st.one_of(NAMES, st.integers(0, 12).map(str), st.integers(0, 12).map("bn{}".format)), min_size=1))
def test_names_are_folded_into_the_same_pattern(page: Page, names: list[str]) -> None:
    assert page.evaluate(f"(names) => {{ {SOURCE} return joined(names); }}", names) == joined(names)
