"""What rules ask of a record, worked out once for all of them: each answer is linear in the model."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from freezeinspect.observed import Lived, Observed
from freezeinspect.state import ABSENT, MIXED, NO, YES, Answer, Snapshot, Source, Structure, combine
from freezeinspect.verdicts import Verdicts, judge


class Hit(NamedTuple):
    """One thing that a rule found: where, what was seen and why it matters, and the line that mends it.

    The message says nothing of the path, so that equal ones can be told together. Without a severity it is the rule's.
    """

    path: str
    message: str
    fix: str | None = None
    severity: str | None = None
    tensor: str | None = None
    step: int | None = None
    call: str | None = None


@dataclass(frozen=True)
class Facts:
    """A record, and what follows from it: all that a rule gets."""

    snapshot: Snapshot
    observed: Observed = Observed()
    source: Source = Source()

    @property
    def structure(self) -> Structure:
        """Give the modules and tensors."""
        return self.snapshot.structure

    @cached_property
    def verdicts(self) -> Verdicts:
        """Give what the next step and forward can move."""
        return judge(self.snapshot)

    @property
    def is_watched(self) -> bool:
        """Tell a record of a run that was watched."""
        return self.observed.steps is not None

    @cached_property
    def parameters(self) -> tuple[tuple[int, ...], ...]:
        """Give each module's own parameters."""
        tensors = self.structure.tensors
        return tuple(tuple(i for i in own if tensors[i].kind == "parameter") for own in self.structure.own)

    @cached_property
    def required(self) -> tuple[Answer, ...]:
        """Say of each module whether its own parameters require a gradient."""
        return tuple(combine(self.snapshot.requires_grad[i] for i in own) for own in self.parameters)

    @cached_property
    def branches(self) -> tuple[int, ...]:
        """Give for each module the nearest at or above it whose subtree has parameters."""
        has = self.verdicts.requires_grad
        return tuple(
            next((above for above in self.structure.ancestors(i) if has[above] is not ABSENT), 0)
            for i in range(len(self.structure))
        )

    @cached_property
    def stayed_frozen(self) -> tuple[bool, ...]:
        """Tell which modules were frozen at every watched step: their own parameters, or those of their branch."""
        own = [0] * len(self.structure)
        for module, numbers in enumerate(self.parameters if self.observed.lived else ()):
            for i in numbers:
                own[module] |= 1 if self.observed.lived[i].required is NO else 2
        total = self.structure.over_subtrees(own)
        return tuple((own[i] or total[branch]) == 1 for i, branch in enumerate(self.branches))

    def owners(self, parameters: Iterable[int]) -> Iterator[tuple[int, str | None, list[int]]]:
        """Give the modules of some parameters: once where these are all of its own, else with the name of each."""
        found: dict[int, list[int]] = {}
        for i in parameters:
            found.setdefault(self.structure.tensors[i].owner, []).append(i)
        for module, some in found.items():
            if len(some) == len(self.parameters[module]):
                yield module, None, some
            else:
                yield from ((module, self.structure.tensors[i].name, [i]) for i in some)

    def lived(self, parameter: int) -> Lived:
        """Give what a watched run did to a parameter."""
        return self.observed.lived[parameter]

    def depends_on_mode(self, module: int) -> bool:
        """Tell a module that does otherwise in train mode: one with statistics, or a dropout that drops."""
        return self.verdicts.stats[module] is not ABSENT or bool(self.snapshot.dropout[module])

    def is_moved_by_hand(self, module: int) -> bool:
        """Tell a module whose weights a run saw move outside the optimizer's steps: an average of another's, say."""
        seen = self.observed.movement[module] if self.observed.movement else None
        return seen is not None and seen.weights.outside in (YES, MIXED)

    def type_of(self, module: int) -> str:
        """Give the short name of a module's class."""
        return (self.structure.types[module] or "module").rpartition(".")[2]


def in_code(path: str, tensor: str | None = None) -> str:
    """Write the module at a path, or a tensor of it, as the user would, in a model that is named so.

    >>> in_code("head.fc"), in_code("body.0.bn"), in_code("")
    ('model.head.fc', 'model.body[0].bn', 'model')
    """
    parts = [*path.split("."), tensor or ""]
    return "model" + "".join(f"[{part}]" if part.isdigit() else f".{part}" for part in parts if part)
