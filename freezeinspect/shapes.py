"""Output shapes and multiply-adds by torchinfo, on a twin: on the model itself it would undo every eval()."""

from __future__ import annotations

import copy
from collections import defaultdict
from typing import Any

import torch
import torchinfo
from torch import nn
from torchinfo import torchinfo as engine

from freezeinspect.state import Shape
from freezeinspect.walk import unwrapped, walk


class ShapesUnknown(ValueError):
    """No forward pass of a twin could be made with this input."""


def measure(model: nn.Module, input_size: Any = None, input_data: Any = None) -> dict[str, Shape]:
    """Give each module's output shape and multiply-adds by path; what did not run is left out.

    The twin lives on the meta device, where nothing is allocated; a model that needs values in its forward pass is
    copied instead. It runs in eval mode. Raises ShapesUnknown.
    """
    model = unwrapped(model)
    failures = []
    for twin_of, device in ((_meta_twin, torch.device("meta")), (copy.deepcopy, None)):
        try:
            twin = twin_of(model)
            return _joined(twin, _summary(twin, input_size, input_data, device))
        except Exception as error:  # whatever a foreign forward pass raises
            failures.append(error)
    reason = failures[-1].__cause__ or failures[-1]
    raise ShapesUnknown(
        f"no forward pass of a copy of {type(model).__name__} with this input: {type(reason).__name__}: {reason}; "
        "pass the input that the model is called with, as input_size=(batch, ...) or input_data="
    ) from failures[-1]


def _meta_twin(model: nn.Module) -> nn.Module:
    """Copy a model with every tensor replaced by one on the meta device: the copy has no values."""
    memo: dict[int, Any] = {}
    for _, module in walk(model, []):
        state = module.__dict__  # old weight norm keeps a tensor beside parameters and buffers
        for held in (state["_parameters"], state["_buffers"], state):
            memo |= {id(tensor): _meta(tensor) for tensor in held.values() if isinstance(tensor, torch.Tensor)}
    return copy.deepcopy(model, memo)


def _meta(tensor: torch.Tensor) -> torch.Tensor:
    empty = torch.empty_like(tensor, device="meta", requires_grad=False)
    return nn.Parameter(empty, requires_grad=tensor.requires_grad) if isinstance(tensor, nn.Parameter) else empty


def _summary(twin: nn.Module, input_size: Any, input_data: Any, device: torch.device | None) -> list[Any]:
    """Run torchinfo once, leaving the random number generators and torchinfo's own cache as they were."""
    cache = dict(engine._cached_forward_pass)
    devices = {tensor.device for tensor in twin.parameters() if tensor.is_cuda}
    with torch.random.fork_rng(devices):
        try:
            found = torchinfo.summary(
                twin, input_size=input_size, input_data=input_data, device=device, verbose=0, mode="eval"
            )
        finally:
            engine._cached_forward_pass.clear()
            engine._cached_forward_pass.update(cache)
    return list(found.summary_list)


def _joined(twin: nn.Module, layers: list[Any]) -> dict[str, Shape]:
    paths = {id(module): path for path, module in walk(twin, [])}
    outputs: dict[str, tuple[int, ...] | None] = {}
    mult_adds: dict[str, int] = defaultdict(int)
    for layer in layers:
        path = paths.get(id(layer.module))
        if path is not None and layer.executed:
            outputs.setdefault(path, _size(layer.output_size))
            if layer.is_leaf_layer:
                for above in _upwards(path):
                    mult_adds[above] += layer.macs
    return {path: Shape(size, mult_adds[path]) for path, size in outputs.items()}


def _size(size: Any) -> tuple[int, ...] | None:
    return tuple(size) if size and all(isinstance(one, int) for one in size) else None


def _upwards(path: str) -> list[str]:
    names = path.split(".")
    return ["", *(".".join(names[: n + 1]) for n in range(len(names)) if path)]
