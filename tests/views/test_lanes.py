"""The data of a run's page: stretches of steps, however many steps there are."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
import torch
from torch import nn

import freezeinspect as fi
from freezeinspect.chapters import KNOWN, STEP
from freezeinspect.history import TAKEN, History, Looks
from freezeinspect.observed import Disagreement
from freezeinspect.readers import live
from freezeinspect.report.run import Run
from training import pair, train

MOVED, STILL = STEP | STEP << KNOWN, STEP << KNOWN
DATA = re.compile(r'id="data">(.*?)</script>', re.DOTALL)


def data_of(markup: str) -> Any:
    return json.loads(DATA.search(markup)[1])


def told(chapter: Any, lane: str, module: int) -> list[list[Any]]:
    """Give the tracks of a module's own lane, each as (first, last, word)."""
    sets, which = chapter["lanes"][lane]
    tracks = [chapter["tracks"][n] for n in sets[which[module]]]
    return [[(*track[n : n + 2], chapter["words"][track[n + 2]]) for n in range(0, len(track), 3)] for track in tracks]


def long_run(steps: int, every: int) -> Run:
    """Make the record of a long run, in which a weight moves but for one step in so many."""
    model, optimizer = pair()
    history = History()
    snapshot = live.read(model, [optimizer])
    history.restructured(snapshot.structure)
    history.flagged(snapshot, within=False)
    for step in range(1, steps + 1):
        seen = {0: STILL} if step % every == 0 else {0: MOVED} if step % every == 1 or step == 1 else {}
        history.stepped(0, TAKEN, 1)
        history.looked(step, Looks(((0, 1),), seen))
    return Run(history)


def test_a_hundred_thousand_steps_stay_small() -> None:
    still, busy = (len(DATA.search(long_run(100_000, every).to_html())[1]) for every in (200_000, 1_000))
    assert still < 2_000
    assert busy < 10_000


def test_what_moved_is_in_stretches() -> None:
    (chapter,) = data_of(long_run(10, 4).to_html())["chapters"]
    assert told(chapter, "weights", 1) == [
        [(1, 3, "moved"), (4, 4, "still"), (5, 7, "moved"), (8, 8, "still"), (9, 10, "moved")]
    ]
    assert told(chapter, "stats", 1) == []


def test_a_flag_is_there_as_the_first_step_found_it_and_as_each_left_it() -> None:
    model, optimizer = pair()
    with fi.watch(model, optimizer, every=1) as watch:
        model.eval()
        train(model, optimizer)
        model.train()
        train(model, optimizer, 2)
    (chapter,) = data_of(watch.to_html())["chapters"]
    assert told(chapter, "training", 0) == [[(0, 0, "train"), (1, 1, "eval"), (2, 3, "train")]]
    assert told(chapter, "requires_grad", 1) == [[(0, 3, "yes")]]
    assert told(chapter, "requires_grad", 3) == [[(0, 3, "–")]]


def test_flips_that_fell_together_are_one() -> None:
    model, optimizer = pair()
    with fi.watch(model, optimizer, blame=True) as watch:
        train(model, optimizer)
        model.requires_grad_(False)
    (flip,) = data_of(watch.to_html())["flips"]
    assert (flip["flag"], flip["before"], flip["after"], flip["step"], flip["times"]) == (
        "requires_grad",
        "yes",
        "no",
        2,
        5,
    )
    assert flip["where"] == "{0,3}, 1"
    assert "test_lanes.py" in flip["call"]


def test_where_ranks_differ_is_among_the_findings_with_its_step() -> None:
    with fi.watch(*pair()) as watch:
        pass
    watch.history.ranked([Disagreement("0", "weight", "requires_grad", (("yes", (0, 2)), ("no", (1,))), 2)])
    (found,) = data_of(watch.to_html())["findings"]
    assert (found["code"], found["where"], found["modules"], found["step"]) == ("FI401", "0.weight", [1], 2)
    assert found["message"].startswith("requires_grad of weight: yes on ranks 0, 2, no on rank 1")


def test_of_several_optimizers_each_step_has_its_own() -> None:
    model, _ = pair()
    optimizers = [torch.optim.SGD(model[n].parameters(), 0.1) for n in (0, 3)]
    with fi.watch(model, optimizers, every=1) as watch:
        for optimizer in optimizers:
            train(model, optimizer)
    assert data_of(watch.to_html())["taken"] == [0, 1]


def test_a_run_without_a_step_is_a_page_too() -> None:
    with fi.watch(*pair()) as watch:
        pass
    assert data_of(watch.to_html())["steps"] == 0


@pytest.mark.parametrize("hostile", ["</script><script>alert(1)</script>", "<!--", "\u2028"])
def test_names_stay_text(hostile: str) -> None:
    model = nn.Sequential()
    model._modules[hostile] = nn.Linear(4, 2)
    with fi.watch(model, torch.optim.SGD(model.parameters(), 0.1)) as watch:
        pass
    page = watch.to_html()
    assert page.count("<script") == 2
    assert "\u2028" not in page
    assert watch._repr_html_().count("</script") == 1
