"""A watch in the Trainer of transformers, which steps through Accelerate and may train adapters of PEFT."""

from __future__ import annotations

from typing import Any

from tqdm import tqdm
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from freezeinspect.integrations.watching import Watching
from freezeinspect.recorder.roots import roots_of
from freezeinspect.walk import unwrapped


class WatchFreezing(Watching, TrainerCallback):
    """Watch what a Trainer trains; the options are those of Watching, and the story is told where its logs are."""

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Watch the model, in what Accelerate wraps it, and its optimizer: the Trainer hands on the bare model."""
        model, optimizer = kwargs["model"], kwargs["optimizer"]
        wrapped = (root for root in roots_of(optimizer) if unwrapped(root) is unwrapped(model))
        self._opens(next(wrapped, model), optimizer, state.global_step)

    def on_step_end(self, *_: Any, **__: Any) -> None:
        """Ask, where a power of two steps are taken."""
        self._stepped()

    def on_epoch_end(self, *_: Any, **__: Any) -> None:
        """Ask after an epoch."""
        self._asks()

    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Close the watch and tell its story."""
        self._ends(tqdm.write if state.is_world_process_zero else None)
