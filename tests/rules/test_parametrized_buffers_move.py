"""FI110: the vectors of spectral norm."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from torch import nn
from torch.nn.utils import parametrizations, spectral_norm

import freezeinspect as fi
from mending import mended, told
from zoo import quiet

STYLES: dict[str, Callable[[nn.Module], nn.Module]] = {"old": spectral_norm, "new": parametrizations.spectral_norm}


def network(style: str) -> nn.Sequential:
    with quiet():
        return nn.Sequential(nn.Sequential(STYLES[style](nn.Linear(4, 4))), nn.Linear(4, 2))


def findings(model: nn.Module) -> fi.Findings:
    return fi.check(model, select=["FI110"])


@pytest.mark.parametrize("style", STYLES)
def test_a_frozen_one_in_train_mode(style: str) -> None:
    model = network(style)
    model[0].requires_grad_(False)
    (one,) = found = findings(model)
    assert told(found) == [("0.0", "warning")]
    assert one.message == "Linear is frozen, but in train mode: each forward moves its spectral norm"
    assert not mended(one, model)


@pytest.mark.parametrize("style", STYLES)
def test_the_whole_model_may_be_one(style: str) -> None:
    with quiet():
        model = STYLES[style](nn.Linear(4, 4)).requires_grad_(False)
    assert told(findings(model)) == [("", "warning")]


@pytest.mark.parametrize("style", STYLES)
def test_a_trainable_one_is_silent(style: str) -> None:
    model = network(style)
    model[1].requires_grad_(False)
    assert not findings(model)


def test_weight_norm_has_no_buffers() -> None:
    model = nn.Sequential(parametrizations.weight_norm(nn.Linear(4, 4))).requires_grad_(False)
    assert not findings(model)
