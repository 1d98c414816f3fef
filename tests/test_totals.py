"""What a step can move as a table over all that a source may tell, and the totals with what it cannot."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from freezeinspect.readers.live import read
from freezeinspect.state import ABSENT, NO, UNKNOWN, YES, Answer, Group, Optimizer, Snapshot
from freezeinspect.verdicts import Summary, judge, summarise, weight_moves, with_statistics

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


def model() -> nn.Module:
    """Hold 6 + 3 + 3 + 3 + 3 + 1 elements of parameters: the last layer's weight is tied to the first's."""
    made = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3), nn.Linear(2, 3), nn.BatchNorm1d(3, affine=False))
    made[2].weight = made[0].weight
    made[0].weight.requires_grad = False
    made[3].eval()
    return made


def totals(seen: Snapshot) -> Summary:
    return summarise(seen, judge(seen))


def test_each_tied_tensor_counts_once() -> None:
    assert totals(read(model())) == Summary(
        modules=5,
        parameters=6 + 3 + 3 + 3 + 3,
        trainable_parameters=3 + 3 + 3 + 3,
        frozen_parameters=6,
        train_mode_modules=4,
        eval_mode_modules=1,
        stats_layers=2,
        stats_layers_moving=1,
    )


def first(column: tuple[Any, ...], value: Any) -> tuple[Any, ...]:
    return (value, *column[1:])


@pytest.mark.parametrize(
    ("column", "nobody_can_tell"),
    [
        ("training", {"train_mode_modules", "eval_mode_modules"}),
        ("requires_grad", {"trainable_parameters", "frozen_parameters"}),
    ],
)
def test_where_one_flag_is_unknown_the_totals_over_it_are_and_no_other(column: str, nobody_can_tell: set[str]) -> None:
    seen = read(model())
    whole = vars(totals(seen))
    partly = vars(totals(replace(seen, **{column: first(getattr(seen, column), UNKNOWN)})))
    assert partly == whole | dict.fromkeys(nobody_can_tell)


def test_where_statistics_may_move_their_total_is_unknown_and_their_layers_are_counted() -> None:
    seen = totals(replace(read(model()), momentum=(None,) * 5, track_running_stats=(ABSENT,) * 5))
    assert (seen.stats_layers, seen.stats_layers_moving) == (2, None)


def with_kind(seen: Snapshot, kind: str) -> Snapshot:
    columns = list(seen.structure.columns)
    columns[2] = first(columns[2], kind)
    return replace(seen, structure=replace(seen.structure, columns=tuple(columns)))


def test_where_a_tensor_may_be_a_buffer_no_parameters_are_counted() -> None:
    seen = vars(totals(with_kind(read(model()), "unknown")))
    whole = vars(totals(read(model())))
    assert seen == whole | dict.fromkeys(("parameters", "trainable_parameters", "frozen_parameters"))


def test_a_parameter_without_a_shape_has_no_number_of_elements() -> None:
    lazy = nn.Sequential(nn.Linear(1, 1), nn.LazyLinear(1))
    lazy[0].requires_grad_(False)
    seen = totals(read(lazy))
    assert (seen.parameters, seen.trainable_parameters, seen.frozen_parameters) == (None, None, 2)


class Moving(nn.Module):
    """Hold statistics by other names, and a parameter that is called like one."""

    def __init__(self, name: str, parameter: bool = False) -> None:
        super().__init__()
        tensor = torch.zeros(1)
        if parameter:
            self.register_parameter(name, nn.Parameter(tensor))
        else:
            self.register_buffer(name, tensor)


def test_statistics_are_buffers_that_are_named_like_some() -> None:
    names = ("moving_average", "running_var", "mean_running_", "var_moving_")
    made = nn.Sequential(Moving("running_mu", parameter=True), *map(Moving, names), nn.Sequential(Moving("running_mu")))
    seen = read(made)
    assert [seen.structure.paths[i] for i in with_statistics(seen)] == ["1", "2", "5.0"]
    assert [seen.structure.paths[i] for i, stats in enumerate(judge(seen).stats) if stats is UNKNOWN] == [
        "1",
        "2",
        "5.0",
    ]
