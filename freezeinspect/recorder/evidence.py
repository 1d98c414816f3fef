"""What values a model's tensors have, as digests: on the CPU at once, on a device without waiting for it.

A digest is only ever compared with another of the same tensor, so memory order will do where the strides stay.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch._subclasses.fake_tensor import FakeTensor
from torch.utils._python_dispatch import is_traceable_wrapper_subclass
from xxhash import xxh3_128_digest

from freezeinspect.fingerprint import buffer_of, local
from freezeinspect.recorder import device

Digest = bytes | int | None  # None is not known


class Look:
    """The digests of some tensors at one moment; those on a device are there once `is_ready`."""

    def __init__(self, tensors: Sequence[int], digests: list[Digest], late: list[device.Readback]) -> None:
        self.tensors, self._digests, self._late = tensors, digests, late

    @property
    def is_ready(self) -> bool:
        """Tell whether all are there."""
        return all(one.is_ready for one in self._late)

    def digests(self) -> dict[int, Digest]:
        """Give the digest of each tensor that was looked at; waits where one is not ready."""
        for one in self._late:
            for place, digest in zip(one.places, one.values(), strict=True):
                self._digests[place] = digest
        return dict(zip(self.tensors, self._digests, strict=True))


class _Row(NamedTuple):
    """A tensor's memory, for as long as it lies where it lay."""

    address: int
    elements: int
    layout: tuple[Any, ...]
    buffer: Any  # None where the elements must be copied together first


class Values:
    """The values of some tensors."""

    def __init__(self, tensors: Sequence[torch.Tensor]) -> None:
        self.tensors = tensors
        self._is_cut = [local(tensor) is not tensor for tensor in tensors]  # of a DTensor this rank's part is looked at
        self._rows: list[_Row | None] = [None] * len(tensors)
        self._readers: dict[torch.device, device.Reader] = {}
        self._digests: list[Callable[[int], Digest] | None] = [self._way(local(tensor)) for tensor in tensors]

    def look(self, tensors: Sequence[int]) -> Look:
        """Digest these tensors as they are now."""
        digests: list[Digest] = [None] * len(tensors)
        if torch._C._functorch.peek_interpreter_stack() is not None:  # within torch.func nothing has an address
            return Look(tensors, digests, [])
        there: dict[torch.device, list[int]] = {}
        for place, i in enumerate(tensors):
            digest = self._digests[i]
            if digest is not None:
                digests[place] = digest(i)
            elif self.tensors[i].is_cuda:
                there.setdefault(self.tensors[i].device, []).append(place)
        if there and device.is_capturing():
            return Look(tensors, digests, [])
        return Look(tensors, digests, [self._late(one, places, tensors) for one, places in there.items()])

    def _late(self, where: torch.device, places: list[int], tensors: Sequence[int]) -> device.Readback:
        if where not in self._readers:
            self._readers[where] = device.Reader(where)
        return self._readers[where].read(places, [self._here(tensors[place]) for place in places])

    def _here(self, i: int) -> torch.Tensor:
        return local(self.tensors[i]) if self._is_cut[i] else self.tensors[i]

    def _way(self, tensor: torch.Tensor) -> Callable[[int], Digest] | None:
        """Choose how to digest a tensor; None for one on a device, or without values."""
        if torch.nn.parameter.is_lazy(tensor) or tensor.is_meta:
            return None
        if _is_traced(tensor) or tensor.numel() == 0:  # FSDP leaves some ranks no element
            return lambda _: None
        if is_traceable_wrapper_subclass(tensor) or tensor.layout is not torch.strided or tensor.is_quantized:
            return self._of_parts
        return None if tensor.device.type != "cpu" else self._of_memory

    def _of_memory(self, i: int) -> Digest:
        """Digest a tensor's memory; None once where it lies otherwise than in the last look, and compares with none."""
        row, tensor = self._rows[i], self._here(i)
        if row is None or tensor.data_ptr() != row.address or tensor.numel() != row.elements:
            before, row = row, _row(tensor)
            self._rows[i] = row
            if before is not None and before.layout != row.layout:
                return None
        if row.buffer is not None:
            return xxh3_128_digest(row.buffer)
        plain = tensor.detach().resolve_conj().resolve_neg().contiguous()
        return xxh3_128_digest(buffer_of(plain))

    def _of_parts(self, i: int) -> Digest:
        """Digest what a tensor is made of; None where a part is on a device, or nobody knows the parts."""
        parts = [_digest_of_part(part) for part in _parts(self._here(i))]
        return None if None in parts else xxh3_128_digest(b"".join(filter(None, parts)))


def _is_traced(tensor: torch.Tensor) -> bool:
    """Tell whether it stands for values within torch.func, or without any."""
    return torch._C._functorch.is_functorch_wrapped_tensor(tensor) or isinstance(tensor, FakeTensor)


def _row(tensor: torch.Tensor) -> _Row:
    plain = tensor.detach()
    strides = plain.stride()
    dense = plain.permute(sorted(range(plain.dim()), key=lambda i: (-strides[i], i)))
    is_dense = dense.is_contiguous() and not plain.is_conj() and not plain.is_neg()
    layout = (plain.dtype, plain.shape, strides)
    return _Row(plain.data_ptr(), plain.numel(), layout, buffer_of(dense) if is_dense else None)


def _parts(tensor: torch.Tensor) -> list[torch.Tensor]:
    """Give the plain tensors within one that is not."""
    plain = tensor.detach()
    if is_traceable_wrapper_subclass(plain):
        return [getattr(plain, name) for name in plain.__tensor_flatten__()[0]]
    if plain.is_quantized:
        return [plain.int_repr()]
    if plain.layout is torch.sparse_coo:
        return [plain._indices(), plain._values()]
    if plain.layout in (torch.sparse_csr, torch.sparse_bsr):
        return [plain.crow_indices(), plain.col_indices(), plain.values()]
    if plain.layout in (torch.sparse_csc, torch.sparse_bsc):
        return [plain.ccol_indices(), plain.row_indices(), plain.values()]
    return [tensor]


def _digest_of_part(part: torch.Tensor) -> bytes | None:
    if part.layout is not torch.strided or part.device.type != "cpu" or is_traceable_wrapper_subclass(part):
        return None
    plain = part.resolve_conj().resolve_neg().contiguous()
    return xxh3_128_digest(buffer_of(plain))
