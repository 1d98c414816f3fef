"""Which part of a file is the model: a module, a state_dict, or one of several in a training checkpoint."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from freezeinspect.readers.limits import Unreadable
from freezeinspect.readers.modules import is_module, mapping, metadata_of
from freezeinspect.readers.optimizers import Saved, saved
from freezeinspect.readers.standins import Global, Made
from freezeinspect.readers.tensors import looks_like_tensor

USUAL = (  # where checkpoints keep their model, the most usual first
    "model state_dict model_state_dict net network module model_state weights params parameters"
    " generator backbone encoder student teacher ema model_ema ema_model state_dict_ema"
).split()
NESTING = 3  # levels of mappings that are searched
_NAMED = 8  # in a message


class Chosen(NamedTuple):
    """The model of a file: its value, under which key, which other keys have one, and the optimizers beside it."""

    value: Any
    key: str
    others: tuple[str, ...]
    optimizers: tuple[Saved, ...]


def choose(value: Any, key: str | None = None) -> Chosen:
    """Find the model in what a file holds, or take the one under `key`. Raises Unreadable."""
    found: dict[str, Any] = {}
    for name, one in _candidates(value):
        found.setdefault(name, one)
    if key is None and "" in found:
        return Chosen(value, "", (), ())
    if not found:
        raise Unreadable(f"no module and no state_dict in it: it holds {described(value)}; save the model's state_dict")
    if key is not None and key not in found:
        where = f"has no model under key {key!r}" if "" not in found else f"is the model itself, with no key {key!r}"
        raise Unreadable(f"it {where}; {_listed(found)}")
    chosen = min(found, key=_rank) if key is None else key
    others = tuple(name for name in found if name != chosen)
    return Chosen(found[chosen], chosen, others, tuple(_optimizers(value)))


def _listed(found: dict[str, Any]) -> str:
    names = [repr(name) for name in found if name]
    return f"it has one under {', '.join(names[:_NAMED])}" if names else "leave --key out"


def _rank(key: str) -> tuple[int, int]:
    """Order keys: those nearer to the top first, among them the usual ones."""
    names = key.split(".")
    return len(names), USUAL.index(names[-1]) if names[-1] in USUAL else len(USUAL)


def _candidates(value: Any) -> Iterator[tuple[str, Any]]:
    """Give each part that is a module or a state_dict with its key, the top one's being empty."""
    level, seen = [("", value)], set()
    for _ in range(NESTING):
        below: list[tuple[str, Any]] = []
        for key, one in level:
            if id(one) in seen:
                continue
            seen.add(id(one))
            if is_module(one) or is_state_dict(one):
                yield key, one
            else:
                entries = mapping(one) or {}
                below += [(f"{key}.{name}".lstrip("."), part) for name, part in entries.items() if type(name) is str]
        level = below


def is_state_dict(value: Any) -> bool:
    """Tell a mapping most of whose values are tensors, or that torch marked as a state_dict."""
    entries = mapping(value)
    if entries is None:
        return False
    return bool(metadata_of(value)) or 2 * sum(map(looks_like_tensor, entries.values())) > len(entries)


def _optimizers(value: Any) -> Iterator[Saved]:
    """Give the optimizers at the top of a checkpoint, also those in a list or a mapping of them."""
    seen = set()
    for one in (mapping(value) or {}).values():
        if id(one) not in seen:
            seen.add(id(one))
            parts = [one, *(one if type(one) is list else (mapping(one) or {}).values())]
            yield from filter(None, map(saved, parts))


def described(value: Any) -> str:
    """Say in a few words what a value is."""
    entries = mapping(value)
    if looks_like_tensor(value):
        return "one tensor"
    if entries is not None:
        keys = ", ".join(repr(key) if type(key) in (str, int) else type(key).__name__ for key in list(entries)[:_NAMED])
        return f"a dict with {keys}" if entries else "an empty dict"
    if type(value) is Made:
        return f"an object that {value.of} would build" if type(value.of) is Global else "an object"
    if type(value) is Global:
        return f"the name {value}"
    return f"a {type(value).__name__}"
