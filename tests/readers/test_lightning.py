"""Checkpoints that a real run of Lightning wrote: a frozen backbone whose statistics leak, told apart exactly."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import freezeinspect as fi
from freezeinspect.state import YES
from zoo import quiet

with quiet():
    lightning = pytest.importorskip("lightning.pytorch")


class Tuned(lightning.LightningModule):
    """Train a head on a body whose weights are frozen and whose statistics are not."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Linear(4, 4), nn.BatchNorm1d(4))
        self.head = nn.Linear(4, 2)
        self.body.requires_grad_(False)

    def training_step(self, batch: list[Tensor], _: int) -> Tensor:
        x, y = batch
        return nn.functional.cross_entropy(self.head(self.body(x)), y)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.named_parameters(), lr=0.01)


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("run")
    rows = torch.utils.data.TensorDataset(torch.randn(8, 4), torch.randint(2, (8,)))
    keep: dict[str, Any] = {"save_top_k": -1, "every_n_train_steps": 1, "filename": "{step}"}
    with quiet():
        lightning.Trainer(
            max_steps=2,
            accelerator="cpu",
            logger=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            default_root_dir=folder,
            callbacks=[lightning.callbacks.ModelCheckpoint(folder, **keep)],
        ).fit(Tuned(), torch.utils.data.DataLoader(rows, batch_size=4))
    return sorted(folder.glob("*.ckpt"))


def test_the_model_and_its_optimizer_are_found(checkpoints: list[Path]) -> None:
    report = fi.inspect(checkpoints[0])
    assert (report.source.format, report.source.content) == ("torch zip", "a state_dict under 'state_dict'")
    assert [module.path for module in report] == ["", "body", "body.0", "body.1", "body.2", "body.3", "head"]
    ((_, groups),) = report.snapshot.optimizers
    assert [(group.lr, group.parameters, group.with_state) for group in groups] == [(0.01, 10, 2)]
    structure, stepped = report.snapshot.structure, report.snapshot.has_state
    named = {structure.full_name(i) for i in range(len(structure.tensors)) if stepped[i] is YES}
    assert named == {"head.weight", "head.bias"}


def test_two_checkpoints_of_the_run_are_told_apart_exactly(checkpoints: list[Path]) -> None:
    found = fi.diff(*checkpoints)
    assert found.weights == ("head.weight", "head.bias")
    assert found.stats == tuple(f"body.{i}.{name}" for i in (1, 3) for name in ("running_mean", "running_var"))
    assert not found.has("structure")
    assert not found.has("flags")
    assert "\nbody  8 still  2 moved  2 moved\nhead  2 moved  –        –\n" in str(found)
