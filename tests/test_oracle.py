"""Clone and compare sees every changed bit, and says whether the forward or the step changed it."""

import pytest
import torch
from torch import nn

from freezeinspect.readers import live
from freezeinspect.state import Answer
from oracle import watched_step
from zoo import ZOO, quiet

YES, NO, ABSENT, MIXED = Answer.YES, Answer.NO, Answer.ABSENT, Answer.MIXED


def nothing() -> None:
    pass


def observed(model, forward=nothing, step=nothing):
    moves = watched_step(model, forward, step)
    return moves, moves.observed(live.read(model).structure).movement


def test_statistics_move_in_the_forward_and_weights_in_the_step():
    model = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    _, movement = observed(model, lambda: model(torch.randn(4, 3)).square().sum().backward(), optimizer.step)
    root = movement[0]
    assert (root.stats.forward, root.stats.step) == (YES, NO)
    assert (root.weights.forward, root.weights.step) == (NO, YES)
    assert root.buffers.forward is YES  # num_batches_tracked
    assert movement[1].stats.forward is ABSENT


@pytest.mark.parametrize("kept", [0.0, float("nan")])
def test_bits_are_compared_not_numbers(kept):
    model = nn.ParameterList([nn.Parameter(torch.tensor([kept]))])

    def negate() -> None:
        with torch.no_grad():
            model[0].view(torch.int32).bitwise_xor_(-(2**31))  # the sign alone

    moves, _ = observed(model, step=negate)
    assert moves.in_step == (True,)
    assert observed(model)[0].in_step == (False,)


def test_a_write_through_data_is_seen_though_no_version_counts_it():
    model = nn.Linear(2, 2)
    moves, _ = observed(model, step=lambda: model.weight.data.add_(1))
    assert moves.in_step == (True, False)


def test_a_module_speaks_for_its_subtree():
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    _, movement = observed(model, step=lambda: model[0].weight.data.zero_())
    assert [m.weights.step for m in movement] == [MIXED, MIXED, NO]


@pytest.mark.parametrize("name", [name for name in ZOO if name != "lazy"])
def test_nothing_moved_in_any_model_of_the_zoo(name):
    model = ZOO[name]().model
    with quiet():
        moves, _ = observed(model)
    assert not any(moves.in_forward + moves.in_step)
    assert len(moves.in_step) == len(live.read(model).structure.tensors)
