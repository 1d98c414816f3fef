"""What else sees what moved: what users write, copying every tensor, and torchlens."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

WORDS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


class Clones:
    """A model's parameters, then its buffers, and copies of their values."""

    def __init__(self, model: nn.Module) -> None:
        self.tensors = [*model.parameters(), *model.buffers()]
        self.keep()

    def keep(self) -> None:
        """Copy every tensor."""
        self.kept = [tensor.detach().clone() for tensor in self.tensors]

    def moved(self) -> list[bool]:
        """Tell of each whether it differs from its copy in any bit; waits for the device."""
        return [not torch.equal(bits(now), bits(kept)) for now, kept in zip(self.tensors, self.kept, strict=True)]


class CloneAndEqual(Clones):
    """The same around each step of an optimizer, by hooks."""

    def __init__(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        super().__init__(model)
        optimizer.register_step_pre_hook(lambda *_: self.keep())
        optimizer.register_step_post_hook(lambda *_: self.moved())


def torchlens(model: nn.Module, optimizer: torch.optim.Optimizer) -> Any:
    """Let torchlens hold the frozen weights to copies of them, after each step. Raises ImportError."""
    from torchlens.checks import ChecksSession

    session = ChecksSession(model, optimizer)
    session.register_frozen_check([name for name, one in model.named_parameters() if not one.requires_grad])
    return session.attach()


def bits(tensor: torch.Tensor) -> torch.Tensor:
    """Give the bits of a tensor's elements: -0.0 is another value than 0.0, and NaN is the same as itself."""
    return tensor.detach().view(WORDS[tensor.element_size()])
