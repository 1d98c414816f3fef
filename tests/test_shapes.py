"""Output shapes and multiply-adds: torchinfo's own numbers, on a twin, never on the model itself."""

from __future__ import annotations

import copy
import random
import re
from typing import Any

import numpy
import pytest
import torch
import torchinfo
from torch import Tensor, nn
from torchinfo import torchinfo as engine

import freezeinspect as fi
from freezeinspect.shapes import ShapesUnknown
from freezeinspect.state import Shape
from witness import unchanged
from zoo import ZOO, Residual, quiet

RUNS = sorted(name for name in ZOO if name != "lazy")
UNLIKE = {"weight_norm_hook", "sparse_compressed"}  # deepcopy, which the comparison needs, fails on these
IMAGE = (2, 3, 8, 8)


def batch(name: str) -> tuple[nn.Module, Any]:
    specimen = ZOO[name]()
    return specimen.model, specimen.kwargs or list(specimen.args)


class Valued(nn.Module):
    """Ask a tensor for its value on the way, which no tensor on the meta device has."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
        self.big = nn.Linear(2, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.big(x) if x.sum().item() > 1000 else self.body(x)


class Twice(nn.Module):
    """Call one layer two times, and hold it under two names."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(2, 2)
        self.again = self.first

    def forward(self, x: Tensor) -> Tensor:
        return self.again(self.first(x))


