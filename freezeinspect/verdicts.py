"""What follows from the flags: what the next step and the next forward can move.

The facts are those of docs/design.md, sections 2.2 and 2.3; tests/test_verdicts.py holds each against torch.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from freezeinspect.state import ABSENT, MIXED, NO, UNKNOWN, YES, Answer, Snapshot

STATISTICS = ("running_mean", "running_var")
OTHER_STATISTICS = ("running_", "moving_")  # F.batch_norm over buffers of another name: nobody can tell
SAMPLE_NORM = re.compile(r"(Layer|Group|RMS|Instance)Norm")
UNPREDICTABLE = ("LBFGS",)  # moves a frozen parameter whose gradient is None
MOVES_AT_LR_0 = ("Rprop", "ASGD")  # ASGD steps with the lr of the step before

_BITS = {YES: 1, NO: 2, UNKNOWN: 4, ABSENT: 0, MIXED: 3}
_ANSWERS = (ABSENT, YES, NO, MIXED, UNKNOWN, UNKNOWN, UNKNOWN, MIXED)


@dataclass(frozen=True)
class Verdicts:
    """What follows from one snapshot: an entry a module, over its subtree unless it says own.

    `stats` and `normalises_with` are a module's own; `weights` has an entry a tensor.
    """

    requires_grad: tuple[Answer, ...]
    weights_move: tuple[Answer, ...]
    stats_move: tuple[Answer, ...]
    normalises_with: tuple[str, ...]
    stats: tuple[Answer, ...]
    weights: tuple[Answer, ...]


def judge(snapshot: Snapshot) -> Verdicts:
    """Work out every verdict of a snapshot.

    `yes` means that the next step or forward can move it: a gradient that is there may be exactly zero, and
    only its values, which are never read, would tell.
    """
    structure = snapshot.structure
    weights = tuple(weight_moves(snapshot, i) for i in range(len(structure.tensors)))
    own = [_own_norm(snapshot, i) for i in range(len(structure))]
    bits = [_BITS[stats] << 6 for stats, _ in own]
    for tensor, required, moves in zip(structure.tensors, snapshot.requires_grad, weights, strict=True):
        bits[tensor.owner] |= _BITS[required] | _BITS[moves] << 3
    total = structure.over_subtrees(bits)
    return Verdicts(
        requires_grad=tuple(_ANSWERS[b & 7] for b in total),
        weights_move=tuple(_ANSWERS[b >> 3 & 7] for b in total),
        stats_move=tuple(_ANSWERS[b >> 6] for b in total),
        normalises_with=tuple(normalises for _, normalises in own),
        stats=tuple(stats for stats, _ in own),
        weights=weights,
    )


def weight_moves(snapshot: Snapshot, tensor: int) -> Answer:
    """Tell whether the next step can move a parameter (design, section 2.3).

    Without an optimizer, every parameter that requires a gradient is taken to be in one.
    """
    required = snapshot.requires_grad[tensor]
    if required is ABSENT or not snapshot.optimizers:
        return required
    numbers = snapshot.groups[tensor]
    if numbers is None:
        return UNKNOWN
    groups = [(kind, group.lr) for kind, members in snapshot.optimizers for group in members]
    found = {_moves_in(*groups[number], required, snapshot.has_grad[tensor]) for number in numbers}
    return next((answer for answer in (YES, UNKNOWN) if answer in found), NO)


def _moves_in(optimizer: str | None, lr: float | None, required: Answer, has_grad: Answer) -> Answer:
    if optimizer is None:  # a file's, which keeps no class: even a gradient that is None may not stop it
        return YES if required is YES and lr else UNKNOWN
    kind = optimizer.rpartition(".")[2]
    if any(name in kind for name in UNPREDICTABLE) or (lr == 0 and any(name in kind for name in MOVES_AT_LR_0)):
        return UNKNOWN
    if lr == 0 or (required is NO and has_grad is NO):
        return NO
    if lr is None or required is UNKNOWN or (required is NO and has_grad is UNKNOWN):
        return UNKNOWN
    return YES


def _own_norm(snapshot: Snapshot, module: int) -> tuple[Answer, str]:
    """Tell whether a module's own running statistics can move, and what it normalises with (section 2.2)."""
    structure = snapshot.structure
    tensors = [structure.tensors[i] for i in structure.own[module]]
    held = {tensor.name: tensor.kind for tensor in tensors if tensor.kind != "parameter"}
    kind = structure.types[module]
    if any(tensor.is_unseen for tensor in tensors):
        return UNKNOWN, "unknown"
    if any(name in held for name in STATISTICS):
        if _is_quantised(kind) or _is_frozen_norm(snapshot, module, held):
            return NO, "running"
        return _tracked_norm(snapshot, module, "num_batches_tracked" in held)
    if any(name.startswith(OTHER_STATISTICS) for name in held):
        return UNKNOWN, "unknown"
    if kind is None:
        return ABSENT, "unknown"
    return ABSENT, _without_statistics(snapshot, module, kind.rpartition(".")[2])


