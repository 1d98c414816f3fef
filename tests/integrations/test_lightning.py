"""The watch in Lightning's Trainer, and Lightning's own traps."""

from __future__ import annotations

import logging
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from freezeinspect.report.findings import FindingsError, NoSuchRule
from unchanged import by_code, findings, under_run

lightning = pytest.importorskip("lightning")
from lightning.pytorch.callbacks import BackboneFinetuning, BaseFinetuning  # noqa: E402

from freezeinspect.integrations.lightning import WatchFreezing  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")
QUIET: dict[str, Any] = {
    "accelerator": "cpu",
    **dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False),
}


class Net(lightning.LightningModule):  # type: ignore[misc, name-defined]
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.backbone = nn.Sequential(nn.Linear(4, 4, bias=False), nn.BatchNorm1d(4), nn.ReLU())
        self.head = nn.Linear(4, 2)

    def training_step(self, batch: Any, _: int) -> torch.Tensor:
        return (self.head(self.backbone(batch[0])) - 1).square().mean()

    def validation_step(self, batch: Any, _: int) -> None:
        self.head(self.backbone(batch[0]))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD((p for p in self.parameters() if p.requires_grad), 0.1)


@pytest.fixture
def told() -> Iterator[list[str]]:
    """Give the lines that Lightning's own logger takes."""
    lines: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())  # type: ignore[method-assign]
    logger = logging.getLogger("lightning.pytorch.utilities.rank_zero")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    yield lines
    logger.removeHandler(handler)


def batches(many: int = 4) -> DataLoader[Any]:
    return DataLoader(TensorDataset(torch.randn(8 * many, 4)), batch_size=8)


def fit(callbacks: list[Any], net: Any = None, epochs: int = 2, many: int = 4, **options: Any) -> Any:
    net = net or Net()
    lightning.Trainer(max_epochs=epochs, callbacks=callbacks, **QUIET, **options).fit(net, batches(many), batches())
    return net


def frozen() -> Net:
    net = Net()
    net.backbone.requires_grad_(False)
    return net


class Flip(lightning.Callback):  # type: ignore[misc, name-defined]
    """Freezes the backbone, in train mode, after a batch."""

    def __init__(self, batch: int) -> None:
        self.batch = batch

    def on_train_batch_start(self, _: Any, module: Any, __: Any, batch: int) -> None:
        if batch == self.batch:
            module.backbone.requires_grad_(False)


def test_it_watches_a_fit_and_tells_the_story_once(told: list[str], tmp_path: Path) -> None:
    watching = WatchFreezing(every=1, log=tmp_path / "run.fi.jsonl")
    fit([watching], frozen())
    (story,) = [line for line in told if "steps of" in line]
    assert story.splitlines()[0] == "8 steps of SGD."
    assert "BatchNorm layer backbone.1 moved its running statistics in every step" in " ".join(story.split())
    assert watching.watch is not None
    assert not watching.watch.is_open
    assert set(watching.watch.steps()["weights_moved"]) == {2}
    assert (
        by_code(watching.watch)
        == by_code(tmp_path / "run.fi.jsonl")
        == {"FI101": {"backbone.1"}, "FI302": {"backbone.1"}}
    )


def test_without_a_report_it_says_nothing(told: list[str]) -> None:
    fit([WatchFreezing(report=False)])
    assert not [line for line in told if "steps of" in line]


@pytest.mark.parametrize("fail_on", ["FI101", ("frozen-norm-updates-stats",), ("FI201", "FI101")])
def test_what_is_wrong_from_the_start_ends_the_training_after_its_first_step(fail_on: Any, tmp_path: Path) -> None:
    watching = WatchFreezing(fail_on=fail_on, log=tmp_path / "run.fi.jsonl")
    with pytest.raises(FindingsError, match=r"1 finding:\nFI101 frozen-norm-updates-stats error: backbone\.1: "):
        fit([watching], frozen())
    assert watching.watch is not None
    assert len(watching.watch.run) == 1
    assert not watching.watch.is_open
    assert '{"end"' in (tmp_path / "run.fi.jsonl").read_text().splitlines()[-1]


@pytest.mark.parametrize(("batch", "steps"), [(2, 4), (4, 7)])
def test_what_goes_wrong_later_ends_it_at_a_power_of_two_or_with_the_epoch(batch: int, steps: int) -> None:
    watching = WatchFreezing(fail_on="FI101")
    with pytest.raises(FindingsError):
        fit([Flip(batch), watching], many=7)
    assert watching.watch is not None
    assert len(watching.watch.run) == steps


def test_a_severity_is_that_and_worse() -> None:
    with pytest.raises(FindingsError, match=r"2 findings:\nFI101 .*\n.*\n.*\nFI302 "):
        fit([WatchFreezing(fail_on="error")], frozen())
    with pytest.raises(FindingsError, match=r"FI305 requires-grad-flipped info"):
        fit([Flip(1), WatchFreezing(fail_on=("error", "info"))])


def test_other_findings_than_those_asked_for_end_nothing() -> None:
    watching = WatchFreezing(fail_on=("FI201", "FI301"))
    fit([watching], frozen())
    assert watching.watch is not None
    assert "FI101" in by_code(watching.watch)


def test_a_rule_that_does_not_exist_is_told_before_any_training() -> None:
    with pytest.raises(NoSuchRule, match="no rule 'FI999'; there are: FI101"):
        WatchFreezing(fail_on=["error", "FI999"])


class Failing(Net):
    def training_step(self, batch: Any, number: int) -> torch.Tensor:
        if number == 2:
            raise ArithmeticError("of the user")
        return super().training_step(batch, number)


