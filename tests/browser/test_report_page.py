"""The page of a report, as a reader uses it."""

from __future__ import annotations

from time import perf_counter

import pytest
from playwright.sync_api import Page
from torch import nn
from torch.optim import SGD

import freezeinspect as fi
from browser.conftest import Open
from browser.reading import all_lines, here, lines, paths, violations
from freezeinspect.report import Report
from zoo import ZOO, Residual


def leaking() -> Report:
    model = Residual()
    model.requires_grad_(False)
    model.head.requires_grad_(True)
    return fi.inspect(model.train(), SGD(model.parameters(), 0.1))


def layers(number: int) -> nn.Sequential:
    """Make blocks of five modules, of which few agree with their neighbours."""
    blocks = (nn.Sequential(nn.Linear(1, 1 + i % 7), nn.ReLU(), nn.Dropout(), nn.Flatten()) for i in range(number))
    return nn.Sequential(*blocks)


@pytest.fixture
def page(opened: Open) -> Page:
    return opened(leaking().to_html())


def patterns(report: Report, only: str | None = None) -> list[str]:
    return [row.pattern for row in report.rows(only=only)[1:]]


# The tree


@pytest.mark.parametrize("name", ["residual", "lora", "llama", "norms", "tied", "resnet18"])
def test_its_lines_are_those_of_the_folded_tree(opened: Open, name: str) -> None:
    report = fi.inspect(ZOO[name]().model) if name in ZOO else leaking()
    page = opened(report.to_html())
    page.click("#open")
    assert paths(page) == patterns(report)


def test_a_line_opens_and_closes_at_its_arrow(page: Page) -> None:
    before = paths(page)
    page.click(".rows .row:nth-child(2) .twisty")
    assert [one for one in before if one not in paths(page)] == ["stem.0", "stem.1", "stem.2"]
    page.click(".rows .row:nth-child(2) .twisty")
    assert paths(page) == before


def test_equal_siblings_are_shown_one_by_one_where_that_is_asked(page: Page) -> None:
    assert "layer[1-3]" in paths(page)
    page.click(".chip >> text=×3")
    assert {"layer1", "layer2", "layer3", "layer1.conv"} <= set(paths(page))
    page.click(".chip >> nth=0")
    assert "layer[1-3]" in paths(page)


def test_nothing_is_folded_where_that_is_switched_off(page: Page) -> None:
    page.uncheck("#fold")
    page.click("#open")
    assert paths(page) == [module.path for module in leaking()][1:]


def test_each_line_says_its_state_with_a_sign_and_a_word(page: Page) -> None:
    root, stem, _, norm, *_ = (line["cells"] for line in lines(page))
    assert "◐mixed" in root
    assert "○still" in stem
    assert norm[-4:-1] == ["○still", "●move", "batch"]


def test_weights_and_statistics_are_two_groups_of_columns(page: Page) -> None:
    assert page.locator(".groups [role=columnheader]").all_inner_texts() == [
        "module",
        "size",
        "flags",
        "weights, by step()",
        "statistics, by forward()",
        "findings",
    ]


# Search and filters


@pytest.mark.parametrize("only", ["layer2", "**.bn*", "**.bias", "{stem,head}.[0-1]", "layer[1-3].bn", "*", "**"])
def test_a_pattern_shows_what_it_shows_in_the_terminal(page: Page, only: str) -> None:
    page.fill("#search", only)
    report = leaking()
    assert paths(page) == patterns(report, only)
    assert page.inner_text("#found") == f"{len(report.find(only))} of {len(report)} modules"


def test_a_word_that_is_no_path_is_looked_for_in_all_names(page: Page) -> None:
    page.fill("#search", "conv")
    assert page.inner_text("#found") == "3 of 19 modules: nothing is at conv, but so many names contain it"
    assert paths(page) == ["layer[1-3]", "layer[1-3].conv"]


def test_a_pattern_that_is_none_says_why(page: Page) -> None:
    page.fill("#search", "layer[3-1]")
    assert page.inner_text("#found") == "[3-1] runs backwards: write the lower end first"
    assert page.get_attribute("#search", "aria-invalid") == "true"


def test_a_pattern_that_matches_nothing_says_so(page: Page) -> None:
    page.fill("#search", "**.nothing")
    assert page.inner_text("#found") == "0 of 19 modules: the pattern matches nothing"


