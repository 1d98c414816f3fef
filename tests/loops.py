"""Training loops of many kinds, each with an oracle that clones and compares at every boundary."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from freezeinspect.chapters import FORWARD, OUTSIDE, STEP
from oracle import Oracle
from zoo import Specimen, quiet

OPTIMIZERS: dict[str, Callable[[Any], torch.optim.Optimizer]] = {
    "SGD": lambda parameters: torch.optim.SGD(parameters, 0.1),
    "momentum": lambda parameters: torch.optim.SGD(parameters, 0.1, momentum=0.9, weight_decay=0.1),
    "Adam": lambda parameters: torch.optim.Adam(parameters, 0.1, foreach=False),
    "AdamW, for-loop": lambda parameters: torch.optim.AdamW(parameters, 0.1, foreach=False),
    "AdamW, foreach": lambda parameters: torch.optim.AdamW(parameters, 0.1, foreach=True),
    "AdamW, fused": lambda parameters: torch.optim.AdamW(parameters, 0.1, fused=True),
    "LBFGS": lambda parameters: torch.optim.LBFGS(parameters, 0.1, max_iter=3),
}


class Expected:
    """What a watch should see of each step, by clone and compare; without a watch beside it, it is nothing."""

    def __init__(self, model: nn.Module, is_on: bool = True) -> None:
        self.steps: list[tuple[int, ...]] = []
        self._oracle = Oracle(model) if is_on else None
        parameters = {id(parameter) for parameter in model.parameters()}
        self._usual = (
            [OUTSIDE if id(one) in parameters else FORWARD for one in self._oracle.live] if self._oracle else []
        )
        self._bits = [0] * len(self._usual)

    def between(self) -> None:
        """Note what moved outside the optimizer's own work."""
        for i, moved in enumerate(self._oracle.moved() if self._oracle else ()):
            self._bits[i] |= self._usual[i] if moved else 0

    def step(self) -> None:
        """Note what moved in it."""
        for i, moved in enumerate(self._oracle.moved() if self._oracle else ()):
            self._bits[i] |= STEP if moved else 0

    @contextmanager
    def stepping(self) -> Iterator[None]:
        """Note what moves before and in one step."""
        self.between()
        yield
        self.step()
        self.steps.append(tuple(self._bits))
        self._bits = [0] * len(self._bits)


Loop = Callable[[Specimen, torch.optim.Optimizer, Expected], None]


def plain(specimen: Specimen, optimizer: torch.optim.Optimizer, expected: Expected) -> None:
    """Train; freeze half of it with gradients left; write to a weight; go to eval mode."""
    parameters = list(specimen.model.parameters())
    for number in range(5):
        happens(specimen.model, parameters, number)
        optimizer.zero_grad(set_to_none=number != 2)
        _backward(specimen)
        with expected.stepping():
            optimizer.step()


def accumulating(specimen: Specimen, optimizer: torch.optim.Optimizer, expected: Expected) -> None:
    """Run two forwards a step, and a validation pass that leaves the mode as it was."""
    for number in range(4):
        optimizer.zero_grad()
        for _ in range(2):
            _backward(specimen)
        with expected.stepping():
            optimizer.step()
        if number == 1:
            specimen.model.eval()
            with torch.no_grad():
                specimen.forward()
            specimen.model.train()


def closing(specimen: Specimen, optimizer: torch.optim.Optimizer, expected: Expected) -> None:
    """Run the forward and the backward inside the step, as Lightning and LBFGS do."""

    def closure() -> torch.Tensor:
        expected.step()
        optimizer.zero_grad()
        loss = _backward(specimen)
        expected.between()
        return loss

    parameters = list(specimen.model.parameters())
    for number in range(4):
        happens(specimen.model, parameters, number)
        with expected.stepping():
            optimizer.step(closure)


def half_precision(specimen: Specimen, optimizer: torch.optim.Optimizer, expected: Expected) -> None:
    """Run in bfloat16 under a scaler that skips a step."""
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0)
    for number in range(4):
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            loss = specimen.loss()
        scaler.scale(loss * torch.inf if number == 2 else loss).backward()
        with expected.stepping():
            scaler.step(optimizer)
        scaler.update()


def checkpointed(specimen: Specimen, optimizer: torch.optim.Optimizer, expected: Expected) -> None:
    """Run the forward again in the backward."""
    for _ in range(3):
        optimizer.zero_grad()
        torch.utils.checkpoint.checkpoint(lambda: specimen.loss(), use_reentrant=False).backward()
        with expected.stepping():
            optimizer.step()


def compiled(specimen: Specimen, optimizer: torch.optim.Optimizer, expected: Expected) -> None:
    """Compile the model into one graph, and the step of the optimizer not at all."""
    model = torch.compile(specimen.model, backend="eager", fullgraph=True)
    for _ in range(3):
        optimizer.zero_grad()
        Specimen(model, specimen.args, specimen.kwargs).loss().backward()
        with expected.stepping():
            optimizer.step()


def happens(model: nn.Module, parameters: list[nn.Parameter], number: int) -> None:
    """Do what users do in the middle of a run."""
    if number == 2:
        for parameter in parameters[: len(parameters) // 2]:
            parameter.requires_grad_(False)
    if number == 3:
        parameters[-1].data.mul_(1.5)
        model.eval()
    if number == 4:
        model.train()


def _backward(specimen: Specimen) -> torch.Tensor:
    with quiet():
        loss = specimen.loss()
        if loss.requires_grad:
            loss.backward()
    return loss
