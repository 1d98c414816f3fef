"""FI104: a freeze that only made a new attribute."""

from __future__ import annotations

import pytest
from torch import nn

import freezeinspect as fi
from mending import mended, told


def network() -> nn.Sequential:
    return nn.Sequential(nn.Sequential(nn.Linear(4, 4), nn.ReLU()), nn.Linear(4, 2))


def findings(model: nn.Module) -> fi.Findings:
    return fi.check(model, select=["FI104"])


def test_requires_grad_on_a_module() -> None:
    model = network()
    model[0].requires_grad = False
    (one,) = found = findings(model)
    assert told(found) == [("0", "error")]
    assert one.message == "requires_grad = False on a module only makes a new attribute: its parameters still train"
    assert not mended(one, model)


@pytest.mark.parametrize("name", ["require_grad", "trainable", "requires_grads"])
def test_another_name_on_a_parameter(name: str) -> None:
    model = network()
    setattr(model[1].weight, name, False)
    (one,) = findings(model)
    assert (one.path, one.tensor, one.fix) == ("1", "weight", "model[1].weight.requires_grad = False")
    assert one.message == f"{name} = False on a parameter only makes a new attribute: it still trains"
    assert not mended(one, model)


def test_many_are_one_line() -> None:
    model = network()
    for parameter in model.parameters():
        parameter.require_grad = False
    assert len(findings(model)) == 4
    assert str(findings(model)).count("FI104") == 1


def test_no_harm_no_finding() -> None:
    model = network()
    model[0].requires_grad = True
    model[1].requires_grad = model[1].weight.require_grad = False
    model[1].requires_grad_(False)
    model[0][1].requires_grad = False  # has no parameter
    assert not findings(model)
