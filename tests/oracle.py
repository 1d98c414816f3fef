"""Evidence of what moved, by clone and compare: right for every dtype, and slow."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import nn

from freezeinspect.history import part_of
from freezeinspect.state import ABSENT, NO, YES, Moved, Movement, Observed, Structure, combine
from freezeinspect.walk import held, walk


@dataclass(frozen=True)
class Moves:
    """Which tensors of a structure changed a bit in one forward, and in the step after it."""

    in_forward: tuple[bool, ...]
    in_step: tuple[bool, ...]

    def observed(self, structure: Structure) -> Observed:
        """Say it module by module, over each subtree."""
        return Observed(tuple(self._movements(structure)))

    def _movements(self, structure: Structure) -> Iterator[Movement]:
        parts = [part_of(structure, i) for i in range(len(structure.tensors))]
        for module in range(len(structure)):
            below = [number for i in structure.subtree(module) for number in structure.own[i]]
            yield Movement(*(self._moved([i for i in below if parts[i] == part]) for part in Movement._fields))

    def _moved(self, tensors: list[int]) -> Moved:
        return Moved(
            forward=combine(YES if self.in_forward[i] else NO for i in tensors),
            step=combine(YES if self.in_step[i] else NO for i in tensors),
            outside=NO if tensors else ABSENT,
        )


def watched_step(model: nn.Module, forward: Callable[[], object], step: Callable[[], object]) -> Moves:
    """Run a forward with its backward, then an optimizer's step, and see what each moved.

    The tensors are in the order of the structure that `readers.live.read` gives. All values are copied, so this
    takes the model's memory once more and waits for the device.
    """
    values = _Values(model)
    forward()
    in_forward = values.moved()
    step()
    return Moves(in_forward, values.moved())


class _Values:
    """A model's tensors and copies of their values."""

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
