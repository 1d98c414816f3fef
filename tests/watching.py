"""Real training loops for the rules of a watched run, each a few steps long."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

import freezeinspect as fi

Between = Callable[[int], None]  # what the loop does before a step of this number


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 4, bias=False), nn.BatchNorm1d(4), nn.Linear(4, 2))


def step(model: nn.Module, optimizer: Any, none: bool = True) -> None:
    optimizer.zero_grad(set_to_none=none)
    model(torch.randn(8, 4)).square().mean().backward()
    optimizer.step()


def watched(
    model: nn.Module, optimizer: Any, before: Between = lambda number: None, steps: int = 4, none: bool = True
) -> fi.Watch:
    with fi.watch(model, optimizer, every=1, blame=True) as watch:
        for number in range(1, steps + 1):
            before(number)
            step(model, optimizer, none)
    return watch


def found(watch: Any, *codes: str) -> list[fi.Finding]:
    return list(fi.check(watch, select=codes))


def severities(watch: Any, code: str) -> set[str]:
    return {one.severity for one in found(watch, code)}
