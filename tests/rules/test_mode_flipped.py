"""FI304: a mode that is another at a step than at the one before."""

from __future__ import annotations

import torch
from torch import nn

from watching import found, network, watched

CODE = "FI304"


def frozen() -> tuple[nn.Module, torch.optim.Optimizer]:
    model = network()
    model[:2].requires_grad_(False).eval()
    return model, torch.optim.SGD(model[2].parameters(), 0.1)


def test_model_train_undoes_the_eval_of_a_frozen_layer_and_is_named() -> None:
    model, optimizer = frozen()
    (one,) = found(watched(model, optimizer, lambda number: model.train() if number == 3 else None), CODE)
    assert (one.path, one.step, one.severity) == ("1", 3, "warning")
    assert "test_mode_flipped.py" in (one.call or "")

    model, optimizer = frozen()
    program = f"model.train()\n{one.fix}"
    assert not found(watched(model, optimizer, lambda _: exec(program, {"model": model})), CODE)


def test_a_validation_that_ends_where_it_began_is_silent() -> None:
    model, optimizer = frozen()

    def validate(_: int) -> None:
        model.eval()
        model(torch.randn(8, 4))
        model.train()
        model[:2].eval()

    validate(0)
    assert not found(watched(model, optimizer, validate), CODE)


def test_train_before_the_first_step_and_eval_after_the_last_are_silent() -> None:
    model, optimizer = frozen()
    watch = watched(model, optimizer, lambda number: model.train())
    assert not found(watch, CODE)


def test_a_trainable_norm_that_leaves_train_is_information() -> None:
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    (one,) = found(watched(model, optimizer, lambda number: model[1].train(number < 3) and None), CODE)
    assert (one.path, one.step, one.severity) == ("1", 3, "info")


def test_a_layer_that_is_unfrozen_as_it_goes_to_train_is_silent() -> None:
    model, _ = frozen()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)

    def unfreeze(number: int) -> None:
        if number == 3:
            model.requires_grad_(True).train()

    assert not found(watched(model, optimizer, unfreeze), CODE)