def _is_quantised(kind: str | None) -> bool:
    return kind is not None and kind.startswith("torch.ao.nn.") and ".quantized." in kind


def _is_frozen_norm(snapshot: Snapshot, module: int, held: dict[str, str]) -> bool:
    """Recognise FrozenBatchNorm2d: its weight and bias are buffers, and it has nothing to update with."""
    return (
        snapshot.track_running_stats[module] is ABSENT
        and snapshot.momentum[module] is None
        and held.get("weight") == "buffer"
        and held.get("bias") == "buffer"
    )


def _tracked_norm(snapshot: Snapshot, module: int, counts_batches: bool) -> tuple[Answer, str]:
    training, tracks = snapshot.training[module], snapshot.track_running_stats[module]
    if training not in (YES, NO) or tracks not in (YES, NO):
        return UNKNOWN, "unknown"
    momentum = snapshot.momentum[module]
    if "InstanceNorm" in (snapshot.structure.types[module] or "").rpartition(".")[2]:
        if training is NO and tracks is YES:
            return NO, "running"
        return (YES if momentum else NO), "sample"  # None counts as 0 here
    if training is NO:
        return NO, "running"
    moves = tracks is YES and (counts_batches if momentum is None else momentum != 0)
    return (YES if moves else NO), "batch"


def _without_statistics(snapshot: Snapshot, module: int, kind: str) -> str:
    if snapshot.structure.children[module]:
        return "none"
    if (snapshot.structure.types[module] or "").startswith("torch.jit."):
        return "unknown"  # the class that was compiled is not told
    if SAMPLE_NORM.search(kind):
        return "sample"
    tracks = snapshot.track_running_stats[module]
    return {ABSENT: "none", UNKNOWN: "unknown"}.get(tracks, "batch")


@dataclass(frozen=True)
class Summary:
    """The totals: elements of parameters, each tied tensor once; None where the source cannot tell."""

    modules: int
    parameters: int | None
    trainable_parameters: int | None
    frozen_parameters: int | None
    train_mode_modules: int | None
    eval_mode_modules: int | None
    stats_layers: int
    stats_layers_moving: int | None


def summarise(snapshot: Snapshot, verdicts: Verdicts) -> Summary:
    """Count modules, parameters and the layers whose running statistics move."""
    structure = snapshot.structure
    kinds = {tensor.kind for tensor in structure.tensors}
    parameters = [i for i in structure.unique if structure.tensors[i].kind == "parameter"]
    return Summary(
        modules=len(structure),
        parameters=None if "unknown" in kinds else _elements(snapshot, parameters),
        trainable_parameters=None if "unknown" in kinds else _required(snapshot, parameters, YES),
        frozen_parameters=None if "unknown" in kinds else _required(snapshot, parameters, NO),
        train_mode_modules=_count(snapshot.training, YES),
        eval_mode_modules=_count(snapshot.training, NO),
        stats_layers=len(with_statistics(snapshot)),
        stats_layers_moving=_count(verdicts.stats, YES),
    )


def with_statistics(snapshot: Snapshot) -> list[int]:
    """Give the modules that are seen to own running statistics."""
    tensors = snapshot.structure.tensors
    owners = {one.owner for one in tensors if one.kind != "parameter" and one.name.startswith(OTHER_STATISTICS)}
    return sorted(owners)


def _required(snapshot: Snapshot, parameters: list[int], answer: Answer) -> int | None:
    if any(snapshot.requires_grad[i] is UNKNOWN for i in parameters):
        return None
    return _elements(snapshot, [i for i in parameters if snapshot.requires_grad[i] is answer])


def _elements(snapshot: Snapshot, tensors: list[int]) -> int | None:
    sizes = [snapshot.structure.tensors[i].elements for i in tensors]
    known = [size for size in sizes if size is not None]
    return sum(known) if len(known) == len(sizes) else None


def _count(answers: tuple[Answer, ...], answer: Answer) -> int | None:
    return None if UNKNOWN in answers else answers.count(answer)
