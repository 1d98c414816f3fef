"""The eight regimes of freezing, as data, and what_if: one real step under each, on copies."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import zip_longest
from textwrap import wrap
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from tabulate import tabulate
from torch import nn

from freezeinspect.chapters import part_of
from freezeinspect.freezing import bn_freeze, freeze, set_train_mode, unfreeze
from freezeinspect.readers import live
from freezeinspect.recorder.opening import watch
from freezeinspect.state import Snapshot
from freezeinspect.twins import NotCopyable, first_line, never_run, random_states_kept, twin
from freezeinspect.verdicts import judge
from freezeinspect.views.text import table
from freezeinspect.walk import NotAModule, apply_leaf, children, unwrapped, walk

if TYPE_CHECKING:
    import pandas as pd

Groups = list[Any]
Batch = Any


class Verb(NamedTuple):
    """One call that a user writes, in words and as a function of the model and its groups."""

    says: str
    act: Callable[[nn.Module, Groups], object]


class Expected(NamedTuple):
    """What one step does to the body: do weights, γ and β, running statistics move; what normalises."""

    weights: bool
    affine: bool
    stats: bool
    normalises_with: str


@dataclass(frozen=True)
class Regime:
    """A way of freezing: its verbs, what a training loop then calls each epoch, and what comes of it.

    Where `later` is set, a longer run calls the last verb only halfway, to show what it changes.
    """

    name: str
    verbs: tuple[Verb, ...]
    epoch: Verb | None
    expected: Expected
    later: bool = False


def _freeze_parameters(_: nn.Module, groups: Groups) -> None:
    apply_leaf(groups[:-1], lambda module: _require_grad(module, False))


def _norms_to_eval(model: nn.Module, _: Groups) -> None:
    apply_leaf(model, lambda module: hasattr(module, "running_mean") and module.eval())


def _require_grad(module: nn.Module, b: bool) -> None:
    for parameter in module.parameters(recurse=False):
        parameter.requires_grad = b


FREEZE = Verb("freeze()", lambda _, groups: freeze(groups))
UNFREEZE = Verb("unfreeze()", lambda _, groups: unfreeze(groups))
BN_FREEZE = Verb("bn_freeze(True)", lambda model, _: bn_freeze(model, True))
BN_UNFREEZE = Verb("bn_freeze(False)", lambda model, _: bn_freeze(model, False))
SET_TRAIN_MODE = Verb("set_train_mode()", lambda model, _: set_train_mode(model))
REQUIRE_NO_GRAD = Verb("requires_grad_(False) on the body", _freeze_parameters)
NORMS_TO_EVAL = Verb("bn.eval()", _norms_to_eval)
TRAIN = Verb("model.train()", lambda model, _: model.train())

ALL_STILL = Expected(weights=False, affine=False, stats=False, normalises_with="running")
STATS_STILL = Expected(weights=True, affine=True, stats=False, normalises_with="running")
STATS_LEAK = Expected(weights=False, affine=False, stats=True, normalises_with="batch")
ALL_MOVE = Expected(weights=True, affine=True, stats=True, normalises_with="batch")

REGIMES = (  # docs/design.md, section 2.1, row by row
    Regime("fresh model", (), SET_TRAIN_MODE, STATS_STILL),
    Regime("freeze()", (FREEZE,), SET_TRAIN_MODE, ALL_STILL),
    Regime("freeze(), bn_freeze(False)", (FREEZE, BN_UNFREEZE), SET_TRAIN_MODE, ALL_STILL),
    Regime("unfreeze()", (UNFREEZE,), SET_TRAIN_MODE, ALL_MOVE),
    Regime("unfreeze(), bn_freeze(True)", (UNFREEZE, BN_FREEZE), SET_TRAIN_MODE, STATS_STILL),
    Regime(
        "unfreeze(), bn_freeze(True), bn_freeze(False)",
        (UNFREEZE, BN_FREEZE, BN_UNFREEZE),
        SET_TRAIN_MODE,
        ALL_MOVE,
        later=True,
    ),
    Regime("plain: requires_grad_(False), train()", (REQUIRE_NO_GRAD,), TRAIN, STATS_LEAK),
    Regime("plain: bn.eval(), later train()", (NORMS_TO_EVAL, TRAIN), None, ALL_MOVE, later=True),
)


def made_fresh(model: nn.Module) -> None:
    """Take every freeze off: all parameters require a gradient, all modules train, no fastai attributes."""
    model.train()
    for _, module in walk(model, []):
        _require_grad(module, True)
        for attribute in ("trainable", "bn_freeze", "drop_freeze"):
            module.__dict__.pop(attribute, None)


class Count(NamedTuple):
    """How many tensors moved, of how many there are."""

    moved: int
    of: int

    def __str__(self) -> str:
        return f"{self.moved}/{self.of}" if self.of else "–"


class Part(NamedTuple):
    """What one step did to the body, to the head, or to modules in no group (root)."""

    name: str
    weights: Count
    affine: Count
    stats: Count
    normalised_with: str


class Outcome(NamedTuple):
    """One regime's step; `note` says what kept it from being a whole one."""

    regime: str
    parts: tuple[Part, ...]
    note: str | None


