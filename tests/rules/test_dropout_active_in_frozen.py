"""FI106: noise where nothing learns."""

from __future__ import annotations

from torch import nn

import freezeinspect as fi
from mending import mended, told


def network(p: float = 0.5) -> nn.Sequential:
    body = nn.Sequential(nn.Linear(4, 4), nn.Sequential(nn.Dropout(p), nn.ReLU()))
    body.requires_grad_(False)
    return nn.Sequential(body, nn.Dropout(0.1), nn.Linear(4, 2))


def findings(model: nn.Module) -> fi.Findings:
    return fi.check(model, select=["FI106"])


def test_a_dropout_in_a_frozen_branch_is_told_and_that_of_the_head_is_not() -> None:
    model = network()
    (one,) = found = findings(model)
    assert told(found) == [("0.1.0", "info")]
    assert one.message == "Dropout drops with p = 0.5 in a frozen branch, where nothing learns to bear it"
    assert not mended(one, model)


def test_p_0_and_eval_are_silent() -> None:
    assert not findings(network(p=0.0))
    model = network()
    model[0].eval()
    assert not findings(model)
