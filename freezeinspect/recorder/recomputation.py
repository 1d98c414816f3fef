"""Forwards that run within a backward: activation checkpointing runs a layer again, and its statistics move again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

from freezeinspect.recorder.boundaries import hook_forwards
from freezeinspect.state import Structure
from freezeinspect.verdicts import STATISTICS


class Recomputation:
    """Hooks on the layers that have running statistics; `then` is told the path of each that is run again, once."""

    def __init__(self, then: Callable[[str], None]) -> None:
        self._then = then
        self._told: set[str] = set()
        self._handles: list[RemovableHandle] = []

    def enrol(self, structure: Structure, modules: Sequence[nn.Module]) -> None:
        """Take the layers of a structure instead of those before."""
        self.close()
        layers = {tensor.owner for tensor in structure.tensors if tensor.name in STATISTICS}
        for layer in sorted(layers):
            self._handles += hook_forwards([modules[layer]], partial(self._runs, structure.paths[layer]))

    def _runs(self, path: str) -> None:
        if path not in self._told and torch._C._current_graph_task_id() != -1:
            self._told.add(path)
            self._then(path)

    def close(self) -> None:
        """Take the hooks off."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
