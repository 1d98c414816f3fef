"""The story of a run: what a user reads first."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from syrupy.assertion import SnapshotAssertion
from torch import nn

import freezeinspect as fi
from training import backward, pair, train
from zoo import Residual


def told(watch: fi.Watch) -> str:
    """Give what a user sees."""
    return str(watch)


def residual() -> tuple[nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(0)
    model = Residual()
    return model, torch.optim.SGD(model.parameters(), 0.1)


def step(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    optimizer.zero_grad()
    (model(torch.randn(2, 3, 8, 8)) - 1).square().mean().backward()
    optimizer.step()


def test_of_a_backbone_that_leaks(snapshot: SnapshotAssertion) -> None:
    model, optimizer = residual()
    for part in list(model.children())[:-1]:
        part.requires_grad_(False)
    with fi.watch(model, optimizer, every=1) as watch:
        for _ in range(4):
            step(model, optimizer)
    assert told(watch) == snapshot


def test_of_a_skipped_step(snapshot: SnapshotAssertion) -> None:
    model, optimizer = pair()
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0)
    with fi.watch(model, optimizer, every=1) as watch:
        for number in range(3):
            optimizer.zero_grad()
            loss = (model(torch.randn(8, 4)) - 1).square().mean()
            scaler.scale(loss * torch.inf if number == 1 else loss).backward()
            scaler.step(optimizer)
            scaler.update()
    assert told(watch) == snapshot


def test_of_a_model_that_changes_itself(snapshot: SnapshotAssertion) -> None:
    model, optimizer = pair()
    with fi.watch(model, optimizer, every=1) as watch:
        train(model, optimizer, 2)
        model[3] = nn.Linear(4, 3)
        optimizer.add_param_group({"params": model[3].parameters()})
        train(model, optimizer, 2)
    assert told(watch) == snapshot


def test_of_blame(snapshot: SnapshotAssertion) -> None:
    model, optimizer = pair()

    def validate() -> None:
        model.eval()

    with fi.watch(model, optimizer, every=1, blame=True) as watch:
        train(model, optimizer, 2)
        validate()
        train(model, optimizer)
        model.train()
        model[0].requires_grad_(False)
        train(model, optimizer)
    assert re.sub(r"\S*test_story\.py:\d+", "test_story.py", "\n".join(watch.run.story())) == snapshot


def test_of_one_that_was_not_looked_at(snapshot: SnapshotAssertion) -> None:
    model, optimizer = pair()
    with fi.watch(model, optimizer, evidence="off") as watch:
        train(model, optimizer)
    assert f"{told(watch)}\n\n{watch.table(1)}" == snapshot


@pytest.mark.parametrize(
    ("optimizer", "said"), [(None, "0 forwards."), (torch.optim.SGD([torch.zeros(1)]), "0 steps of SGD.")]
)
def test_of_nothing(optimizer: Any, said: str) -> None:
    with fi.watch(nn.Linear(2, 2), optimizer) as watch:
        pass
    assert watch.run.story()[0] == said


def test_of_one_layer() -> None:
    model, _ = pair()
    optimizer = torch.optim.SGD(model[3].parameters(), 0.1)
    model[:2].requires_grad_(False)
    with fi.watch(model, optimizer, every=1) as watch:
        train(model, optimizer)
    assert watch.run.story() == [
        "1 step of SGD.",
        "BatchNorm layer 1 moved its running statistics in every step while its weights were frozen.",
    ]


def test_of_steps_that_were_all_skipped_says_nothing_else() -> None:
    model, optimizer = pair()
    scaler = torch.amp.GradScaler("cpu")
    with fi.watch(model, optimizer, every=1) as watch:
        scaler.scale(model(torch.randn(8, 4)).sum() * torch.inf).backward()
        scaler.step(optimizer)
    assert watch.run.story() == ["1 step of SGD.", "1 step skipped by the scaler: 1."]


def test_one_weight_that_surprises_is_one() -> None:
    model = nn.Sequential(nn.Linear(2, 2, bias=False))
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with fi.watch(model, optimizer, every=1) as watch:
        for _ in range(2):
            model[0].weight.grad = torch.zeros(2, 2)
            optimizer.step()
    assert watch.run.story()[-1] == "0.weight stayed still in steps 1 to 2 though its flags let it move."


def test_how_often_each_optimizer_s_weights_were_looked_at_is_told_of_its_own_steps() -> None:
    model, _ = pair()
    optimizers = [torch.optim.SGD(model[n].parameters(), 0.1) for n in (0, 3)]
    with fi.watch(model, optimizers, every=1) as watch:
        for optimizer in optimizers * 2:
            backward(model)
            optimizer.step()
    assert not [line for line in watch.run.story() if "looked at" in line]
