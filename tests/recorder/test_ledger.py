"""What the looks of each step say, also where most of the tensors are not looked at."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import freezeinspect as fi
from freezeinspect.chapters import FORWARD, KNOWN, OUTSIDE, STEP
from training import backward, bits, known, names, pair, train


class TestATensorThatWasNotLookedAtInAStepThatMayHaveMovedIt:
    """That it is another by the next look says nothing about what ran between the steps."""

    @pytest.mark.parametrize("every", [2, 3])
    def test_is_not_said_to_have_moved_outside(self, every: int) -> None:
        model, optimizer = pair()
        with fi.watch(model, optimizer, every=every) as watch:
            train(model, optimizer, 8)
        assert not watch.steps()["moved_outside"].any()

    def test_nor_under_a_rotation_some_of_whose_steps_look_at_nothing(self) -> None:
        model = nn.Sequential(*(nn.Linear(4, 4) for _ in range(4)))
        optimizer = torch.optim.SGD(model.parameters(), 0.1)
        with fi.watch(model, optimizer) as watch:
            watch._attention.plan = lambda _, step: range(8) if step in (1, 4) else ()  # type: ignore[method-assign]
            train(model, optimizer, 5)
        assert not watch.steps()["moved_outside"].any()

    def test_nor_after_the_model_itself_changed(self) -> None:
        model, optimizer = pair()
        with fi.watch(model, optimizer, every=2) as watch:
            train(model, optimizer, 2)
            model.register_buffer("extra", torch.ones(1))
            train(model, optimizer)
        assert bits(watch, 3)["0.weight"] == STEP

    def test_but_one_that_stayed_the_same_is_known_to_have_stayed(self) -> None:
        model, optimizer = pair()
        model[0].requires_grad_(False)
        with fi.watch(model, optimizer, every=2) as watch:
            train(model, optimizer, 3)
        assert known(watch, 3)["0.weight"] == (FORWARD | STEP | OUTSIDE) << KNOWN


def test_statistics_are_looked_at_in_every_step_whatever_the_plan_for_weights() -> None:
    model, optimizer = pair()
    with fi.watch(model, optimizer, every=3) as watch:
        train(model, optimizer, 6)
    steps = watch.steps()
    assert steps["stats_moved"].tolist() == [2] * 6
    assert (
        watch.history.last.spans_by_tensor()[names(watch.history.last.structure).index("1.running_mean")][0].looks == 6
    )


def test_a_tied_weight_is_its_optimizer_s_under_both_names() -> None:
    model = nn.Sequential(*(nn.Linear(4, 4) for _ in range(5)))
    model[4].weight = model[0].weight
    optimizers = [torch.optim.SGD([parameter], 0.1) for parameter in reversed(list(model.parameters()))]
    with fi.watch(model, optimizers, every=1) as watch:  # so many that loose tensors are looked at in one's steps only
        for _ in range(2):
            backward(model)
            for optimizer in optimizers:
                optimizer.step()
    assert not watch.steps()["moved_outside"].any()


class TestAStepThatIsMarkedByHand:
    def test_moves_weights_in_step_and_statistics_in_forward(self) -> None:
        model, optimizer = pair()
        with fi.watch(model, optimizer, every=1) as watch:
            for _ in range(2):
                with watch.step():
                    train(model, optimizer)
        assert (bits(watch, 2)["3.weight"], bits(watch, 2)["1.running_mean"]) == (STEP, FORWARD)
        assert not watch.steps()["moved_outside"].any()


class TestOptimizersThatCallEachOther:
    """As Lookahead does: the inner one's step ends first, within the outer one's."""

    def test_both_steps_moved_the_weights_and_nothing_else_did(self) -> None:
        model, inner = pair()

        class Outer(torch.optim.Optimizer):
            def __init__(self) -> None:
                super().__init__(inner.param_groups, {})

            def step(self, closure: object = None) -> None:
                inner.step()

        outer = Outer()
        with fi.watch(model, [outer, inner], every=1) as watch:
            train(model, outer, 2)
        assert list(watch.history.taken) == [1, 0, 1, 0]
        assert [bits(watch, n)["3.weight"] for n in range(1, 5)] == [STEP] * 4
        assert [bits(watch, n)["1.running_mean"] for n in range(1, 5)] == [FORWARD, 0, FORWARD, 0]


def test_a_rotation_over_weights_that_all_move_is_one_span_each() -> None:
    """Memory grows with what changes, not with steps."""
    model = nn.Sequential(*(nn.Linear(16, 16) for _ in range(3)))
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    with fi.watch(model, optimizer) as watch:
        watch._attention.plan = lambda _, step: range(6) if step % 5 < 3 else range(step % 2, 6, 2)  # type: ignore[method-assign]
        for _ in range(30):
            for parameter in model.parameters():
                parameter.grad = torch.ones_like(parameter)
            optimizer.step()
    assert [len(spans) for spans in watch.history.last.spans.values()] == [1] * 6
    assert not watch.steps()["moved_outside"].any()
