"""FI302: the statistics of a frozen layer moved."""

from __future__ import annotations

import copy

import torch
from torch import nn

from watching import found, network, severities, watched

CODE = "FI302"


def frozen() -> tuple[nn.Module, torch.optim.Optimizer]:
    model = network()
    model[:2].requires_grad_(False)
    return model, torch.optim.SGD(model[2].parameters(), 0.1)


def test_its_weights_stay_and_its_statistics_move_until_the_fix_is_run() -> None:
    model, optimizer = frozen()
    (one,) = found(watched(model, optimizer), CODE)
    assert (one.path, one.step, one.severity) == ("1", 1, "error")
    exec(one.fix, {"model": model})
    assert not found(watched(model, optimizer), CODE)


def test_a_layer_without_weights_is_judged_by_its_branch() -> None:
    model, _ = frozen()
    model[1] = nn.BatchNorm1d(4, affine=False)
    assert not found(watched(model, torch.optim.SGD(model[2].parameters(), 0.1)), CODE)  # the root's head trains
    body = nn.Sequential(nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4, affine=False)), nn.Linear(4, 2))
    body[0].requires_grad_(False)
    assert [one.path for one in found(watched(body, torch.optim.SGD(body[1].parameters(), 0.1)), CODE)] == ["0.1"]


def test_what_is_frozen_for_a_time_is_not_meant() -> None:
    model, _ = frozen()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    assert not found(watched(model, optimizer, lambda number: model[:2].requires_grad_(number > 2) and None), CODE)


def test_an_average_of_weights_is_information_at_most() -> None:
    class Twins(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.student = network()
            self.teacher = copy.deepcopy(self.student).requires_grad_(False)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.student(x) - self.teacher(x)

    model = Twins()

    def average(_: int) -> None:
        for slow, fast in zip(model.teacher.parameters(), model.student.parameters(), strict=True):
            slow.data.lerp_(fast.data + 0.1, 0.1)

    watch = watched(model, torch.optim.SGD(model.student.parameters(), 0.1), average)
    assert severities(watch, CODE) == severities(watch, "FI307") == {"info"}
