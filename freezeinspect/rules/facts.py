"""What rules ask of a record, worked out once for all of them: each answer is linear in the model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from keyword import iskeyword
from typing import NamedTuple

from freezeinspect.expected import Comparison, Expected, seen
from freezeinspect.observed import Lived, Observed
from freezeinspect.state import ABSENT, MIXED, NO, YES, Answer, Group, Snapshot, Source, Structure, combine
from freezeinspect.verdicts import UNPREDICTABLE, Verdicts, judge


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
    ranks: tuple[int, ...] = ()


@dataclass(frozen=True)
class Facts:
    """A record, and what follows from it: all that a rule gets."""

    snapshot: Snapshot
    observed: Observed = Observed()
    source: Source = Source()
    expected: Expected = Expected()

    @property
    def structure(self) -> Structure:
        """Give the modules and tensors."""
        return self.snapshot.structure

    @cached_property
    def verdicts(self) -> Verdicts:
        """Give what the next step and forward can move."""
        return judge(self.snapshot)

    @cached_property
    def comparison(self) -> Comparison:
        """Give what a policy expects beside what is so."""
        answers = seen(self.snapshot, self.verdicts, self.observed)
        return Comparison(self.expected, self.structure, answers, self.verdicts.stats)

    @cached_property
    def adapting(self) -> frozenset[int]:
        """Give the modules whose running statistics are to move: a policy says so."""
        said = self.comparison.governing("stats_move") if self.expected.lines else ()
        return frozenset(i for i, one in enumerate(said) if one is not None and one[1] is YES)

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
        found: list[int] = []
        for i, (has, parent) in enumerate(zip(self.verdicts.requires_grad, self.structure.parents, strict=True)):
            found.append(i if has is not ABSENT or parent < 0 else found[parent])
        return tuple(found)

    def is_frozen(self, module: int) -> bool:
        """Tell a module whose own parameters are frozen; one that has none is frozen with its branch."""
        own = self.required[module]
        if own is ABSENT:
            return self.is_wholly_frozen(self.branches[module])
        return own is NO and module not in self._toggling

    def is_wholly_frozen(self, module: int) -> bool:
        """Tell a module where every parameter at and below it is frozen."""
        return self.verdicts.requires_grad[module] is NO and module not in self._toggling

    def is_leaf(self, module: int) -> bool:
        """Tell a module without children."""
        return not self.structure.children[module] and module not in self.structure.further

    @property
    def is_training(self) -> bool:
        """Tell a model that is about to train, or does: inference is none of most rules' business."""
        return self.is_watched or bool(self.snapshot.optimizers) or self.snapshot.training[0] is YES

    @cached_property
    def toggled(self) -> frozenset[str]:
        """Name the parameters that a run saw both frozen and unfrozen again, as a GAN's: they are not frozen."""
        seen = {(flip.path, flip.after) for flip in self.observed.flips if flip.flag == "requires_grad"}
        return frozenset(name for name, after in seen if after is YES and (name, NO) in seen)

    @cached_property
    def _toggling(self) -> frozenset[int]:
        """Give the modules at and above parameters that are toggled."""
        structure = self.structure
        names = enumerate(map(structure.full_name, range(len(structure.tensors)))) if self.toggled else ()
        owners = {structure.tensors[i].owner for i, name in names if name in self.toggled}
        return frozenset(above for owner in owners for above in structure.ancestors(owner))

    @property
    def has_flipped_gradients(self) -> bool:
        """Tell a run in which a parameter was frozen or unfrozen."""
        return any(flip.flag == "requires_grad" for flip in self.observed.flips)

    @cached_property
    def counts(self) -> tuple[Counter[Answer], ...]:
        """Count for each module the parameters of its span by whether they require a gradient."""
        found: list[Counter[Answer]] = [Counter(self.snapshot.requires_grad[i] for i in own) for own in self.parameters]
        for child in range(len(found) - 1, 0, -1):
            found[self.structure.parents[child]].update(found[child])
        return tuple(found)

    @property
    def is_predictable(self) -> bool:
        """Tell optimizers that are all known to step as section 2.3 of the design says."""
        kinds = [(one.type or UNPREDICTABLE[0]).rpartition(".")[2] for one in self.snapshot.optimizers]
        return not any(name in kind for name in UNPREDICTABLE for kind in kinds)

    @cached_property
    def groups(self) -> tuple[Group, ...]:
        """Give the parameter groups of all optimizers, as tensors number them."""
        return tuple(group for one in self.snapshot.optimizers for group in one.groups)

    @cached_property
    def left_out(self) -> tuple[int, ...]:
        """Give the parameters that require a gradient and are in no group, each tied one once."""
        snapshot = self.snapshot
        if not snapshot.optimizers or not self.is_predictable:
            return ()
        return tuple(i for i in self.structure.unique if snapshot.requires_grad[i] is YES and snapshot.groups[i] == ())

    @cached_property
    def grouped(self) -> tuple[int, ...]:
        """Give the parameters that are in a group of an optimizer, each tied one once."""
        snapshot = self.snapshot
        if not snapshot.optimizers or not self.is_predictable:
            return ()
        return tuple(i for i in self.structure.unique if snapshot.requires_grad[i] is not ABSENT and snapshot.groups[i])

    @cached_property
    def frozen_in_groups(self) -> tuple[int, ...]:
        """Give the frozen parameters that are in a group of an optimizer, but those that a run toggles."""
        required = self.snapshot.requires_grad
        return tuple(i for i in self.grouped if required[i] is NO and not self.is_toggled(i))

    def is_toggled(self, parameter: int) -> bool:
        """Tell a parameter that a run saw both frozen and unfrozen again."""
        return bool(self.toggled) and self.structure.full_name(parameter) in self.toggled

    @cached_property
    def orphan_shapes(self) -> frozenset[tuple[int, ...] | None]:
        """Give the shapes of the tensors in groups that no module owns."""
        return frozenset(shape for group in self.groups for shape in group.orphan_shapes)

    def by_module(self, tensors: Iterable[int]) -> dict[int, list[int]]:
        """Sort tensors by the module that owns them."""
        found: dict[int, list[int]] = {}
        for i in tensors:
            found.setdefault(self.structure.tensors[i].owner, []).append(i)
        return found

    def names_of(self, tensors: Iterable[int]) -> list[str]:
        """Write tensors as the user would."""
        return [in_code(self.structure.full_name(i)) for i in tensors]

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
        for module, some in self.by_module(parameters).items():
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


def listed(names: Sequence[str]) -> str:
    """Join a few names, and count what is more.

    >>> listed(["weight", "bias"]), listed(["a", "b", "c", "d", "e"])
    ('weight, bias', 'a, b, c and 2 more')
    """
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more


def in_code(path: str, tensor: str | None = None) -> str:
    """Write the module at a path, or a tensor of it, as the user would, in a model that is named so.

    >>> in_code("head.fc"), in_code("body.0.bn"), in_code("")
    ('model.head.fc', 'model.body[0].bn', 'model')
    """
    parts = [part for part in (*path.split("."), tensor) if part]
    if not all(part.isdigit() or (part.isascii() and part.isidentifier() and not iskeyword(part)) for part in parts):
        return f"model.get_{'parameter' if tensor else 'submodule'}({'.'.join(parts)!r})"
    return "model" + "".join(f"[{part}]" if part.isdigit() else f".{part}" for part in parts)
