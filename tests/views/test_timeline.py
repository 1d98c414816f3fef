"""The modules of a run over its steps."""

from __future__ import annotations

import time

import torch
from torch import nn

import freezeinspect as fi
from freezeinspect.chapters import FORWARD, KNOWN, OUTSIDE, STEP, Span
from freezeinspect.views.timeline import LINES, Stretch, moves, timeline
from training import pair, train


def rows(watch: fi.Watch) -> dict[str, list[str]]:
    """Give the cells of each line, by its first."""
    lines = timeline(watch.history.last, len(watch.run)).splitlines()[3:]
    return {cells[0]: cells[1:] for cells in ([cell.strip() for cell in line.split("  ") if cell] for line in lines)}


def test_a_model_that_does_the_same_all_over_is_one_line() -> None:
    model = nn.Sequential(*(nn.Linear(4, 4) for _ in range(3)))
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with fi.watch(model, optimizer, every=1) as watch:
        train(model, optimizer, 2)
    assert rows(watch) == {"(root)": ["train", "yes", "moved", "–"]}


def test_a_flip_cuts_a_stretch() -> None:
    model, optimizer = pair()
    with fi.watch(model, optimizer, every=1) as watch:
        train(model, optimizer, 2)
        model[3].requires_grad_(False)
        train(model, optimizer, 2)
    (found,) = [line for line in timeline(watch.history.last, 4).splitlines() if line.startswith("  3")]
    assert "yes 1–2, no 3–4" in found
    assert "moved 1–2, still 3–4" in found


def test_many_flips_are_counted_in_one_cell_and_take_no_time() -> None:
    model, optimizer = pair()
    with fi.watch(model, optimizer, evidence="off") as watch:
        for number in range(3000):
            model[1].train(number % 2 == 0)
            optimizer.step()
    start = time.process_time()
    text = timeline(watch.history.last, len(watch.run))
    assert "train/eval, 2999 times" in text
    assert max(map(len, text.splitlines())) < 100
    assert time.process_time() - start < 1


def test_a_deep_tree_of_unlike_modules_ends_after_some_lines() -> None:
    model: nn.Module = nn.Linear(1, 1)
    for number in range(300):
        model = nn.ModuleDict({f"deeper_{number}": model, "beside": nn.Linear(1, 1).train(number % 2 == 0)})
    with fi.watch(model, evidence="off") as watch:
        pass
    text = timeline(watch.history.last, 0)
    assert len(text.splitlines()) < LINES + 6
    assert "more lines" in text


def test_looks_are_said_in_stretches() -> None:
    spans = [
        Span(5, 6, 2, STEP << KNOWN),
        Span(1, 4, 4, STEP | STEP << KNOWN),
        Span(7, 7, 1, OUTSIDE | (STEP | OUTSIDE) << KNOWN),
        Span(8, 8, 1, 0),
    ]
    assert moves(spans, "weights") == (
        Stretch(1, 4, "moved"),
        Stretch(5, 6, "still"),
        Stretch(7, 7, "moved outside"),
        Stretch(8, 8, "?"),
    )
    assert moves([Span(1, 1, 1, FORWARD)], "stats") == (Stretch(1, 1, "moved"),)
