"""The watch in the Trainer of transformers, with Accelerate and PEFT below it, and their own traps."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import freezeinspect as fi
from freezeinspect.report.findings import FindingsError
from unchanged import by_code, findings, under_run

transformers = pytest.importorskip("transformers")
from transformers import (  # noqa: E402
    MobileViTConfig,
    MobileViTForImageClassification,
    ResNetConfig,
    ResNetForImageClassification,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)

from freezeinspect.integrations.transformers import WatchFreezing  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Sequential(nn.Linear(4, 4, bias=False), nn.BatchNorm1d(4))
        self.head = nn.Linear(4, 2)

    def forward(self, x: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
        out = self.head(self.body(x))
        return {"loss": (out - labels).square().mean(), "logits": out}


def frozen(kind: type[Net] = Net) -> Net:
    net = kind()
    net.body.requires_grad_(False)
    return net


def rows(many: int) -> list[dict[str, torch.Tensor]]:
    return [{"x": torch.randn(4), "labels": torch.zeros(2)} for _ in range(many)]


def pictures(many: int) -> list[dict[str, torch.Tensor]]:
    return [{"pixel_values": torch.randn(3, 32, 32), "labels": torch.tensor(n % 2)} for n in range(many)]


def fit(model: nn.Module, callbacks: list[Any], data: Any, **options: Any) -> Trainer:
    quiet = {"use_cpu": True, "report_to": [], "save_strategy": "no", "disable_tqdm": True, "output_dir": "unused"}
    settings = TrainingArguments(**{**quiet, "num_train_epochs": 2, "per_device_train_batch_size": 8, **options})
    trainer = Trainer(model, settings, train_dataset=data, eval_dataset=data, callbacks=callbacks)
    trainer.train()
    return trainer


def watched(model: nn.Module, *others: Any, data: Any = None, **options: Any) -> fi.Watch:
    watching = WatchFreezing(every=1, report=False)
    fit(model, [watching, *others], data or rows(32), **options)
    assert watching.watch is not None
    return watching.watch


@pytest.mark.parametrize(("options", "steps"), [({}, 8), ({"gradient_accumulation_steps": 2, "max_grad_norm": 0.1}, 4)])
def test_it_watches_a_training_and_tells_the_story_once(
    options: dict[str, Any], steps: int, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    watching = WatchFreezing(every=1, log=tmp_path / "run.fi.jsonl")
    fit(frozen(), [watching], rows(32), **options)
    assert watching.watch is not None
    assert capfd.readouterr().out.count(f"\n{steps} steps of AdamW.\n") == 1
    told = watching.watch.steps()
    assert told[["forwards", "weights_moved", "stats_moved"]].to_numpy().tolist() == [[8 // steps, 2, 2]] * steps
    assert by_code(watching.watch) == {"FI101": {"body.1"}, "FI302": {"body.1"}}
    assert findings(watching.watch) == findings(tmp_path / "run.fi.jsonl")


def test_other_ranks_and_a_callback_without_a_report_say_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    fit(Net(), [WatchFreezing(report=False)], rows(8))
    watching = WatchFreezing()
    state, control = transformers.TrainerState(is_world_process_zero=False), transformers.TrainerControl()
    model = Net()
    watching.on_train_begin(None, state, control, model=model, optimizer=torch.optim.SGD(model.parameters()))
    watching.on_train_end(None, state, control)
    assert "steps of" not in capfd.readouterr().out


def test_what_it_is_to_fail_on_ends_the_training_and_closes_the_watch() -> None:
    watching, model = WatchFreezing(fail_on="error"), frozen()
    with pytest.raises(FindingsError, match=r"FI101 frozen-norm-updates-stats error: body\.1"):
        fit(model, [watching], rows(32))
    assert watching.watch is not None
    assert len(watching.watch.run) == 1
    assert not any(module._forward_pre_hooks for module in model.modules())


def test_a_watch_that_a_failed_training_left_open_is_closed_by_the_next() -> None:
    class Failing(TrainerCallback):
        def on_step_end(self, *_: Any, **__: Any) -> None:
            raise ArithmeticError("of the user")

    watching, model = WatchFreezing(report=False), Net()
    with pytest.raises(ArithmeticError, match="of the user"):
        fit(model, [watching, Failing()], rows(32))
    first = watching.watch
    assert first is not None
    assert first.is_open
    fit(model, [pickle.loads(pickle.dumps(watching)), watching], rows(32))
    assert not first.is_open
    assert not any(module._forward_pre_hooks for module in model.modules())


# what is so in transformers, whatever one believes


class BeforeEachStep(TrainerCallback):
    def on_step_begin(self, *_: Any, model: Net, **__: Any) -> None:
        model.body.eval()


@pytest.mark.parametrize("callbacks", [[], [BeforeEachStep()]])
def test_the_trainer_puts_all_in_train_mode_in_every_step(callbacks: list[Any]) -> None:
    model = frozen()
    model.body.eval()
    watch = watched(model, *callbacks)
    assert set(watch.steps()["stats_moved"]) == {2}
    assert by_code(watch)["FI302"] == {"body.1"}


class Kept(Net):
    """What sticks: whoever calls train(), the body stays in eval."""

    def train(self, mode: bool = True) -> Kept:
        super().train(mode)
        self.body.eval()
        return self


def test_a_train_method_that_keeps_the_body_in_eval_sticks() -> None:
    watch = watched(frozen(Kept), eval_strategy="epoch")
    assert set(watch.steps()["stats_moved"]) == {0}
    assert not by_code(watch)


def test_after_an_evaluation_at_the_end_it_is_still_told_what_moved() -> None:
    watch = watched(frozen(), eval_strategy="epoch")
    assert by_code(watch) == {"FI302": {"body.1"}}  # the model is left in eval mode, so FI101 has nothing to say


def resnet(kind: type[nn.Module] = ResNetForImageClassification) -> Any:
    torch.manual_seed(0)
    small = ResNetConfig(embedding_size=4, hidden_sizes=[4, 8], depths=[1, 1], layer_type="basic", num_labels=2)
    return kind(small)


def with_adapters(base: nn.Module) -> nn.Module:
    peft = pytest.importorskip("peft")
    kind = peft.LoraConfig(r=2, target_modules=r".*layer\.\d\.convolution", modules_to_save=["classifier"])
    return peft.get_peft_model(base, kind)


class KeptResNetForImageClassification(ResNetForImageClassification):
    """Named so that transformers finds the loss, by the end of the name."""

    def train(self, mode: bool = True) -> KeptResNetForImageClassification:
        super().train(mode)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
        return self


def test_the_batchnorm_of_a_base_below_adapters_moves_and_a_train_method_of_the_base_keeps_it() -> None:
    norms = sum(isinstance(module, nn.BatchNorm2d) for module in resnet().modules())
    leaking, kept = (
        watched(with_adapters(resnet(kind)), data=pictures(16))
        for kind in (ResNetForImageClassification, KeptResNetForImageClassification)
    )
    assert {code: len(paths) for code, paths in by_code(leaking).items()} == {"FI101": norms, "FI302": norms}
    assert set(leaking.steps()["stats_moved"]) == {2 * norms}
    assert not by_code(kept)
    assert set(kept.steps()["stats_moved"]) == {0}
    last = kept.history.last
    moved = {
        last.structure.full_name(i) for i, spans in enumerate(last.spans_by_tensor()) if any(s.seen & 7 for s in spans)
    }
    assert moved
    assert all("lora_" in path or "modules_to_save" in path for path in moved)


def test_gradient_checkpointing_moves_the_statistics_within_it_twice() -> None:
    torch.manual_seed(0)
    small = MobileViTConfig(
        image_size=32, hidden_sizes=[8, 8, 8], neck_hidden_sizes=[4] * 7, num_attention_heads=2, num_hidden_layers=1
    )
    watch = watched(MobileViTForImageClassification(small), data=pictures(16), gradient_checkpointing=True)
    twice = by_code(watch)["FI306"]
    assert twice
    assert all(".encoder.layer." in path for path in twice)


SCRIPT = """
import torch
from torch import nn
from transformers import Trainer, TrainingArguments

