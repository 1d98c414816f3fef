"""FI201: a gradient, and never a step."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.optim import LBFGS, SGD

import freezeinspect as fi
from mending import mended, told
from zoo import ZOO


def network() -> nn.Sequential:
    return nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2))


def findings(model: nn.Module, optimizer: object) -> fi.Findings:
    return fi.check(model, optimizer, select=["FI201"])


def test_a_part_left_out_may_be_meant() -> None:
    model = network()
    optimizer = SGD(model[2].parameters(), 0.1)
    (one,) = found = findings(model, optimizer)
    assert told(found) == [("0", "warning")]
    assert one.message == "weight, bias in no optimizer group: gradients are computed, never stepped"
    assert one.fix == 'optimizer.add_param_group({"params": [model[0].weight, model[0].bias]})'
    assert not mended(one, model, optimizer)


def test_a_replaced_head_is_an_error() -> None:
    model = network()
    optimizer = SGD(model.parameters(), 0.1)
    model[2] = nn.Linear(4, 2)
    (one,) = found = findings(model, optimizer)
    assert told(found) == [("2", "error")]
    assert one.message.endswith("the optimizer holds a tensor of this shape that the model does not: was it replaced?")
    assert not mended(one, model, optimizer)


def test_half_a_layer_is_an_error() -> None:
    model = network()
    optimizer = SGD([model[0].weight, *model[2].parameters()], 0.1)
    (one,) = found = findings(model, optimizer)
    assert told(found) == [("0", "error")]
    assert one.message.endswith("never stepped; the optimizer holds the rest of the layer")
    assert not mended(one, model, optimizer)


def test_an_orphan_of_another_shape_is_no_proof() -> None:
    model = network()
    optimizer = SGD([*model[2].parameters(), nn.Parameter(torch.zeros(7))], 0.1)
    assert told(findings(model, optimizer)) == [("0", "warning")]


def test_a_tied_tensor_is_told_once() -> None:
    model = nn.Sequential(ZOO["tied"]().model, nn.Linear(4, 2))
    assert told(findings(model, SGD(model[1].parameters(), 0.1))) == [("0.embedding", "warning")]


@pytest.mark.parametrize("kind", [SGD, LBFGS])
def test_frozen_parts_and_lbfgs_are_silent(kind: type[torch.optim.Optimizer]) -> None:
    model = network()
    model[0].requires_grad_(kind is LBFGS)
    assert not findings(model, kind(model[2].parameters(), 0.1))
    assert not findings(model, None)
