"""FI305: requires_grad changed during the run."""

from __future__ import annotations

import torch

import freezeinspect as fi
from watching import found, network, watched

CODE = "FI305"


def test_a_stage_of_unfreezing_is_told_once_a_module_with_its_call() -> None:
    model = network()
    model[0].requires_grad_(False)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)

    def unfreeze(number: int) -> None:
        if number == 3:
            model[0].requires_grad_(True)

    watch = watched(model, optimizer, unfreeze)
    (one,) = found(watch, CODE)
    assert (one.path, one.tensor, one.step, one.severity) == ("0", None, 3, "info")
    assert one.message.startswith("unfrozen during the run")
    assert "test_requires_grad_flipped.py" in (one.call or "")
    assert not found(watch, "FI301", "FI302", "FI304")


def test_what_is_frozen_in_turn_is_told_as_that() -> None:
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    (one,) = found(watched(model, optimizer, lambda number: model[0].requires_grad_(number % 2 == 1) and None), CODE)
    assert one.message.startswith("frozen and unfrozen in turn")


def test_a_freeze_before_the_first_step_or_after_the_last_is_silent() -> None:
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with fi.watch(model, optimizer) as watch:
        model[0].requires_grad_(False)
        model(torch.randn(8, 4)).mean().backward()
        optimizer.step()
        model.requires_grad_(False)
    assert not found(watch, CODE)
