"""The live model at a boundary: cached lists, checked by identity, from which its flags are read in no time.

Hooks on registration miss too much (docs/design.md, section 2.6), so each boundary looks at every entry again.
"""

from __future__ import annotations

from itertools import chain
from operator import attrgetter, is_, itemgetter
from typing import Any

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from freezeinspect.readers import live
from freezeinspect.readers.flags import FLAGS
from freezeinspect.state import Snapshot
from freezeinspect.walk import held, walk

_KEPT = 64  # states that are remembered, so that those which come again cost nothing
_HOLDS = ("_modules", "_parameters", "_buffers")
_requires_grad, _dtype = attrgetter("requires_grad"), attrgetter("dtype")


class Roster:
    """A model and its optimizers, and the last Snapshot of them, which is given again for as long as it holds.

    `tensors` are in the order of the snapshot's structure. One whose modules keep their state elsewhere, as
    ScriptModules do, is read anew at each boundary.
    """

    def __init__(self, model: nn.Module, optimizers: list[torch.optim.Optimizer]) -> None:
        self.model, self.optimizers = model, optimizers
        self.tensors: list[torch.Tensor] = []
        self._enrol(live.read(model, optimizers))

    def _enrol(self, snapshot: Snapshot) -> None:
        """Walk the model once, and keep what is looked at again."""
        self.snapshot = snapshot
        self.modules = [module for _, module in walk(self.model, [])]
        self._states = [module.__dict__ for module in self.modules]
        self._is_plain = all(kind in state for state in self._states for kind in ("training", *_HOLDS))
        entries = [[self._entries_of(module, kind) for module in self.modules] for kind in _HOLDS]
        self._dicts = [one for kind in entries for one in kind]
        self._full = [one for one in self._dicts if one]
        self._empty = [one for one in self._dicts if not one]
        self._names, self._held = list(chain.from_iterable(self._full)), self._entries()
        self.parameters = [one for kept in entries[1] for one in kept.values() if one is not None]
        self.buffers = [one for kept in entries[2] for one in kept.values() if one is not None]
        tensors = self.parameters + self.buffers
        self.tensors = self.tensors if _same(tensors, self.tensors) else tensors
        self._firm = [one for one in self.parameters if not is_lazy(one)]
        self._shapes = self._forms()
        self._sizes = list(map(len, self._states))
        self._flagged = [(state, flag) for state in self._states for flag in FLAGS if flag in state]
        self._raw, self._stepping = self._flags(), self._stepped()
        self._known = {_hashable([*self._raw, *self._stepping]): snapshot}

    def _entries_of(self, module: nn.Module, kind: str) -> dict[str, Any]:
        found = held(module, kind)
        return found if self._is_plain else dict(found.items())

    def _entries(self) -> list[Any]:
        return list(chain.from_iterable(map(dict.values, self._full)))

    def _forms(self) -> list[Any]:
        """Give what may be another in the same parameter: `.half()` and `.data =` change it in place."""
        return [*map(_dtype, self._firm), *map(torch.Tensor.numel, self._firm)]

    def _is_current(self) -> bool:
        """Tell whether every module still holds what it held, under the same names, in the same dicts."""
        if not self._is_plain or any(self._empty):
            return False
        dicts = chain.from_iterable(map(itemgetter(kind), self._states) for kind in _HOLDS)
        return (
            all(map(is_, dicts, self._dicts))
            and list(chain.from_iterable(self._full)) == self._names
            and _same(self._entries(), self._held)
            and self._forms() == self._shapes
        )

    def _has_new_flags(self) -> bool:
        """Tell whether attributes came or went: a flag may be among them."""
        return list(map(len, self._states)) != self._sizes

    def _flags(self) -> list[Any]:
        """Give every flag as it lies there: equal ones are mostly the same object, and a tensor is never compared."""
        return [state.get(flag) for state, flag in self._flagged] + list(map(_requires_grad, self.parameters))

    def _stepped(self) -> list[Any]:
        """Give what an optimizer's next step depends on: who is in its groups, with what lr, and has a gradient."""
        found: list[Any] = [parameter.grad is None if parameter.is_leaf else True for parameter in self.parameters]
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                lr = group.get("lr")
                found += [_is_zero(lr), group.get("weight_decay"), *group["params"]]
        return found

    def look(self, at_start: bool) -> bool:
        """Look at every flag; as a step starts, at structure and optimizers too. Tell whether the structure is another.

        The snapshot is the old one unless something differs from it.
        """
        if self._has_new_flags() or (at_start and not self._is_current()) or not self._is_plain:
            return self.reread()
        raw, stepping = self._flags(), self._stepped() if at_start else self._stepping
        if _same(raw, self._raw) and _same(stepping, self._stepping):
            return False
        self._raw, self._stepping = raw, stepping
        key = _hashable([*raw, *stepping])
        if key not in self._known:
            if len(self._known) == _KEPT:
                self._known.clear()
            self._known[key] = self._shared(live.read(self.model, self.optimizers, self.snapshot.structure))
        self.snapshot = self._known[key]
        return False

    def names(self) -> dict[int, str]:
        """Name the parameters by where they lie."""
        structure = self.snapshot.structure
        return {parameter.data_ptr(): structure.full_name(i) for i, parameter in reversed(list(enumerate(self._firm)))}

    def _shared(self, snapshot: Snapshot) -> Snapshot:
        """Keep the old snapshot where the new one says the same."""
        return self.snapshot if snapshot == self.snapshot else snapshot

    def reread(self) -> bool:
        """Read everything again, what no boundary looks at too. Tell whether the structure is another."""
        before = self.snapshot
        snapshot = live.read(self.model, self.optimizers, before.structure)
        if snapshot.structure is before.structure and not self._is_plain:
            self.snapshot = self._shared(snapshot)
            return False
        self._enrol(self._shared(snapshot))
        return snapshot.structure is not before.structure


def _is_zero(lr: Any) -> Any:
    """Tell it of a number, and of a tensor that can be read without waiting."""
    if isinstance(lr, torch.Tensor) and lr.device.type == "cpu" and lr.numel() == 1:
        lr = lr.item()
    return lr == 0 if type(lr) in (float, int) else lr


def _same(now: list[Any], before: list[Any]) -> bool:
    return len(now) == len(before) and all(map(is_, now, before))


def _hashable(raw: list[Any]) -> tuple[Any, ...]:
    """Key a state by its values where they are plain, else by identity: none is compared that could run code."""
    return tuple([value if value.__class__ in (bool, float, int, type(None)) else id(value) for value in raw])
