"""What a module's attributes say, whether it is alive or in a file: the columns that every reader fills alike."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from math import isfinite
from numbers import Number, Real
from typing import Any, NamedTuple

from freezeinspect.state import ABSENT, NO, UNKNOWN, YES, Answer

FLAGS = ("training", "trainable", "bn_freeze", "drop_freeze", "track_running_stats", "momentum", "p")
MISSING: Any = object()
MISSPELLED = frozenset(  # spellings that set a new attribute and freeze nothing
    """require_grad require_grads required_grad required_grads requires_grads requires_gradient requires_gradients
    require_gradient require_gradients reqires_grad requries_grad requiers_grad requires_gard""".split()
)
STRAY_ON_MODULE = frozenset(("requires_grad", "require_grad", "required_grad"))
STRAY_ON_PARAMETER = MISSPELLED | {"trainable"}
RENAMING = ("torch.nn.utils.parametrize", "torch.distributed.fsdp._fully_shard._fsdp_init")  # they subclass a class


class Flags(NamedTuple):
    """One module's entry in the columns of a Snapshot, after its type."""

    type: str | None
    training: Answer
    trainable: Answer
    bn_freeze: Answer
    drop_freeze: Answer
    track_running_stats: Answer
    momentum: float | None
    dropout: float | None


NOT_SEEN = Flags(None, UNKNOWN, UNKNOWN, UNKNOWN, UNKNOWN, UNKNOWN, None, None)


def meaning(type_name: str | None, class_name: str, values: Sequence[Any], disguised: bool) -> Flags:
    """Work out what the values of FLAGS mean; `disguised` is a norm of which nobody knows the rules."""
    training, trainable, bn_freeze, drop_freeze, tracking, momentum, p = values
    means = tracking is MISSING or (_is_momentum(momentum) and not disguised)
    return Flags(
        type_name,
        UNKNOWN if training is MISSING else answer(training),
        answer(trainable),
        answer(bn_freeze),
        answer(drop_freeze),
        answer(tracking) if means else UNKNOWN,
        number(momentum),
        number(p) if "drop" in class_name.lower() else None,
    )


def answer(value: Any) -> Answer:
    """Read a flag as fastai's own `if` does, unless asking its truth could run code or synchronise."""
    if value is MISSING:
        return ABSENT
    if value is True or value is False:
        return YES if value else NO
    if value is None or isinstance(value, Number) or _is_number(value):
        return YES if value else NO
    return UNKNOWN


def number(value: Any) -> float | None:
    """Read a finite number; None for anything else."""
    if value is None or value is MISSING or not _is_number(value):
        return None
    return float(value) if _is_finite(value) else None


def _is_momentum(value: Any) -> bool:
    return value is None or (_is_number(value) and _is_finite(value))


def _is_finite(value: Any) -> bool:
    try:
        return isfinite(value)
    except OverflowError:  # an integer past every float
        return False


def _is_number(value: Any) -> bool:
    """Tell a number, also one of numpy's; True is 1 to torch too."""
    return type(value) is float or isinstance(value, Real) or type(value).__name__ in ("bool", "bool_")


def stray_names(state: Mapping[str, Any], known: frozenset[str], prefix: str = "") -> tuple[str, ...]:
    """Give the attributes of these names that were set to false, sorted."""
    return tuple(prefix + name for name in sorted(known) if state.get(name) is False)


def ties(identities: Sequence[Hashable]) -> tuple[int | None, ...]:
    """Give a number to each tensor that stands under several names, and None to the others."""
    times = Counter(identities) if len(set(identities)) < len(identities) else {}
    if not times:
        return (None,) * len(identities)
    groups: dict[Hashable, int] = {}
    return tuple(groups.setdefault(one, len(groups)) if times[one] > 1 else None for one in identities)
