"""The watch in fastai's Learner, with fastai's own optimizers, and fastai's own traps."""

from __future__ import annotations

import io
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from freezeinspect.report.findings import FindingsError
from unchanged import by_code, findings

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    pytest.importorskip(
        "fastai.learner", reason="fastai is not installed: it asks for torchvision", exc_type=ImportError
    )
    from fastai.callback.core import Callback, CancelStepException
    from fastai.callback.schedule import Learner  # with its methods
    from fastai.callback.training import BnFreeze, GradientAccumulation
    from fastai.data.core import DataLoaders
    from fastai.data.load import DataLoader
    from fastai.optimizer import SGD, Adam, OptimWrapper

    from freezeinspect.integrations.fastai import WatchFreezing

pytestmark = pytest.mark.filterwarnings("ignore")


def torchs(params: Any, **options: Any) -> Any:
    return OptimWrapper(params, torch.optim.SGD, **options)


def learner(opt_func: Any = SGD, **options: Any) -> Any:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Sequential(nn.Linear(4, 4, bias=False), nn.BatchNorm1d(4)), nn.Linear(4, 2))
    rows = [(torch.randn(4), torch.randn(2)) for _ in range(16)]
    data = DataLoaders(DataLoader(rows, bs=4), DataLoader(rows, bs=4))
    parts = lambda model: [list(part.parameters()) for part in model]  # noqa: E731
    made = Learner(data, model, nn.MSELoss(), opt_func, lr=0.1, splitter=parts, **options)
    made.create_mbar = False
    made.logger = lambda line: None
    return made


def watched(learn: Any, epochs: int = 2, **options: Any) -> Any:
    watching = WatchFreezing(every=1, report=False, **options)
    learn.fit(epochs, cbs=watching)
    return watching.watch


@pytest.mark.parametrize("opt_func", [Adam, SGD, torchs])
def test_it_watches_a_fit_with_fastais_optimizers_and_with_torchs(opt_func: Any, tmp_path: Path) -> None:
    learn, told = learner(opt_func), io.StringIO()
    learn.logger = lambda line: told.write(f"{line}\n")
    watching = WatchFreezing(every=1, log=tmp_path / "run.fi.jsonl")
    learn.fit_one_cycle(2, cbs=watching)
    assert watching.watch is not None
    kind = "SGD" if opt_func is torchs else "FastaiOptimizer"
    assert told.getvalue().count(f"8 steps of {kind}.\n") == 1
    seen = watching.watch.steps()[["weights_moved", "stats_moved", "moved_outside"]].to_numpy().tolist()
    assert seen == [[5, 2, 0]] * 8
    assert findings(watching.watch) == findings(tmp_path / "run.fi.jsonl")
    assert "step" not in vars(learn.opt)


def test_the_groups_learning_rates_and_states_are_fastais_own() -> None:
    learn = learner(Adam)
    learn.freeze()
    watch = watched(learn)
    (optimizer,) = watch.history.last.states[-1].snapshot.optimizers
    assert [(group.lr, group.parameters, group.with_state) for group in optimizer.groups] == [(0.1, 3, 2), (0.1, 2, 2)]


def test_steps_that_another_callback_cancels_or_accumulates_are_none() -> None:
    class Cancel(Callback):
        order = 95

        def before_step(self) -> None:
            if self.train_iter == 1:
                raise CancelStepException

    assert list(watched(learner(cbs=Cancel()), 1).steps()["outcome"]) == ["taken", "failed", "taken", "taken"]
    told = watched(learner(cbs=GradientAccumulation(n_acc=8)), 1).steps()
    assert told[["forwards", "weights_moved"]].to_numpy().tolist() == [[2, 5]] * 2


def test_what_it_is_to_fail_on_ends_the_fit_and_closes_the_watch() -> None:
    learn = learner(train_bn=False)
    learn.freeze()
    watching = WatchFreezing(fail_on="error")
    with pytest.raises(FindingsError, match=r"FI101 frozen-norm-updates-stats error: 0\.1"):
        learn.fit(1, cbs=watching)
    assert watching.watch is not None
    assert len(watching.watch.run) == 1
    assert not any(module._forward_pre_hooks for module in learn.model.modules())


def test_predictions_and_searches_are_not_watched_and_a_learner_that_keeps_it_can_be_saved(tmp_path: Path) -> None:
    watching = WatchFreezing(report=False)
    learn = learner(cbs=watching)
    learn.fit(1)
    watch = watching.watch
    learn.get_preds()
    learn.validate()
    learn.lr_find(num_it=4, show_plot=False)
    assert watching.watch is watch
    learn.splitter = learn.logger = print  # instead of what cannot be pickled
    torch.save(learn, tmp_path / "learner.pkl")
    assert torch.load(tmp_path / "learner.pkl", weights_only=False).watch_freezing.watch is None


# what is so in fastai, whatever one believes


def frozen(**options: Any) -> Any:
    learn = learner(**options)
    learn.freeze()
    return learn


def test_freeze_leaves_batchnorm_training() -> None:
    watch = watched(frozen())
    assert not by_code(watch)
    assert watch.steps()[["weights_moved", "stats_moved"]].to_numpy().tolist() == [[4, 2]] * 8


def test_without_train_bn_its_statistics_go_on_moving_and_bnfreeze_holds_them() -> None:
    watch = watched(frozen(train_bn=False))
    assert by_code(watch) == {"FI302": {"0.1"}}
    assert watch.steps()[["weights_moved", "stats_moved"]].to_numpy().tolist() == [[2, 2]] * 8
    held = watched(frozen(train_bn=False, cbs=BnFreeze()))
    assert not by_code(held)
    assert held.steps()[["weights_moved", "stats_moved"]].to_numpy().tolist() == [[2, 0]] * 8


def test_freezing_after_a_fit_leaves_weight_decay_moving_the_frozen_weights() -> None:
    learn = learner(train_bn=False, wd=0.1)
    learn.fit(1)
    learn.freeze()
    assert by_code(watched(learn))["FI301"] == {"0.0"}
    for parameter in learn.model[0].parameters():
        parameter.grad = None
    assert "FI301" not in by_code(watched(learn))
