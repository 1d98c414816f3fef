"""Where steps begin and end, also in loops that are cut short, nested, forked or compiled."""

from __future__ import annotations

import contextlib
import gc
import json
import os
import weakref
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import freezeinspect as fi
from freezeinspect.chapters import FORWARD
from training import backward, bits, names, pair, train


class TestAClosureThat:
    def test_raises_fails_its_step_at_once_and_what_it_moved_is_told_of_it(self) -> None:
        model, optimizer = pair()

        def fail() -> torch.Tensor:
            backward(model)
            raise RuntimeError

        with fi.watch(model, optimizer, every=1) as watch:
            train(model, optimizer)
            with contextlib.suppress(RuntimeError):
                optimizer.step(fail)
            train(model, optimizer)
        steps = watch.steps()
        assert steps["outcome"].tolist() == ["taken", "failed", "taken"]
        assert steps["stats_moved"].tolist() == [2, 2, 2]
        assert not steps["moved_outside"].any()

    @pytest.mark.parametrize("what", ["a buffer", "a parameter"])
    def test_changes_the_model_itself_leaves_nothing_to_say_of_that_step(self, what: str) -> None:
        model, optimizer = pair()
        evaluated: list[int] = []

        def closure() -> torch.Tensor:
            evaluated.append(1)
            if len(evaluated) == 2 and what == "a buffer":
                model[0].register_buffer("extra", torch.ones(1))
            elif len(evaluated) == 2:
                model[3].bias = None
            optimizer.zero_grad()
            return backward(model)

        with fi.watch(model, optimizer, every=1) as watch:
            for _ in range(3):
                optimizer.step(closure)
        steps = watch.steps()
        assert steps["weights_known"].tolist()[1] == 0
        assert steps["weights_moved"].tolist()[2] > 0
        assert not steps["moved_outside"].any()

    def test_closes_the_watch_closes_it(self, tmp_path: Path) -> None:
        model, optimizer = pair()
        watch = fi.watch(model, optimizer, every=1, log=tmp_path / "run.fi.jsonl")

        def closure() -> torch.Tensor:
            loss = backward(model)
            watch.close()
            model.eval()
            return loss

        optimizer.step(closure)
        assert len(watch.run) == 1
        assert bits(watch, 1)["1.running_mean"] == FORWARD
        with pytest.raises(RuntimeError, match="the watch is closed"), watch.step():
            pass


def test_a_step_that_a_scaler_skips_after_one_that_failed_is_the_skipped_one() -> None:
    model, optimizer = pair()
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0)

    class Failing(torch.optim.SGD):
        def step(self, closure: Any = None) -> None:
            raise RuntimeError

    optimizer = Failing(model.parameters(), 0.1)
    with fi.watch(model, optimizer, every=1) as watch:
        with contextlib.suppress(RuntimeError):
            train(model, optimizer)
        scaler.scale(model(torch.randn(8, 4)).sum() * torch.inf).backward()
        scaler.step(optimizer)
    assert watch.steps()["outcome"].tolist() == ["failed", "skipped"]
    assert not list(watch.history.surprises())  # what is skipped stays still


def test_two_scalers_and_two_optimizers_know_whose_step_was_skipped() -> None:
    model, _ = pair()
    optimizers = [torch.optim.AdamW(model[n].parameters(), 0.1, fused=n == 0) for n in (0, 3)]
    scalers = [torch.amp.GradScaler("cpu", init_scale=2.0) for _ in optimizers]
    with fi.watch(model, optimizers, every=1) as watch:
        for _ in range(2):
            for scaler, optimizer in zip(scalers, optimizers, strict=True):
                loss = model(torch.randn(8, 4)).square().mean()
                scaler.scale(loss * torch.inf if optimizer is optimizers[1] else loss).backward()
                scaler.unscale_(optimizer)
                scaler.step(optimizer)
                scaler.update()
                model.zero_grad()
    steps = watch.steps()
    assert list(zip(steps["optimizer"], steps["outcome"], strict=True)) == [(0, "taken"), (1, "skipped")] * 2


def test_an_optimizer_that_takes_no_hooks_is_refused_and_nothing_is_left_behind() -> None:
    model, optimizer = pair()

    class Bare(torch.optim.SGD):
        def __init__(self) -> None:
            self.param_groups, self.state = optimizer.param_groups, optimizer.state

    before = nn.Module.__setattr__
    with pytest.raises(ValueError, match=r"Bare takes no hooks.*: watch the optimizer that it calls"):
        fi.watch(model, [optimizer, Bare()], blame=True)
    assert nn.Module.__setattr__ is before
    assert not optimizer._optimizer_step_pre_hooks


def test_a_forward_through_a_wrapper_is_one() -> None:
    class Wrapper(nn.DataParallel):
        pass

    model, optimizer = pair()
    with fi.watch(Wrapper(model), optimizer) as watch:
        train(model, optimizer)
        train(Wrapper(model), optimizer)
    assert watch.steps()["forwards"].max() <= 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_child_is_not_watched_nor_in_the_log(tmp_path: Path) -> None:
    model, optimizer = pair()
    path = tmp_path / "run.fi.jsonl"
    with fi.watch(model, optimizer, log=path, blame=True) as watch:
        train(model, optimizer)
        child = os.fork()
        if not child:
            optimizer.step()
            watch.close()
            os._exit(len(watch.run) != 1)
        assert os.waitpid(child, 0)[1] == 0
        train(model, optimizer)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line["step"] for line in lines if "step" in line] == [1, 2]
    assert sum("end" in line for line in lines) == 1


def test_a_watch_that_is_kept_does_not_keep_the_model() -> None:
    model, optimizer = pair()
    with fi.watch(model, optimizer, blame=True) as watch:
        train(model, optimizer)
    gone = weakref.ref(model), weakref.ref(model[0].weight)
    del model, optimizer
    gc.collect()
    assert [one() for one in gone] == [None, None]
    assert len(watch.run) == 1


class TestWithinTorchFunc:
    """Where a module is called with other tensors, which have no memory to look at."""

    def test_a_forward_is_a_step_of_the_same_model(self) -> None:
        model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2))
        parameters = dict(model.named_parameters())

        def loss(parameters: dict[str, torch.Tensor], batch: torch.Tensor) -> torch.Tensor:
            return torch.func.functional_call(model, parameters, (batch,)).square().mean()

        with fi.watch(model, every=1) as watch:
            for _ in range(3):
                gradients = torch.func.grad(loss)(parameters, torch.randn(8, 4))
                parameters = {name: one - 0.1 * gradients[name] for name, one in parameters.items()}
        assert len(watch.run) == 3
        assert len(watch.history.chapters) == 1
        assert names(watch.history.last.structure) == list(parameters)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_whole_step_that_is_compiled_is_seen() -> None:
    torch._dynamo.reset()
    model, optimizer = pair()

    @torch.compile(backend="eager")
    def whole(batch: torch.Tensor) -> None:
        model(batch).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()

    with fi.watch(model, optimizer, every=1) as watch:
        whole(torch.randn(8, 4))
        whole(torch.randn(8, 4))
    assert watch.steps()["weights_moved"].tolist() == [5, 5]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_compiled_optimizer_s_steps_are_seen() -> None:
    torch._dynamo.reset()
    model, optimizer = pair()
    step = torch.compile(optimizer.step, backend="eager")
    with fi.watch(model, optimizer, every=1) as watch:
        for _ in range(3):
            model(torch.randn(8, 4)).square().mean().backward()
            step()
    assert watch.steps()["weights_moved"].tolist() == [5, 5, 5]
