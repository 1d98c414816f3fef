"""Which part of a file is the model: a module, a state_dict, or one of several in a training checkpoint."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from typing import Any, NamedTuple

from freezeinspect.readers.limits import LIMITS, Unreadable, cut
from freezeinspect.readers.modules import has_a_modules_state, is_module, mapping, metadata_of
from freezeinspect.readers.optimizers import Saved, Tally, saved
from freezeinspect.readers.standins import Global, Made
from freezeinspect.readers.statedicts import EXTRA
from freezeinspect.readers.tensors import looks_like_tensor

USUAL = (  # where checkpoints keep their model, the most usual first
    "model state_dict model_state_dict net network module model_state weights params parameters"
    " generator backbone encoder student teacher ema model_ema ema_model state_dict_ema"
).split()
NESTING = 6  # levels of mappings and lists that are searched
_NAMED = 8  # in a message
_LOOKED_AT = 50
_LARGEST_KEY = 2**63  # a larger integer is nobody's key, and to write it out could fail


class Chosen(NamedTuple):
    """The model of a file: its value, under which key, which other keys have one, and the optimizers beside it.

    The key is None where the file is the model itself.
    """

    value: Any
    key: str | None
    others: tuple[str, ...]
    optimizers: tuple[Saved, ...]
    is_only: bool  # model in the file, under however many keys


def choose(value: Any, key: str | None = None) -> Chosen:
    """Find the model in what a file holds, or take the one under `key`. Raises Unreadable."""
    search = _Search(value)
    found = search.models
    if key is None and None in found:
        return Chosen(value, None, (), (), is_only=True)
    if not found:
        seen = "an optimizer's state and no model" if search.optimizers else described(value)
        raise Unreadable(f"no module and no state_dict in it: it holds {seen}; save the model's state_dict")
    if key is not None and key not in found:
        where = (
            f"has no model under key {cut(key)}"
            if None not in found
            else f"is the model itself, with no key {cut(key)}"
        )
        raise Unreadable(f"it {where}; {listed(found)}")
    chosen = key if key is not None else min((name for name in found if name is not None), key=_rank)
    others = tuple(name for name in found if name is not None and name != chosen)
    is_only = len(set(map(id, found.values()))) == 1
    return Chosen(found[chosen], chosen, others, tuple(search.optimizers), is_only)


def listed(found: Iterable[str | None]) -> str:
    """Say under which keys there are models."""
    names = [cut(name) for name in found if name is not None]
    return f"it has one under {', '.join(names[:_NAMED])}" if names else "leave the key out"


def _rank(key: str) -> tuple[int, int]:
    """Order keys: those nearer to the top first, among them the usual ones."""
    names = key.split(".")
    return len(names), USUAL.index(names[-1]) if names[-1] in USUAL else len(USUAL)


class _Search:
    """One look through mappings and lists, level by level, each of them once: models by key, and optimizers."""

    def __init__(self, value: Any) -> None:
        self.models: dict[str | None, Any] = {}
        self.optimizers: list[Saved] = []
        self._tally = Tally()
        self._is_model: dict[int, bool] = {}
        level: list[tuple[str | None, Any]] = [(None, value)]
        for _ in range(NESTING):
            level = [part for key, one in level for part in self._look(key, one)]

    def _look(self, key: str | None, value: Any) -> list[tuple[str | None, Any]]:
        """Note a value that is a model, under each of its keys, or an optimizer; of anything else, give the parts."""
        if id(value) in self._is_model:
            if self._is_model[id(value)]:
                self._enter(key, value)
            return []
        self._is_model[id(value)] = False
        if optimizer := saved(value):
            self._tally.add(optimizer)
            self.optimizers.append(optimizer)
        elif is_module(value) or is_state_dict(value):
            self._is_model[id(value)] = True
            self._enter(key, value)
        else:
            return [(name if key is None else f"{key}.{name}", part) for name, part in _parts(value)]
        return []

    def _enter(self, key: str | None, value: Any) -> None:
        """Keep two models apart whose keys are written alike, such as 1 and '1'."""
        while self.models.setdefault(key, value) is not value:
            key = f"{key}#2"


def _parts(value: Any) -> list[tuple[str, Any]]:
    """Give the parts of a mapping, a list or an object that may hold something, each with its key, place or name.

    fastai's `Learner.export` pickles the learner, whose attributes have the model and the optimizer.
    """
    entries = dict(enumerate(value)) if type(value) in (list, tuple) else mapping(value) or {}
    if type(value) is Made and not (entries or value.items or has_a_modules_state(value)):
        entries = {name: one for state in value.states or () if type(state) is dict for name, one in state.items()}
    return [(str(name), part) for name, part in entries.items() if _is_key(name) and _holds(part)]


def _is_key(name: Any) -> bool:
    """Tell a name that may be said: a long one, joined to those of many parts, would fill the memory."""
    return len(name) <= LIMITS.name_length if type(name) is str else type(name) is int and abs(name) < _LARGEST_KEY


def _holds(value: Any) -> bool:
    return type(value) in (dict, list, tuple) or (type(value) is Made and not looks_like_tensor(value))


def is_state_dict(value: Any) -> bool:
    """Tell a mapping that torch marked as a state_dict, or most of whose values are tensors and none a model."""
    entries = mapping(value)
    if entries is None:
        return False
    if metadata_of(value):
        return True
    parts = [part for name, part in entries.items() if type(name) is str and not name.endswith(EXTRA)]
    if any(is_module(part) or _has_tensors(part) for part in {id(part): part for part in parts}.values()):
        return False
    return 2 * sum(map(looks_like_tensor, parts)) > len(entries)


def _has_tensors(value: Any) -> bool:
    """Look at the first entries of a mapping: all of them, again and again, could take for ever."""
    return any(map(looks_like_tensor, islice((mapping(value) or {}).values(), _LOOKED_AT)))


def described(value: Any) -> str:
    """Say in a few words what a value is."""
    entries = mapping(value)
    if looks_like_tensor(value):
        return "one tensor"
    if entries is not None:
        keys = ", ".join(cut(key) if _is_key(key) else "a key that is no text" for key in list(entries)[:_NAMED])
        return f"a dict with {keys}" if entries else "an empty dict"
    if type(value) is Made:
        return f"an object that {cut(value.of)} would build" if type(value.of) is Global else "an object"
    return f"the name {cut(value)}" if type(value) is Global else f"an object of type {type(value).__name__}"
