"""A watch over a script that knows nothing of it: what goes wrong in it never goes further."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from sys import getrefcount
from typing import NamedTuple

import torch
from torch import nn

from freezeinspect.recorder.attention import Attention
from freezeinspect.recorder.log import Log
from freezeinspect.recorder.watch import Watch


class Options(NamedTuple):
    """How a script is watched: where the log goes, and what `watch` takes."""

    log: Path
    evidence: str = "auto"
    every: int | None = None
    blame: bool = False


class Guarded(Watch):
    """A Watch that tells of its own failure once, and then no more of anything."""

    def __init__(
        self, model: nn.Module, optimizer: torch.optim.Optimizer, options: Options, failed: Callable[[Exception], None]
    ) -> None:
        self._say = failed
        self._is_sound = True
        others = getrefcount(model), getrefcount(optimizer)
        self.model = model
        log = Log(options.log)
        self.path = log.path
        attention = Attention(options.evidence, options.every)
        super().__init__(model, [optimizer], attention, log, options.blame, at_step=True)
        self._own = getrefcount(model) - others[0], getrefcount(optimizer) - others[1]  # references

    @contextmanager
    def _guard(self) -> Iterator[None]:
        """Fail alone. The hooks stay on, for torch may be going through them now; they do nothing from here on."""
        try:
            yield
        except Exception as error:
            self._is_sound = False
            self._say(error)

    def holds(self, optimizer: torch.optim.Optimizer) -> bool:
        """Tell whether each parameter that an optimizer steps is the model's."""
        own = set(map(id, self._roster.parameters))
        return all(id(parameter) in own for group in optimizer.param_groups for parameter in group["params"])

    def is_forgotten(self) -> bool:
        """Tell whether nobody but this watch holds its model and optimizers; a scheduler has each hold itself."""
        model, optimizer = self._own
        return getrefcount(self.model) <= model + 1 and all(
            getrefcount(one) <= optimizer + 2 + ("step" in vars(one)) for one in self.optimizers
        )

    def begins(self, optimizer: int) -> None:
        """Take note that a step begins."""
        if self._is_sound:
            with self._guard():
                super().begins(optimizer)

    def evaluates(self, optimizer: int) -> None:
        """Take note that the step calls its closure."""
        if self._is_sound:
            with self._guard():
                super().evaluates(optimizer)

    def failed(self, optimizer: int) -> None:
        """Take note that the closure raised, and with it the step."""
        if self._is_sound:
            with self._guard():
                super().failed(optimizer)

    def evaluated(self, optimizer: int) -> None:
        """Take note that the closure is done."""
        if self._is_sound:
            with self._guard():
                super().evaluated(optimizer)

    def ends(self, optimizer: int) -> None:
        """Take note that the step is done."""
        if self._is_sound:
            with self._guard():
                super().ends(optimizer)

    def scaled(self, optimizer: int, found_inf: list[torch.Tensor] | None) -> None:
        """Take note that a scaler skipped the step, or may have."""
        if self._is_sound:
            with self._guard():
                super().scaled(optimizer, found_inf)

    def close(self) -> None:
        """Take every hook off; after a failure, look no more."""
        with self._guard():
            if self._is_sound:
                super().close()
            elif self.is_open:
                self.detach()
