"""The totals of a model: each tied tensor once, and None where the source cannot tell."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from freezeinspect.readers.live import read
from freezeinspect.state import ABSENT, UNKNOWN, Snapshot
from freezeinspect.verdicts import Summary, judge, summarise, with_statistics


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


def with_kinds(seen: Snapshot, *kinds: str) -> Snapshot:
    """Take the last tensors to be of these kinds, or all of one."""
    columns = list(seen.structure.columns)
    columns[2] = kinds * len(columns[2]) if len(kinds) == 1 else (*columns[2][: -len(kinds)], *kinds)
    return replace(seen, structure=replace(seen.structure, columns=tuple(columns)))


def test_where_a_tensor_may_be_a_buffer_no_parameters_are_counted() -> None:
    seen = vars(totals(with_kinds(read(model()), "buffer", "unknown")))
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


def test_three_hundred_parameters_are_counted_as_three_are() -> None:
    assert totals(read(nn.Sequential(*(nn.Linear(1, 1) for _ in range(150))))).parameters == 300


def test_statistics_of_which_nobody_knows_whether_they_are_buffers_are_statistics() -> None:
    seen = with_kinds(read(nn.Sequential(nn.BatchNorm1d(1))), "unknown")
    assert with_statistics(seen) == [1]
