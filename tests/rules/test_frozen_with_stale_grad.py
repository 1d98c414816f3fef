"""FI202: frozen, with a gradient left."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.optim import LBFGS, SGD

import freezeinspect as fi
from mending import mended, told


def network() -> nn.Sequential:
    model = nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 2))
    model(torch.ones(2, 4)).sum().backward()
    model[0].requires_grad_(False)
    return model


def findings(model: object, optimizer: object = None) -> fi.Findings:
    return fi.check(model, optimizer, select=["FI202"])


def test_it_is_told_and_mended() -> None:
    model = network()
    optimizer = SGD(model.parameters(), 0.1)
    (one,) = found = findings(model, optimizer)
    assert told(found) == [("0", "warning")]
    assert one.message == "weight, bias frozen with a gradient left: a step before zero_grad() moves it"
    assert one.fix == "model[0].weight.grad = model[0].bias.grad = None"
    assert not mended(one, model, optimizer)


def test_what_it_says_is_so() -> None:
    model = network()
    before = model[0].weight.detach().clone()
    SGD(model.parameters(), 0.1).step()
    assert not torch.equal(before, model[0].weight)


def test_after_zero_grad_it_is_silent() -> None:
    model = network()
    optimizer = SGD(model.parameters(), 0.1)
    optimizer.zero_grad()
    assert not findings(model, optimizer)


@pytest.mark.parametrize("kind", [SGD, LBFGS])
def test_in_no_group_or_under_lbfgs_it_is_silent(kind: type[torch.optim.Optimizer]) -> None:
    model = network()
    held = model if kind is LBFGS else model[2]
    assert not findings(model, kind(held.parameters(), 0.1))


def test_at_lr_0_nothing_moves() -> None:
    model = network()
    assert not findings(model, SGD(model.parameters(), 0.0))


def test_what_a_run_toggles_is_not_frozen() -> None:
    model = nn.ModuleDict({"G": nn.Linear(4, 4), "D": nn.Linear(4, 1)})
    ours, theirs = (SGD(part.parameters(), 0.1) for part in model.values())
    with fi.watch(model, [ours, theirs]) as watch:
        for _ in range(2):
            for required, optimizer in ((True, theirs), (False, ours)):
                model["D"].requires_grad_(required)
                optimizer.zero_grad()
                model["D"](model["G"](torch.randn(2, 4))).sum().backward()
                optimizer.step()
    assert not findings(watch)


def run(model: nn.Module, optimizer: torch.optim.Optimizer, freeze_at: int, clear: bool) -> fi.Watch:
    with fi.watch(model, optimizer) as watch:
        for n in range(1, 7):
            if clear:
                optimizer.zero_grad()
            if n == freeze_at:
                model[0].requires_grad_(False)
            model(torch.ones(2, 4)).sum().backward()
            optimizer.step()
    return watch


def test_a_step_that_began_so_is_an_error_with_its_number() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 2))
    watch = run(model, SGD(model.parameters(), 0.1), freeze_at=4, clear=False)
    (one,) = found = findings(watch)
    assert told(found) == [("0", "error")]
    assert one.step == 4
    assert one.message == "weight, bias frozen with a gradient left as their optimizer stepped: the step moves it"
    assert watch.report().observed.lived[0].stale == (3, 4)
    assert "FI301" in {each.code for each in fi.check(watch)}


def test_the_report_of_a_run_keeps_it_in_its_json() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 2))
    report = run(model, SGD(model.parameters(), 0.1), freeze_at=4, clear=False).report()
    assert fi.Report.from_json(report.to_json()).findings == report.findings


def test_where_zero_grad_came_first_the_steps_are_silent() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 2))
    assert not findings(run(model, SGD(model.parameters(), 0.1), freeze_at=4, clear=True))
