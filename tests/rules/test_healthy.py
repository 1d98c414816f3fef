"""Healthy states: over each, all rules together find nothing above information."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim import SGD, AdamW

import freezeinspect as fi
from freezeinspect.rules import find
from freezeinspect.rules.facts import Facts
from zoo import ZOO, FrozenBatchNorm2d, Residual

State = tuple[nn.Module, Any]


def whole_model_frozen() -> State:
    return Residual().requires_grad_(False).eval(), None


def inference() -> State:
    return Residual().eval(), None


def backbone_frozen_done_right() -> State:
    model = Residual()
    for child in (model.stem, model.layer1, model.layer2, model.layer3):
        child.requires_grad_(False).eval()
    return model, AdamW(model.head.parameters())


def backbone_frozen_and_in_the_optimizer() -> State:
    model, _ = backbone_frozen_done_right()
    return model, AdamW(model.parameters())


def adapter() -> State:
    model = ZOO["lora"]().model
    return model, AdamW(p for p in model.parameters() if p.requires_grad)


def last_layer_frozen() -> State:
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2))
    model[2].requires_grad_(False)
    return model, None


def frozen_teacher() -> State:
    model = nn.ModuleDict({"student": Residual(), "teacher": Residual().requires_grad_(False).eval()})
    return model, AdamW(model["student"].parameters())


def model_and_criterion() -> State:
    model = Residual()
    return model, SGD([*model.parameters(), nn.Parameter(torch.zeros(9, 9))], 0.1)


def warm_up() -> State:
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2))
    return model, AdamW(model.parameters(), lr=0.0)


def other_norms() -> State:
    norms = [nn.GroupNorm(2, 4), nn.LayerNorm(8), nn.InstanceNorm2d(4, affine=True)]
    body = nn.Sequential(nn.Conv2d(3, 4, 3), FrozenBatchNorm2d(4), *norms).requires_grad_(False)
    return nn.Sequential(body, nn.Conv2d(4, 2, 1)), None


def metric_learning_in_eval() -> State:
    model = Residual().eval()
    return model, AdamW(model.parameters())


HEALTHY: dict[Callable[[], State], dict[str, int]] = {
    whole_model_frozen: {},
    inference: {},
    backbone_frozen_done_right: {},
    backbone_frozen_and_in_the_optimizer: {"FI204": 8},
    adapter: {},
    last_layer_frozen: {},
    frozen_teacher: {},
    model_and_criterion: {"FI203": 1},
    warm_up: {"FI205": 2},
    other_norms: {},
    metric_learning_in_eval: {"FI102": 4},
}


@pytest.mark.parametrize("state", HEALTHY, ids=lambda state: state.__name__)
def test_nothing_above_information(state: Callable[[], State]) -> None:
    found = fi.check(*state())
    assert not found.at_least("warning")
    assert Counter(one.code for one in found) == HEALTHY[state]


TRAINING = {"norms": ["FI102"], "quantised_norm": ["FI102"], "lora": ["FI204"] * 2}


@pytest.mark.parametrize("name", ZOO)
def test_training_all_of_a_model_is_silent(name: str) -> None:
    model = ZOO[name]().model.train()
    parameters = list(model.parameters())
    found = fi.check(model, SGD(parameters, 0.1) if parameters else None)
    assert [one.code for one in found] == TRAINING.get(name, [])
    assert not found.at_least("warning")


def gan() -> nn.ModuleDict:
    critic = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Dropout(), nn.Linear(4, 1))
    return nn.ModuleDict({"generator": nn.Linear(4, 4), "critic": critic})


def test_a_critic_that_is_frozen_in_turn_is_not_frozen() -> None:
    model = gan()
    generator, critic = (SGD(part.parameters(), 0.1) for part in model.values())
    with fi.watch(model, [generator, critic]) as watch:
        for _ in range(2):
            for required, optimizer in ((True, critic), (False, generator)):
                model["critic"].requires_grad_(required)
                optimizer.zero_grad()
                model["critic"](model["generator"](torch.randn(8, 4))).sum().backward()
                optimizer.step()
    assert {one.code for one in fi.check(watch)} == {"FI305"}  # information: it is trained in turn


def test_a_part_frozen_between_epochs_with_zero_grad_is_information() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 2))
    optimizer = AdamW(model.parameters())
    with fi.watch(model, optimizer) as watch:
        for required in (True, False, False):
            model[0].requires_grad_(required)
            optimizer.zero_grad()
            model(torch.randn(8, 4)).sum().backward()
            optimizer.step()
    assert [(one.code, one.path) for one in fi.check(watch)] == [("FI204", "0"), ("FI305", "0")]


def test_of_a_state_dict_it_is_said_that_it_tells_too_little_and_no_more(tmp_path: Path) -> None:
    model = Residual().requires_grad_(False)
    optimizer = SGD(model.parameters(), 0.0)
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, tmp_path / "both.pt")
    assert [one.code for one in fi.check(tmp_path / "both.pt")] == ["FI501"]


def test_a_thousand_modules_take_milliseconds() -> None:
    blocks = [nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2), nn.Dropout(), nn.ReLU()) for _ in range(200)]
    model = nn.Sequential(*blocks)
    model[:100].requires_grad_(False)
    snapshot = fi.inspect(model, SGD(model.parameters(), 0.1)).snapshot
    assert min(_seconds(lambda: list(find(Facts(snapshot)))) for _ in range(5)) < 0.1


def _seconds(act: Callable[[], Any]) -> float:
    start = time.perf_counter()
    act()
    return time.perf_counter() - start
