"""FI204: frozen, and in a group."""

from __future__ import annotations

import torch
from torch import nn
from torch.optim import LBFGS, SGD

import freezeinspect as fi
from mending import mended, told


def network() -> nn.Sequential:
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2))
    model[0].requires_grad_(False)
    return model


def findings(model: nn.Module, optimizer: object) -> fi.Findings:
    return fi.check(model, optimizer, select=["FI204"])


def test_it_is_information() -> None:
    model = network()
    optimizer = SGD(model.parameters(), 0.1)
    (one,) = found = findings(model, optimizer)
    assert told(found) == [("0", "info")]
    assert one.message == "frozen, but in an optimizer group: harmless while the gradient is None"
    assert not mended(one, model, optimizer)


def test_it_is_harmless_with_weight_decay_and_momentum_too() -> None:
    model = network()
    before = model[0].weight.detach().clone()
    optimizer = SGD(model.parameters(), 0.1, momentum=0.9, weight_decay=0.1)
    for _ in range(2):
        model(torch.ones(2, 4)).sum().backward()
        optimizer.step()
    assert torch.equal(before, model[0].weight)


def test_with_a_gradient_it_is_another_rule_s() -> None:
    model = network().requires_grad_(True)
    model(torch.ones(2, 4)).sum().backward()
    model[0].requires_grad_(False)
    assert not findings(model, SGD(model.parameters(), 0.1))


def test_out_of_the_optimizer_or_under_lbfgs_it_is_silent() -> None:
    model = network()
    assert not findings(model, SGD(model[2].parameters(), 0.1))
    assert not findings(model, LBFGS(model.parameters()))
