"""FI205: trainable at lr 0."""

from __future__ import annotations

from typing import Any

import pytest
from torch import nn
from torch.optim import ASGD, LBFGS, SGD, AdamW

import freezeinspect as fi
from mending import mended, told


def network() -> nn.Sequential:
    return nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2))


def groups(model: nn.Sequential) -> list[dict[str, Any]]:
    return [{"params": model[0].parameters()}, {"params": model[2].parameters(), "lr": 0.0}]


def findings(model: nn.Module, optimizer: object) -> fi.Findings:
    return fi.check(model, optimizer, select=["FI205"])


def test_it_is_information() -> None:
    model = network()
    optimizer = AdamW(groups(model), 0.01)
    (one,) = found = findings(model, optimizer)
    assert told(found) == [("2", "info")]
    assert one.message == "trainable, but in group 1, whose lr is 0: no step moves it"
    assert one.fix == 'optimizer.param_groups[1]["lr"] = 0.01'
    assert not mended(one, model, optimizer)


def test_the_fix_names_the_optimizer_of_several() -> None:
    model = network()
    first, second = groups(model)
    optimizers = [SGD([first], 0.1), SGD([second], 0.1)]
    (one,) = findings(model, optimizers)
    assert one.fix == 'optimizers[1].param_groups[0]["lr"] = 0.1'
    assert not mended(one, model, optimizers)


def test_frozen_or_moved_by_another_group_is_silent() -> None:
    model = network()
    assert not findings(model, [SGD(model.parameters(), 0.0), SGD(model.parameters(), 0.1)])
    assert not findings(model.requires_grad_(False), SGD(model.parameters(), 0.0))


@pytest.mark.parametrize("kind", [ASGD, LBFGS])
def test_an_optimizer_that_moves_at_lr_0_is_unknown(kind: Any) -> None:
    model = network()
    assert not findings(model, kind(model.parameters(), lr=0.0))