@pytest.mark.parametrize(
    ("button", "kept"),
    [
        ("frozen", lambda module: module.requires_grad is fi.Answer.NO),
        ("trainable", lambda module: module.requires_grad is fi.Answer.YES),
        ("mixed", lambda module: module.requires_grad is fi.Answer.MIXED),
        ("statistics move", lambda module: module.stats_move in (fi.Answer.YES, fi.Answer.MIXED)),
        ("has findings", lambda module: bool(module.findings)),
    ],
)
def test_a_filter_keeps_what_it_says(page: Page, button: str, kept) -> None:
    page.click(f"button:text-is('{button}')")
    count = sum(map(kept, leaking()))
    assert page.inner_text("#found") == f"{count} of 19 modules"


def test_filters_of_two_kinds_narrow_down_and_escape_takes_them_off(page: Page) -> None:
    before = paths(page)
    page.click("button:text-is('frozen')")
    page.click("button:text-is('statistics move')")
    assert paths(page) == ["stem", "stem.1", "layer[1-3]", "layer[1-3].bn"]
    page.keyboard.press("Escape")
    assert paths(page) == before


# Findings


def test_a_finding_stands_beside_its_module_with_its_fix(page: Page) -> None:
    page.click("#findings .place >> nth=0")
    assert here(page) == "stem.1"
    assert page.inner_text("#module .finding pre") == "model.stem[1].eval()  # and 3 more"
    assert page.inner_text("[aria-selected=true] .mark") == "FI101 +1"


def test_a_finding_in_what_is_folded_or_filtered_away_is_found(page: Page) -> None:
    page.click("#close")
    page.fill("#search", "head")
    page.click("#findings .place >> nth=0")
    assert here(page) == "stem.1"
    assert page.input_value("#search") == ""


def test_a_closed_module_counts_what_is_below_it(page: Page) -> None:
    page.click("#close")
    assert {line["path"]: line["cells"][-1] for line in lines(page)}["layer[1-3]"] == "3 below"


# Keys


def test_the_keys_go_open_and_close(page: Page) -> None:
    page.focus("#tree")
    seen = []
    for key in ("ArrowDown", "ArrowDown", "ArrowLeft", "ArrowLeft", "End", "Home", "ArrowRight", "ArrowUp"):
        page.keyboard.press(key)
        seen.append(here(page))
    assert seen == ["stem", "stem.0", "stem", "stem", "head.3", "Residual", "stem", "Residual"]
    assert page.get_attribute(".row:has-text('stem')", "aria-expanded") == "false"


@pytest.mark.parametrize("key", ["Enter", " "])
def test_enter_and_space_open_and_close(page: Page, key: str) -> None:
    page.focus("#tree")
    page.keyboard.press("ArrowDown")
    page.keyboard.press(key)
    assert "stem.0" not in paths(page)
    page.keyboard.press(key)
    assert "stem.0" in paths(page)


def test_a_slash_searches_and_escape_comes_back(page: Page) -> None:
    page.focus("#tree")
    page.keyboard.press("/")
    page.keyboard.type("head")
    assert page.input_value("#search") == "head"
    page.keyboard.press("Escape")
    assert page.input_value("#search") == ""
    assert page.evaluate("document.activeElement.id") == "tree"


def test_f_shows_equal_siblings_one_by_one(page: Page) -> None:
    page.click("text=layer[1-3]")
    page.keyboard.press("f")
    assert "layer2" in paths(page)


def test_the_line_that_the_keys_are_at_is_in_view_and_told(opened: Open) -> None:
    page = opened(fi.inspect(layers(400)).to_html())
    page.click("#open")
    page.focus("#tree")
    for key in ("End", "PageUp", "ArrowUp"):
        page.keyboard.press(key)
        assert page.locator(f"#{page.get_attribute('#tree', 'aria-activedescendant')}").is_visible()


# Those who cannot see it, and those who print it


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [1600, 360])
def test_axe_finds_nothing(opened: Open, dark: bool, width: int) -> None:
    page = opened(leaking().to_html(), width=width, dark=dark)
    assert violations(page) == []
    page.fill("#search", "**.bn*")
    page.click("text=has findings")
    assert violations(page) == []


def test_it_follows_a_dark_screen(opened: Open) -> None:
    paper = "getComputedStyle(document.documentElement).backgroundColor"
    light, dark = (opened(leaking().to_html(), dark=one).evaluate(paper) for one in (False, True))
    assert (light, dark) == ("rgb(255, 255, 255)", "rgb(20, 23, 28)")


