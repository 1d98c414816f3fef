"""A watch in Lightning's Trainer."""

from __future__ import annotations

from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_info

from freezeinspect.integrations.watching import Watching


class WatchFreezing(Watching, Callback):
    """Watch what a Trainer trains; the options are those of Watching, and the story is told by rank_zero_info."""

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Watch the module, in what the strategy wraps it, and all of its optimizers."""
        self._opens(trainer.model, trainer.optimizers, trainer.global_step)

    def on_train_batch_end(self, *_: Any) -> None:
        """Ask, where a power of two steps are taken."""
        self._stepped()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Ask after an epoch."""
        self._asks()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Close the watch and tell its story."""
        self._ends(rank_zero_info)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Close the watch of a training that failed."""
        self._closes()
