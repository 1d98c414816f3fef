"""The digests of device.py by Triton, which CUDA builds of torch bring: one launch for all words of one width."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl

from freezeinspect.recorder.device import CHUNK, MIX, there

SPAN = 2**15  # words of a program; CHUNK is a multiple
BLOCK = 2**11  # words at a time
WORDS = {1: tl.uint8, 2: tl.int16, 4: tl.int32, 8: tl.int64}


@triton.jit
def _digest(  # type: ignore[no-untyped-def]
    addresses,
    pieces,
    out,
    MIX_0: tl.constexpr,
    MIX_1: tl.constexpr,
    MIX_2: tl.constexpr,
    WORD: tl.constexpr,
    ALIGNED: tl.constexpr,
    SPAN: tl.constexpr,
    BLOCK: tl.constexpr,
    CHUNK: tl.constexpr,
):
    """Sum the words of one piece of a tensor, each times the odd number of its place, into the tensor's digest."""
    piece = tl.program_id(0)
    words = tl.load(addresses + piece).to(tl.pointer_type(WORD))
    if ALIGNED:
        words = tl.multiple_of(words, 16)
    size = tl.load(pieces + 3 * piece)
    owner = tl.load(pieces + 3 * piece + 1)
    start = tl.load(pieces + 3 * piece + 2).to(tl.int64) * SPAN
    total = tl.zeros((BLOCK,), dtype=tl.int64)
    for first in range(0, SPAN, BLOCK):
        at = first + tl.arange(0, BLOCK)
        word = tl.load(words + at, mask=at < size, other=0).to(tl.int64)
        mixed = ((start % CHUNK + at) * MIX_0).to(tl.uint64, bitcast=True)
        mixed = ((mixed ^ (mixed >> 30)).to(tl.int64, bitcast=True) * MIX_1).to(tl.uint64, bitcast=True)
        mixed = ((mixed ^ (mixed >> 27)).to(tl.int64, bitcast=True) * MIX_2).to(tl.uint64, bitcast=True)
        total += word * ((mixed ^ (mixed >> 31)) | 1).to(tl.int64, bitcast=True)
    factor = (start // CHUNK) * 2 * MIX_0 + 1
    tl.atomic_add(out + owner, tl.sum(total, axis=0) * factor)


class _Launch(NamedTuple):
    """What one launch reads: of each piece its address, and its size, tensor and place; whether all lie at 16 bytes."""

    word: Any
    addresses: torch.Tensor
    pieces: torch.Tensor
    is_aligned: bool


class Table:
    """Where the words of some tensors lie, on their device, for as long as they lie there. All must be dense."""

    def __init__(self, tensors: Sequence[torch.Tensor]) -> None:
        self._count, self._device = len(tensors), tensors[0].device
        by_width: dict[int, list[tuple[int, int, int, int]]] = {}
        for owner, tensor in enumerate(tensors):
            width = tensor.element_size() // (1 + tensor.is_complex())
            words = tensor.numel() * (1 + tensor.is_complex())
            pieces = by_width.setdefault(width, [])
            for number, start in enumerate(range(0, words, SPAN)):
                pieces.append((tensor.data_ptr() + width * start, min(SPAN, words - start), owner, number))
        self._launches = [self._launch(width, pieces) for width, pieces in by_width.items() if pieces]

    def _launch(self, width: int, pieces: list[tuple[int, int, int, int]]) -> _Launch:
        addresses, rest = [one[0] for one in pieces], [number for one in pieces for number in one[1:]]
        is_aligned = not any(address % 16 for address in addresses)
        return _Launch(
            WORDS[width], there(addresses, self._device), there(rest, self._device).to(torch.int32), is_aligned
        )

    def digests(self) -> torch.Tensor:
        """Digest every tensor as device.digests does; the result stays on the device."""
        found = torch.zeros(self._count, dtype=torch.int64, device=self._device)
        with torch.cuda.device(found.get_device()):  # Triton launches on the current one
            for word, addresses, pieces, is_aligned in self._launches:
                _digest[(len(addresses),)](addresses, pieces, found, *MIX, word, is_aligned, SPAN, BLOCK, CHUNK)
        return found
