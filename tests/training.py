"""A small model that trains, for the tests of what watches it."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

import freezeinspect as fi
from freezeinspect.state import Structure


def pair() -> tuple[nn.Sequential, torch.optim.Optimizer]:
    """Give a model with a BatchNorm, and its optimizer."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 4, bias=False), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 2))
    return model, torch.optim.SGD(model.parameters(), 0.1)


def backward(model: nn.Module) -> torch.Tensor:
    """Run both passes."""
    loss = (model(torch.randn(8, 4)) - 1).square().mean()
    loss.backward()
    return loss


def train(model: nn.Module, optimizer: Any, steps: int = 1) -> None:
    """Take some steps of a plain loop."""
    for _ in range(steps):
        optimizer.zero_grad()
        backward(model)
        optimizer.step()


def names(structure: Structure) -> list[str]:
    """Give the names of all tensors."""
    return [structure.full_name(i) for i in range(len(structure.tensors))]


def bits(watch: fi.Watch, step: int) -> dict[str, int]:
    """Give the bits of where each tensor moved in a step."""
    return dict(zip(names(watch.history.chapter_of(step).structure), watch.history.moved(step), strict=True))


def known(watch: fi.Watch, step: int) -> dict[str, int]:
    """Give the bits of where it is known of each tensor."""
    return dict(zip(names(watch.history.chapter_of(step).structure), watch.history.seen(step), strict=True))
