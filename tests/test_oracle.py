"""Clone and compare, by which a watch is judged, sees every changed bit."""

import pytest
import torch
from torch import nn

from freezeinspect.readers import live
from oracle import Oracle
from zoo import ZOO, quiet


@pytest.mark.parametrize("kept", [0.0, float("nan")])
def test_bits_are_compared_not_numbers(kept):
    model = nn.ParameterList([nn.Parameter(torch.tensor([kept]))])
    oracle = Oracle(model)
    assert oracle.moved() == (False,)
    with torch.no_grad():
        model[0].view(torch.int32).bitwise_xor_(-(2**31))  # the sign alone
    assert oracle.moved() == (True,)


def test_a_write_through_data_is_seen_though_no_version_counts_it():
    model = nn.Linear(2, 2)
    oracle, version = Oracle(model), model.weight._version
    model.weight.data.add_(1)
    assert (oracle.moved(), model.weight._version) == ((True, False), version)


@pytest.mark.parametrize("name", [name for name in ZOO if name != "lazy"])
def test_nothing_moved_in_any_model_of_the_zoo(name):
    model = ZOO[name]().model
    with quiet():
        moved = Oracle(model).moved()
    assert not any(moved)
    assert len(moved) == len(live.read(model).structure.tensors)
