"""FI307: a weight changed outside the optimizer's steps."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

import freezeinspect as fi
from watching import found, network, severities, step, watched

CODE = "FI307"


def test_a_load_in_the_middle_of_a_run_is_a_warning() -> None:
    model = network()
    start = {name: value.clone() for name, value in model[0].state_dict().items()}

    def load(number: int) -> None:
        if number == 3:
            model[0].load_state_dict(start)

    (one,) = found(watched(model, torch.optim.SGD(model.parameters(), 0.1), load), CODE)
    assert (one.path, one.tensor, one.step, one.severity) == ("0", None, 3, "warning")


@pytest.mark.parametrize("every_step", [lambda data: data.clamp_(-0.1, 0.1), lambda data: data.add_(0.01)])
def test_what_recurs_is_information(every_step: Callable[[torch.Tensor], torch.Tensor]) -> None:
    model = network()

    def clip(_: int) -> None:
        for parameter in model[0].parameters():
            every_step(parameter.data)

    assert severities(watched(model, torch.optim.SGD(model.parameters(), 1.0), clip), CODE) == {"info"}


def test_a_loop_without_a_write_is_silent() -> None:
    model = network()
    assert not found(watched(model, torch.optim.SGD(model.parameters(), 0.1)), CODE)


def test_without_an_optimizer_nobody_knows_what_a_step_is() -> None:
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with fi.watch(model, every=1) as watch:
        for _ in range(3):
            step(model, optimizer)
    assert not found(watch, CODE)
