"""The one intermediate of every view: what each word of a row says."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.optim import LBFGS, SGD, AdamW

import freezeinspect as fi
from freezeinspect.views.rows import Row, quantity
from zoo import ZOO, Residual

SIZES = {"": 1, "k": 10**3, "M": 10**6, "B": 10**9, "T": 10**12}


def rows(model: nn.Module, optimizer: Any = None, **options: Any) -> dict[str, Row]:
    return {row.pattern: row for row in fi.inspect(model, optimizer).rows(**options)}


@settings(deadline=None)
@given(
    st.integers(0, 10**15) | st.builds(lambda n, size: n * size, st.integers(900, 1100), st.sampled_from([1, 10**3]))
)
def test_a_quantity_says_the_number_to_a_tenth_of_its_unit(number: int) -> None:
    said, _, unit = quantity(number).partition(" ")
    assert abs(float(said) * SIZES[unit] - number) <= SIZES[unit] * 0.0501
    assert float(said) < 1000 or unit == "T"


@pytest.mark.parametrize(
    ("number", "said"), [(None, "?"), (0, "0"), (949, "949"), (1000, "1.0 k"), (999_950, "1.0 M"), (8 * 10**9, "8.0 B")]
)
def test_a_quantity_reads_as_people_say_it(number: int | None, said: str) -> None:
    assert quantity(number) == said


def test_a_row_names_its_place_by_depth_name_and_pattern() -> None:
    made = fi.inspect(Residual()).rows(depth=2)
    assert [(row.depth, row.name, row.pattern, row.times) for row in made[:2] + made[5:8]] == [
        (0, "", "", 1),
        (1, "stem", "stem", 1),
        (1, "layer[1-3]", "layer[1-3]", 3),
        (2, "conv", "layer[1-3].conv", 1),
        (2, "bn", "layer[1-3].bn", 1),
    ]


def test_a_type_is_its_last_name() -> None:
    assert [row.type for row in rows(nn.Sequential(nn.ReLU(), nn.Sequential())).values()] == [
        "Sequential",
        "ReLU",
        "Sequential",
    ]


def test_modes_are_words() -> None:
    model = Residual()
    model.layer2.bn.eval()
    said = rows(model, fold=False)
    assert {said[path].mode for path in ("", "layer2", "layer1.bn")} == {"train"}
    assert said["layer2.bn"].mode == "eval"


def test_fastais_attributes_are_words_and_a_dash_where_they_are_missing() -> None:
    model = Residual()
    fi.freeze(model)
    fi.bn_freeze(model, True)
    said = rows(model)
    told = {path: (said[path].trainable, said[path].bn_freeze) for path in ("", "stem", "stem.1", "head")}
    assert told == {"": ("–", "–"), "stem": ("no", "–"), "stem.1": ("no", "yes"), "head": ("yes", "–")}


def test_weights_and_statistics_are_told_over_the_subtree_and_apart() -> None:
    model = Residual()
    model.requires_grad_(False)
    model.head.requires_grad_(True)
    model.layer2.bn.eval()
    told = {path: (row.requires_grad, row.weights, row.stats) for path, row in rows(model, depth=1).items()}
    assert told == {
        "": ("mixed", "mixed", "mixed"),
        "stem": ("no", "still", "move"),
        "{layer1,layer3}": ("no", "still", "move"),
        "layer2": ("no", "still", "still"),
        "head": ("yes", "move", "–"),
    }


@pytest.mark.parametrize(
    ("norm", "stats", "uses"),
    [
        (nn.BatchNorm1d(1), "move", "batch"),
        (nn.BatchNorm1d(1).eval(), "still", "running"),
        (nn.BatchNorm1d(1, track_running_stats=False), "–", "batch"),
        (nn.InstanceNorm1d(1), "–", "sample"),
        (nn.LayerNorm(1), "–", "sample"),
        (nn.ReLU(), "–", ""),
        (nn.BatchNorm1d(1, momentum="often"), "?", "?"),
    ],
)
def test_a_norm_says_whether_its_statistics_move_and_what_it_uses(norm: nn.Module, stats: str, uses: str) -> None:
    row = rows(norm)[""]
    assert (row.stats, row.norm) == (stats, uses)


def test_elements_are_counted_once_though_tied_and_shared() -> None:
    tied, shared = rows(ZOO["tied"]().model), rows(ZOO["shared"]().model)
    assert [tied[path].params for path in ("", "embedding", "decoder")] == ["40", "40", "40"]
    assert [shared[path].params for path in ("", "left", "right", "twice")] == ["68", "28", "28", "20"]


def test_elements_that_nobody_knows_yet_are_a_question_mark() -> None:
    said = rows(ZOO["lazy"]().model)
    assert [said[path].params for path in ("", "0", "2")] == ["?", "?", "10"]


def linears(count: int) -> nn.Sequential:
    return nn.Sequential(*(nn.Linear(1, 1, bias=False) for _ in range(count)))


def grouped(model: nn.Module, numbers: list[int]) -> SGD:
    parameters = list(model.parameters())
    return SGD([{"params": [parameters[i]]} for i in numbers], lr=0.1)


@pytest.mark.parametrize(
    ("layers", "stepped", "said"),
    [
        (1, [0], "0"),
        (2, [0, 1], "0,1"),
        (4, [0, 1, 2, 3], "0-3"),
        (4, [0, 1, 2], "–,0-2"),
        (2, [1], "–,0"),
    ],
)
def test_the_root_names_the_groups_of_all_and_a_dash_for_who_is_in_none(
    layers: int, stepped: list[int], said: str
) -> None:
    model = linears(layers)
    assert rows(model, grouped(model, stepped))[""].group == said


def test_groups_that_are_not_in_a_row_are_listed() -> None:
    model = linears(6)
    outer = nn.Sequential(nn.Sequential(model[0], model[2], model[4]), model[1], model[3], model[5])
    assert rows(outer, grouped(model, [0, 1, 2, 3, 4, 5]))["0"].group == "0,2,4"


def test_groups_count_across_optimizers() -> None:
    model = linears(3)
    optimizers = [grouped(model, [0, 1]), AdamW([model[2].weight])]
    said = rows(model, optimizers)
    assert [said[path].group for path in ("", "0", "1", "2")] == ["0-2", "0", "1", "2"]


def test_buffers_are_in_no_group() -> None:
    model = nn.Sequential(nn.BatchNorm1d(1, affine=False), nn.Linear(1, 1))
    said = rows(model, SGD(model.parameters(), lr=0.1))
    assert [said[path].group for path in ("", "0", "1")] == ["0", "", "0"]


@pytest.mark.parametrize(
    ("stepped", "said"),
    [
        (lambda weight: SGD([weight], lr=0.1), "move"),
        (lambda weight: SGD([weight], lr=0.0), "still"),
        (lambda weight: SGD([torch.ones(1)], lr=0.1), "still"),
        (lambda weight: LBFGS([weight]), "?"),
    ],
)
def test_with_an_optimizer_weights_move_as_its_step_can(stepped: Callable[[Any], Any], said: str) -> None:
    model = nn.Linear(1, 1, bias=False)
    assert rows(model, stepped(model.weight))[""].weights == said


def test_with_an_input_rows_have_shapes_and_multiply_adds() -> None:
    made = fi.inspect(Residual(), input_size=(2, 3, 8, 8)).rows()
    said = {row.pattern: (row.shape, row.mult_adds) for row in made}
    assert said[""] == ("2×2", "39.3 k")
    assert said["head.0"] == ("2×4×1×1", "0")


def test_without_an_input_they_are_empty() -> None:
    assert {(row.shape, row.mult_adds) for row in fi.inspect(Residual()).rows()} == {("", "")}


def test_layers_that_differ_only_in_their_shapes_are_apart() -> None:
    model = nn.Sequential(nn.MaxPool2d(2), nn.MaxPool2d(2), nn.ReLU(), nn.ReLU())
    assert [row.pattern for row in fi.inspect(model).rows()] == ["", "[0-1]", "[2-3]"]
    assert [row.pattern for row in fi.inspect(model, input_size=(1, 1, 8, 8)).rows()] == ["", "0", "1", "[2-3]"]
