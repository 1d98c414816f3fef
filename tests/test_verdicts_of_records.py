"""What follows from records that no live model makes: a file's, another version's, or one put together by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from freezeinspect.readers.live import read
from freezeinspect.state import ABSENT, MIXED, NO, UNKNOWN, YES, Answer, Group, Optimizer, Snapshot
from freezeinspect.verdicts import judge, weight_moves

SGD, LBFGS, RPROP, ASGD = (f"torch.optim.{name}" for name in ("SGD", "LBFGS", "Rprop", "ASGD"))


@pytest.mark.parametrize(
    ("optimizer", "lr", "required", "has_grad", "expected"),
    [
        (SGD, 0.1, YES, NO, YES),
        (SGD, 0.1, NO, YES, YES),
        (SGD, 0.1, NO, NO, NO),
        (SGD, 0.1, NO, UNKNOWN, UNKNOWN),
        (SGD, 0.1, UNKNOWN, NO, UNKNOWN),
        (SGD, 0.0, YES, YES, NO),
        (SGD, 0.0, UNKNOWN, UNKNOWN, NO),
        (SGD, None, YES, YES, UNKNOWN),
        (SGD, None, NO, YES, UNKNOWN),
        (SGD, None, NO, NO, NO),
        (LBFGS, 0.1, YES, YES, UNKNOWN),
        (LBFGS, 0.0, NO, NO, UNKNOWN),
        (RPROP, 0.0, NO, NO, UNKNOWN),
        (ASGD, 0.0, YES, YES, UNKNOWN),
        (RPROP, 0.1, YES, YES, YES),
        (ASGD, 0.1, NO, NO, NO),
        ("my.LBFGS.SGD", 0.1, YES, YES, YES),  # the class counts, not where it lives
        (None, 0.1, YES, UNKNOWN, YES),  # in a file, which keeps no class
        (None, 0.0, YES, UNKNOWN, UNKNOWN),
        (None, None, YES, UNKNOWN, UNKNOWN),
        (None, 0.1, NO, NO, UNKNOWN),
        (None, 0.1, UNKNOWN, UNKNOWN, UNKNOWN),
    ],
)
def test_what_a_step_can_move(
    optimizer: str | None, lr: float | None, required: Answer, has_grad: Answer, expected: Answer
) -> None:
    seen = replace(
        read(nn.Linear(1, 1, bias=False)),
        requires_grad=(required,),
        optimizers=(Optimizer(optimizer, (Group(lr, 0.0, 0),)),),
        groups=((0,),),
        has_grad=(has_grad,),
    )
    assert weight_moves(seen, 0) is expected
    assert weight_moves(replace(seen, groups=(None,)), 0) is UNKNOWN
    assert weight_moves(replace(seen, groups=((),)), 0) is NO


def norm(kind: str | None = None, **columns: Any) -> Snapshot:
    """Record one BatchNorm in train mode as a module of another kind, or with other flags."""
    seen = read(nn.BatchNorm2d(1))
    return replace(seen, structure=replace(seen.structure, types=(kind or seen.structure.types[0],)), **columns)


def without(seen: Snapshot, *names: str) -> Snapshot:
    """Take tensors out of a record of one module."""
    kept = [i for i, one in enumerate(seen.structure.tensors) if one.name not in names]
    columns = tuple(tuple(column[i] for i in kept) for column in seen.structure.columns)
    required = tuple(seen.requires_grad[i] for i in kept)
    return replace(seen, structure=replace(seen.structure, columns=columns), requires_grad=required)


def renamed(seen: Snapshot, before: str, after: str, kind: str = "buffer") -> Snapshot:
    owners, names, kinds, *rest = seen.structure.columns
    at = names.index(before)
    columns = (owners, (*names[:at], after, *names[at + 1 :]), (*kinds[:at], kind, *kinds[at + 1 :]), *rest)
    return replace(seen, structure=replace(seen.structure, columns=columns))


def verdict(seen: Snapshot) -> tuple[Answer, str]:
    verdicts = judge(seen)
    return verdicts.stats_move[0], verdicts.normalises_with[0]


@pytest.mark.parametrize("name", ["running_mean", "running_var"])
def test_either_of_the_two_buffers_makes_statistics(name: str) -> None:
    assert verdict(without(norm(), name)) == (YES, "batch")


@pytest.mark.parametrize("kind", ["buffer", "unknown"])
def test_statistics_are_what_is_no_parameter(kind: str) -> None:
    bare = without(norm(), "running_var", "num_batches_tracked")
    assert verdict(renamed(bare, "running_mean", "running_mean", kind)) == (YES, "batch")
    assert verdict(renamed(bare, "running_mean", "running_mean", "parameter"))[0] is ABSENT


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("torch.ao.nn.quantized.modules.batchnorm.BatchNorm2d", (NO, "running")),
        ("torch.ao.nn.qat.modules.BatchNorm2d", (YES, "batch")),
        ("my.quantized.BatchNorm2d", (YES, "batch")),
        ("my.InstanceNorm2d", (YES, "sample")),
        ("my.InstanceNorm.BatchNorm2d", (YES, "batch")),
    ],
)
def test_which_norm_it_is_goes_by_its_class_not_by_where_that_lives(kind: str, expected: tuple[Answer, str]) -> None:
    assert verdict(norm(kind)) == expected


def bare(kind: str | None, tracks: Answer = ABSENT) -> Snapshot:
    """Record a module of one kind without tensors."""
    seen = read(nn.Identity())
    return replace(seen, structure=replace(seen.structure, types=(kind,)), track_running_stats=(tracks,))


@pytest.mark.parametrize(
    ("kind", "tracks", "expected"),
    [
        ("my.LayerNorm", ABSENT, "sample"),
        ("my.LayerNorm.Scale", ABSENT, "none"),
        ("my.Norm", YES, "batch"),
        ("my.Norm", UNKNOWN, "unknown"),
        ("torch.jit._script.RecursiveScriptModule", ABSENT, "unknown"),
        (None, ABSENT, "unknown"),
    ],
)
def test_what_has_no_statistics_normalises_as_its_class_says(kind: str | None, tracks: Answer, expected: str) -> None:
    assert verdict(bare(kind, tracks)) == (ABSENT, expected)


def test_what_has_children_normalises_nothing_itself() -> None:
    seen = read(nn.Sequential(nn.LayerNorm(1)))
    assert judge(seen).normalises_with == ("none", "sample")


def test_a_module_whose_tensors_are_not_seen_is_unknown() -> None:
    seen = renamed(without(norm(), "running_var", "num_batches_tracked", "weight", "bias"), "running_mean", "?")
    columns = (*seen.structure.columns[:4], (None,), seen.structure.columns[5])
    assert verdict(replace(seen, structure=replace(seen.structure, columns=columns))) == (UNKNOWN, "unknown")


def test_a_constant_weight_without_a_bias_is_no_frozen_norm() -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            for name in ("running_mean", "running_var", "weight"):
                self.register_buffer(name, torch.ones(1))

    assert verdict(read(Scaled())) == (UNKNOWN, "unknown")


@pytest.mark.parametrize(("momentum", "expected"), [(-0.1, YES), (0.0, NO), (0.1, YES)])
def test_a_momentum_below_0_moves_too(momentum: float, expected: Answer) -> None:
    layer = nn.BatchNorm1d(1, momentum=momentum)
    before = layer.running_mean.clone()
    assert judge(read(layer)).stats == (expected,)
    layer(torch.tensor([[1.0], [2.0]]))
    assert torch.equal(before, layer.running_mean) is (expected is NO)


def test_a_mixed_answer_stays_mixed() -> None:
    seen = judge(norm(requires_grad=(MIXED, NO, ABSENT, ABSENT, ABSENT)))
    assert (seen.requires_grad, seen.weights) == ((MIXED,), (MIXED, NO, ABSENT, ABSENT, ABSENT))
