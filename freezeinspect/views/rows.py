"""The one intermediate of every view: folded modules as rows of words."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Set
from typing import NamedTuple

from freezeinspect.folding import folded
from freezeinspect.observed import Observed
from freezeinspect.state import ABSENT, MIXED, NO, UNKNOWN, YES, Shape, Snapshot, Structure
from freezeinspect.verdicts import Verdicts
from freezeinspect.views.totals import Count, Totals, groups_below

MODE = {YES: "train", NO: "eval", MIXED: "mixed", ABSENT: "–", UNKNOWN: "?"}
MOVES = {YES: "move", NO: "still", MIXED: "mixed", ABSENT: "–", UNKNOWN: "?"}
WORD = {YES: "yes", NO: "no", MIXED: "mixed", ABSENT: "–", UNKNOWN: "?"}


class Row(NamedTuple):
    """One line of a view: equal siblings, in words."""

    depth: int
    name: str
    pattern: str
    times: int
    type: str
    params: str
    mode: str
    trainable: str
    bn_freeze: str
    requires_grad: str
    group: str
    weights: str
    stats: str
    norm: str
    shape: str = ""
    mult_adds: str = ""
    finding: str = ""


def rows(
    snapshot: Snapshot,
    verdicts: Verdicts,
    observed: Observed,
    shapes: dict[str, Shape] | None = None,
    codes: Mapping[int, str] | None = None,
    *,
    depth: int | None = None,
    fold: bool = True,
    kept: Set[int] | None = None,
) -> list[Row]:
    """Fold a snapshot into rows, in pre-order; of all modules, or of those kept and the ones that hold them."""
    structure = snapshot.structure
    shapes, codes = shapes or {}, codes or {}
    shown = {above for i in range(len(structure)) if kept is None or i in kept for above in structure.ancestors(i)}
    agreeing = [(own, i in shown) for i, own in enumerate(facts(snapshot, observed, shapes, codes))]
    totals, groups = Totals(structure), groups_below(snapshot)
    made = []
    for line in folded(structure, agreeing, depth, fold):
        i = line.modules[0]
        if i not in shown:
            continue
        shape = shapes.get(structure.paths[i])
        made.append(
            Row(
                depth=line.depth,
                name=line.name,
                pattern=line.pattern,
                times=len(line.modules),
                type=_class_name(structure, i),
                params=_parameters(totals.below(i)),
                mode=MODE[snapshot.training[i]],
                trainable=WORD[snapshot.trainable[i]],
                bn_freeze=WORD[snapshot.bn_freeze[i]],
                requires_grad=WORD[verdicts.requires_grad[i]],
                group=group_names(groups[i]),
                weights=MOVES[verdicts.weights_move[i]],
                stats=MOVES[verdicts.stats_move[i]],
                norm={"none": "", "unknown": "?"}.get(verdicts.normalises_with[i], verdicts.normalises_with[i]),
                shape="×".join(map(str, shape.output)) if shape and shape.output else "",
                mult_adds=quantity(shape.mult_adds) if shape else "",
                finding=codes.get(i, ""),
            )
        )
    return made


def _class_name(structure: Structure, module: int) -> str:
    """Name a module's class; a state_dict knows none, and `?` stands where the tensors are not known either."""
    kind = structure.types[module]
    if kind is None:
        return "?" if any(structure.tensors[i].is_unseen for i in structure.own[module]) else ""
    return kind.rpartition(".")[2]


def facts(
    snapshot: Snapshot, observed: Observed, shapes: Mapping[str, Shape], codes: Mapping[int, str]
) -> list[Hashable]:
    """Give what must agree for two modules to share a line: every column of the record but names."""
    modules = zip(
        snapshot.training,
        snapshot.trainable,
        snapshot.bn_freeze,
        snapshot.drop_freeze,
        snapshot.track_running_stats,
        snapshot.momentum,
        snapshot.dropout,
        observed.movement or (None,) * len(snapshot.structure),
        strict=True,
    )
    own = [tuple(_tensor_facts(snapshot, number) for number in numbers) for numbers in snapshot.structure.own]
    return [
        (flags, snapshot.stray.get(i), own[i], shapes.get(path), codes.get(i))
        for i, (flags, path) in enumerate(zip(modules, snapshot.structure.paths, strict=True))
    ]


def _tensor_facts(snapshot: Snapshot, i: int) -> Hashable:
    optional = (snapshot.groups, snapshot.has_grad, snapshot.has_state)
    tensor = snapshot.structure.tensors[i]
    return (
        tensor.name,
        tensor.kind,
        tensor.shape,
        tensor.dtype,
        snapshot.requires_grad[i],
        *(column[i] for column in optional if column),
    )


def _parameters(count: Count) -> str:
    """Write how many elements the parameters of a subtree have; `≤` where some of them may be buffers."""
    return f"{'' if count.sure or count.elements is None else '≤'}{quantity(count.elements)}"


def group_names(held: Set[tuple[int, ...] | None]) -> str:
    """Name the optimizer groups of a subtree's parameters; a dash among them stands for one in no group."""
    if None in held:
        return "?"
    return _spans(sorted({group for groups in held for group in groups or (-1,)}))


def _spans(groups: list[int]) -> str:
    if not groups:
        return ""
    known = [group for group in groups if group >= 0]
    consecutive = len(known) > 2 and known[-1] - known[0] == len(known) - 1
    text = f"{known[0]}-{known[-1]}" if consecutive else ",".join(map(str, known))
    if len(text) > 9:
        text = f"{len(known)} of them"
    return ",".join(filter(None, ["–" if -1 in groups else "", text]))


def quantity(number: int | None) -> str:
    """Write a count as people say it.

    >>> quantity(25_557_032), quantity(6_738_415_616), quantity(1_234), quantity(0), quantity(None)
    ('25.6 M', '6.7 B', '1.2 k', '0', '?')
    """
    if number is None:
        return "?"
    for unit, size in (("T", 10**12), ("B", 10**9), ("M", 10**6), ("k", 10**3)):
        if round(number / size, 1) >= 1:
            return f"{number / size:.1f} {unit}"
    return str(number)
