"""Where the steps of a training loop begin and end: hooks that leave no trace once they are taken off."""

from __future__ import annotations

import contextlib
import copyreg
import os
from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

Hook = Callable[[], None]
_SCALER: Any = torch.amp.GradScaler


class Stepping(Protocol):
    """What is told of the steps of some optimizers, each by its number."""

    optimizers: list[torch.optim.Optimizer]

    def begins(self, optimizer: int) -> None:
        """Take note that a step begins."""

    def evaluates(self, optimizer: int) -> None:
        """Take note that the step calls its closure."""

    def evaluated(self, optimizer: int) -> None:
        """Take note that the closure is done."""

    def failed(self, optimizer: int) -> None:
        """Take note that the closure raised."""

    def ends(self, optimizer: int) -> None:
        """Take note that the step is done."""

    def count(self, optimizer: int) -> int:
        """Count the steps that ended."""

    def detach(self) -> None:
        """Take every hook off."""

    def scaled(self, optimizer: int, found_inf: list[torch.Tensor] | None) -> None:
        """Take note that a scaler skipped the step, or may have, if one of these is not zero."""


def hookable(optimizers: list[torch.optim.Optimizer]) -> list[torch.optim.Optimizer]:
    """Give optimizers that all take hooks. Raises ValueError."""
    for one in optimizers:
        if "_optimizer_step_pre_hooks" not in one.__dict__:
            raise ValueError(
                f"{type(one).__name__} takes no hooks, for it does not call Optimizer.__init__: "
                "watch the optimizer that it calls"
            )
    return optimizers


def hook_optimizers(stepping: Stepping, first: int = 0) -> list[RemovableHandle]:
    """Mark both ends of each step, and of each evaluation of a closure, from one optimizer on.

    Of a step that is compiled too: traced, a hook would run once, so it breaks the graph there.
    """
    disable: Any = torch.compiler.disable
    before, after = disable(_before), disable(_after)
    handles = []
    for number, optimizer in enumerate(stepping.optimizers[first:], first):
        handles.append(optimizer.register_step_pre_hook(partial(before, stepping, number)))
        handles.append(optimizer.register_step_post_hook(partial(after, stepping, number)))
    return handles


def _before(stepping: Stepping, number: int, _: Any, args: Any, kwargs: Any) -> tuple[Any, Any] | None:
    stepping.begins(number)
    if "closure" in kwargs and callable(kwargs["closure"]):
        return args, {**kwargs, "closure": _marked(stepping, number, kwargs["closure"])}
    at = next((i for i, arg in enumerate(args) if callable(arg)), None)
    if at is None:
        return None
    return (*args[:at], _marked(stepping, number, args[at]), *args[at + 1 :]), kwargs


def _after(stepping: Stepping, number: int, *_: Any) -> None:
    stepping.ends(number)


def _marked(stepping: Stepping, number: int, closure: Callable[[], Any]) -> Callable[[], Any]:
    def evaluate() -> Any:
        stepping.evaluates(number)
        try:
            loss = closure()
        except BaseException:
            stepping.failed(number)
            raise
        stepping.evaluated(number)
        return loss

    return evaluate


class ForwardHook:
    """A hook on a module's forward that calls back, and that no copy, file or compiled graph of the module keeps.

    What copies or pickles without asking `copyreg` has in its place `contextlib.nullcontext.__exit__`, which does
    nothing.
    """

    def __init__(self, then: Hook) -> None:
        self.then = then

    def __call__(self, *_: Any) -> None:
        """Call back; a graph that is being traced gets nothing of it."""
        if not torch.compiler.is_compiling():
            self.then()

    def __deepcopy__(self, _: Any) -> Any:
        return contextlib.nullcontext.__exit__

    def __reduce__(self) -> Any:
        return getattr, (contextlib.nullcontext, "__exit__")


def hook_forwards(modules: list[nn.Module], before: Hook, after: Hook | None = None) -> list[RemovableHandle]:
    """Mark the forwards of some modules as they begin, and as they end; a ScriptModule takes no hooks."""
    modules = [module for module in modules if not isinstance(module, torch.jit.ScriptModule)]
    handles = [module.register_forward_pre_hook(ForwardHook(before)) for module in modules]
    if after is not None:
        handles += [module.register_forward_hook(ForwardHook(after)) for module in modules]
    return handles


class _Open:
    """The watches that are open, and what is wrapped for as long as there is one.

    It is GradScaler's step, for of one that it skips no hook tells; and how OrderedDicts, in which modules have their
    hooks, are copied and pickled: without ours.
    """

    def __init__(self) -> None:
        self.all: list[Stepping] = []
        self.original: Callable[..., Any] | None = None

    def add(self, stepping: Stepping) -> None:
        if not self.all:
            self.original = _SCALER.step
            _SCALER.step = _scaled_step
            copyreg.dispatch_table.setdefault(OrderedDict, _without_ours)
        self.all.append(stepping)

    def remove(self, stepping: Stepping) -> None:
        self.all.remove(stepping)
        if self.all:
            return
        if _SCALER.step is _scaled_step:
            _SCALER.step = self.original
        if copyreg.dispatch_table.get(OrderedDict) is _without_ours:
            del copyreg.dispatch_table[OrderedDict]


OPEN = _Open()


def _without_ours(hooks: OrderedDict[Any, Any]) -> Any:
    """Reduce as OrderedDict does, but for hooks of ours."""
    reduced: Any = hooks.__reduce__()
    *made, pairs = reduced
    return *made, iter([pair for pair in pairs if type(pair[1]) is not ForwardHook])


def _leave_to_the_parent() -> None:
    """Watch nothing in a forked child: the run is its parent's, and so is the log."""
    for one in list(OPEN.all):
        one.detach()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave_to_the_parent)


def _scaled_step(scaler: torch.amp.GradScaler, optimizer: torch.optim.Optimizer, *args: Any, **kwargs: Any) -> Any:
    told = [(one, one.optimizers.index(optimizer)) for one in OPEN.all if optimizer in one.optimizers]
    counts = [stepping.count(number) for stepping, number in told]
    assert OPEN.original is not None
    result = OPEN.original(scaler, optimizer, *args, **kwargs)
    for (stepping, number), count in zip(told, counts, strict=True):
        if stepping.count(number) == count:
            stepping.scaled(number, None)
        elif getattr(optimizer, "_step_supports_amp_scaling", False) and scaler.is_enabled():
            state = scaler._per_optimizer_states[id(optimizer)]
            stepping.scaled(number, list(state["found_inf_per_device"].values()))
    return result
