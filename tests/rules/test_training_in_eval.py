"""FI308: steps in eval mode."""

from __future__ import annotations

import torch
from torch import nn

import freezeinspect as fi
from watching import found, network, watched

CODE = "FI308"


def test_a_model_that_was_never_put_in_train_mode() -> None:
    model = network().eval()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    (one,) = found(watched(model, optimizer), CODE)
    assert (one.path, one.step, one.severity) == ("", 1, "warning")
    assert "never put in train mode" in one.message
    exec(one.fix, {"model": model})
    assert not found(watched(model, optimizer), CODE)


def test_an_evaluation_that_was_not_left_is_named() -> None:
    model = network()
    (one,) = found(
        watched(model, torch.optim.SGD(model.parameters(), 0.1), lambda number: number == 3 and model.eval()), CODE
    )
    assert (one.step, "was not left" in one.message) == (3, True)
    assert "test_training_in_eval.py" in (one.call or "")


def test_where_nothing_depends_on_the_mode_it_is_information() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4), nn.Linear(4, 2)).eval()
    (one,) = found(watched(model, torch.optim.SGD(model.parameters(), 0.1)), CODE)
    assert one.severity == "info"


def test_norms_in_eval_by_design_are_silent() -> None:
    model = network()
    model[1].eval()
    assert not found(watched(model, torch.optim.SGD(model.parameters(), 0.1)), CODE)


def test_an_optimizer_of_something_else_is_silent() -> None:
    model, other = network().eval(), network()
    with fi.watch(model, torch.optim.SGD(other.parameters(), 0.1), every=1) as watch:
        for optimizer in watch.optimizers * 3:
            other(torch.randn(8, 4)).mean().backward()
            optimizer.step()
    assert not found(watch, CODE)
