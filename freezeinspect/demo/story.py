"""What the experiment showed, as text: tables of state, of what moved, and the answer."""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import fill
from typing import Any

from freezeinspect.chapters import FORWARD, STEP
from freezeinspect.demo.experiment import Run, Step
from freezeinspect.state import Answer, combine
from freezeinspect.views.rows import MODE, WORD
from freezeinspect.views.text import table

STATE = ("step", "part", "train-\nable", "requires\n_grad", "bn_\nfreeze", "mode", "weights", "running\nstats")
MOVED = (
    "regime",
    "body\nweights",
    "body\nγ β",
    "running\nstats",
    "norm\nuses",
    "head\nweights",
    "body's\noutput",
    "test\nacc.",
)


def state_table(run: Run) -> str:
    """Lay out the state before→after the first steps and wherever something flips, and what moved in each."""
    parts = _parts(run)
    lines = [
        [str(step.number) if not i else "", *_line(step, *part)] for step in run.shown for i, part in enumerate(parts)
    ]
    calls = [f"before step {step.number}: {', '.join(step.calls)}" for step in run.shown if step.calls]
    return "\n".join([run.regime.name, "", table(STATE, lines), *calls])


def _parts(run: Run) -> list[tuple[str, list[int], list[int], list[int]]]:
    """Give the name, modules, weights and running statistics of the body, of its norm layers and of the head."""
    structure = run.steps[0].after.structure
    stats = {structure.tensors[i].owner for i, (_, what) in enumerate(run.places) if what == "stats"}
    head = {structure.index["head"]}
    body = set(range(1, len(structure))) - stats - head
    return [
        (
            name,
            sorted(modules),
            [i for module in modules for i in structure.own[module] if run.places[i][1] in ("weights", "affine")],
            [i for module in modules for i in structure.own[module] if run.places[i][1] == "stats"],
        )
        for name, modules in (("body", body), (f"BatchNorm ×{len(stats)}", stats), ("head", head))
    ]


def _line(step: Step, name: str, modules: list[int], weights: list[int], stats: list[int]) -> list[str]:
    """Say the state of a part at both ends of a step, all its modules together, and what moved."""

    def ends(words: dict[Answer, str], column: str, members: list[int]) -> str:
        before, after = (words[combine(getattr(end, column)[i] for i in members)] for end in (step.before, step.after))
        return f"{before}→{after}" if before + after != "––" else "–"

    return [
        name,
        ends(WORD, "trainable", modules),
        ends(WORD, "requires_grad", weights),
        ends(WORD, "bn_freeze", modules),
        ends(MODE, "training", modules),
        _moved(step.moved, STEP, weights),
        _moved(step.moved, FORWARD, stats),
    ]


def _moved(moved: tuple[int, ...], place: int, tensors: list[int]) -> str:
    if not tensors:
        return "–"
    return "moved" if any(moved[i] & place for i in tensors) else "still"


def moved_table(runs: Sequence[Run]) -> str:
    """Lay out in how many steps each part moved, under each regime."""
    lines = [
        [
            fill(run.regime.name, 22, break_long_words=False, break_on_hyphens=False),
            *(_steps(run, what) for what in ("weights", "affine", "stats")),
            run.outcome.normalises_with,
            _steps(run, "weights", "head"),
            f"{run.drift:.0%}",
            f"{run.accuracy:.0%}",
        ]
        for run in runs
    ]
    return table(MOVED, lines)


def _steps(run: Run, what: str, part: str = "body") -> str:
    moved = run.moved_in(what, part)
    since = f"\nfrom {moved[0]}" if moved and moved[0] > 1 else ""
    return f"{len(moved)}/{len(run.steps)}{since}"


def answer(runs: Sequence[Run]) -> str:
    """Answer the question in three sentences, from what was seen."""
    by_name = {run.regime.name: run for run in runs}
    frozen, free = by_name["freeze()"], by_name["unfreeze()"]
    kept, late = by_name["unfreeze(), bn_freeze(True)"], by_name["unfreeze(), bn_freeze(True), bn_freeze(False)"]
    plain = by_name["plain: requires_grad_(False), train()"]
    called = next((step.number for step in late.steps if "bn_freeze(False)" in step.calls), None)
    sentences = (
        f"unfreeze() speaks about weights: the body's moved in {_count(free, 'weights')} steps under it, and in "
        f"{_count(frozen, 'weights')} under freeze().",
        f"bn_freeze speaks about BatchNorm's running statistics: under bn_freeze(True) they moved in "
        f"{_count(kept, 'stats')} steps while the weights moved in {_count(kept, 'weights')}, and bn_freeze(False), "
        f"called before step {called}, acted only at the next set_train_mode(), from step {_first(late, 'stats')}.",
        f"Neither is what plain PyTorch's requires_grad_(False) does: under model.train() the body's weights moved in "
        f"{_count(plain, 'weights')} steps but its running statistics in {_count(plain, 'stats')}, so that what it "
        f"makes of the old digits changed by {plain.drift:.0%}, against {frozen.drift:.0%} under freeze().",
    )
    return fill(" ".join(sentences), 80)


def _count(run: Run, what: str) -> str:
    return f"{len(run.moved_in(what))} of {len(run.steps)}"


def _first(run: Run, what: str) -> Any:
    return next(iter(run.moved_in(what)), "none")


def figures(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """Give the same as data: the steps in which each part moved, and the accuracy."""
    return [
        {
            "regime": run.regime.name,
            "steps": len(run.steps),
            **{f"body_{what}_moved_in": run.moved_in(what) for what in ("weights", "affine", "stats")},
            "head_weights_moved_in": run.moved_in("weights", "head"),
            "normalises_with": run.outcome.normalises_with,
            "accuracy": run.accuracy,
            "drift_of_the_body": run.drift,
            "as_tabled": run.outcome == run.regime.expected,
        }
        for run in runs
    ]
