"""FI306: statistics that a recomputation updates again."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

import freezeinspect as fi
from watching import found, network, watched

CODE = "FI306"


class Checkpointed(nn.Module):
    def __init__(self, reentrant: bool = False) -> None:
        super().__init__()
        self.body, self.head, self.reentrant = network(), nn.Linear(2, 2), reentrant

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(checkpoint(self.body, x.requires_grad_(), use_reentrant=self.reentrant))


@pytest.mark.parametrize("reentrant", [False, True])
def test_checkpointing_runs_a_norm_again(reentrant: bool, tmp_path: Path) -> None:
    model = Checkpointed(reentrant)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with fi.watch(model, optimizer, log=tmp_path / "run.jsonl") as watch:
        model(torch.randn(8, 4)).mean().backward()
        optimizer.step()
    (one,) = found(watch, CODE)
    assert (one.path, one.step, one.severity) == ("body.1", 1, "warning")
    assert [one.path for one in fi.check(tmp_path / "run.jsonl", select=[CODE])] == ["body.1"]


def test_with_the_momentum_of_the_fix_two_updates_weigh_as_one() -> None:
    model, plain = Checkpointed(), network()
    (one,) = found(watched(model, torch.optim.SGD(model.parameters(), 0.1), steps=1), CODE)
    model = Checkpointed()
    exec(one.fix or "", {"model": model})
    x = torch.randn(8, 4)
    model(x).mean().backward()
    plain(x)
    torch.testing.assert_close(model.body[1].running_mean, plain[1].running_mean, rtol=1e-4, atol=1e-5)


def test_in_eval_nothing_is_updated() -> None:
    model = Checkpointed()
    model.body.eval()
    assert not found(watched(model, torch.optim.SGD(model.parameters(), 0.1)), CODE)


def test_several_forwards_before_a_step_are_not_it() -> None:
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with fi.watch(model, optimizer) as watch:
        for _ in range(2):  # accumulation, of a siamese pair
            (model(torch.randn(8, 4)) - model(torch.randn(8, 4))).square().mean().backward()
        optimizer.step()
    assert not found(watch, CODE)


def test_its_hook_is_in_no_copy_and_is_taken_off() -> None:
    model = network()
    with fi.watch(model, torch.optim.SGD(model.parameters(), 0.1)):
        assert model[1]._forward_pre_hooks
        assert b"freezeinspect" not in pickle.dumps(model)
        copy.deepcopy(model)(torch.randn(8, 4))
    assert not model[1]._forward_pre_hooks
