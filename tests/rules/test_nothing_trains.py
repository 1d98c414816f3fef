"""FI109: set up to train, and all of it frozen."""

from __future__ import annotations

import torch
from torch import nn
from torch.optim import SGD

import freezeinspect as fi
from mending import mended, told
from zoo import FrozenBatchNorm2d


def network() -> nn.Sequential:
    return nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2), nn.Softmax(-1)).requires_grad_(False)


def findings(model: object, optimizer: object = None) -> fi.Findings:
    return fi.check(model, optimizer, select=["FI109"])


def test_all_frozen_in_train_mode() -> None:
    model = network()
    (one,) = found = findings(model)
    assert told(found) == [("", "warning")]
    assert one.message == "no parameter requires a gradient, but the model is in train mode: nothing can train"
    assert one.fix == "model[2].requires_grad_(True)"
    assert not mended(one, model)


def test_all_frozen_with_an_optimizer() -> None:
    model = network().eval()
    (one,) = findings(model, SGD(model.parameters(), 0.1))
    assert one.message == "no parameter requires a gradient, but there is an optimizer: no step can change the model"


def test_inference_and_a_model_without_parameters_are_silent() -> None:
    assert not findings(network().eval())
    assert not findings(FrozenBatchNorm2d(3))


def test_what_a_run_saw_unfrozen_trains() -> None:
    model = network()
    optimizer = SGD(model.parameters(), 0.1)
    with fi.watch(model, optimizer) as watch:
        for required in (True, False):
            model.requires_grad_(required)
            loss = model(torch.randn(4, 4)).sum()
            loss.backward() if required else None
            optimizer.step()
    assert not findings(watch)
