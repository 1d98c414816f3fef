"""Which tensors a watch looks at in each step: all of them, or as many as a share of the step's time allows."""

from __future__ import annotations

from collections.abc import Sequence

from freezeinspect.history import Ranges

SHARE = 0.005  # of a step's time, that `auto` gives to looking at weights
AT_FIRST, AFTER_A_FLIP = 3, 2  # steps that `auto` looks at whole
_WORTH = 2**16  # bytes of a look, from which its speed is learned
_FEW = 4  # optimizers; of more, only the first looks at what is in none


class Attention:
    """A plan for each step. `sizes` has the bytes of each tensor, `statistics` those that are looked at always."""

    def __init__(self, evidence: str, every: int | None) -> None:
        self.evidence, self.every = evidence, every
        self._whole = AT_FIRST
        self._credit = 0.0
        self._rate = 1e-10  # seconds a byte, learned from each look

    def enrol(self, sizes: Sequence[int], statistics: Sequence[bool], members: Sequence[set[int]]) -> None:
        """Take the tensors of a structure, and which are in the groups of each optimizer."""
        self.sizes = sizes
        loose = set(range(len(sizes))).difference(*members)
        many = len(members) > _FEW
        self.domains = [sorted(own | (loose if not many or n == 0 else set())) for n, own in enumerate(members)]
        if not members:
            self.domains = [sorted(loose)]
        self._always = [[i for i in domain if statistics[i]] for domain in self.domains]
        self._others = [[i for i in domain if not statistics[i]] for domain in self.domains]
        self._next = [0] * len(self.domains)
        self._ranges = {tuple(domain): ranges(domain) for domain in self.domains}
        self.flipped()

    def flipped(self) -> None:
        """Look at the next steps whole."""
        self._whole = max(self._whole, AFTER_A_FLIP)

    def plan(self, optimizer: int, step: int) -> Sequence[int]:
        """Give the tensors to look at, in order."""
        domain = self.domains[optimizer]
        if self.evidence == "off":
            return ()
        if self.every is not None:
            return domain if (step - 1) % self.every == 0 else self._always[optimizer]
        if self._whole > 0:
            self._whole -= 1
            return domain
        return sorted([*self._always[optimizer], *self._turn(optimizer)])

    def _turn(self, optimizer: int) -> list[int]:
        """Give the next of the others, as far as the credit goes."""
        others = self._others[optimizer]
        taken: list[int] = []
        while others and len(taken) < len(others):
            tensor = others[self._next[optimizer] % len(others)]
            cost = 2 * self.sizes[tensor] * self._rate
            if cost > self._credit:
                break
            self._credit -= cost
            self._next[optimizer] += 1
            taken.append(tensor)
        return taken

    def took(self, seconds: float, plan: Sequence[int]) -> None:
        """Learn how long a look takes."""
        looked = sum(self.sizes[i] for i in plan)
        if looked > _WORTH:
            self._rate = seconds / looked

    def earn(self, seconds: float) -> None:
        """Get a share of a step's time to look at weights; what is not used up is kept for the largest of them."""
        most = 2 * max(self.sizes, default=0) * self._rate
        self._credit = min(self._credit, most) + SHARE * seconds

    def ranges(self, plan: Sequence[int]) -> Ranges:
        """Say a plan in ranges; the same object for the same domain."""
        return self._ranges.get(tuple(plan)) or ranges(plan)


def ranges(tensors: Sequence[int]) -> Ranges:
    """Say ascending numbers in ranges."""
    found: list[tuple[int, int]] = []
    for one in tensors:
        if found and found[-1][1] == one:
            found[-1] = (found[-1][0], one + 1)
        else:
            found.append((one, one + 1))
    return tuple(found)
