"""FI103: `trainable` and `bn_freeze` that nothing reads."""

from __future__ import annotations

import torch
from torch import nn
from torch.optim import SGD

import freezeinspect as fi
from mending import mended, told


def network() -> nn.Sequential:
    return nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))


def findings(model: object) -> fi.Findings:
    return fi.check(model, select=["FI103"])


def test_bn_freeze_without_set_train_mode() -> None:
    model = network()
    fi.unfreeze(model)
    fi.bn_freeze(model, True)
    (one,) = found = findings(model.train())
    assert told(found) == [("1", "warning")]
    assert one.message == "BatchNorm1d: bn_freeze is true, but it is in train mode: nothing has read the attribute"
    assert not mended(one, model)


def test_unfreeze_acts_on_the_mode_at_the_next_set_train_mode() -> None:
    model = network()
    fi.freeze(model)
    fi.set_train_mode(model)
    fi.unfreeze(model)
    (one,) = findings(model)
    assert one.message == "BatchNorm1d: trainable is true, but it is in eval mode: its statistics stay"
    assert not mended(one, model)


def test_trainable_against_requires_grad() -> None:
    model = network()
    fi.unfreeze(model)
    model[0].requires_grad_(False)
    model[2].trainable = False
    first, second = found = findings(model)
    assert told(found) == [("0", "warning"), ("2", "warning")]
    assert [first.fix, second.fix] == ["fi.set_trainable(model[0], True)", "fi.set_trainable(model[2], False)"]
    mended(first, model)
    assert not mended(second, model)


def test_what_the_verbs_set_is_silent() -> None:
    model = network()
    for verb in (fi.freeze, fi.unfreeze, lambda model: fi.bn_freeze(model, True), lambda model: fi.freeze_to(model, 1)):
        verb(model)
        fi.set_train_mode(model)
        assert not findings(model)


def test_a_model_without_attributes_or_in_eval_is_silent() -> None:
    assert not findings(network())
    model = network()
    fi.freeze(model)
    assert not findings(model.eval())


def test_it_is_an_error_only_where_a_watched_step_ran_so() -> None:
    model = network()
    fi.freeze(model)
    optimizer = SGD(model.parameters(), 0.1)
    with fi.watch(model, optimizer) as watch:
        model.train()
        model(torch.randn(4, 4)).sum().backward()
        optimizer.step()
    assert told(findings(watch)) == [("1", "error")]
