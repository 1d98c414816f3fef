"""FI107: half a layer."""

from __future__ import annotations

from torch import nn

import freezeinspect as fi
from mending import mended, told
from zoo import Token


def findings(model: nn.Module) -> fi.Findings:
    return fi.check(model, select=["FI107"])


def test_a_layer_frozen_in_part() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2))
    model[0].weight.requires_grad = False
    (one,) = found = findings(model)
    assert told(found) == [("0", "info")]
    assert one.message == "Linear: weight frozen, while the rest of it trains"
    assert not mended(one, model)


def test_many_names_are_counted() -> None:
    model = nn.LSTM(4, 4, num_layers=2)
    for name, parameter in model.named_parameters():
        parameter.requires_grad = name == "bias_hh_l1"
    (one,) = findings(model)
    assert one.message == "LSTM: weight_ih_l0, weight_hh_l0, bias_ih_l0 and 4 more frozen, while the rest of it trains"


def test_a_module_with_children_is_no_leaf() -> None:
    model = Token()
    model.body.requires_grad_(False)
    assert not findings(model)