def test_a_narrow_line_keeps_the_sign_of_its_finding(opened: Open) -> None:
    page = opened(leaking().to_html(), width=360)
    assert page.locator("[role=columnheader]:has-text('rule')").count() == 0
    mark = page.locator(".row:has-text('stem.1') .name .mark")
    assert mark.inner_text() == "FI101 +1"
    assert mark.bounding_box()["width"] > 5


@pytest.mark.parametrize("width", [360, 800, 1600])
def test_no_heading_is_cut_off(opened: Open, width: int) -> None:
    heads = opened(leaking().to_html(), width=width).locator(".head .row:last-child > *")
    assert heads.evaluate_all("(some) => some.filter((one) => one.scrollWidth > one.clientWidth).length") == 0


@pytest.mark.parametrize("width", [360, 800, 1000, 1600])
def test_the_tensors_of_a_module_fit_beside_the_tree(opened: Open, width: int) -> None:
    page = opened(leaking().to_html(), width=width, hash="#stem.1")
    table = page.locator(".side table").first
    assert "num_batches_tracked" in table.inner_text().replace("\n", "")
    ends = "(one) => [one, one.parentElement].map((box) => box.getBoundingClientRect().right)"
    right, end = table.evaluate(ends)
    assert right <= end


@pytest.mark.parametrize("width", [360, 800, 1600])
def test_no_page_is_wider_than_its_window(opened: Open, width: int) -> None:
    page = opened(fi.inspect(ZOO["llama"]().model, input_data=ZOO["llama"]().kwargs).to_html(), width=width)
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_a_printed_page_has_every_line(opened: Open) -> None:
    page = opened(fi.inspect(layers(100)).to_html())
    page.uncheck("#fold")
    page.click("#open")
    assert len(lines(page)) < 100
    assert len(all_lines(page)) == 501


def test_every_line_says_its_level_and_place(page: Page) -> None:
    row = page.locator(".row:has-text('layer[1-3]')").first
    names = ("aria-level", "aria-posinset", "aria-setsize", "aria-expanded", "aria-rowindex")
    assert [row.get_attribute(name) for name in names] == ["2", "2", "3", "true", "8"]
    assert page.get_attribute("#tree", "aria-rowcount") == str(len(all_lines(page)) + 2)


# Files, names, sizes


@pytest.mark.parametrize(
    "odd", ["<img src=x onerror=alert(1)>", "</script><script>alert(1)</script>", "<!--", "\u2028"]
)
def test_a_name_stays_text(opened: Open, odd: str) -> None:
    model = nn.Sequential()
    model._modules[odd] = type(odd, (nn.BatchNorm1d,), {})(1).requires_grad_(False)
    page = opened(fi.inspect(model).to_html())
    page.click(".rows .row:nth-child(2)")
    shown = odd if odd.isprintable() else r"\u2028"
    assert [line["label"] for line in lines(page)] == ["Sequential", shown]
    assert page.locator("img, iframe, script:not(#data)").count() == 1
    assert page.inner_text("#module .path") == shown


def test_what_a_file_does_not_tell_is_said_to_be_unknown(opened: Open, tmp_path) -> None:
    import torch

    torch.save(Residual().state_dict(), tmp_path / "model.pt")
    page = opened(fi.inspect(tmp_path / "model.pt").to_html())
    page.click(".rows .row:nth-child(3)")
    assert "? unknown: this source does not tell" in page.inner_text("#module")
    assert "A state_dict keeps neither modes nor requires_grad" in page.inner_text("footer")
    assert page.inner_text("h1") == f"{tmp_path}/model.pt: torch zip, a state_dict"


def test_a_link_leads_to_a_module(opened: Open) -> None:
    assert here(opened(leaking().to_html(), hash="#layer2.bn")) == "layer[1-3].bn"


def test_without_scripts_it_is_a_table(opened: Open) -> None:
    page = opened(leaking().to_html(), java_script_enabled=False)
    assert page.locator("noscript table").count() + page.locator(".fallback table").count() >= 1
    assert "layer[1-3].bn" in page.inner_text("main")


def test_62_000_modules_open_within_two_seconds(opened: Open) -> None:
    text, times = fi.inspect(layers(12_400)).to_html(), []
    for _ in range(3):  # of which the machine may have been busy in some
        start = perf_counter()
        page = opened(text)
        page.wait_for_selector(".rows .row")
        times.append(perf_counter() - start)
    assert min(times) < 2
    page.uncheck("#fold")
    page.click("#open")
    assert page.get_attribute("#tree", "aria-rowcount") == "62003"
    assert len(lines(page)) < 100
    page.focus("#tree")
    page.keyboard.press("End")
    assert here(page) == "12399.3"
