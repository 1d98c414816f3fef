"""Asserts for tests: parts of a model that are frozen, weights and running statistics both, and parts that train."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from freezeinspect.expected import Expectation, Expected, Violation, Word
from freezeinspect.folding import Line, folded
from freezeinspect.report import Report, report_of
from freezeinspect.rules.facts import Facts
from freezeinspect.rules.policy_violated import mend
from freezeinspect.state import ABSENT, NO, UNKNOWN, YES, combine
from freezeinspect.views.rows import MOVES, WORD
from freezeinspect.views.text import ROOT, table, visible

if TYPE_CHECKING:
    from torch import nn

    from freezeinspect.report.run import Run

_LINES = 20  # of a table
_HEADINGS = {
    "weights_move": "weights",
    "stats_move": "running stats",
    "requires_grad": "requires_grad",
    "in_optimizer": "in optimizer",
}


class NotFrozen(AssertionError):
    """Something is not frozen: the message says which half, weights or running statistics, where, and the mend."""


class NotTrainable(AssertionError):
    """Something does not train: the message says where, what is in its way, and the mend."""


def assert_frozen(
    model: nn.Module | Report | Run | str | os.PathLike[str], *patterns: str, stats: bool = True, optimizer: Any = None
) -> None:
    """Assert that parts of a model are frozen: their weights stay still, and their running statistics too.

    Without a pattern it is the whole model; `stats=False` leaves the statistics out. Of a watched run it is what moved,
    else what the next step and forward can move. What a file does not tell is not taken to be frozen. Raises
    NotFrozen, also where a pattern matches nothing; BadPattern, and what inspect() raises.

    >>> import freezeinspect as fi
    >>> from torch import nn
    >>> model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2)).requires_grad_(False)
    >>> fi.assert_frozen(model, "0")
    >>> fi.assert_frozen(model, stats=False)
    >>> fi.assert_frozen(model)
    Traceback (most recent call last):
    freezeinspect.asserts.NotFrozen: not frozen: weights are still, running statistics move
    <BLANKLINE>
    module  weights  running stats
    ------  -------  -------------
    1       still    move
    <BLANKLINE>
        model[1].eval()
    """
    keys = ("weights_move", "stats_move") if stats else ("weights_move",)
    facts = _facts(report_of(model, optimizer), patterns, dict.fromkeys(keys, NO), NotFrozen)
    found = {key: list(facts.comparison.violations(key)) for key in keys}
    if any(found.values()):
        raise NotFrozen(_told(facts, f"not frozen: {', '.join(_half(key, found[key]) for key in keys)}", found))


def assert_trainable(
    model: nn.Module | Report | Run | str | os.PathLike[str], *patterns: str, optimizer: Any = None
) -> None:
    """Assert that all parameters of parts of a model train; with an optimizer, that its next step can move them.

    Without a pattern it is the whole model. Raises NotTrainable, also where a pattern matches no parameter; BadPattern,
    and what inspect() raises.
    """
    report = report_of(model, optimizer)
    keys = ("requires_grad", "in_optimizer", "weights_move") if report.snapshot.optimizers else ("requires_grad",)
    facts = _facts(report, patterns, dict.fromkeys(keys, YES), NotTrainable)
    for line, places in zip(facts.expected.lines, facts.comparison.places, strict=True):
        if all(report.snapshot.requires_grad[i] is ABSENT for i in places.tensors | places.shared_tensors):
            raise NotTrainable(f"pattern {line.pattern!r} matches no parameter: there is nothing to train")
    found = {key: list(facts.comparison.violations(key)) for key in keys}
    if "weights_move" in found:  # of LBFGS nobody can tell
        found["weights_move"] = [one for one in found["weights_move"] if one.answer is not UNKNOWN]
    if any(found.values()):
        raise NotTrainable(_told(facts, "not trainable", found))


def _facts(report: Report, patterns: Sequence[str], answers: Mapping[str, Word], error: type[AssertionError]) -> Facts:
    for pattern in patterns:
        if not isinstance(pattern, str):
            kind = type(pattern).__name__
            raise TypeError(
                f"a pattern that is of type {kind}: expected text, as 'backbone'; an optimizer goes by its name"
            )
    lines = tuple(Expectation(pattern, answers) for pattern in patterns or ("",))
    facts = report.facts(Expected(lines))
    for nothing in facts.comparison.unmatched():
        raise error(str(nothing))
    return facts


def _half(key: str, found: Sequence[Violation]) -> str:
    name = "weights" if key == "weights_move" else "running statistics"
    if not found:
        return f"{name} are still"
    return f"{name} {'move' if any(one.answer is not UNKNOWN for one in found) else 'are not known to be still'}"


def _told(facts: Facts, sentence: str, found: Mapping[str, Sequence[Violation]]) -> str:
    """Write what does not hold as a folded table, and the line that mends each half."""
    modules = {one.module for some in found.values() for one in some}
    answers = {i: tuple(_answer(facts, key, i) for key in found) for i in modules}
    facts_of = [answers.get(i) for i in range(len(facts.structure))]
    lines = [(line, n) for line, n in _counted(folded(facts.structure, facts_of)) if line.modules[0] in modules]
    rows = [
        [visible(line.pattern or ROOT) + (f" ×{n}" if n > 1 else ""), *answers[line.modules[0]]]
        for line, n in lines[:_LINES]
    ]
    more = [f"… and {len(lines) - _LINES} more lines"] if len(lines) > _LINES else []
    drawn = table(["module", *(_HEADINGS[key] for key in found)], rows)
    return "\n".join([f"{sentence}\n\n{drawn}", *more, *_mends(facts, found)])


def _counted(lines: Iterable[Line]) -> Iterator[tuple[Line, int]]:
    """Give lines of a folded tree with the number of modules that each stands for, under all parents."""
    times: list[int] = []
    for line in lines:
        del times[line.depth :]
        times.append(len(line.modules) * (times[-1] if times else 1))
        yield line, times[-1]


def _answer(facts: Facts, key: str, module: int) -> str:
    """Say what is so of a module's subtree."""
    seen, structure = facts.comparison.seen[key], facts.structure
    below = list(structure.subtree(module))
    numbers = below if key == "stats_move" else [i for one in below for i in structure.own[one]]
    words = MOVES if key in ("weights_move", "stats_move") else WORD
    return words[combine(answer for i in numbers if not isinstance(answer := seen[i], str))]


def _mends(facts: Facts, found: Mapping[str, Sequence[Violation]]) -> list[str]:
    """Give the line that mends the first of each half; of two that are alike, one."""
    mends: dict[str, int] = {}
    for some in found.values():
        fixes = [fix for one in some if (fix := mend(facts, one))]
        if fixes:
            mends.setdefault(fixes[0], len(fixes) - 1)
    told = [f"    {visible(fix)}" + (f"  # and {more} more" if more else "") for fix, more in mends.items()]
    return ["", *told] if told else []
