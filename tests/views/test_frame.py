"""The frame holds what the report holds, module by module."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest
import torch
from torch.optim import SGD

import freezeinspect as fi
from freezeinspect.report import ModuleState, Report
from zoo import ZOO, Residual

FLAGS = ["training", "trainable", "bn_freeze", "drop_freeze", "track_running_stats", "momentum", "dropout"]
DERIVED = ["requires_grad", "weights_move", "stats_move", "normalises_with"]


def word(value: Any) -> Any:
    return value if value is None or isinstance(value, (str, float)) else str(value)


def told(module: ModuleState) -> list[Any]:
    return [word(getattr(module, name)) for name in ["type", *FLAGS, *DERIVED]]


def plain(frame: pd.DataFrame) -> list[list[Any]]:
    """Give the frame's cells with None where pandas has one of its own kinds of nothing."""
    return [[None if pd.isna(cell) else cell for cell in row] for row in frame.itertuples(index=False, name=None)]


@pytest.fixture(scope="module")
def measured() -> Report:
    return fi.inspect(Residual(), input_size=(2, 3, 8, 8))


@pytest.mark.parametrize("name", ZOO)
def test_index_columns_and_values_are_the_reports(name: str) -> None:
    model = ZOO[name]().model
    parameters = list(model.parameters())[1:]
    report = fi.inspect(model, SGD(parameters, lr=0.1) if parameters else None)
    frame = report.to_frame()
    assert list(frame.index) == [module.path for module in report]
    assert frame.index.name == "path"
    assert list(frame.columns) == ["type", *FLAGS, *DERIVED, "parameters"]
    assert plain(frame.drop(columns="parameters")) == [told(module) for module in report]


@pytest.mark.parametrize("name", ["residual", "transformer", "lstm", "resnet", "segformer", "weight_norm_parametrized"])
def test_parameters_are_the_elements_of_a_subtree(name: str) -> None:
    model = ZOO[name]().model
    frame = fi.inspect(model).to_frame()
    counted = {path: sum(p.numel() for p in module.parameters()) for path, module in model.named_modules()}
    assert frame["parameters"].to_dict() == counted


def test_parameters_that_nobody_knows_yet_are_missing() -> None:
    frame = fi.inspect(ZOO["lazy"]().model).to_frame()
    assert frame["parameters"].isna().to_dict() == {"": True, "0": True, "1": True, "2": False}
    assert str(frame["parameters"].dtype) == "Int64"


def test_without_an_input_there_are_no_shapes() -> None:
    assert not {"output_shape", "mult_adds"} & set(fi.inspect(Residual()).to_frame())


def test_with_an_input_there_are_shapes_and_multiply_adds(measured: Report) -> None:
    frame = measured.to_frame()
    assert frame.loc["", "output_shape"] == (2, 2)
    assert frame.loc["head.0", "output_shape"] == (2, 4, 1, 1)
    assert list(frame["mult_adds"]) == [module.shape.mult_adds for module in measured]


class Idle(Residual):
    """Hold a layer that no input reaches."""

    def __init__(self) -> None:
        super().__init__()
        self.idle = torch.nn.Linear(1, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.stem(x)


def test_what_did_not_run_has_no_shape() -> None:
    frame = fi.inspect(Idle(), input_size=(2, 3, 8, 8)).to_frame()
    assert frame[["output_shape", "mult_adds"]].isna().all(axis="columns")[["", "stem", "idle"]].to_dict() == {
        "": False,
        "stem": False,
        "idle": True,
    }


def test_a_frame_is_filtered_as_any_other(measured: Report) -> None:
    frame = measured.to_frame()
    moving = frame[(frame["stats_move"] == "yes") & frame["type"].str.contains("BatchNorm")]
    assert list(moving.index) == ["stem.1", "layer1.bn", "layer2.bn", "layer3.bn"]
