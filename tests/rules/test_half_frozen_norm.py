"""FI102: still statistics under trainable γ and β."""

from __future__ import annotations

import pytest
from torch import nn
from torch.optim import SGD

import freezeinspect as fi
from mending import mended, told


def network() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 2, 1))


def findings(model: nn.Module, optimizer: object = None) -> fi.Findings:
    return fi.check(model, optimizer, select=["half-frozen-norm"])


def test_a_norm_in_eval_with_trainable_weights_is_told_and_mended() -> None:
    model = network()
    model[1].eval()
    (one,) = found = findings(model)
    assert told(found) == [("1", "info")]
    assert one.message == "BatchNorm2d keeps its running statistics, but its weights train: it is frozen by half"
    assert not mended(one, model)


def test_training_a_whole_model_in_eval_is_told() -> None:
    model = network().eval()
    assert told(findings(model, SGD(model.parameters(), 0.1))) == [("1", "info")]


def test_inference_is_silent() -> None:
    assert not findings(network().eval())


@pytest.mark.parametrize("norm", [nn.BatchNorm2d(4, affine=False), nn.GroupNorm(2, 4), nn.InstanceNorm2d(4)])
def test_a_norm_without_weights_or_without_statistics_is_silent(norm: nn.Module) -> None:
    assert not findings(nn.Sequential(nn.Conv2d(3, 4, 3), norm.eval()))
