"""FI303: a trainable weight that no step moves."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

import freezeinspect as fi
from watching import found, network, watched

CODE = "FI303"


class Net(nn.Module):
    """A network with a layer that its loss never reaches, and a mask token that it uses now and then."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.used, self.unused, self.dead = nn.Linear(4, 2), nn.Linear(4, 2), nn.Linear(4, 2)
        self.token, self.scale = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.used(x) * self.scale + self.dead(x) * 0


def still(steps: int = 3, **options: Any) -> dict[str, Any]:
    model = Net()
    watch = watched(model, torch.optim.SGD(model.parameters(), **{"lr": 0.1, **options}), steps=steps)
    return {f"{one.path}.{one.tensor or ''}": one for one in found(watch, CODE)}


def test_it_says_whether_the_gradient_was_none() -> None:
    hits = still()
    assert {name: one.severity for name, one in hits.items()} == {
        "unused.": "warning",
        "dead.": "warning",
        ".token": "info",  # alone, in a module that trains
    }
    assert "is None" in hits["unused."].message
    assert "is zero, or too small" in hits["dead."].message
    assert hits["unused."].fix == "model.unused.requires_grad_(False)  # unless it should learn"


def test_a_bias_before_a_normalisation_is_information() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
    nn.init.ones_(model[0].bias)
    hits = found(watched(model, torch.optim.SGD(model.parameters(), 0.01)), CODE)
    assert {(one.tensor, one.severity) for one in hits} <= {("bias", "info")}


def test_two_steps_are_not_enough() -> None:
    assert not still(steps=2)


def test_at_lr_0_nothing_should_move() -> None:
    assert not still(lr=0.0)


def test_the_fix_is_to_say_that_it_should_not_learn() -> None:
    model = Net()
    for one in found(watched(model, torch.optim.SGD(model.parameters(), 0.1)), CODE):
        exec(one.fix or "model.dead.requires_grad_(False)", {"model": model})
    assert not found(watched(model, torch.optim.SGD(model.parameters(), 0.1)), CODE)


def test_steps_that_a_scaler_skips_do_not_count() -> None:
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    scaler = torch.amp.GradScaler("cpu")
    with fi.watch(model, optimizer, every=1) as watch:
        for _ in range(4):
            optimizer.zero_grad()
            scaler.scale(model(torch.randn(8, 4)).mean() * float("inf")).backward()
            scaler.step(optimizer)
            scaler.update()
    assert not found(watch, CODE)


@pytest.mark.parametrize("rank", [1, 2])
def test_the_a_matrix_of_lora_stands_still_in_the_first_step_only(rank: int) -> None:
    class LoRA(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(4, rank, bias=False), nn.Linear(rank, 2, bias=False)
            nn.init.zeros_(self.b.weight)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.b(self.a(x)) + 1

    model = LoRA()
    assert not found(watched(model, torch.optim.SGD(model.parameters(), 0.1)), CODE)
