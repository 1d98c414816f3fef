"""How far weights move in a step, against their own size."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import freezeinspect as fi


def trained(steps: int = 3) -> tuple[fi.Watch, nn.Module, list[list[float]]]:
    """Train, and work out the relative updates of each parameter by hand."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 2))
    optimizer = torch.optim.SGD([model[0].weight, model[1].bias], 0.1)
    moved: list[list[float]] = []
    with fi.watch(model, optimizer, magnitudes=True) as watch:
        for _ in range(steps):
            before = [model[0].weight.detach().clone(), model[1].bias.detach().clone()]
            optimizer.zero_grad()
            model(torch.randn(4, 3)).square().mean().backward()
            optimizer.step()
            now = (model[0].weight.detach(), model[1].bias.detach())
            moved.append([float((a - b).norm() / b.norm()) for a, b in zip(now, before, strict=True)])
    return watch, model, moved


def test_they_are_the_norms_of_the_updates_over_those_of_the_weights() -> None:
    watch, _, moved = trained()
    frame = watch.magnitudes()
    assert frame.index.tolist() == ["0.weight", "1.bias"]
    columns = torch.tensor(moved).T
    assert frame["last"].tolist() == pytest.approx(columns[:, -1].tolist())
    assert frame["mean"].tolist() == pytest.approx(columns.mean(1).tolist())
    assert frame["most"].tolist() == pytest.approx(columns.max(1).values.tolist())
    assert frame["steps"].tolist() == [3, 3]


def test_a_weight_that_is_zero_and_stays_so_did_not_move() -> None:
    model = nn.Linear(2, 1)
    nn.init.zeros_(model.weight)
    optimizer = torch.optim.SGD(model.parameters(), 0.0)
    with fi.watch(model, optimizer, magnitudes=True) as watch:
        model(torch.ones(1, 2)).sum().backward()
        optimizer.step()
        assert watch.magnitudes()["last"].tolist() == [0, 0]


def test_unasked_they_are_not_measured() -> None:
    model = nn.Linear(2, 1)
    with fi.watch(model) as watch, pytest.raises(ValueError, match=r"watch\(\.\.\., magnitudes=True\) does"):
        watch.magnitudes()
