"""FI203: an optimizer with tensors that the model does not have."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn
from torch.optim import LBFGS, SGD

import freezeinspect as fi
from mending import mended, told


def network() -> nn.Sequential:
    return nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2))


def findings(model: nn.Module, optimizer: object) -> fi.Findings:
    return fi.check(model, optimizer, select=["FI203"])


def test_a_replaced_head() -> None:
    model = network()
    optimizer = SGD(model.parameters(), 0.1)
    model[2] = nn.Linear(4, 2)
    (one,) = found = findings(model, optimizer)
    assert told(found) == [("", "error")]
    assert one.message == (
        "group 0 holds 2 tensors that the model does not, and the model has others of their shape, which no step moves"
    )
    assert not mended(one, model, optimizer)


def test_each_group_is_told() -> None:
    model = network()
    optimizer = SGD([{"params": layer.parameters()} for layer in (model[0], model[2])], 0.1)
    model.load_state_dict(network().state_dict(), assign=True)
    assert [one.message[:7] for one in findings(model, optimizer)] == ["group 0", "group 1"]


def test_a_head_of_another_shape_is_information_and_beside_it_a_warning() -> None:
    model = network()
    optimizer = SGD(model.parameters(), 0.1)
    model[2] = nn.Linear(4, 3)
    found = fi.check(model, optimizer)
    assert [(one.code, one.severity) for one in found] == [("FI201", "warning"), ("FI203", "info")]


def test_one_optimizer_over_model_and_criterion_is_information() -> None:
    model, centres = network(), nn.Parameter(torch.zeros(2, 4))
    assert told(findings(model, SGD([*model.parameters(), centres], 0.1))) == [("", "info")]


def test_a_whole_optimizer_and_lbfgs_are_silent() -> None:
    model = network()
    assert not findings(model, SGD(model.parameters(), 0.1))
    optimizer = LBFGS(model.parameters())
    model[2] = nn.Linear(4, 2)
    assert not findings(model, optimizer)


def test_a_file_tells_it_too(tmp_path: Path) -> None:
    model = network()
    optimizer = SGD(model.parameters(), 0.1)
    model[2] = nn.Linear(4, 2)
    torch.save({"model": model, "optimizer": optimizer}, tmp_path / "both.pt")
    assert told(fi.check(tmp_path / "both.pt", select=["FI201", "FI203"])) == [("2", "error"), ("", "error")]


def run(model: nn.Module, optimizer: torch.optim.Optimizer, replace_at: int, head: nn.Module) -> fi.Watch:
    with fi.watch(model, optimizer) as watch:
        for n in range(1, 6):
            if n == replace_at:
                model[2] = head
            optimizer.zero_grad()
            model(torch.ones(2, 4)).sum().backward()
            optimizer.step()
    return watch


def test_a_head_that_a_run_saw_replaced_is_an_error_whatever_its_shape() -> None:
    model = network()
    watch = run(model, SGD(model.parameters(), 0.1), 3, nn.Linear(4, 3))
    (one,) = found = fi.check(watch, select=["FI203"])
    assert told(found) == [("", "error")]
    assert one.step == 3
    assert one.message == (
        "group 0 holds 2 tensors that the model does not any more: they were replaced, and it goes on stepping them"
    )
    assert fi.Report.from_json(watch.report().to_json()).findings == watch.report().findings


def test_a_criterion_that_was_never_in_the_model_stays_information() -> None:
    model, centres = network(), nn.Parameter(torch.zeros(2, 4))
    optimizer = SGD([*model.parameters(), centres], 0.1)
    watch = run(model, optimizer, 9, nn.Identity())
    assert told(fi.check(watch, select=["FI203"])) == [("", "info")]


def test_a_part_that_left_the_optimizer_with_the_model_is_silent() -> None:
    model = network()
    optimizer = SGD(model.parameters(), 0.1)
    with fi.watch(model, optimizer) as watch:
        for n in range(1, 6):
            if n == 3:
                model[2] = nn.Linear(4, 3)
                optimizer.param_groups[0]["params"] = list(model.parameters())
            optimizer.zero_grad()
            model(torch.ones(2, 4)).sum().backward()
            optimizer.step()
    assert not fi.check(watch, select=["FI203"])
