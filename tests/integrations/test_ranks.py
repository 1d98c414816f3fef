"""The callbacks in two processes under torchrun: each rank has its log, and the first tells the story."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from unchanged import by_code, findings

HEAD = """
import warnings
warnings.simplefilter("ignore")
import torch
from torch import nn

torch.manual_seed(0)
body, head = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4)), nn.Linear(4, 2)
body.requires_grad_(False)
"""
LIGHTNING = """
import lightning
from torch.utils.data import DataLoader, TensorDataset
from freezeinspect.integrations.lightning import WatchFreezing

class Net(lightning.LightningModule):
    def __init__(self):
        super().__init__()
        self.body, self.head = body, head

    def training_step(self, batch, number):
        return self.head(self.body(batch[0])).square().mean()

    def configure_optimizers(self):
        return torch.optim.AdamW(self.head.parameters(), 0.1)

data = DataLoader(TensorDataset(torch.randn(32, 4)), batch_size=8)
quiet = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
lightning.Trainer(max_epochs=2, accelerator="cpu", devices=2, strategy="ddp", callbacks=[CALLBACKS],
                  **quiet).fit(Net(), data)
"""
TRANSFORMERS = """
from transformers import Trainer, TrainingArguments
from freezeinspect.integrations.transformers import WatchFreezing

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body, self.head = body, head

    def forward(self, x, labels):
        out = self.head(self.body(x))
        return {"loss": (out - labels).square().mean(), "logits": out}

data = [{"x": torch.randn(4), "labels": torch.zeros(2)} for _ in range(32)]
settings = TrainingArguments("out", use_cpu=True, report_to=[], save_strategy="no", disable_tqdm=True,
                             per_device_train_batch_size=8, num_train_epochs=2)
Trainer(Net(), settings, train_dataset=data, callbacks=[CALLBACKS]).train()
"""


def torchrun(folder: Path, code: str, callbacks: str, *under: str) -> subprocess.CompletedProcess[str]:
    (folder / "train.py").write_text(HEAD + code.replace("CALLBACKS", callbacks), encoding="utf-8")
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    env = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [*launch, *under, "train.py"], cwd=folder, env=env, capture_output=True, text=True, timeout=120, check=False
    )


RUN = ("-m", "freezeinspect", "run", "--every", "1", "-l", "run.fi.jsonl")


@pytest.mark.parametrize("code", [LIGHTNING, TRANSFORMERS], ids=["lightning", "transformers"])
def test_each_rank_has_its_log_and_one_tells_the_story(code: str, tmp_path: Path) -> None:
    done = torchrun(tmp_path, code, 'WatchFreezing(log="run.fi.jsonl", every=1)')
    assert done.returncode == 0, done.stderr
    assert (done.stdout + done.stderr).count("4 steps of AdamW.") == 1
    logs = sorted(tmp_path.glob("*.jsonl"))
    assert [path.name for path in logs] == ["run.rank0.fi.jsonl", "run.rank1.fi.jsonl"]
    assert [by_code(path) for path in logs] == [{"FI101": {"body.1"}, "FI302": {"body.1"}}] * 2


def test_what_a_training_is_to_fail_on_ends_every_rank(tmp_path: Path) -> None:
    done = torchrun(tmp_path, LIGHTNING, 'WatchFreezing(log="run.fi.jsonl", fail_on="FI101")')
    assert done.returncode == 1
    assert "FI101 frozen-norm-updates-stats error: body.1: BatchNorm1d is frozen" in done.stderr
    assert [path.read_text().count('{"step":') for path in tmp_path.glob("*.jsonl")] == [1, 1]


ONE_RANK_ALONE = """
class Unfreeze(lightning.Callback):
    def on_train_batch_start(self, trainer, module, batch, number):
        if trainer.global_rank == 1 and trainer.global_step == 2:
            module.body[1].eval()
"""


def test_a_rank_in_another_state_ends_every_rank(tmp_path: Path) -> None:
    code = LIGHTNING.replace("data = ", f"{ONE_RANK_ALONE}\ndata = ").replace("max_epochs=2", "max_epochs=4")
    callbacks = 'WatchFreezing(log="run.fi.jsonl", ranks=True, fail_on="ranks-disagree"), Unfreeze()'
    done = torchrun(tmp_path, code, callbacks)
    assert done.returncode == 1
    assert "FI401 ranks-disagree error: body.1: training: yes on rank 0, no on rank" in done.stderr
    assert [path.read_text().count('{"step":') for path in tmp_path.glob("*.jsonl")] == [4, 4]


PLAIN = """
import freezeinspect as fi
from torch import distributed

distributed.init_process_group("gloo")
model = nn.parallel.DistributedDataParallel(nn.Sequential(body, head))
optimizer = torch.optim.AdamW(model.parameters(), 0.1)
watch = CALLBACKS
for step in range(4):
    if step == 2:
        body.requires_grad_(True)
    optimizer.zero_grad()
    model(torch.randn(8, 4)).square().mean().backward()
    optimizer.step()
if watch:
    watch.close()
distributed.destroy_process_group()
"""
IN_LIGHTNING = """
class Unfreeze(lightning.Callback):
    def on_train_epoch_start(self, trainer, module):
        module.body.requires_grad_(trainer.current_epoch == 1)
"""
IN_TRANSFORMERS = """
from transformers import TrainerCallback

class Unfreeze(TrainerCallback):
    def on_epoch_begin(self, args, state, control, model, **_):
        model.body.requires_grad_(state.epoch == 1)
"""


@pytest.mark.parametrize(
    ("code", "callback", "others"),
    [
        (PLAIN, 'fi.watch(model, optimizer, every=1, log="own.fi.jsonl")', "None"),
        (LIGHTNING.replace("data = ", f"{IN_LIGHTNING}\ndata = "), "WatchFreezing(OPTIONS), Unfreeze()", "Unfreeze()"),
        (IN_TRANSFORMERS + TRANSFORMERS, "WatchFreezing(OPTIONS), Unfreeze()", "Unfreeze()"),
    ],
    ids=["plain", "lightning", "transformers"],
)
def test_an_unchanged_script_under_run_has_the_findings_of_the_callback_on_each_rank(
    code: str, callback: str, others: str, tmp_path: Path
) -> None:
    own = callback.replace("OPTIONS", 'every=1, report=False, log="own.fi.jsonl"')
    for done in (torchrun(tmp_path, code, own), torchrun(tmp_path, code, others, *RUN)):
        assert done.returncode == 0, done.stderr
    for rank in (0, 1):
        found = findings(tmp_path / f"own.rank{rank}.fi.jsonl")
        assert found == findings(tmp_path / f"run.rank{rank}.fi.jsonl")
        assert ("FI402", "", None, "error") in found  # the silent divergence: the wrapper reduces the head alone
