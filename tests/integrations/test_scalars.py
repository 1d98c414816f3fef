"""Scalars of a watch, in a real SummaryWriter."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import freezeinspect as fi
from freezeinspect.integrations.scalars import Scalars
from training import pair, train

SHARE, MOVING, FLIPS = (f"freezeinspect/{name}" for name in ("trainable_share", "moving_statistics", "flips"))


class Written:
    """A writer that keeps what it is given."""

    def __init__(self) -> None:
        self.scalars: dict[str, list[tuple[int, float]]] = {}

    def add_scalar(self, tag: str, value: float, step: int) -> None:
        self.scalars.setdefault(tag, []).append((step, value))


def test_they_are_written_at_once_at_each_change_and_at_the_end() -> None:
    (model, optimizer), writer = pair(), Written()
    with fi.watch(model, optimizer) as watch:
        Scalars(watch, writer)
        train(model, optimizer, 3)
        model[0].requires_grad_(False)
        model[1].eval()
        train(model, optimizer, 4)
    assert writer.scalars == {
        SHARE: [(0, 1.0), (3, pytest.approx(18 / 34)), (7, pytest.approx(18 / 34))],
        MOVING: [(0, 1), (3, 0), (7, 0)],
        FLIPS: [(0, 0), (3, 2), (7, 2)],
    }


def test_a_change_that_is_in_no_scalar_writes_none() -> None:
    (model, optimizer), writer = pair(), Written()
    with fi.watch(model, optimizer) as watch:
        Scalars(watch, writer)
        train(model, optimizer, 2)
        optimizer.param_groups[0]["lr"] = 0.0
        train(model, optimizer, 2)
    assert [step for step, _ in writer.scalars[SHARE]] == [0, 4]


def test_a_flip_within_a_step_is_written_at_that_step() -> None:
    (model, optimizer), writer = pair(), Written()
    optimizer.register_step_post_hook(lambda *_: model[3].requires_grad_(False))  # before the hook of the watch
    with fi.watch(model, optimizer) as watch:
        Scalars(watch, writer, step=100)
        train(model, optimizer, 2)
    assert writer.scalars[FLIPS] == [(100, 0), (101, 2), (102, 2)]


def test_another_structure_begins_with_its_own_state_and_counts_no_flips() -> None:
    (model, optimizer), writer = pair(), Written()
    with fi.watch(model, optimizer) as watch:
        Scalars(watch, writer)
        train(model, optimizer, 2)
        model.append(nn.BatchNorm1d(2))
        train(model, optimizer, 2)
    assert writer.scalars[MOVING] == [(0, 1), (2, 2), (4, 2)]
    assert writer.scalars[FLIPS] == [(0, 0), (4, 0)]


def test_a_summary_writer_takes_them(tmp_path: Path) -> None:
    tensorboard = pytest.importorskip("torch.utils.tensorboard", exc_type=ImportError)
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    model, optimizer = pair()
    with tensorboard.SummaryWriter(tmp_path) as writer, fi.watch(model, optimizer) as watch:
        Scalars(watch, writer)
        train(model, optimizer, 2)
        model[1].eval()
        train(model, optimizer)
    read = EventAccumulator(str(tmp_path)).Reload()
    assert sorted(read.Tags()["scalars"]) == sorted([SHARE, MOVING, FLIPS])
    assert [(one.step, one.value) for one in read.Scalars(MOVING)] == [(0, 1.0), (2, 0.0), (3, 0.0)]


@pytest.mark.filterwarnings("ignore")
def test_a_callback_hands_its_writer_on_with_the_step_that_the_framework_is_at(tmp_path: Path) -> None:
    lightning: Any = pytest.importorskip("lightning")
    from freezeinspect.integrations.lightning import WatchFreezing

    class Net(lightning.LightningModule):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.net, _ = pair()

        def training_step(self, batch: Any, _: int) -> torch.Tensor:
            return (self.net(batch) - 1).square().mean()

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.parameters(), 0.1)

    def fit(epochs: int, path: Path | None) -> None:
        trainer = lightning.Trainer(
            max_epochs=epochs, accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False,
            default_root_dir=tmp_path, callbacks=[WatchFreezing(writer=writer, report=False)],
        )  # fmt: skip
        trainer.fit(Net(), torch.randn(3, 8, 4), ckpt_path=path)
        trainer.save_checkpoint(tmp_path / "last.ckpt")

    writer = Written()
    fit(1, None)
    fit(2, tmp_path / "last.ckpt")
    assert [step for step, _ in writer.scalars[SHARE]] == [0, 3, 3, 6]
