"""What the looks of each step say: which tensors moved in it, and where."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import torch

from freezeinspect.chapters import FORWARD, KNOWN, OUTSIDE, STEP, part_of
from freezeinspect.history import Looks
from freezeinspect.recorder.attention import Attention
from freezeinspect.recorder.evidence import Digest, Look, Values
from freezeinspect.state import Structure

BETWEEN, STEPPING, EVALUATING, WHOLE, TOLD = range(5)  # what ran before a look: a whole step is all of it at once
LATE = 16  # steps whose digests may be on their way; of more, nothing is looked at until some are there


class Mark(NamedTuple):
    """A look, and what ran since the one before it."""

    ran: int
    look: Look


class Begun(NamedTuple):
    """A step that has begun: by which optimizer, what is looked at in it, and the looks so far."""

    optimizer: int
    plan: Sequence[int]
    marks: list[Mark]


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
        self._structure: Structure | None = None
        self._before: list[dict[int, int]] = []  # by optimizer and tensor, what its last look saw
        self._waiting: deque[Seen] = deque()
        self._steps = 0
        self._stepped: list[int] = []  # by optimizer, its last step
        self._looked: list[int] = []  # by tensor, the last step that was looked at

    def enrol(self, structure: Structure, tensors: list[torch.Tensor]) -> None:
        """Take the tensors of a structure; those that were there before keep what is known of them."""
        known = dict(zip(map(id, self.tensors), zip(self._last, self._looked, strict=True), strict=True))
        self.tensors, self._values = tensors, Values(tensors)
        self._last = [known.get(id(tensor), (None, 0))[0] for tensor in tensors]
        self._looked = [known.get(id(tensor), (None, 0))[1] for tensor in tensors]
        if structure is not self._structure:
            self._structure, self._before = structure, []
        count = max(len(self._optimizers), 1)  # one may have joined
        self._before += [{} for _ in range(count - len(self._before))]
        self._stepped += [0] * (count - len(self._stepped))
        parts = [part_of(structure, i) for i in range(len(tensors))]
        self._is_weight = [part == "weights" for part in parts]
        members = [_members(one, tensors) for one in self._optimizers]
        self._attention.enrol(list(map(_size, tensors)), [part == "stats" for part in parts], members)
        self._steppers: list[list[int]] = [[] for _ in tensors]  # by tensor, in whose steps it is looked at
        for optimizer, domain in enumerate(self._attention.domains):
            for i in domain:
                self._steppers[i].append(optimizer)

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
            self._count(one.optimizer, seen)
            if seen:
                before = self._before[one.optimizer]
                changed = {i: bits for i, bits in seen.items() if before.get(i) != bits}
                before |= changed
                yield one.step, Looks(self._attention.ranges(list(seen)), changed)

    def _count(self, optimizer: int, seen: Iterable[int]) -> None:
        """Count a step, and note who was looked at in it."""
        self._steps += 1
        self._stepped[optimizer] = self._steps
        for i in seen:
            self._looked[i] = self._steps

    def _is_stale(self, i: int) -> bool:
        """Tell whether a step that may have moved a tensor went by without a look at it."""
        return any(self._stepped[optimizer] > self._looked[i] for optimizer in self._steppers[i])

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
        for i in sorted(set().union(*(digests for _, digests in looks))):
            usual = OUTSIDE if self._is_weight[i] or not seen.ran_forward else FORWARD
            found[i] = self._sure(i, self._bits(i, looks, usual))
        return found

    def _sure(self, i: int, bits: int) -> int:
        """Leave open whether a weight that steps move stayed outside them, where not every step is looked at.

        Else looks that can tell and looks that cannot would take turns, and each would be another Span.
        """
        if self._is_weight[i] and self._attention.every is None and bits & STEP and not bits & OUTSIDE:
            return bits & ~((FORWARD | OUTSIDE) << KNOWN)
        return bits

    def _bits(self, i: int, looks: list[tuple[int, dict[int, Digest]]], usual: int) -> int:
        """Say of one tensor where it moved; `usual` is where it does when no optimizer steps."""
        before, bits, stale = self._last[i], 0, self._is_stale(i)
        for ran, digests in looks:
            if i not in digests:
                continue
            now = digests[i]
            if ran == TOLD:
                before = now
                continue
            is_step = ran == STEPPING or (ran == WHOLE and self._is_weight[i])
            place, known = (STEP, STEP) if is_step else (usual, FORWARD | OUTSIDE)
            if before is not None and now is not None:
                if before == now:
                    bits |= (known | (STEP if ran == WHOLE else 0)) << KNOWN
                elif ran != BETWEEN or not stale:
                    bits |= place | known << KNOWN
            before = now
        self._last[i] = before
        return bits


def _members(optimizer: torch.optim.Optimizer, tensors: Sequence[torch.Tensor]) -> set[int]:
    """Give the tensors that an optimizer has in its groups; a tied one is there under each of its names."""
    held = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    return {i for i, tensor in enumerate(tensors) if id(tensor) in held}


def _size(tensor: torch.Tensor) -> int:
    return 0 if torch.nn.parameter.is_lazy(tensor) else tensor.numel() * tensor.element_size()
