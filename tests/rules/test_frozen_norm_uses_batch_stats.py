"""FI105: statistics that stay and are not used."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from torch import nn

import freezeinspect as fi
from mending import mended, told

STILL: dict[str, Callable[[Any], Any]] = {
    "no tracking": lambda norm: setattr(norm, "track_running_stats", False),
    "momentum 0": lambda norm: setattr(norm, "momentum", 0),
}


def network(norm: nn.Module | None = None) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(3, 4, 3), norm or nn.BatchNorm2d(4), nn.Conv2d(4, 2, 1))


def findings(model: nn.Module) -> fi.Findings:
    return fi.check(model, select=["FI105"])


@pytest.mark.parametrize("make_still", STILL.values(), ids=STILL)
def test_a_frozen_norm_that_normalises_with_the_batch(make_still: Callable[[Any], Any]) -> None:
    model = network()
    make_still(model[1].requires_grad_(False))
    (one,) = found = findings(model)
    assert told(found) == [("1", "warning")]
    assert not mended(one, model)


@pytest.mark.parametrize("make_still", STILL.values(), ids=STILL)
def test_a_trainable_one_is_silent(make_still: Callable[[Any], Any]) -> None:
    model = network()
    make_still(model[1])
    assert not findings(model)


def test_without_weights_it_is_frozen_with_its_branch() -> None:
    model = network(nn.BatchNorm2d(4, affine=False, momentum=0.0))
    assert not findings(model)
    assert told(findings(model.requires_grad_(False))) == [("1", "warning")]


@pytest.mark.parametrize(
    "norm",
    [nn.BatchNorm2d(4), nn.BatchNorm2d(4, track_running_stats=False), nn.GroupNorm(2, 4), nn.InstanceNorm2d(4)],
)
def test_statistics_that_move_or_that_never_were_are_not_it(norm: nn.Module) -> None:
    assert not findings(network(norm).requires_grad_(False))
