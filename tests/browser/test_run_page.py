"""The page of a run, as a reader goes through its steps."""

from __future__ import annotations

import re

import pytest
import torch
from playwright.sync_api import Page
from torch import nn

import freezeinspect as fi
from browser.conftest import Open
from browser.reading import here, lines, paths, violations
from freezeinspect.views.timeline import WORDS
from training import train

STEPS = 9


def run() -> fi.Watch:
    """Train frozen, then with a model.train() that undoes an eval, then with all of it thawed."""
    torch.manual_seed(0)
    model = nn.Sequential(
        *(nn.Sequential(nn.Linear(4, 4, bias=False), nn.BatchNorm1d(4), nn.ReLU()) for _ in range(2)), nn.Linear(4, 2)
    )
    model[:2].requires_grad_(False)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with fi.watch(model, optimizer, every=1, blame=True) as watch:
        model[:2].eval()
        train(model, optimizer, 3)
        model.train()
        train(model, optimizer, 3)
        model.requires_grad_(True)
        train(model, optimizer, 3)
    return watch


@pytest.fixture(scope="module")
def watch() -> fi.Watch:
    return run()


@pytest.fixture
def page(opened: Open, watch: fi.Watch) -> Page:
    return opened(watch.to_html())


def choose(page: Page, step: int) -> None:
    page.fill("#step", str(step))
    page.keyboard.press("Enter")


def words(watch: fi.Watch, step: int) -> dict[str, tuple[str, str]]:
    """Give the mode of each module as a step began and ended, by its path."""
    chapter = watch.history.chapter_of(step)
    ends = [chapter.state_at(n, within=True).snapshot.training for n in (step - 1, step)]
    names = [WORDS["training"][one] for one in ends[0]], [WORDS["training"][one] for one in ends[1]]
    return dict(zip(chapter.structure.paths, zip(*names, strict=True), strict=True))


def in_the_table(watch: fi.Watch, step: int) -> dict[str, str]:
    """Say of each module whether its own weights and statistics moved, by its path."""
    run, chapter = watch.run, watch.history.chapter_of(step)
    return dict(zip(chapter.structure.paths, run._moved_in(step), strict=True))


def test_every_step_shows_what_the_record_says_of_it(page: Page, watch: fi.Watch) -> None:
    page.uncheck("#fold")
    page.click("#open")
    for step in range(1, STEPS + 1):
        choose(page, step)
        moved, modes = in_the_table(watch, step), words(watch, step)
        shown = lines(page)[1:]
        assert [line["path"] for line in shown] == list(modes)[1:]
        for line in shown:
            path, (mode, _, weights, _, stats, *_) = line["path"], line["cells"]
            before, after = modes[path]
            assert mode == (after if before == after else f"{before} → {after}")
            if not any(other.startswith(f"{path}.") for other in modes):
                assert ("moved" in weights) == ("weights in step" in moved[path])
                assert ("moved" in stats) == ("stats in forward" in moved[path])


def test_its_lines_are_folded_where_all_did_alike(page: Page) -> None:
    page.click("#open")
    assert paths(page) == ["[0-1]", "[0-1].0", "[0-1].1", "[0-1].2", "2"]


def test_the_slider_goes_through_the_steps(page: Page) -> None:
    choose(page, 2)
    page.focus("#slider")
    page.keyboard.press("ArrowRight")
    assert page.input_value("#step") == "3"
    assert page.get_attribute("#slider", "aria-valuetext") == f"step 3 of {STEPS}"
    assert page.inner_text("#about") == f"of {STEPS}, taken by SGD"
    page.focus(".tree")
    page.keyboard.press(".")
    assert page.input_value("#step") == "4"
    page.keyboard.press(",")
    assert page.input_value("#step") == "3"


def test_the_buttons_go_from_change_to_change(page: Page) -> None:
    choose(page, 1)
    seen = []
    for _ in range(3):
        page.click("#after")
        seen.append(page.input_value("#step"))
    assert seen == ["4", "7", str(STEPS)]
    page.click("#before")
    assert page.input_value("#step") == "7"


def test_a_finding_leads_to_its_step_and_module(page: Page) -> None:
    choose(page, 9)
    page.click("#findings .finding:has-text('FI304') .place")
    assert (page.input_value("#step"), here(page)) == ("4", "[0-1].1")
    assert "eval → train" in page.inner_text("#module dl")
    assert "eval → train" in page.inner_text("[aria-selected=true]")


def test_a_flip_is_there_with_its_call_and_leads_to_its_step(page: Page) -> None:
    flip = page.locator("#flips .finding:has-text('training eval → train')").first
    assert re.search(
        r"before step 4: training eval → train in .*, by .*test_run_page\.py:\d+ in run", flip.inner_text()
    )
    flip.locator("button").click()
    assert page.input_value("#step") == "4"


def test_what_flips_or_moves_at_the_step_is_a_filter(page: Page) -> None:
    choose(page, 4)
    page.click("button:text-is('flips here')")
    assert page.inner_text("#found").startswith("8 of 10 modules")
    choose(page, 5)
    assert page.inner_text("#found").startswith("0 of 10 modules")


def test_a_lane_says_in_words_what_it_draws(page: Page) -> None:
    page.click("#open")
    lane = page.locator(".row:has-text('BatchNorm1d') .lane >> nth=1")
    assert lane.get_attribute("aria-label") == "still 1–3, moved 4–9"
    assert lane.locator("rect:not(.here)").count() == 2
    assert [lane.locator("rect").nth(n).get_attribute("class") for n in range(2)] == ["still", "move"]


def test_a_model_that_changed_is_shown_as_it_was_then(opened: Open) -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2))
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with fi.watch(model, optimizer, every=1) as watch:
        train(model, optimizer, 2)
        model.append(nn.ReLU())
        train(model, optimizer, 2)
    page = opened(watch.to_html())
    for step, count in ((1, 2), (4, 3), (2, 2)):
        choose(page, step)
        assert len(page.locator(".tree:visible .rows .row").all()) == count


def test_a_run_without_a_step_opens_too(opened: Open) -> None:
    model = nn.Linear(2, 2)
    with fi.watch(model, torch.optim.SGD(model.parameters(), 0.1)) as watch:
        pass
    assert len(lines(opened(watch.to_html()))) == 1


def test_what_nobody_looked_at_is_a_question(opened: Open) -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4))
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with fi.watch(model, optimizer, evidence="off") as watch:
        train(model, optimizer)
    page = opened(watch.to_html())
    assert "?" in lines(page)[0]["cells"][2]


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [1600, 360])
def test_axe_finds_nothing(opened: Open, watch: fi.Watch, dark: bool, width: int) -> None:
    page = opened(watch.to_html(), width=width, dark=dark)
    assert violations(page) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_without_scripts_it_is_the_text(opened: Open, watch: fi.Watch) -> None:
    page = opened(watch.to_html(), java_script_enabled=False)
    assert page.inner_text("pre") == str(watch)


def test_a_log_makes_the_same_page(opened: Open, tmp_path) -> None:
    from click.testing import CliRunner

    from freezeinspect.cli import main

    model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4))
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with fi.watch(model, optimizer, every=1, log=tmp_path / "run.jsonl"):
        train(model, optimizer, 5)
    out = tmp_path / "run.html"
    done = CliRunner().invoke(main, ["report", str(tmp_path / "run.jsonl"), "--format", "html", "--output", str(out)])
    assert done.exit_code == 0, done.output
    page = opened(out.read_text(encoding="utf-8"))
    assert page.inner_text("#about") == "of 5, taken by SGD"
    assert paths(page) == ["0", "1"]