torch.manual_seed(0)

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Linear(4, 4), nn.BatchNorm1d(4))
        self.head = nn.Linear(4, 2)
        self.body.requires_grad_(False)

    def forward(self, x, labels):
        out = self.head(self.body(x))
        return {"loss": (out - labels).square().mean(), "logits": out}

data = [{"x": torch.randn(4), "labels": torch.zeros(2)} for _ in range(32)]
settings = TrainingArguments(output_dir="unused", use_cpu=True, report_to=[], save_strategy="no", disable_tqdm=True,
                             per_device_train_batch_size=8, num_train_epochs=2, eval_strategy="epoch")
Trainer(Net(), settings, train_dataset=data, eval_dataset=data, callbacks=CALLBACKS).train()
"""


@pytest.mark.parametrize("evaluates", ["epoch", "no"])
def test_an_unchanged_script_under_run_has_the_findings_of_the_callback(evaluates: str, tmp_path: Path) -> None:
    script = SCRIPT.replace('eval_strategy="epoch"', f'eval_strategy="{evaluates}"')
    watching = WatchFreezing(every=1)
    exec(script, {"CALLBACKS": [watching]})
    found = findings(watching.watch)
    assert found == findings(under_run(script, tmp_path))
    assert {code for code, *_ in found} >= {"FI302"} | ({"FI101"} if evaluates == "no" else set())