class Failing(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        raise KeyError("no such expert")


class Random(nn.Module):
    """Draw from every generator there is."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(2, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.fc(x) + torch.rand(2)
        return x * random.random() * float(numpy.random.rand())


# The numbers


@pytest.mark.parametrize("name", sorted(set(RUNS) - UNLIKE - {"scripted"}))
def test_multiply_adds_are_torchinfos_own(name: str) -> None:
    model, data = batch(name)
    with quiet():
        theirs = torchinfo.summary(copy.deepcopy(model), input_data=data, verbose=0)
    report = fi.inspect(model, input_data=data)
    assert report[""].shape.mult_adds == theirs.total_mult_adds


@pytest.mark.parametrize("name", ["plain_cnn", "residual", "lstm", "resnet", "mobilenet", "segformer", "norms"])
def test_parameters_and_output_shapes_are_torchinfos_own(name: str) -> None:
    model, data = batch(name)
    twin = copy.deepcopy(model)
    theirs = torchinfo.summary(twin, input_data=data, verbose=0)
    report = fi.inspect(model, input_data=data)
    assert report.summary.parameters == theirs.total_params
    assert report.summary.trainable_parameters == theirs.trainable_params
    paths = {id(module): path for path, module in twin.named_modules()}
    ran = [layer for layer in theirs.summary_list if layer.executed and not layer.is_recursive]
    shapes = {paths[id(layer.module)]: tuple(layer.output_size) for layer in ran if isinstance(layer.output_size, list)}
    plain = {path: shape for path, shape in shapes.items() if all(isinstance(size, int) for size in shape)}
    assert {path: report[path].shape.output for path in plain if path} == {p: s for p, s in plain.items() if p}


@pytest.mark.parametrize("name", ["plain_cnn", "residual", "lstm", "batchnorm_root"])
def test_output_shapes_are_those_of_a_forward_pass(name: str) -> None:
    specimen = ZOO[name]()
    seen: dict[str, tuple[int, ...]] = {}
    twin = copy.deepcopy(specimen.model)
    for path, module in twin.named_modules():
        module.register_forward_hook(
            lambda _, inputs, output, path=path: seen.update(
                {path: tuple(output.shape)} if torch.is_tensor(output) else {}
            )
        )
    twin(*specimen.args)
    report = fi.inspect(specimen.model, input_data=list(specimen.args))
    assert {module.path: module.shape.output for module in report if module.path in seen} == seen


def test_an_input_size_is_as_good_as_an_input() -> None:
    by_size = fi.inspect(Residual(), input_size=IMAGE)
    assert by_size.shapes == fi.inspect(Residual(), input_data=torch.zeros(IMAGE)).shapes
    assert by_size[""].shape.output == (2, 2)


def test_multiply_adds_of_a_parent_are_the_sum_of_its_leaves() -> None:
    report = fi.inspect(Residual(), input_size=IMAGE)
    parts = [report[path].shape.mult_adds for path in ("stem", "layer1", "layer2", "layer3", "head")]
    assert report[""].shape.mult_adds == sum(parts)


def test_a_layer_that_is_called_twice_counts_twice_and_has_its_shape_once() -> None:
    shapes = fi.inspect(Twice(), input_size=(3, 2)).shapes
    assert shapes == {"": Shape((3, 2), 36), "first": Shape((3, 2), 36)}


def test_what_did_not_run_has_no_shape() -> None:
    report = fi.inspect(Valued(), input_data=torch.zeros(4, 2))
    assert report["big"].shape is None
    assert report["body"].shape.output == (4, 3)


def test_an_output_that_is_no_tensor_has_no_shape_but_multiply_adds() -> None:
    model, data = batch("llama")
    root = fi.inspect(model, input_data=data)[""].shape
    assert root.output is None
    assert root.mult_adds > 0


# The twin


@pytest.mark.parametrize("name", ZOO)
def test_measuring_leaves_the_model_its_input_and_every_generator_as_they_were(name: str) -> None:
    specimen = ZOO[name]()
    model = specimen.model
    for module in list(model.modules())[::2]:
        module.training = False
    data = specimen.kwargs or list(specimen.args or [torch.zeros(2, 3)])
    with quiet(), unchanged([model, data]):
        try:
            shapes = fi.inspect(model, input_data=data).shapes
        except ShapesUnknown:
            shapes = None
    assert (shapes is None) == (name == "lazy") or name == "scripted"  # which no hook of torchinfo's reaches


@pytest.mark.parametrize("name", ["residual", "norms", "resnet"])
def test_torchinfo_on_the_model_itself_would_not(name: str) -> None:
    model, data = batch(name)
    next(m for m in model.modules() if "BatchNorm" in type(m).__name__).eval()
    with pytest.raises(AssertionError, match=r"changed:[\s\S]*training: False -> True"), unchanged(model):
        torchinfo.summary(model, input_data=data, verbose=0)
    with unchanged(model):
        fi.inspect(model, input_data=data)


def test_by_size_too_the_model_is_left_as_it_was() -> None:
    model = Residual()
    model.layer2.bn.eval()
    with unchanged(model):
        fi.inspect(model, input_size=IMAGE)


def test_a_forward_pass_that_needs_values_runs_on_a_copy() -> None:
    model = Valued()
    with unchanged(model):
        shapes = fi.inspect(model, input_size=(4, 2)).shapes
    assert shapes["body"].output == (4, 3)


def test_a_forward_that_was_wrapped_around_the_model_does_not_run_on_it() -> None:
    model = Residual()
    model.forward = torch.autocast("cpu")(model.forward)  # as torch documents it; the copy's still calls the model
    with unchanged(model):
        try:
            fi.inspect(model, input_size=IMAGE)
        except ShapesUnknown:
            return


def test_a_hook_that_refers_to_the_model_does_not_run_it() -> None:
    model = Residual()
    model.head.register_forward_pre_hook(lambda *_: (model.layer1.bn(torch.randn(2, 4, 3, 3)), None)[1])
    with unchanged(model):
        try:
            fi.inspect(model, input_size=IMAGE)
        except ShapesUnknown:
            return


def test_a_large_model_is_measured_without_its_memory() -> None:
    with torch.device("meta"):
        model = nn.Sequential(nn.Linear(100_000, 100_000), nn.Linear(100_000, 10))
    assert fi.inspect(model, input_size=(8, 100_000))["0"].shape.output == (8, 100_000)


def test_torchs_generator_is_as_it_was() -> None:
    model = Random()
    before = torch.get_rng_state()
    fi.inspect(model, input_size=(2, 2))
    assert torch.equal(torch.get_rng_state(), before)


def test_every_other_generator_is_as_it_was() -> None:
    model = Random()
    with unchanged(model):
        fi.inspect(model, input_size=(2, 2))


@pytest.mark.parametrize("size", [(4, 2), (4, 7)], ids=["runs", "fails"])
@pytest.mark.parametrize("known", ["Valued", "Other"])
def test_torchinfos_own_cache_is_as_it_was(size: tuple[int, int], known: str, monkeypatch: pytest.MonkeyPatch) -> None:
    cached: dict[str, Any] = {known: []}
    monkeypatch.setattr(engine, "_cached_forward_pass", cached)
    before = dict(cached)
    try:
        fi.inspect(Valued(), input_size=size)
    except ShapesUnknown:
        assert size == (4, 7)
    assert engine._cached_forward_pass is cached
    assert cached == before
    assert all(cached[name] is before[name] for name in before)


# What cannot be measured


@pytest.mark.parametrize(
    ("model", "options", "reason"),
    [
        (Failing(), {"input_size": (1, 2)}, "KeyError: 'no such expert'"),
        (
            nn.Linear(2, 2),
            {"input_size": (3, 5)},
            "RuntimeError: mat1 and mat2 shapes cannot be multiplied (3x5 and 2x2)",
        ),
        (
            nn.Linear(2, 2),
            {"input_size": (3, 2), "input_data": torch.zeros(3, 2)},
            "RuntimeError: Only one of (input_data, input_size) should be specified.",
        ),
        (nn.Linear(2, 2), {"input_size": (-1, 2)}, "ValueError: Input_data is invalid, or negative size"),
    ],
    ids=["the forward pass raises", "another shape", "size and data", "negative"],
)
def test_an_input_that_does_not_run_says_why_and_the_way_out(
    model: nn.Module, options: dict[str, Any], reason: str
) -> None:
    with unchanged(model), pytest.raises(ShapesUnknown) as error:
        fi.inspect(model, **options)
    start = f"no forward pass of a copy of {type(model).__name__} with this input: {reason}"
    end = "; pass the input that the model is called with, as input_size=(batch, ...) or input_data="
    assert re.fullmatch(re.escape(start) + ".*" + re.escape(end), str(error.value), re.DOTALL)
    assert isinstance(error.value, ValueError)


def test_the_error_of_the_forward_pass_is_kept_as_its_cause() -> None:
    with pytest.raises(ShapesUnknown) as error:
        fi.inspect(Failing(), input_size=(1, 2))
    assert isinstance(error.value.__cause__.__cause__, KeyError)
