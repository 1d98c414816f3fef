"""Digests of tensors on a device, made there and read back without waiting."""

from __future__ import annotations

from collections.abc import Sequence

import torch

_CHUNK = 2**22  # words at a time: what it takes beside the weights
_MIX = (0x9E3779B97F4A7C15 - 2**64, 0xBF58476D1CE4E5B9 - 2**64, 0x94D049BB133111EB - 2**64)  # splitmix64


class Readback:
    """Some digests on their way to the CPU; `places` says whose they are."""

    def __init__(self, places: list[int], digests: torch.Tensor) -> None:
        self.places = places
        self._event: torch.cuda.Event | None = None
        if digests.is_cuda:
            self._values = torch.empty(digests.shape, dtype=digests.dtype, pin_memory=True)
            self._values.copy_(digests, non_blocking=True)
            self._event = torch.cuda.Event()  # type: ignore[no-untyped-call]
            self._event.record()
        else:
            self._values = digests

    @property
    def is_ready(self) -> bool:
        """Tell whether they are there."""
        return self._event is None or bool(self._event.query())  # type: ignore[no-untyped-call]

    def values(self) -> list[int]:
        """Give the digests, waiting for them where they are not there yet."""
        if self._event is not None:
            self._event.synchronize()
        found: list[int] = self._values.tolist()
        return found


@torch.no_grad()
def read(places: list[int], tensors: Sequence[torch.Tensor]) -> Readback:
    """Digest tensors of one device, and begin to read the digests back."""
    return Readback(places, torch.stack([digest(tensor) for tensor in tensors]))


def digest(tensor: torch.Tensor) -> torch.Tensor:
    """Sum a tensor's words, each times an odd number that its place gives, modulo 2 to the power of 64.

    A change of one word always shows, for odd numbers have an inverse; of several, unless they cancel by a chance of
    one in 2 to the power of 63 or so. The result stays on the device.
    """
    words = _words(tensor.detach())
    total = torch.zeros((), dtype=torch.int64, device=tensor.device)
    for start in range(0, len(words), _CHUNK):
        part = words[start : start + _CHUNK].to(torch.int64)
        total += (part * _odd(start, len(part), part.device)).sum()
    return total


def _words(tensor: torch.Tensor) -> torch.Tensor:
    """Give the elements' bits as integers, in memory order where the tensor is dense."""
    plain = tensor.resolve_conj().resolve_neg()
    strides = plain.stride()
    dense = plain.permute(sorted(range(plain.dim()), key=lambda i: (-strides[i], i)))
    flat = dense.contiguous().reshape(-1)
    size = flat.element_size()
    if flat.is_complex():
        flat, size = torch.view_as_real(flat).reshape(-1), size // 2
    return flat.view({1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}[size])


def _odd(start: int, count: int, where: torch.device) -> torch.Tensor:
    """Scatter places over the odd numbers, as splitmix64 does."""
    mixed = torch.arange(start, start + count, dtype=torch.int64, device=where) * _MIX[0]
    for shift, factor in ((30, _MIX[1]), (27, _MIX[2])):
        mixed = (mixed ^ _shifted(mixed, shift)) * factor
    return (mixed ^ _shifted(mixed, 31)) | 1


def _shifted(words: torch.Tensor, bits: int) -> torch.Tensor:
    """Shift right without the sign, which int64 would keep."""
    return torch.bitwise_and(words >> bits, 2 ** (64 - bits) - 1)
