"""Optimizers beside the weights: what is known of their parameters, and what only seems to be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim import SGD, Adam, AdamW, Optimizer

import freezeinspect as fi
from freezeinspect.report import Report
from freezeinspect.state import NO, UNKNOWN, YES
from zoo import ZOO, Residual


def read(path: Path, **checkpoint: Any) -> Report:
    torch.save(checkpoint, path / "checkpoint.pt")
    return fi.inspect(path / "checkpoint.pt")


def stepped(model: nn.Module, optimizer: Optimizer, *args: Any) -> Optimizer:
    """Take one step, as a training run would have."""
    model(*args).sum().backward()
    optimizer.step()
    optimizer.zero_grad()
    return optimizer


def halves() -> tuple[nn.Module, Optimizer]:
    """Train the second layer of two; the first is in the optimizer but frozen."""
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    model[0].requires_grad_(False)
    return model, stepped(model, Adam(model.named_parameters(), lr=0.5, weight_decay=0.25), torch.ones(1, 2))


class TestWithoutNames:
    def test_which_parameters_it_steps_is_unknown_but_how_many_were_is_not(self, tmp_path: Path) -> None:
        model, _ = halves()
        optimizer = stepped(model, Adam(model.parameters(), lr=0.5), torch.ones(1, 2))
        report = read(tmp_path, model=model, optimizer=optimizer.state_dict())
        (group,) = report.snapshot.optimizers[0].groups
        assert (group.lr, group.parameters, group.with_state, group.orphans) == (0.5, 4, 2, None)
        assert set(report.snapshot.groups) == {None}
        assert report["1"].weights_move is UNKNOWN

    def test_the_report_says_so(self, tmp_path: Path) -> None:
        model, optimizer = halves()
        state = optimizer.state_dict()
        del state["param_groups"][0]["param_names"]
        report = str(read(tmp_path, m=model, o=state))
        assert "6 of 12 parameters require a gradient, but which of them an optimizer moves is" in report
        assert (
            "\n\nOptimizer: lr 0.5, 4 tensors, 2 of them stepped.\n\nThe optimizer's state does not name its" in report
        )


class TestWithNames:
    @pytest.mark.parametrize("whole", [True, False])
    def test_which_were_stepped_is_known(self, whole: bool, tmp_path: Path) -> None:
        model, optimizer = halves()
        report = read(tmp_path, model=model if whole else model.state_dict(), optimizer=optimizer.state_dict())
        assert report.snapshot.groups == ((0,),) * 4
        assert report.snapshot.has_state == (NO, NO, YES, YES)
        assert report.snapshot.optimizers[0].groups[0].orphans == 0

    def test_a_stepped_parameter_can_move_and_a_frozen_one_may(self, tmp_path: Path) -> None:
        """The class is not in a state_dict: under LBFGS a frozen parameter would move."""
        model, optimizer = halves()
        report = read(tmp_path, model=model, optimizer=optimizer.state_dict())
        assert (report["0"].weights_move, report["1"].weights_move) == (UNKNOWN, YES)

    def test_a_tied_tensor_is_in_its_group_under_both_names(self, tmp_path: Path) -> None:
        model = ZOO["tied"]().model
        state = AdamW(model.named_parameters()).state_dict()
        for saved in (model, model.state_dict()):
            assert read(tmp_path, model=saved, optimizer=state).snapshot.groups == ((0,), (0,))

    @pytest.mark.parametrize("wrap", [nn.DataParallel, lambda model: torch.compile(model, backend="eager")])
    def test_a_wrapper_s_part_of_a_name_is_passed_over(self, wrap: Any, tmp_path: Path) -> None:
        model = Residual()
        optimizer = AdamW(wrap(model).named_parameters())
        report = read(tmp_path, model=model, optimizer=optimizer.state_dict())
        assert {report.snapshot.groups[i] for i in range(len(list(model.parameters())))} == {(0,)}

    @pytest.mark.parametrize(
        "other",
        [
            pytest.param(nn.Sequential(nn.Linear(3, 3)), id="of another shape"),
            pytest.param(nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2), nn.Linear(2, 2)), id="with names of its own"),
        ],
    )
    def test_of_another_model_are_not_taken_for_this_one_s(self, other: nn.Module, tmp_path: Path) -> None:
        model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
        optimizer = stepped(other, Adam(other.named_parameters()), torch.ones(1, other[0].in_features))
        report = read(tmp_path, model=model, optimizer=optimizer.state_dict())
        assert set(report.snapshot.groups) == {None}

    def test_that_two_optimizers_claim_belong_to_neither(self, tmp_path: Path) -> None:
        model, twin = nn.Linear(2, 2), nn.Linear(2, 2)
        states = [SGD(one.named_parameters(), lr=1.0).state_dict() for one in (model, twin)]
        assert set(read(tmp_path, model=model, optimizers=states).snapshot.groups) == {None}

    def test_beside_several_models_are_nobody_s(self, tmp_path: Path) -> None:
        one, other = nn.Linear(2, 2), nn.Linear(2, 2)
        state = SGD(other.named_parameters(), lr=1.0).state_dict()
        report = read(tmp_path, generator=one, discriminator=other, optimizer=state)
        assert set(report.snapshot.groups) == {None}

    def test_leave_a_state_dict_s_buffers_unknown(self, tmp_path: Path) -> None:
        model = Residual()
        report = read(tmp_path, model=model.state_dict(), optimizer=AdamW(model.named_parameters()).state_dict())
        structure = report.snapshot.structure
        groups = {structure.full_name(i): one for i, one in enumerate(report.snapshot.groups)}
        assert groups["layer1.bn.weight"] == (0,)
        assert groups["layer1.bn.running_mean"] is None
        assert report["layer1.bn"].tensors[2].name == "running_mean"


class TestPickledWhole:
    def test_is_as_the_live_one(self, tmp_path: Path) -> None:
        model, optimizer = halves()
        assert read(tmp_path, model=model, optimizer=optimizer) == fi.inspect(model, optimizer)

    def test_is_as_the_live_one_also_with_a_tied_weight(self, tmp_path: Path) -> None:
        model = ZOO["tied"]().model
        optimizer = SGD(model.parameters(), lr=0.5)
        assert read(tmp_path, model=model, optimizer=optimizer) == fi.inspect(model, optimizer)

    def test_of_another_model_holds_none_of_this_one(self, tmp_path: Path) -> None:
        one, other = nn.Linear(2, 2), nn.Linear(2, 2)
        optimizer = SGD(other.parameters(), lr=0.5)
        report = read(tmp_path, model=one, critic=other, critic_optimizer=optimizer)
        assert report == fi.inspect(one, optimizer)


def test_a_whole_one_beside_detached_tensors_may_hold_any_of_them(tmp_path: Path) -> None:
    model = nn.Linear(2, 2)
    state = {**model.state_dict(), "x": torch.eye(2).to_sparse()}
    report = read(tmp_path, model=state, optimizer=SGD(model.parameters(), lr=0.5))
    assert report.snapshot.optimizers[0].groups[0].orphans is None
    assert set(report.snapshot.groups) == {None}


@pytest.mark.parametrize(
    ("lr", "read_as"), [(0.5, 0.5), (1, 1.0), (torch.tensor(0.5), None), (float("nan"), None), ("fast", None)]
)
def test_lr_is_a_number_but_for_a_tensor_whose_bytes_are_not_read(lr: Any, read_as: Any, tmp_path: Path) -> None:
    model = nn.Linear(1, 1)
    state = SGD(model.parameters(), lr=1.0).state_dict()
    state["param_groups"][0]["lr"] = lr
    assert read(tmp_path, model=model, optimizer=state).snapshot.optimizers[0].groups[0].lr == read_as