@dataclass(frozen=True)
class WhatIf:
    """What one real step moved under each regime. Prints as a table; an iterable of its outcomes."""

    outcomes: tuple[Outcome, ...]

    def __iter__(self) -> Iterator[Outcome]:
        return iter(self.outcomes)

    def __getitem__(self, regime: str) -> Outcome:
        """Give one outcome by its regime's name. Raises KeyError, which lists the names."""
        found = {outcome.regime: outcome for outcome in self.outcomes}
        if regime not in found:
            raise KeyError(f"no regime {regime!r}; there are: {', '.join(found)}")
        return found[regime]

    def to_frame(self) -> pd.DataFrame:
        """Give a pandas frame with one row a regime and part."""
        import pandas as pd

        return pd.DataFrame(
            {
                "regime": outcome.regime,
                "part": part.name,
                **{f"{what}_moved": getattr(part, what).moved for what in ("weights", "affine", "stats")},
                **{what: getattr(part, what).of for what in ("weights", "affine", "stats")},
                "normalised_with": part.normalised_with,
                "note": outcome.note,
            }
            for outcome in self.outcomes
            for part in outcome.parts or (Part("", Count(0, 0), Count(0, 0), Count(0, 0), ""),)
        )

    def _lines(self, width: int = 1000) -> list[tuple[str, ...]]:
        """Give a line for each part; a name that is wrapped goes on beside the next part."""
        return [
            (name or "", *map(str, part or ("",) * len(Part._fields)))
            for outcome in self.outcomes
            for name, part in zip_longest(wrap(outcome.regime, width), outcome.parts or [("failed", *[""] * 4)])
        ]

    def _notes(self) -> list[str]:
        """Say each note once, with the regimes that it is about."""
        about: dict[str, list[str]] = {}
        for outcome in self.outcomes:
            if outcome.note:
                about.setdefault(outcome.note, []).append(outcome.regime)
        whole = len(self.outcomes)
        return [f"{'all' if len(names) == whole else '; '.join(names)}: {note}" for note, names in about.items()]

    def __str__(self) -> str:
        return "\n".join([table(HEADERS, self._lines(26)), "", "moved/of, in tensors, in one step", *self._notes()])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        from freezeinspect.views import html

        table = tabulate(self._lines(), HEADERS, "html", disable_numparse=True)
        return html.embedded(self.to_html(), table + html.paragraphs(self._notes()))

    def to_html(self, path: str | os.PathLike[str] | None = None) -> str:
        """Give the regimes side by side as a page of HTML, and write it where a path is given. Raises OSError."""
        from freezeinspect.views import html

        names = list(dict.fromkeys(part.name for outcome in self.outcomes for part in outcome.parts))
        rows = [(outcome, {part.name: part for part in outcome.parts}) for outcome in self.outcomes]
        columns = [
            (name, [what for what in COUNTED if any(getattr(p[name], what).of for _, p in rows if name in p)])
            for name in names
        ]
        shown = {"columns": columns, "words": COUNTED, "rows": rows, "notes": self._notes()}
        return html.write(html.page("regimes.html.j2", (), title="What if?", **shown), path)


COUNTED = {"weights": "weights", "affine": "norm γ\u00a0β", "stats": "running stats"}  # of Part, in words
HEADERS = ("regime", "part", "weights", "norm γβ", "running\nstats", "norm\nuses")
AS_IT_IS = "as it is"


