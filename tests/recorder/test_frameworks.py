"""A watch beside loops that are not the user's own."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import distributed, nn
from torch.optim.swa_utils import AveragedModel
from torch.utils.data import DataLoader, TensorDataset

import freezeinspect as fi
from freezeinspect.chapters import OUTSIDE
from training import bits, names, pair, train

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


def in_place(model: nn.Module) -> nn.Module:
    model.compile(backend="eager")
    return model


WRAPPERS: dict[str, Callable[[nn.Module], Any]] = {
    "none": lambda model: model,
    "DataParallel": nn.DataParallel,
    "torch.compile": lambda model: torch.compile(model, backend="eager"),
    "Module.compile": in_place,
    "torch.compile of DataParallel": lambda model: torch.compile(nn.DataParallel(model), backend="eager"),
}


@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_names_flags_and_evidence_are_those_of_the_model_that_is_wrapped(wrapper: str) -> None:
    torch._dynamo.reset()
    model, optimizer = pair()
    model[:2].requires_grad_(False)
    wrapped = WRAPPERS[wrapper](model)
    with fi.watch(wrapped, optimizer, every=1) as watch:
        train(wrapped, optimizer, 3)
    report = watch.report()
    assert [(one.path, str(one.requires_grad)) for one in report] == [
        ("", "mixed"), ("0", "no"), ("1", "no"), ("2", "absent"), ("3", "yes")
    ]  # fmt: skip
    moved = {f"1.{name}" for name in ("running_mean", "running_var", "num_batches_tracked")}
    assert {name for name, where in bits(watch, 2).items() if where} == moved | {"3.weight", "3.bias"}
    assert not watch.steps()["moved_outside"].any()
    assert {(one.code, one.path) for one in fi.check(watch).at_least("warning")} == {("FI101", "1"), ("FI302", "1")}


def test_an_averaged_model_moves_outside_of_steps_and_the_one_it_averages_does_not() -> None:
    model, optimizer = pair()
    model[0].requires_grad_(False)
    average = AveragedModel(model)
    with fi.watch(model, optimizer, every=1) as own, fi.watch(average, optimizer, every=1) as other:
        for _ in range(3):
            train(model, optimizer)
            average.update_parameters(model)
    assert not own.steps()["moved_outside"].any()
    assert [one.path for one in other.report()] == [one.path for one in own.report()]
    trained = {"1.weight", "1.bias", "3.weight", "3.bias"}
    outside = {name for name, where in bits(other, 3).items() if where == OUTSIDE}
    assert outside == trained


def test_of_quantised_layers_nothing_is_said_and_of_the_rest_what_moved() -> None:
    model, _ = pair()
    model.train()
    quantised = torch.ao.quantization.quantize_dynamic(nn.Sequential(nn.Linear(4, 4)), {nn.Linear})
    both = nn.Sequential(quantised, model).train()
    optimizer = torch.optim.SGD(both.parameters(), 0.1)
    with fi.watch(both, optimizer, every=1) as watch:
        train(both, optimizer, 2)
    report = watch.report()
    assert {str(report[path].requires_grad) for path in ("0", "0.0")} == {"absent"}
    assert {name for name, where in bits(watch, 1).items() if where} == {
        name for name in names(watch.history.last.structure) if not name.startswith("0.")
    }
    assert not fi.check(watch).at_least("warning")
