"""A watch beside loops that are not the user's own."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import distributed, nn
from torch.utils.data import DataLoader, TensorDataset

import freezeinspect as fi
from training import pair, train

pytestmark = pytest.mark.filterwarnings("ignore")


def batches() -> DataLoader[Any]:
    return DataLoader(TensorDataset(torch.randn(32, 4)), batch_size=8)


@pytest.mark.parametrize(("options", "steps"), [({}, 8), ({"accumulate_grad_batches": 2, "gradient_clip_val": 0.1}, 4)])
def test_lightning_runs_the_forward_within_the_step_and_it_is_told_apart(options: dict[str, Any], steps: int) -> None:
    lightning = pytest.importorskip("lightning")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)

    class Module(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.net, _ = pair()

        def training_step(self, batch: Any, _: int) -> torch.Tensor:
            return (self.net(batch[0]) - 1).square().mean()

        def validation_step(self, batch: Any, _: int) -> None:
            self.net(batch[0])

        def configure_optimizers(self) -> torch.optim.Optimizer:
            self.optimizer = torch.optim.SGD(self.net[3].parameters(), 0.1)
            return self.optimizer

        def on_fit_start(self) -> None:
            self.watch = fi.watch(self, self.optimizer, every=1)

    module = Module()
    quiet = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
    lightning.Trainer(max_epochs=2, accelerator="cpu", **quiet, **options).fit(module, batches(), batches())
    module.watch.close()
    told = module.watch.steps()
    assert told[["weights_moved", "stats_moved", "moved_outside"]].to_numpy().tolist() == [[2, 2, 0]] * steps


def test_accelerate_s_loop_steps_where_its_optimizer_does() -> None:
    accelerate = pytest.importorskip("accelerate")
    accelerator = accelerate.Accelerator(cpu=True, gradient_accumulation_steps=2)
    model, optimizer, data = accelerator.prepare(*pair(), batches())
    with fi.watch(model, optimizer, every=1) as watch:
        for (batch,) in data:
            with accelerator.accumulate(model):
                accelerator.backward((model(batch) - 1).square().mean())
                optimizer.step()
                optimizer.zero_grad()
    told = watch.steps()
    assert told[["forwards", "weights_moved", "stats_moved", "moved_outside"]].to_numpy().tolist() == [[2, 5, 2, 0]] * 2


def test_a_forward_through_ddp_is_one(tmp_path: Path) -> None:
    distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/rendezvous", rank=0, world_size=1)
    try:
        model, optimizer = pair()
        parallel = nn.parallel.DistributedDataParallel(model)
        with fi.watch(parallel, optimizer, every=1) as watch:
            train(parallel, optimizer, 2)
    finally:
        distributed.destroy_process_group()
    told = watch.steps()
    assert told[["forwards", "weights_moved", "stats_moved", "moved_outside"]].to_numpy().tolist() == [[1, 5, 2, 0]] * 2
