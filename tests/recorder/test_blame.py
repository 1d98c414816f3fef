"""Which call flipped a flag: the nearest line that is neither torch's nor ours."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

import freezeinspect as fi
from training import pair, train


def train_mode(model: nn.Sequential) -> None:
    model.train(False)


def evaluate(model: nn.Sequential) -> None:
    model.eval()


def require(model: nn.Sequential) -> None:
    model[0].requires_grad_(False)


def freeze(model: nn.Sequential) -> None:
    fi.freeze(model)


def attribute(model: nn.Sequential) -> None:
    model[1].training = False


def parameter(model: nn.Sequential) -> None:
    model[0].weight.requires_grad = False


def parameter_method(model: nn.Sequential) -> None:
    model[0].weight.requires_grad_(False)


def momentum(model: nn.Sequential) -> None:
    model[1].momentum = 0.5


def calls(flip: Callable[[nn.Sequential], Any]) -> set[str | None]:
    model, optimizer = pair()
    with fi.watch(model, optimizer, blame=True) as watch:
        train(model, optimizer)
        flip(model)
        train(model, optimizer)
    return set(watch.changes()["call"])


@pytest.mark.parametrize(
    "flip", [train_mode, evaluate, require, freeze, attribute, parameter, parameter_method, momentum]
)
def test_every_way_to_flip_has_its_line(flip: Callable[[nn.Sequential], Any]) -> None:
    (call,) = calls(flip)
    line = flip.__code__.co_firstlineno + 1
    assert call is not None
    assert call.endswith(f"test_blame.py:{line} in {flip.__name__}")


def test_a_flip_in_another_thread_has_its_line_too() -> None:
    def flip(model: nn.Sequential) -> None:
        thread = threading.Thread(target=evaluate, args=(model,))
        thread.start()
        thread.join()

    (call,) = calls(flip)
    assert call is not None
    assert call.endswith(" in evaluate")


def test_a_flip_that_no_call_made_has_none_though_one_came_before_it() -> None:
    model, optimizer = pair()
    with fi.watch(model, optimizer, blame=True) as watch:
        model.eval()
        model.train()
        train(model, optimizer)
        model.eval()
        model.train()  # as it was: this is over by the next step
        train(model, optimizer)
        model[1].__dict__["training"] = False
        train(model, optimizer)
    assert watch.changes()["call"].tolist() == [None]


def test_two_watches_both_know_and_each_its_own_model() -> None:
    pairs = [pair(), pair()]
    watches = [fi.watch(*one, blame=True) for one in pairs]
    pairs[0][0].eval()
    for one in pairs:
        train(*one)
    for watch in watches:
        watch.close()
    assert [len(watch.changes()) for watch in watches] == [5, 0]
    assert watches[0].changes()["call"].notna().all()


def test_requires_grad_can_be_read_in_one_graph() -> None:
    class Branch(nn.Linear):
        def forward(self, batch: torch.Tensor) -> torch.Tensor:
            return super().forward(batch) * (2 if self.weight.requires_grad else 1)

    torch._dynamo.reset()
    model, batch = Branch(2, 2), torch.randn(2, 2)
    with fi.watch(model, blame=True):
        compiled = torch.compile(model, backend="eager", fullgraph=True)
        assert compiled(batch).equal(model(batch))
        model.weight.requires_grad = False
        assert compiled(batch).equal(model(batch))


def test_without_it_nothing_is_patched() -> None:
    model, optimizer = pair()
    with fi.watch(model, optimizer):
        assert "freezeinspect" not in sys.modules[nn.Module.__setattr__.__module__].__name__
        assert "requires_grad" not in vars(nn.Parameter)
