"""Output shapes and multiply-adds by torchinfo, on a twin: on the model itself it would undo every eval()."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import torch
import torchinfo
from torch import nn
from torchinfo import torchinfo as engine

from freezeinspect.state import Shape
from freezeinspect.twins import first_line, never_run, random_states_kept, twin
from freezeinspect.walk import held, unwrapped, walk


class ShapesUnknown(ValueError):
    """No forward pass of a twin could be made with this input."""


def measure(model: nn.Module, input_size: Any = None, input_data: Any = None) -> dict[str, Shape]:
    """Give each module's output shape and multiply-adds by path; what did not run is left out.

    The twin lives on the meta device, where nothing is allocated; a model that needs values in its forward pass is
    copied instead. It runs in eval mode. Raises ShapesUnknown.
    """
    model = unwrapped(model)
    failures: list[Exception] = []
    for memo_of, device in ((_on_meta, torch.device("meta")), (_as_it_is, None)):
        try:
            copied, _ = twin(model, memo=memo_of(model))
            with never_run(model):
                return _joined(copied, _summary(copied, input_size, input_data, device))
        except Exception as error:  # whatever a foreign forward pass raises
            failures.append(error)
    reason = failures[-1].__cause__ or failures[-1]
    raise ShapesUnknown(
        f"no forward pass of a copy of {type(model).__name__} with this input: {first_line(reason)}; "
        "pass the input that the model is called with, as input_size=(batch, ...) or input_data="
    ) from failures[-1]


def _as_it_is(_: nn.Module) -> dict[int, Any]:
    return {}


def _on_meta(model: nn.Module) -> dict[int, Any]:
    """Map every tensor of a model to one on the meta device, for a copy without values."""
    memo: dict[int, Any] = {}
    for _, module in walk(model, []):  # old weight norm keeps a tensor beside parameters and buffers
        for tensors in (held(module, "_parameters"), held(module, "_buffers"), module.__dict__):
            memo |= {id(one): _meta(one) for one in tensors.values() if isinstance(one, torch.Tensor)}
    return memo


def _meta(tensor: torch.Tensor) -> torch.Tensor:
    empty = torch.empty_like(tensor, device="meta", requires_grad=False)
    return nn.Parameter(empty, requires_grad=tensor.requires_grad) if isinstance(tensor, nn.Parameter) else empty


def _summary(copied: nn.Module, input_size: Any, input_data: Any, device: torch.device | None) -> list[Any]:
    """Run torchinfo once, leaving the random number generators and torchinfo's own cache as they were."""
    cache = dict(engine._cached_forward_pass)
    with random_states_kept(copied):
        try:
            found = torchinfo.summary(
                copied, input_size=input_size, input_data=input_data, device=device, verbose=0, mode="eval"
            )
        finally:
            engine._cached_forward_pass.clear()
            engine._cached_forward_pass.update(cache)
    return list(found.summary_list)


def _joined(copied: nn.Module, layers: list[Any]) -> dict[str, Shape]:
    paths = {id(module): path for path, module in walk(copied, [])}
    outputs: dict[str, tuple[int, ...] | None] = {}
    mult_adds: dict[str, int] = defaultdict(int)
    for layer in layers:
        path = paths.get(id(layer.module))
        if path is not None and layer.executed:
            outputs.setdefault(path, _size(layer.output_size))
            if layer.is_leaf_layer:
                for above in _upwards(path):
                    mult_adds[above] += layer.macs
    if not outputs:
        raise ShapesUnknown("torchinfo saw no module run: it cannot look inside a ScriptModule")
    return {path: Shape(size, mult_adds[path]) for path, size in outputs.items()}


def _size(size: Any) -> tuple[int, ...] | None:
    return tuple(size) if size and all(isinstance(one, int) for one in size) else None


def _upwards(path: str) -> list[str]:
    names = path.split(".")
    return ["", *(".".join(names[: n + 1]) for n in range(len(names)) if path)]
