"""Copies of a model that leave the original, and every random state, as they were."""

from __future__ import annotations

import copy
import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FunctionType
from typing import Any

import torch
from torch import nn
from torch.nn.modules.module import register_module_forward_pre_hook

from freezeinspect.walk import held, walk

_WOULD_RUN = "which would run the model itself from a copy; refer to it through the module that a hook is given"


class NotCopyable(ValueError):
    """No copy of the model can be made, or its copy would run the model itself."""


def twin(model: nn.Module, beside: Any = None, memo: dict[int, Any] | None = None) -> tuple[Any, Any]:
    """Copy a model, and what refers to its modules beside it. Raises NotCopyable, which says why."""
    for path, module in walk(model, []):
        if isinstance(module.__dict__.get("forward"), FunctionType) and not held(module, "_modules"):
            raise NotCopyable(
                f"{path or type(module).__name__}.forward is a function set on the instance, {_WOULD_RUN}"
            )
    try:
        copied: tuple[Any, Any] = copy.deepcopy((model, beside), memo)
    except Exception as error:
        raise NotCopyable(f"the model cannot be copied: {first_line(error)}") from error
    return copied


@contextmanager
def never_run(model: nn.Module) -> Iterator[None]:
    """Refuse every call of the model's own modules: a copy may hold functions that still refer to it.

    Raises NotCopyable out of that call, before anything moves.
    """
    paths = {id(module): path or type(module).__name__ for path, module in walk(model, [])}

    def refuse(module: nn.Module, _: Any) -> None:
        if id(module) in paths:
            raise NotCopyable(f"a hook or a function of the copy refers to {paths[id(module)]}, {_WOULD_RUN}")

    guard = register_module_forward_pre_hook(refuse)
    try:
        yield
    finally:
        guard.remove()


@contextmanager
def random_states_kept(model: nn.Module) -> Iterator[None]:
    """Put back what torch, Python and numpy draw from, on the CPU and on the model's devices."""
    numpy = sys.modules.get("numpy.random")
    python_state, numpy_state = random.getstate(), numpy.get_state() if numpy else None
    devices = {tensor.device for tensor in model.parameters() if tensor.is_cuda}
    try:
        with torch.random.fork_rng(devices):
            yield
    finally:
        random.setstate(python_state)
        if numpy:
            numpy.set_state(numpy_state)


def first_line(error: BaseException) -> str:
    """Say an exception in one line: its type, and the first line of its words."""
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
