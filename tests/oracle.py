"""Evidence of what moved, by clone and compare: right for every dtype, and slow."""

from __future__ import annotations

import torch
from torch import nn

from freezeinspect.walk import held, walk


class Oracle:
    """A model's tensors, in the order of its structure, and copies of their values."""

    def __init__(self, model: nn.Module) -> None:
        pairs = [(held(module, "_parameters"), held(module, "_buffers")) for _, module in walk(model, [])]
        self.live = [t for kind in (0, 1) for pair in pairs for t in pair[kind].values() if t is not None]
        self.kept = [_kept(tensor) for tensor in self.live]

    def moved(self) -> tuple[bool, ...]:
        """Tell which tensors changed a bit since the last look."""
        found = tuple(not _same_bits(a, b) for a, b in zip(self.live, self.kept, strict=True))
        self.kept = [_kept(tensor) for tensor in self.live]
        return found


def _kept(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.detach().clone()


def _same_bits(now: torch.Tensor, kept: torch.Tensor) -> bool:
    """Compare bits, not numbers: -0.0 is another value than 0.0, and NaN is the same as itself."""
    if now.shape != kept.shape or now.dtype != kept.dtype:
        return False
    return now.is_meta or torch.equal(_bits(now), _bits(kept))


def _bits(tensor: torch.Tensor) -> torch.Tensor:
    values = tensor.detach()
    if values.layout is not torch.strided:
        values = values.to_dense()
    if values.is_quantized:
        values = values.int_repr()
    return values.resolve_conj().resolve_neg().reshape(-1).contiguous().view(torch.uint8)
