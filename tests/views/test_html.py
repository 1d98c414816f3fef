"""What the page of a report promises before any browser opens it; tests/browser drives it."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from torch import nn

import freezeinspect as fi
from freezeinspect.report import Report
from freezeinspect.views import text
from training import pair
from zoo import ZOO, Residual

HOSTILE = "</script><script>alert(1)</script><!--\u2028"
ROOM = 60_000  # bytes, besides the data


class Page(HTMLParser):
    """Collect a page's elements with their attributes, and the text within its scripts and styles."""

    def __init__(self, markup: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.inside: dict[str, list[str]] = {"script": [], "style": []}
        self._open: str | None = None
        self.feed(markup)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._open = tag if tag in self.inside else None
        if self._open:
            self.inside[tag].append("")

    def handle_endtag(self, tag: str) -> None:
        self._open = None

    def handle_data(self, data: str) -> None:
        if self._open:
            self.inside[self._open][-1] += data


def data_of(markup: str) -> Any:
    return json.loads(Page(markup).inside["script"][0])


def hostile() -> Report:
    model = nn.Sequential()
    model._modules[HOSTILE] = type(HOSTILE, (nn.Linear,), {})(1, 1)
    return fi.inspect(model)


@pytest.fixture(scope="module")
def page() -> str:
    return fi.inspect(Residual()).to_html()


def test_the_policy_lets_only_the_pages_own_script_and_style_run(page: str) -> None:
    read = Page(page)
    (policy,) = [one["content"] for tag, one in read.tags if one.get("http-equiv") == "Content-Security-Policy"]
    hashes = [
        base64.b64encode(hashlib.sha256(some[-1].encode()).digest()).decode()
        for some in (read.inside["script"], read.inside["style"])
    ]
    assert policy.startswith(f"default-src 'none'; script-src 'sha256-{hashes[0]}'; style-src 'sha256-{hashes[1]}'; ")
    assert "unsafe" not in policy


def test_nothing_is_loaded_and_no_attribute_is_a_script_or_a_style(page: str) -> None:
    attributes = [(name, value) for _, one in Page(page).tags for name, value in one.items()]
    assert [one for one in attributes if one[0] in ("src", "style") or one[0].startswith("on")] == []
    assert [value for name, value in attributes if name == "href"] == ["data:,"]


def test_names_and_types_stay_text() -> None:
    markup = hostile().to_html()
    assert [tag for tag, _ in Page(markup).tags].count("script") == 2
    assert HOSTILE[:9] in data_of(markup)["names"][1]
    assert "\u2028" not in markup


def test_besides_its_data_a_page_is_small(page: str) -> None:
    with fi.watch(*pair()) as watch:
        pass
    for one in (page, watch.to_html()):
        data = Page(one).inside["script"][0]
        fallback = one[one.index("<noscript>") : one.index("</noscript>")]
        assert len(one.encode()) - len(data.encode()) - len(fallback.encode()) < ROOM


def test_the_data_of_a_module_are_a_few_bytes() -> None:
    alike = nn.Sequential(*(nn.Sequential(nn.Linear(2, 2), nn.ReLU()) for _ in range(1000)))
    assert len(Page(fi.inspect(alike).to_html()).inside["script"][0]) / 3001 < 20


@pytest.mark.parametrize("name", ZOO)
def test_each_module_is_there_with_what_its_row_says(name: str) -> None:
    report = fi.inspect(ZOO[name]().model)
    data, rows = data_of(report.to_html()), report.rows(fold=False)
    shown = [data["kinds"][kind] for kind in data["kind"]]
    assert [[getattr(row, key) for key in data["keys"]] for row in rows] == shown
    assert data["depths"] == [row.depth for row in rows]
    assert len({*map(len, (data["names"], data["same"], data["own"], data["type"]))}) == 1


def test_findings_that_differ_in_place_alone_are_one() -> None:
    model = nn.Sequential(*(nn.BatchNorm1d(2) for _ in range(3))).requires_grad_(False)
    found = {one["code"]: one for one in data_of(fi.inspect(model).to_html())["findings"]}
    assert (found["FI101"]["where"], found["FI101"]["times"]) == ("[0-2]", 3)
    assert found["FI101"]["modules"] == [1, 2, 3]
    assert found["FI101"]["fix"] == "model[0].eval()  # and 2 more"


def test_it_is_written_where_a_path_is_given(tmp_path: Path, page: str) -> None:
    given = fi.inspect(Residual()).to_html(tmp_path / "report.html")
    assert (tmp_path / "report.html").read_text(encoding="utf-8") == given == page


def test_where_no_script_runs_it_is_a_table(page: str) -> None:
    report = fi.inspect(Residual())
    assert f'<div class="fallback">{text.html_table(report.rows(), "", ())}</div></noscript>' in page


def test_a_notebook_has_the_table_and_the_page_beside_it(page: str) -> None:
    report = fi.inspect(Residual())
    shown = report._repr_html_()
    table, script = shown.split("<script>")
    assert text.html_table(report.rows(), *report._notes()) in table
    assert json.loads(re.search(r'\)\("\w+", (".*")\);</script>$', script)[1]) == page


def test_nothing_in_a_notebook_ends_its_script() -> None:
    assert hostile()._repr_html_().count("</script") == 1