def test_a_training_that_raises_closes_the_watch_and_keeps_its_exception() -> None:
    watching, net = WatchFreezing(), Failing()
    with pytest.raises(ArithmeticError, match="of the user"):
        fit([watching], net)
    assert watching.watch is not None
    assert not watching.watch.is_open
    assert list(watching.watch.steps()["outcome"]) == ["taken"] * 2 + ["failed"]
    assert not any(module._forward_pre_hooks for module in net.modules())


def test_several_optimizers_by_hand_are_each_watched() -> None:
    class Manual(Net):
        automatic_optimization = False

        def configure_optimizers(self) -> Any:
            self.automatic_optimization = False
            return [torch.optim.SGD(part.parameters(), 0.1) for part in (self.backbone, self.head)]

        def training_step(self, batch: Any, number: int) -> None:  # type: ignore[override]
            one = self.optimizers()[number % 2]
            one.zero_grad()
            self.manual_backward(super().training_step(batch, number))
            one.step()

    watching = WatchFreezing(every=1)
    fit([watching], Manual(), epochs=1)
    assert watching.watch is not None
    told = watching.watch.steps()
    assert told[["optimizer", "weights_moved"]].to_numpy().tolist() == [[0, 3], [1, 2]] * 2


def test_it_can_be_pickled_after_a_run_and_used_again() -> None:
    watching = WatchFreezing(fail_on="FI301", every=1)
    fit([watching])
    again = pickle.loads(pickle.dumps(watching))
    assert again.watch is None
    fit([again])
    assert len(again.watch.run) == 8


# what is so in Lightning, whatever one believes


@pytest.mark.parametrize("train_bn", [True, False])
def test_backbone_finetuning_leaves_batchnorm_training_while_the_backbone_is_frozen(train_bn: bool) -> None:
    watching = WatchFreezing(every=1)
    fit([BackboneFinetuning(unfreeze_backbone_at_epoch=1, train_bn=train_bn), watching])
    assert watching.watch is not None
    story = watching.watch.run.history
    names = [story.last.structure.full_name(i) for i in range(len(story.last.structure.tensors))]
    moved = {name for name, bits in zip(names, story.moved(2), strict=True) if bits}
    norm = {f"backbone.1.{name}" for name in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")}
    assert moved == norm | {"head.weight", "head.bias"}


def test_with_an_optimizer_of_the_head_alone_train_bn_false_leaves_batchnorm_in_no_group() -> None:
    class HeadFirst(Net):
        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.head.parameters(), 0.1)

    watching = WatchFreezing(every=1)
    fit([BackboneFinetuning(unfreeze_backbone_at_epoch=1, train_bn=False), watching], HeadFirst())
    assert by_code(watching.watch) == {"FI201": {"backbone.1"}}
    assert watching.watch is not None
    assert set(watching.watch.steps()["stats_moved"]) == {2}


class Freeze(BaseFinetuning):  # type: ignore[misc]
    def freeze_before_training(self, module: Any) -> None:
        self.freeze(module.backbone, train_bn=False)

    def finetune_function(self, *_: Any) -> None:
        pass


def test_freeze_with_train_bn_false_keeps_the_statistics_and_normalises_with_the_batch() -> None:
    watching = WatchFreezing(every=1)
    net = fit([Freeze(), watching])
    assert by_code(watching.watch) == {"FI105": {"backbone.1"}}
    assert watching.watch is not None
    assert set(watching.watch.steps()["stats_moved"]) == {0}
    norm = net.backbone[1]
    norm.train()
    torch.testing.assert_close(norm(torch.randn(64, 4) * 5 + 9).mean(0), norm.bias)  # the batch's mean is gone


class InEval(lightning.Callback):  # type: ignore[misc, name-defined]
    """What sticks: Lightning puts the modes back as they were around a validation, and sets none in between."""

    def on_train_start(self, _: Any, module: Any) -> None:
        module.backbone[1].eval()


def test_a_norm_in_eval_from_the_start_of_the_training_stays_in_eval() -> None:
    watching = WatchFreezing(every=1, fail_on="warning")
    fit([InEval(), watching], frozen())
    assert watching.watch is not None
    assert set(watching.watch.steps()["stats_moved"]) == {0}
    assert by_code(watching.watch) == {}


SCRIPT = """
import warnings
import logging
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
import lightning

warnings.simplefilter("ignore")
logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
torch.manual_seed(0)

class Net(lightning.LightningModule):
    def __init__(self):
        super().__init__()
        self.backbone = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Linear(4, 4), nn.BatchNorm1d(4))
        self.head = nn.Linear(4, 2)
        self.backbone.requires_grad_(False)

    def training_step(self, batch, number):
        return (self.head(self.backbone(batch[0])) - 1).square().mean()

    def validation_step(self, batch, number):
        self.head(self.backbone(batch[0]))

    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters(), 0.1)

data = DataLoader(TensorDataset(torch.randn(32, 4)), batch_size=8)
lightning.Trainer(max_epochs=2, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
                  enable_model_summary=False, callbacks=CALLBACKS).fit(Net(), data, data)
"""


def test_an_unchanged_script_under_run_has_the_findings_of_the_callback(tmp_path: Path) -> None:
    watching = WatchFreezing(every=1)
    exec(SCRIPT, {"CALLBACKS": [watching]})
    found = findings(watching.watch)
    assert found == findings(under_run(SCRIPT, tmp_path))
    assert {code for code, *_ in found} >= {"FI101", "FI302"}