def what_if(
    model: nn.Module,
    batch: Batch,
    loss_fn: Callable[[Any, Batch], torch.Tensor],
    *,
    make_optimizer: Callable[[list[nn.Parameter]], torch.optim.Optimizer] | None = None,
    groups: Groups | None = None,
) -> WhatIf:
    """Run one real step under the model's present state and under each regime, on copies, and say what moved.

    `loss_fn(model, batch)` gives a scalar. `make_optimizer(parameters)` is SGD(lr=0.1) unless given. The groups are
    the model's children; the last is the head, those before it the body. Each copy starts from the same random state
    on the model's own device. Raises NotAModule; what fails in one regime is said in its row.
    """
    if not isinstance(model, nn.Module):
        raise NotAModule(model, groups=False)
    model = unwrapped(model)
    parts = groups if groups is not None else children(model)
    trial = _Trial(
        model, parts, batch, loss_fn, make_optimizer or (lambda parameters: torch.optim.SGD(parameters, 0.1))
    )
    return WhatIf(tuple(trial.run(regime) for regime in (None, *REGIMES)))


@dataclass(frozen=True)
class _Trial:
    model: nn.Module
    groups: Groups
    batch: Batch
    loss_fn: Callable[[Any, Batch], torch.Tensor]
    make_optimizer: Callable[[list[nn.Parameter]], torch.optim.Optimizer]

    def run(self, regime: Regime | None) -> Outcome:
        """Take one step on a copy; whatever a foreign model or loss raises becomes the row's note."""
        name = regime.name if regime else AS_IT_IS
        with random_states_kept(self.model), never_run(self.model), torch.enable_grad():
            try:
                return self._step(name, regime, *twin(self.model, self.groups))
            except NotCopyable as error:
                return Outcome(name, (), str(error))
            except Exception as error:
                return Outcome(name, (), first_line(error))

    def _step(self, name: str, regime: Regime | None, model: nn.Module, groups: Groups) -> Outcome:
        if regime:
            made_fresh(model)
            for verb in (*regime.verbs, regime.epoch):
                if verb:
                    verb.act(model, groups)
        optimizer = self.make_optimizer(list(model.parameters()))
        snapshot = live.read(model, optimizer)
        notes: list[str] = []

        def forward() -> None:
            loss = _scalar(self.loss_fn(model, self.batch))
            if loss.requires_grad:
                loss.backward()  # type: ignore[no-untyped-call]
            else:
                notes.append("the loss has no gradient, so nothing but the forward pass could move anything")

        with watch(model, optimizer, every=1) as watched:
            forward()
            if not notes:
                optimizer.step()
        moved = [bits > 0 for bits in watched.history.moved(1 - len(notes))]
        return Outcome(name, tuple(_split(model, groups, snapshot, moved)), notes[0] if notes else None)


def _split(model: nn.Module, groups: Groups, snapshot: Snapshot, moved: list[bool]) -> Iterator[Part]:
    """Count what moved, of body and head apart, and of modules that are in no group."""
    body, head = ({id(module) for _, module in walk(part)} for part in (groups[:-1], groups[-1:]))
    modules = [id(module) for _, module in walk(model, [])]
    places = {
        "body": [i for i, module in enumerate(modules) if module in body],
        "head": [i for i, module in enumerate(modules) if module in head],
        "root": [i for i, module in enumerate(modules) if module not in body | head],
    }
    for name, members in places.items():
        if part := _counted(name, set(members), snapshot, moved):
            yield part


def _counted(name: str, members: set[int], snapshot: Snapshot, moved: list[bool]) -> Part | None:
    structure, uses = snapshot.structure, judge(snapshot).normalises_with
    norms = {i for i in members if uses[i] != "none"}
    counts = {"weights": [0, 0], "affine": [0, 0], "stats": [0, 0], "buffers": [0, 0]}
    ties = set()
    for i, tensor in enumerate(structure.tensors):
        if tensor.owner in members and (tensor.tie is None or tensor.tie not in ties):
            ties.add(tensor.tie)
            what = part_of(structure, i)
            count = counts["affine" if what == "weights" and tensor.owner in norms else what]
            count[0] += moved[i]
            count[1] += 1
    weights, affine, stats = (Count(*counts[what]) for what in ("weights", "affine", "stats"))
    if name == "root" and not weights.of + affine.of + stats.of:
        return None
    return Part(name, weights, affine, stats, ", ".join(sorted({uses[i] for i in norms})) or "–")


def _scalar(loss: object) -> torch.Tensor:
    if not isinstance(loss, torch.Tensor) or loss.numel() != 1:
        seen = f"shape {tuple(loss.shape)}" if isinstance(loss, torch.Tensor) else type(loss).__name__
        raise TypeError(f"loss_fn returned {seen}; expected a tensor with one element")
    return loss
