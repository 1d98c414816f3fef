"""What the looks of each step say: which tensors moved in it, and where."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch

from freezeinspect.chapters import FORWARD, KNOWN, OUTSIDE, STEP, part_of
from freezeinspect.history import Looks
from freezeinspect.recorder.attention import Attention
from freezeinspect.recorder.evidence import Digest, Look, Values
from freezeinspect.state import Structure

BETWEEN, STEPPING, EVALUATING, ALL = range(4)  # what ran before a look: ALL is forward, backward and step
LATE = 16  # steps whose digests may be on their way; of more, nothing is looked at until some are there


class Mark(NamedTuple):
    """A look, and what ran since the one before it."""

    ran: int
    look: Look


class Seen(NamedTuple):
    """The looks of one step, whose digests may not be there yet."""

    step: int
    optimizer: int
    marks: list[Mark]
    ran_forward: bool


class Ledger:
    """The last digest of each tensor, and the steps whose digests are on their way."""

    def __init__(self, attention: Attention, optimizers: list[torch.optim.Optimizer]) -> None:
        self._attention, self._optimizers = attention, optimizers
        self.tensors: list[torch.Tensor] = []
        self._last: list[Digest] = []
        self._stale: list[bool] = []  # whether it was not looked at in the last step that may have moved it
        self._waiting: deque[Seen] = deque()

    def enrol(self, structure: Structure, tensors: list[torch.Tensor]) -> None:
        """Take the tensors of a structure; those that were there before keep what is known of them."""
        known = dict(zip(map(id, self.tensors), zip(self._last, self._stale, strict=True), strict=True))
        self.tensors, self._values = tensors, Values(tensors)
        self._last = [known.get(id(tensor), (None, False))[0] for tensor in tensors]
        self._stale = [known.get(id(tensor), (None, False))[1] for tensor in tensors]
        self._before: list[dict[int, int]] = [{} for _ in range(max(len(self._optimizers), 1))]
        parts = [part_of(structure, i) for i in range(len(tensors))]
        self._is_weight = [part == "weights" for part in parts]
        place = {id(tensor): i for i, tensor in enumerate(tensors)}
        members = [
            {place[id(p)] for group in one.param_groups for p in group["params"] if id(p) in place}
            for one in self._optimizers
        ]
        self._attention.enrol(list(map(_size, tensors)), [part == "stats" for part in parts], members)

    def start(self) -> None:
        """Look at everything before the first step."""
        if self._attention.evidence != "off":
            self._last = list(self.look(range(len(self.tensors))).digests().values())

    @property
    def is_late(self) -> bool:
        """Tell whether too many digests are on their way."""
        return len(self._waiting) >= LATE

    def look(self, plan: Sequence[int]) -> Look:
        """Look at some tensors."""
        return self._values.look(plan)

    def add(self, seen: Seen) -> None:
        """Take the looks of a step."""
        self._waiting.append(seen)

    def settled(self, wait: bool) -> Iterator[tuple[int, Looks]]:
        """Give what each step's looks say, of those whose digests are there; or wait for all."""
        while self._waiting and (wait or all(mark.look.is_ready for mark in self._waiting[0].marks)):
            one = self._waiting.popleft()
            seen = self._moved(one)
            self._grow_stale(self._attention.domains[one.optimizer], seen)
            if not seen:
                continue
            before = self._before[one.optimizer]
            changed = {i: bits for i, bits in seen.items() if before.get(i) != bits}
            before |= changed
            yield one.step, Looks(self._attention.ranges(list(seen)), changed)

    def at_the_end(self, ran_forward: bool) -> dict[int, int]:
        """Look at everything once more, and give the bits of what moved since the last step."""
        if self._attention.evidence == "off":
            return {}
        seen = self._moved(Seen(0, 0, [Mark(BETWEEN, self.look(range(len(self.tensors))))], ran_forward))
        return {i: bits for i, bits in seen.items() if bits & (FORWARD | STEP | OUTSIDE)}

    def _moved(self, seen: Seen) -> dict[int, int]:
        """Compare each look with the one before it: bits of where each tensor moved, and of where that is known."""
        looks = [(mark.ran, mark.look.digests()) for mark in seen.marks]
        found = {}
        for i in looks[0][1]:
            usual = OUTSIDE if self._is_weight[i] or not seen.ran_forward else FORWARD
            found[i] = self._bits(i, looks, usual)
            self._stale[i] = False
        return found

    def _bits(self, i: int, looks: list[tuple[int, dict[int, Digest]]], usual: int) -> int:
        """Say of one tensor where it moved; `usual` is where it does when no optimizer steps."""
        before, bits, stale = self._last[i], 0, self._stale[i]
        for ran, digests in looks:
            now = digests[i]
            place, known = (STEP, STEP) if ran == STEPPING else (usual, FORWARD | OUTSIDE)
            if ran == ALL:
                place, known = (STEP if self._is_weight[i] else FORWARD), STEP | FORWARD
            if before is not None and now is not None:
                if before == now:
                    bits |= known << KNOWN
                elif ran != BETWEEN or not stale:
                    bits |= place | known << KNOWN
            before = now
        self._last[i] = before
        return bits

    def _grow_stale(self, domain: Sequence[int], seen: dict[int, int]) -> None:
        if len(seen) < len(domain):
            for i in domain:
                self._stale[i] |= i not in seen


def _size(tensor: torch.Tensor) -> int:
    return 0 if torch.nn.parameter.is_lazy(tensor) else tensor.numel() * tensor.element_size()
