"""Where the steps of a training loop begin and end: hooks that leave no trace once they are taken off."""

from __future__ import annotations

import contextlib
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

    def ends(self, optimizer: int) -> None:
        """Take note that the step is done."""

    def count(self, optimizer: int) -> int:
        """Count the steps that ended."""

    def scaled(self, optimizer: int, found_inf: list[torch.Tensor] | None) -> None:
        """Take note that a scaler skipped the step, or may have, if one of these is not zero."""


def hook_optimizers(stepping: Stepping, first: int = 0) -> list[RemovableHandle]:
    """Mark both ends of each step, and of each evaluation of a closure, from one optimizer on."""
    handles = []
    for number, optimizer in enumerate(stepping.optimizers[first:], first):
        handles.append(optimizer.register_step_pre_hook(partial(_before, stepping, number)))
        handles.append(optimizer.register_step_post_hook(partial(_after, stepping, number)))
    return handles


def _before(stepping: Stepping, number: int, _: Any, args: Any, kwargs: Any) -> tuple[Any, Any] | None:
    if torch.compiler.is_compiling():  # a hook that is traced would run in no step
        return None
    stepping.begins(number)
    if "closure" in kwargs and callable(kwargs["closure"]):
        return args, {**kwargs, "closure": _marked(stepping, number, kwargs["closure"])}
    at = next((i for i, arg in enumerate(args) if callable(arg)), None)
    if at is None:
        return None
    return (*args[:at], _marked(stepping, number, args[at]), *args[at + 1 :]), kwargs


def _after(stepping: Stepping, number: int, *_: Any) -> None:
    if not torch.compiler.is_compiling():
        stepping.ends(number)


def _marked(stepping: Stepping, number: int, closure: Callable[[], Any]) -> Callable[[], Any]:
    def evaluate() -> Any:
        stepping.evaluates(number)
        loss = closure()
        stepping.evaluated(number)
        return loss

    return evaluate


class ForwardHook:
    """A hook on a module's forward that calls back, and that no copy, file or compiled graph of the module keeps.

    A copy and a file have what does nothing in its place: `contextlib.nullcontext.__exit__`.
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


def hook_recomputed(module: nn.Module, then: Hook) -> list[RemovableHandle]:
    """Mark the forwards of a module that run within a backward: activation checkpointing runs it again."""

    def begins() -> None:
        if torch._C._current_graph_task_id() != -1:
            then()

    return hook_forwards([module], begins)


class _Scalers:
    """GradScaler's step, wrapped for as long as a watch is open: of a step that it skips, no hook tells."""

    def __init__(self) -> None:
        self.open: list[Stepping] = []
        self.original: Callable[..., Any] | None = None

    def add(self, stepping: Stepping) -> None:
        if not self.open:
            self.original = _SCALER.step
            _SCALER.step = _scaled_step
        self.open.append(stepping)

    def remove(self, stepping: Stepping) -> None:
        self.open.remove(stepping)
        if not self.open and _SCALER.step is _scaled_step:
            _SCALER.step = self.original


SCALERS = _Scalers()


def _scaled_step(scaler: torch.amp.GradScaler, optimizer: torch.optim.Optimizer, *args: Any, **kwargs: Any) -> Any:
    told = [(one, one.optimizers.index(optimizer)) for one in SCALERS.open if optimizer in one.optimizers]
    counts = [stepping.count(number) for stepping, number in told]
    assert SCALERS.original is not None
    result = SCALERS.original(scaler, optimizer, *args, **kwargs)
    for (stepping, number), count in zip(told, counts, strict=True):
        if stepping.count(number) == count:
            stepping.scaled(number, None)
        elif getattr(optimizer, "_step_supports_amp_scaling", False) and scaler.is_enabled():
            state = scaler._per_optimizer_states[id(optimizer)]
            stepping.scaled(number, list(state["found_inf_per_device"].values()))
    return result
