"""The faces of a run as data: its steps, one step, and JSON."""

from __future__ import annotations

import json

import pytest
import torch
from torch import nn

import freezeinspect as fi
from training import backward, pair, train


class TestSteps:
    def test_count_what_moved_and_of_how_much_that_is_known(self) -> None:
        model, optimizer = pair()
        with fi.watch(model, optimizer, every=2) as watch:
            train(model, optimizer, 2)
        steps = watch.steps()
        assert steps["weights_moved"].tolist() == [5, 0]
        assert steps["weights_known"].tolist() == [5, 0]
        assert (steps["stats_moved"].tolist(), steps["stats_known"].tolist()) == ([2, 2], [2, 2])

    def test_know_nothing_where_nobody_looked(self) -> None:
        model, optimizer = pair()
        with fi.watch(model, optimizer, evidence="off") as watch:
            train(model, optimizer)
        assert watch.steps()[["weights_known", "stats_known"]].sum(axis=None) == 0

    def test_count_of_each_step_what_its_own_optimizer_did(self) -> None:
        model, _ = pair()
        optimizers = [torch.optim.SGD(model[n].parameters(), 0.1) for n in (0, 3)]
        with fi.watch(model, optimizers, every=1) as watch:
            for optimizer in optimizers * 2:
                model.zero_grad()
                backward(model)
                optimizer.step()
        assert watch.steps()["weights_moved"].tolist() == [1, 2, 1, 2]
        assert "weights in step" not in watch.table(1).splitlines()[-1]
        assert "weights in step" in watch.table(2).splitlines()[-1]


def test_a_step_that_nobody_looked_at_is_a_question() -> None:
    model, optimizer = pair()
    with fi.watch(model, optimizer, evidence="off") as watch:
        train(model, optimizer)
    assert watch.table(1).splitlines()[3].endswith("  ?")
    with pytest.raises(IndexError, match="no step 2: the run has steps 1 to 1"):
        watch.table(2)


def test_a_run_that_took_no_step_says_so() -> None:
    with fi.watch(*pair()) as watch, pytest.raises(IndexError, match="no step 1: the run has none"):
        watch.table(1)


def test_json_is_valid_whatever_the_numbers_are() -> None:
    model, optimizer = pair()
    with fi.watch(model, optimizer, every=1) as watch:
        train(model, optimizer)
        model[1].momentum = float("nan")
        model[3].p = float("inf")
        model.append(nn.Dropout(0.5))
        train(model, optimizer)
        model[4].p = float("nan")
        optimizer.step()
    told = json.loads(watch.to_json(), parse_constant=pytest.fail)
    assert (told["steps"], len(told["chapters"])) == (3, 2)
