"""Values to digests: 16 bytes that change when any bit of a tensor, its dtype or its shape does."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

Buffer: TypeAlias = Any  # what has the buffer protocol: bytes, a numpy array

if TYPE_CHECKING:
    import torch

BLOCK = 2**18  # bytes of a file at a time


def of_bytes(dtype: str, shape: Sequence[int], blocks: Iterable[Buffer]) -> str:
    """Digest a tensor's elements, given as bytes in row-major order, little-endian."""
    from xxhash import xxh3_128

    digest = xxh3_128(f"{dtype} {tuple(shape)};".encode())
    for block in blocks:
        digest.update(block)
    return digest.hexdigest()


def of_tensor(tensor: torch.Tensor) -> str | None:
    """Digest a live tensor's values; None where it has none, or not in a plain row of bytes.

    That is so on meta, for a lazy, sparse, quantised or nested tensor, and for a subclass that wraps another. One on
    another device is copied to the CPU.
    """
    import torch

    if not _is_plain(tensor):
        return None
    dtype = str(tensor.dtype).removeprefix("torch.")
    with torch.no_grad():
        plain = tensor.detach().resolve_conj().resolve_neg().cpu().contiguous()
    return of_bytes(dtype, tensor.shape, [buffer_of(plain)])


def local(tensor: torch.Tensor) -> torch.Tensor:
    """Give this rank's own part of a DTensor; any other tensor as it is."""
    kinds = sys.modules.get("torch.distributed.tensor")
    if kinds is None or not isinstance(tensor, kinds.DTensor):
        return tensor
    part: torch.Tensor = tensor._local_tensor
    return part


def buffer_of(tensor: torch.Tensor) -> Buffer:
    """Give the memory of a contiguous tensor on the CPU, good for as long as the tensor is.

    Not by way of numpy, which would leave the storage unable to be resized, as FSDP does.
    """
    import ctypes

    length = tensor.numel() * tensor.element_size()
    return (ctypes.c_ubyte * length).from_address(tensor.data_ptr()) if length else b""


def _is_plain(tensor: torch.Tensor) -> bool:
    import torch
    from torch.utils._python_dispatch import is_traceable_wrapper_subclass

    if torch.nn.parameter.is_lazy(tensor) or tensor.is_meta or tensor.is_nested or tensor.is_quantized:
        return False
    return tensor.layout is torch.strided and not is_traceable_wrapper_subclass(tensor)
