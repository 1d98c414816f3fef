"""What a subtree has in all: the elements of its parameters, and the optimizer groups that hold them."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import accumulate
from typing import NamedTuple

from freezeinspect.state import Snapshot, Structure

WALKED = 2_000_000  # modules, over all subtrees that share something: past it, the rest are not counted


class Count(NamedTuple):
    """Elements of the parameters, None where not known; not `sure` where some may be buffers'."""

    elements: int | None
    sure: bool


class Totals:
    """Counts for each subtree of a structure, each tied tensor and each shared module once.

    A subtree that shares nothing is a span of the pre-order, so its count is a difference; others are walked.
    """

    def __init__(self, structure: Structure) -> None:
        self.structure = structure
        self.left = WALKED
        own = [self._count(numbers) for numbers in structure.own]
        self._elements = [0, *accumulate(one.elements or 0 for one in own)]
        self._unknown = [0, *accumulate(one.elements is None for one in own)]
        self._unsure = [0, *accumulate(not one.sure for one in own)]
        tied = {structure.tensors[i].owner for group in structure.tie_groups.values() for i in group}
        self._shares = [0, *accumulate(i in tied or i in structure.further for i in range(len(structure)))]

    def below(self, module: int) -> Count:
        """Count the subtree of a module."""
        start, end = module, self.structure.ends[module]
        if self._shares[end] > self._shares[start]:
            return self._walked(module)
        unknown = self._unknown[end] > self._unknown[start]
        elements = None if unknown else self._elements[end] - self._elements[start]
        return Count(elements, sure=self._unsure[end] == self._unsure[start])

    def _walked(self, module: int) -> Count:
        numbers: list[int] = []
        for below in self.structure.subtree(module):
            self.left -= 1
            if self.left < 0:
                return Count(None, sure=False)
            numbers += self.structure.own[below]
        return self._count(numbers)

    def _count(self, numbers: Iterable[int]) -> Count:
        tensors = [one for one in map(self.structure.tensors.__getitem__, numbers) if one.kind != "buffer"]
        tied = {one.tie: one for one in reversed(tensors) if one.tie is not None}
        sizes = [one.elements for one in (*(one for one in tensors if one.tie is None), *tied.values())]
        elements = None if None in sizes else sum(size for size in sizes if size is not None)
        return Count(elements, sure=all(one.kind == "parameter" for one in tensors))


def groups_below(snapshot: Snapshot) -> list[set[tuple[int, ...] | None]]:
    """Give, for each subtree, which sets of groups its parameters are in; None for one of which nobody can tell."""
    structure = snapshot.structure
    if not snapshot.groups:
        return [set() for _ in structure.paths]
    kinds = list(dict.fromkeys(snapshot.groups))
    bits = {kind: 1 << i for i, kind in enumerate(kinds)}
    own = [0] * len(structure)
    for tensor, groups in zip(structure.tensors, snapshot.groups, strict=True):
        own[tensor.owner] |= bits[groups] if tensor.kind != "buffer" else 0
    known: dict[int, set[tuple[int, ...] | None]] = {}
    total = structure.over_subtrees(own)
    for mask in set(total):
        known[mask] = {kind for kind in kinds if mask & bits[kind]}
    return [known[mask] for mask in total]
