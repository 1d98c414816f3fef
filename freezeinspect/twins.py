"""Copies of a model that leave the original, and every random state, as they were."""

from __future__ import annotations

import copy
import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FunctionType, MethodType
from typing import Any

import torch
from torch import nn

from freezeinspect.walk import walk


class NotCopyable(ValueError):
    """No copy of the model can be made, or its copy would run the model itself."""


def twin(model: nn.Module, beside: Any = None, memo: dict[int, Any] | None = None) -> tuple[Any, Any]:
    """Copy a model, and what refers to its modules beside it. Raises NotCopyable, which says why."""
    for path, module in walk(model, []):
        if _is_foreign(module.__dict__.get("forward"), module):
            raise NotCopyable(
                f"{path or type(module).__name__}.forward is a function set on the instance, which would run the "
                "model itself from a copy; define forward in a class"
            )
    try:
        copied: tuple[Any, Any] = copy.deepcopy((model, beside), memo)
    except Exception as error:
        raise NotCopyable(f"the model cannot be copied: {first_line(error)}") from error
    return copied


def _is_foreign(forward: Any, module: nn.Module) -> bool:
    """Tell whether a forward of an instance stays bound to it when it is copied: a method of its own does not."""
    if isinstance(forward, MethodType):
        return forward.__self__ is not module
    return forward is not None and (isinstance(forward, FunctionType) or callable(forward))


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
