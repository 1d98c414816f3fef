"""What was seen rather than read, as data: what moved, and what happened in a run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from freezeinspect.state import ABSENT, UNKNOWN, Answer


class Moved(NamedTuple):
    """Whether values moved, by where: in the forward pass, in an optimizer's step, or outside both."""

    forward: Answer = UNKNOWN
    step: Answer = UNKNOWN
    outside: Answer = UNKNOWN


class Movement(NamedTuple):
    """What moved in a module's subtree, weights and running statistics apart."""

    weights: Moved = Moved()
    stats: Moved = Moved()
    buffers: Moved = Moved()


class Flip(NamedTuple):
    """One flag that changed, of the module at a path or of a parameter by its name, and the call where it is known."""

    step: int
    within: bool  # the step; else between the one before and it
    path: str
    flag: str
    before: Answer | float | None
    after: Answer | float | None
    call: str | None


class Surprise(NamedTuple):
    """A tensor that did otherwise than its flags said it would, in how many looks between which steps."""

    name: str
    place: str
    predicted: Answer
    first: int
    last: int
    looks: int


class Times(NamedTuple):
    """In how many looks something was seen, or at how many steps it was so; and the first step of them."""

    number: int = 0
    first: int | None = None


NEVER = Times()


class Lived(NamedTuple):
    """What the steps of a run did to one tensor, as far as the looks at it tell."""

    required: Answer = ABSENT  # a gradient, as the steps began
    looks: int = 0
    forward: Times = Times()  # the looks that saw it move there
    step: Times = Times()
    outside: Times = Times()
    though_frozen: Times = Times()  # those of `step` before which it required no gradient
    stood: Times = Times()  # where it moves in no step: the looks at steps that should have moved it
    grad: Answer = ABSENT  # whether it had a gradient at those
    stale: Times = Times()  # steps of its optimizers which began with it frozen and a gradient left that moves it


class Turn(NamedTuple):
    """A module's mode that is another at a step than at the step before; `required` is over both steps."""

    step: int
    path: str
    training: Answer
    required: Answer  # a gradient: the module's own parameters, or else those of its branch
    call: str | None


class Disagreement(NamedTuple):
    """A flag, or the values of a tensor, that are not the same on all ranks; `seen` has each word with its ranks."""

    path: str
    tensor: str | None
    what: str
    seen: tuple[tuple[str, tuple[int, ...]], ...]
    step: int | None = None


@dataclass(frozen=True)
class Observed:
    """What was seen rather than read: what moved, what a pickle would import, and what happened in a run.

    `movement` has an entry a module, `lived` an entry a tensor. Of turns to the same mode only the first is kept.
    """

    movement: tuple[Movement | None, ...] = ()
    imports: tuple[str, ...] = ()
    flips: tuple[Flip, ...] = ()
    surprises: tuple[Surprise, ...] = ()
    steps: int | None = None  # that were watched
    lived: tuple[Lived, ...] = ()
    turns: tuple[Turn, ...] = ()
    in_eval: Times = NEVER  # steps that moved the root's parameters while the root was in eval
    recomputed: tuple[tuple[str, int], ...] = ()  # modules that ran forward in a backward, and the first step of it
    ranks: tuple[Disagreement, ...] = ()  # where those that train one model differ
    orphaned: tuple[tuple[int, int], ...] = ()  # groups whose tensors the model has had, and the first step without
