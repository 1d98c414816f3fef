"""What a boundary finds otherwise than before, by looking at cached lists alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

import freezeinspect as fi
from freezeinspect.recorder.roster import Roster
from training import pair, train


def resize(model: nn.Sequential) -> None:
    model[3].weight.data = torch.randn(3, 4)


def narrow(model: nn.Sequential) -> None:
    model[0].weight.data = model[0].weight.data.half()


def parametrize(model: nn.Sequential) -> None:
    nn.utils.parametrizations.weight_norm(model[0])


@pytest.mark.parametrize(
    "change",
    [
        resize,
        narrow,
        parametrize,
        lambda model: setattr(model[3], "weight", model[0].weight),
        lambda model: model[3]._parameters.__setitem__("bias", None),
        lambda model: model[0]._modules.__setitem__("inner", nn.Linear(1, 1)),
        lambda model: model.append(nn.Identity()),
        lambda model: model.register_buffer("extra", None) or model._buffers.update(extra=torch.ones(1)),
        lambda model: model.double(),
    ],
)
def test_every_change_of_the_model_itself_is_seen_as_a_step_starts(change: Callable[[nn.Sequential], Any]) -> None:
    model, optimizer = pair()
    roster = Roster(model, [optimizer])
    assert not roster.look(at_start=True)
    change(model)
    assert roster.look(at_start=True)
    assert roster.snapshot.structure == fi.inspect(model).snapshot.structure


def test_a_lazy_model_that_materialises_is_another() -> None:
    model = nn.Sequential(nn.LazyLinear(4), nn.LazyBatchNorm1d())
    roster = Roster(model, [])
    model(torch.randn(8, 4))
    assert roster.look(at_start=True)
    assert roster.snapshot.structure == fi.inspect(model).snapshot.structure


@pytest.mark.parametrize(
    "flip",
    [
        lambda model: model.eval(),
        lambda model: model[1].__dict__.update(training=False),
        lambda model: setattr(model[0].weight, "requires_grad", False),
        lambda model: setattr(model[1], "momentum", 0.5),
        lambda model: setattr(model[1], "bn_freeze", True),
        lambda model: fi.freeze(model),
    ],
)
@pytest.mark.parametrize("at_start", [True, False])
def test_every_flip_is_seen_at_both_ends(flip: Callable[[nn.Sequential], Any], at_start: bool) -> None:
    model, optimizer = pair()
    roster = Roster(model, [optimizer])
    flip(model)
    assert not roster.look(at_start)
    seen, real = roster.snapshot, fi.inspect(model, optimizer).snapshot
    assert (seen.training, seen.requires_grad, seen.momentum) == (real.training, real.requires_grad, real.momentum)
    assert (seen.bn_freeze, seen.trainable) == (real.bn_freeze, real.trainable)


def test_the_snapshot_is_the_same_one_for_as_long_as_it_holds() -> None:
    model, optimizer = pair()
    roster = Roster(model, [optimizer])
    first = roster.snapshot
    model.eval()
    roster.look(at_start=True)
    model.train()
    roster.look(at_start=True)
    assert roster.snapshot is first


def test_attributes_that_come_in_every_step_are_no_new_states() -> None:
    model, optimizer = pair()
    with fi.watch(model, optimizer) as watch:
        train(model, optimizer)
        for number in range(5):
            setattr(model[0], f"seen_{number}", number)
            train(model, optimizer)
    assert len(watch.history.last.states) <= 3  # before the first gradient, with it, and with what the optimizer keeps


def test_a_tensor_lr_that_becomes_zero_in_place_is_seen() -> None:
    model, _ = pair()
    optimizer = torch.optim.Adam(model.parameters(), torch.tensor(0.1))
    with fi.watch(model, optimizer, every=1) as watch:
        train(model, optimizer)
        optimizer.param_groups[0]["lr"].fill_(0.0)
        train(model, optimizer)
    assert not list(watch.history.surprises())


def test_a_report_tells_lr_and_optimizer_state_as_they_are_now() -> None:
    model, _ = pair()
    optimizer = torch.optim.Adam(model.parameters(), 0.1)
    with fi.watch(model, optimizer) as watch:
        train(model, optimizer)
        optimizer.param_groups[0]["lr"] = 0.05
        assert watch.report().snapshot == fi.inspect(model, optimizer).snapshot
    assert watch.report().snapshot == fi.inspect(model, optimizer).snapshot
