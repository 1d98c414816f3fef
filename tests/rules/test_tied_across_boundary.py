"""FI108: one tensor on both sides of a freeze."""

from __future__ import annotations

import pytest
from torch import nn

import freezeinspect as fi
from mending import mended, told
from zoo import ZOO


def network() -> nn.Sequential:
    encoder = nn.Sequential(nn.Embedding(10, 4), nn.Linear(4, 4))
    decoder = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 10, bias=False))
    decoder[1].weight = encoder[0].weight
    return nn.Sequential(encoder, decoder)


def findings(model: nn.Module) -> fi.Findings:
    return fi.check(model, select=["FI108"])


def test_freezing_one_side_froze_a_weight_of_the_other() -> None:
    model = network()
    model[0].requires_grad_(False)
    (one,) = found = findings(model)
    assert told(found) == [("1.1", "warning")]
    assert one.message == "is frozen in a part that trains, for it is one tensor with 0.0.weight"
    assert not mended(one, model)
    assert model[1][1].weight.requires_grad


def test_unfreezing_one_side_undid_the_freeze_of_the_other() -> None:
    model = network()
    model[0].requires_grad_(False)
    model[1].requires_grad_(True)
    (one,) = found = findings(model)
    assert told(found) == [("0.0", "warning")]
    assert one.message == "trains in a part that is frozen, for it is one tensor with 1.1.weight"
    assert not mended(one, model)
    assert not model[0][0].weight.requires_grad


def test_a_part_that_trains_in_part_trains() -> None:
    model = network()
    model[0].requires_grad_(False)
    model[1][0].bias.requires_grad = False
    assert findings(model)


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("name", ["tied", "llama", "shared"])
def test_a_tie_on_one_side_is_silent(name: str, frozen: bool) -> None:
    assert not findings(ZOO[name]().model.requires_grad_(not frozen))


def test_a_whole_around_a_frozen_part_is_no_other_side() -> None:
    body = nn.Sequential(nn.Embedding(10, 4), nn.Linear(4, 4))
    model = nn.ModuleDict({"body": body, "decoder": nn.Linear(4, 10, bias=False), "value": nn.Linear(4, 1)})
    model["decoder"].weight = body[0].weight
    body.requires_grad_(False)
    assert not findings(model)
