"""Digests of tensors on a device, made there in few launches and read back without waiting."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Sequence
from functools import cache
from importlib.util import find_spec
from itertools import accumulate
from typing import Any, NamedTuple

import torch

TABLES = 8  # sets of tensors whose places are remembered
CHUNK = 2**20  # words of a batch: what a look takes beside the weights is about twenty bytes for each
MIX = (0x9E3779B97F4A7C15 - 2**64, 0xBF58476D1CE4E5B9 - 2**64, 0x94D049BB133111EB - 2**64)  # splitmix64


def is_capturing() -> bool:
    """Tell whether a CUDA graph is being captured, in which nothing runs, and nothing may be read back."""
    return bool(torch.cuda.is_initialized() and torch.cuda.is_current_stream_capturing())  # type: ignore[no-untyped-call]


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
        if self._event is None:
            return True
        return not is_capturing() and bool(self._event.query())  # type: ignore[no-untyped-call]

    def values(self) -> list[int]:
        """Give the digests, waiting for them where they are not there yet."""
        if self._event is not None:
            self._event.synchronize()
        found: list[int] = self._values.tolist()
        return found


class _Piece(NamedTuple):
    """A part of a tensor's words: whose, which part of it, and the words."""

    tensor: int
    number: int
    words: torch.Tensor


class Reader:
    """Digests tensors of one device; where Triton is there, with one launch for all words of a width.

    Of a tensor that lies where it lay, dtype and shape must be as they were.
    """

    def __init__(self, device: torch.device) -> None:
        is_launchable = device.type == "cuda" or os.environ.get("TRITON_INTERPRET") == "1"
        self._can_launch = is_launchable and find_spec("triton") is not None
        self._tables: dict[tuple[int, ...], tuple[list[int], list[int], Any]] = {}

    def read(self, places: list[int], tensors: Sequence[torch.Tensor]) -> Readback:
        """Digest tensors, and begin to read the digests back."""
        return Readback(places, self._launched(tensors) if self._can_launch else digests(tensors))

    def _launched(self, tensors: Sequence[torch.Tensor]) -> torch.Tensor:
        try:
            return self._fast(tensors)
        except Exception as error:  # without a C compiler, say: the digests are the same, only slower
            self._can_launch = False
            warnings.warn(f"Triton does not work here, so digests take longer: {error}", stacklevel=2)
            return digests(tensors)

    def _fast(self, tensors: Sequence[torch.Tensor]) -> torch.Tensor:
        key = tuple([tensor.data_ptr() for tensor in tensors])
        if key not in self._tables:
            self._tables = {**dict(list(self._tables.items())[1 - TABLES :]), key: _laid_out(tensors)}
        dense, rest, table = self._tables[key]
        if not rest:
            found: torch.Tensor = table.digests()
            return found
        parts = [digests([tensors[i] for i in rest]), *([table.digests()] if dense else [])]
        order = sorted(range(len(tensors)), key=[*rest, *dense].__getitem__)
        return torch.cat(parts)[there(order, tensors[0].device)]


def _laid_out(tensors: Sequence[torch.Tensor]) -> tuple[list[int], list[int], Any]:
    """Tell dense tensors, which a table knows, from the rest."""
    from freezeinspect.recorder.kernel import Table

    dense = [i for i, tensor in enumerate(tensors) if _is_dense(tensor)]
    rest = [i for i in range(len(tensors)) if i not in set(dense)]
    return dense, rest, Table([tensors[i] for i in dense]) if dense else None


def _is_dense(tensor: torch.Tensor) -> bool:
    return not tensor.is_conj() and not tensor.is_neg() and _in_memory_order(tensor.detach()).is_contiguous()


def _in_memory_order(plain: torch.Tensor) -> torch.Tensor:
    strides = plain.stride()
    return plain.permute(sorted(range(plain.dim()), key=lambda i: (-strides[i], i)))


@torch.no_grad()
def digests(tensors: Sequence[torch.Tensor]) -> torch.Tensor:
    """Sum each tensor's words, each times an odd number that its place gives, modulo 2 to the power of 64.

    A change of one word always shows, for odd numbers have an inverse; one of several does unless it cancels, by a
    chance of about one in 2 to the power of 63. The result, an int64 for each, stays on the device.
    """
    device = tensors[0].device
    total = torch.zeros(len(tensors), dtype=torch.int64, device=device)
    for batch in _batches(tensors):
        factors = [_wrapped(2 * MIX[0] * piece.number + 1) for piece in batch]
        owners = there([piece.tensor for piece in batch], device)
        total.index_add_(0, owners, _sums(batch, device) * there(factors, device))
    return total


def _batches(tensors: Sequence[torch.Tensor]) -> Iterator[list[_Piece]]:
    """Part the words of all tensors into batches of one width, each of at most CHUNK words."""
    filling: dict[torch.dtype, list[_Piece]] = {}
    for i, tensor in enumerate(tensors):
        for number, words in enumerate(torch.split(_words(tensor.detach()), CHUNK)):
            batch = filling.setdefault(words.dtype, [])
            if batch and sum(len(piece.words) for piece in batch) + len(words) > CHUNK:
                yield batch
                batch = filling[words.dtype] = []
            batch.append(_Piece(i, number, words))
    yield from filling.values()


def _sums(batch: list[_Piece], device: torch.device) -> torch.Tensor:
    """Sum each piece's words times the odd numbers, all in one pass: as differences of running sums."""
    sizes = [len(piece.words) for piece in batch]
    odd = _odd(device)
    words = torch.cat([piece.words for piece in batch]).to(torch.int64)
    running = (words * torch.cat([odd[:size] for size in sizes])).cumsum(0)
    running = torch.cat([running.new_zeros(1), running])
    ends = list(accumulate(sizes))
    return running[there(ends, device)] - running[there([0, *ends[:-1]], device)]


def _words(tensor: torch.Tensor) -> torch.Tensor:
    """Give the elements' bits as integers, in memory order where the tensor is dense."""
    plain = tensor.resolve_conj().resolve_neg()
    flat = _in_memory_order(plain).contiguous().reshape(-1)
    if flat.is_complex():
        flat = torch.view_as_real(flat).reshape(-1)
    return flat.view({1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}[flat.element_size()])


@cache
def _odd(device: torch.device) -> torch.Tensor:
    """Scatter places over the odd numbers, as splitmix64 does."""
    mixed = torch.arange(CHUNK, dtype=torch.int64, device=device) * MIX[0]
    for shift, factor in ((30, MIX[1]), (27, MIX[2])):
        mixed = (mixed ^ _shifted(mixed, shift)) * factor
    return (mixed ^ _shifted(mixed, 31)) | 1


def _shifted(words: torch.Tensor, bits: int) -> torch.Tensor:
    """Shift right without the sign, which int64 would keep."""
    return torch.bitwise_and(words >> bits, 2 ** (64 - bits) - 1)


def _wrapped(number: int) -> int:
    """Give a number modulo 2 to the power of 64, as int64 writes it."""
    return (number + 2**63) % 2**64 - 2**63


def there(numbers: list[int], device: torch.device) -> torch.Tensor:
    """Bring numbers to a device without waiting for it."""
    here = torch.tensor(numbers, dtype=torch.int64, pin_memory=device.type == "cuda")
    return here.to(device, non_blocking=True)
