"""Which part of a file is the model, and how that is said."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import freezeinspect as fi
from freezeinspect.readers.limits import Unreadable

NET, EMA = nn.Linear(2, 2), nn.Linear(3, 3)
WEIGHTS = NET.state_dict()
PARAMETERS = dict(NET.named_parameters())


class Learner:
    """Hold a model and its optimizer, as the object that fastai exports does."""

    def __init__(self, model: nn.Module) -> None:
        self.dls = None
        self.model = model
        self.opt = torch.optim.SGD(model.parameters(), lr=0.5)


def read(value: Any, path: Path, key: str | None = None) -> fi.Report:
    torch.save(value, path / "file.pt")
    return fi.inspect(path / "file.pt", key=key)


@pytest.mark.parametrize(
    ("value", "content"),
    [
        (NET, "a pickled module"),
        (WEIGHTS, "a state_dict"),
        (dict(WEIGHTS), "a state_dict"),
        (PARAMETERS, "a state_dict"),
        (OrderedDict(WEIGHTS, version=3), "a state_dict"),
        ({**WEIGHTS, "_extra_state": {"scale": torch.ones(1)}}, "a state_dict"),
        (nn.Sequential().state_dict(), "a state_dict"),
        ({"epoch": 3, "anything": WEIGHTS}, "a state_dict under 'anything'"),
        ({"model": NET, "mean": torch.ones(3), "std": torch.ones(3)}, "a pickled module under 'model'"),
        ({"model": dict(WEIGHTS), "mean": torch.ones(3), "std": torch.ones(3)}, "a state_dict under 'model'"),
        ({"run": {"state": {"model": WEIGHTS}}}, "a state_dict under 'run.state.model'"),
        ([{"notes": 1}, NET], "a pickled module under '1'"),
        ({0: WEIGHTS}, "a state_dict under '0'"),
        ({"": WEIGHTS}, "a state_dict under ''"),
        ({"ema": EMA, "model": NET}, "a pickled module under 'model' (also there: 'ema'; --key chooses)"),
        (
            {"b": {"model": EMA}, "state_dict": WEIGHTS},
            "a state_dict under 'state_dict' (also there: 'b.model'; --key chooses)",
        ),
    ],
)
def test_the_model_is_found_and_the_choice_is_said(value: Any, content: str, tmp_path: Path) -> None:
    report = read(value, tmp_path)
    assert report.source.content == content
    owned = {tensor.name for module in report for tensor in module.tensors}
    assert owned <= {"weight", "bias", "?"}


def test_one_model_under_two_keys_is_there_under_both(tmp_path: Path) -> None:
    value = {"state_dict": WEIGHTS, "ema": WEIGHTS}
    assert (
        read(value, tmp_path, "ema").source.content
        == "a state_dict under 'ema' (also there: 'state_dict'; --key chooses)"
    )


def test_two_models_whose_keys_are_written_alike_are_both_there(tmp_path: Path) -> None:
    assert (
        read({"1": NET, 1: EMA}, tmp_path).source.content
        == "a pickled module under '1' (also there: '1#2'; --key chooses)"
    )
    assert read({"1": NET, 1: EMA}, tmp_path, "1#2").summary.parameters == 12


def test_a_model_in_an_object_is_found_by_its_attribute(tmp_path: Path) -> None:
    report = read(Learner(NET), tmp_path)
    assert report.source.content == "a pickled module under 'model'"
    assert report == fi.inspect(NET, torch.optim.SGD(NET.parameters(), lr=0.5))
    assert f"{__name__}.Learner" in report.observed.imports


def test_a_key_chooses(tmp_path: Path) -> None:
    value = {"ema": EMA, "model": NET, "nested": {"net": WEIGHTS}}
    assert read(value, tmp_path, "ema").summary.parameters == 12
    assert read(value, tmp_path, "nested.net").source.content == (
        "a state_dict under 'nested.net' (also there: 'ema', 'model'; --key chooses)"
    )


@pytest.mark.parametrize(
    ("value", "key", "said"),
    [
        ({"ema": EMA, "model": NET}, "teacher", "it has no model under key 'teacher'; it has one under 'ema', 'model'"),
        (NET, "model", "it is the model itself, with no key 'model'; leave the key out"),
        (torch.optim.SGD(NET.parameters()).state_dict(), None, "an optimizer's state and no model"),
        ({"optimizer": torch.optim.SGD(NET.parameters()).state_dict()}, None, "an optimizer's state and no model"),
        ({0: torch.ones(1)}, None, "it holds a dict with '0'"),
        (3, None, "it holds an object of type int"),
        (torch.float32, None, "it holds the name 'torch.float32'"),
        (torch.device("cpu"), None, "it holds an object that 'torch.device' would build"),
    ],
)
def test_what_is_not_there_is_said(value: Any, key: str | None, said: str, tmp_path: Path) -> None:
    with pytest.raises(Unreadable) as error:
        read(value, tmp_path, key)
    assert said in str(error.value)


def test_tensors_with_attributes_of_a_sharded_optimizer_are_no_model(tmp_path: Path) -> None:
    optimizer = torch.optim.AdamW(NET.parameters())
    NET(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    with pytest.raises(Unreadable, match="an optimizer's state and no model"):
        read(optimizer.state_dict(), tmp_path)


def test_a_dict_of_parameters_says_nothing_of_buffers(tmp_path: Path) -> None:
    report = read(dict(nn.Sequential(nn.BatchNorm1d(2)).named_parameters()), tmp_path)
    assert report["0"].stats_move is fi.Answer.UNKNOWN
    assert report.sentence == "All 4 parameters train; whether any running statistics will move is not known."
