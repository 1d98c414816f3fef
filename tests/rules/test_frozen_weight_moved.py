"""FI301: a step moved what was frozen."""

from __future__ import annotations

import pytest
import torch

import freezeinspect as fi
from watching import found, network, step, watched

CODE = "FI301"


@pytest.mark.parametrize("momentum", [0, 0.9])
def test_a_freeze_between_backward_and_step_still_moves(momentum: float) -> None:
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=momentum)

    def freeze(number: int) -> None:
        if number == 2:
            model[0].weight.register_post_accumulate_grad_hook(lambda weight: weight.requires_grad_(False))

    (one,) = found(watched(model, optimizer, freeze, steps=2), CODE)
    assert (one.path, one.tensor, one.step, one.severity) == ("0", None, 2, "error")


def hits_of_zeros(fix: str = "") -> list[fi.Finding]:
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)

    def freeze(number: int) -> None:
        if number == 3:
            model[0].requires_grad_(False)
            exec(fix, {"model": model})

    return found(watched(model, optimizer, freeze, none=False), CODE)


def test_zeros_that_zero_grad_leaves_move_it_by_momentum_until_the_fix_is_run() -> None:
    (one,) = hits_of_zeros()
    assert (one.path, one.tensor, one.step) == ("0", None, 3)
    assert not hits_of_zeros(one.fix or "")


def test_freezing_between_epochs_is_silent_where_zero_grad_comes_first() -> None:
    model = network()
    optimizer = torch.optim.AdamW(model.parameters(), 0.1, weight_decay=0.1)

    def freeze(number: int) -> None:
        if number == 3:
            model[0].requires_grad_(False)

    assert not found(watched(model, optimizer, freeze), CODE)


def test_networks_that_are_frozen_in_turn_are_silent() -> None:
    model = torch.nn.ModuleDict({"g": network(), "d": network()})
    halves = {name: torch.optim.SGD(part.parameters(), 0.1, momentum=0.9) for name, part in model.items()}
    with fi.watch(model, list(halves.values()), every=1) as watch:
        for _ in range(4):
            for name, other in (("g", "d"), ("d", "g")):
                model[other].requires_grad_(False)
                model[name].requires_grad_(True)
                step(model[name], halves[name])
    assert not found(watch, CODE, "FI302")
    assert not [one for one in watch.history.surprises() if one.place == "step"]
