"""A watch beside an oracle that clones and compares: every tensor, every step, and where it moved."""

from __future__ import annotations

import contextlib
import copy
import copyreg
import itertools
import pickle
from collections import OrderedDict
from typing import Any

import pytest
import torch
from torch import nn

import freezeinspect as fi
from freezeinspect.chapters import OUTSIDE
from freezeinspect.history import SKIPPED, TAKEN
from loops import OPTIMIZERS, Expected, Loop, accumulating, checkpointed, closing, compiled, half_precision, plain
from witness import unchanged
from zoo import ZOO, Residual

UNTRAINED = {"lazy", "meta", "quantised_norm", "quantised_dynamic", "empty", "sparse_compressed"}
TRAINED = sorted(ZOO.keys() - UNTRAINED)
REFUSED = {("AdamW, foreach", "sparse"), ("momentum", "sparse"), ("LBFGS", "layouts")}  # by torch
LOOPS = {one.__name__: one for one in (plain, accumulating, closing, half_precision, checkpointed, compiled)}


def train(name: str, kind: str, loop: Loop, watched: bool = True, oracle: bool = True) -> tuple[Any, Expected, Any]:
    torch.manual_seed(0)
    specimen = ZOO[name]()
    optimizer = OPTIMIZERS[kind](specimen.model.parameters())
    expected = Expected(specimen.model, oracle)
    if not watched:
        loop(specimen, optimizer, expected)
        return None, expected, specimen.model
    with fi.watch(specimen.model, optimizer, every=1) as watch:
        loop(specimen, optimizer, expected)
    return watch, expected, specimen.model


def noted(*_: Any) -> None:
    """Do nothing, as a hook of the user's own."""


def assert_as_expected(watch: fi.Watch, expected: Expected) -> None:
    assert len(watch.run) == len(expected.steps)
    for number, bits in enumerate(expected.steps, 1):
        assert watch.history.moved(number) == bits, number


KINDS = ("momentum", "AdamW, foreach", "LBFGS")


@pytest.mark.parametrize(("kind", "name"), sorted(set(itertools.product(KINDS, TRAINED)) - REFUSED))
def test_over_the_zoo_it_sees_what_clone_and_compare_sees(kind: str, name: str) -> None:
    watch, expected, _ = train(name, kind, closing if kind == "LBFGS" else plain)
    assert_as_expected(watch, expected)


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_in_every_kind_of_loop_too(kind: str, loop: str) -> None:
    if kind == "LBFGS" and loop != "closing":
        pytest.skip("LBFGS needs a closure")
    watch, expected, _ = train("residual", kind, LOOPS[loop])
    assert_as_expected(watch, expected)


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_watching_never_changes_training(kind: str, loop: str) -> None:
    if kind == "LBFGS" and loop != "closing":
        pytest.skip("LBFGS needs a closure")
    models = [train("residual", kind, LOOPS[loop], watched, oracle=False)[2] for watched in (True, False)]
    for one, other in zip(*(model.state_dict().values() for model in models), strict=True):
        assert one.equal(other)


def pair() -> tuple[nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(0)
    model = Residual()
    return model, torch.optim.SGD(model.parameters(), 0.1)


def step(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    optimizer.zero_grad()
    model(torch.randn(2, 3, 8, 8)).square().mean().backward()
    optimizer.step()


class TestSeveralOptimizers:
    """As in a GAN: each steps its own half, in turn."""

    def test_each_has_its_own_steps_and_no_span_is_cut(self) -> None:
        model, _ = pair()
        halves = [list(part.parameters()) for part in (model.layer1, model.head)]
        optimizers = [torch.optim.SGD(half, 0.1) for half in halves]
        expected = Expected(model)
        with fi.watch(model, optimizers, every=1) as watch:
            for number in range(10):
                model.zero_grad()
                model(torch.randn(2, 3, 8, 8)).square().mean().backward()
                with expected.stepping():
                    optimizers[number % 2].step()
        assert list(watch.history.taken) == [0, 1] * 5
        for number, bits in enumerate(expected.steps, 1):
            assert watch.history.moved(number) == bits
        assert all(len(spans) == 1 for spans in watch.history.last.spans.values())

    def test_one_for_each_parameter_is_a_step_for_each(self) -> None:
        model, _ = pair()
        optimizers = [torch.optim.SGD([parameter], 0.1) for parameter in model.parameters()]
        for parameter, optimizer in zip(model.parameters(), optimizers, strict=True):
            parameter.register_post_accumulate_grad_hook(lambda _, optimizer=optimizer: optimizer.step())
        with fi.watch(model, optimizers, every=1) as watch:
            model(torch.randn(2, 3, 8, 8)).square().mean().backward()
        assert len(watch.run) == len(optimizers)
        assert watch.report().observed.movement[0].weights.step is fi.Answer.YES


class TestStepsThatAreNotTaken:
    def test_a_scaler_s_skipped_step_is_one(self) -> None:
        for kind in ("SGD", "AdamW, fused"):  # no hook fires; both do, and nothing moves
            watch, _, _ = train("residual", kind, half_precision)
            assert list(watch.history.outcomes) == [TAKEN, TAKEN, SKIPPED, TAKEN]
        assert "1 step skipped by the scaler: 3." in str(watch)

    def test_one_that_raises_is_told_as_failed_and_the_next_is_right(self) -> None:
        model, optimizer = pair()

        def fail() -> float:
            raise RuntimeError("the loader ended")

        with fi.watch(model, optimizer, every=1) as watch:
            step(model, optimizer)
            with pytest.raises(RuntimeError, match="the loader ended"):
                optimizer.step(fail)
            step(model, optimizer)
        assert watch.steps()["outcome"].tolist() == ["taken", "failed", "taken"]
        assert watch.steps()["weights_moved"].tolist() == [15, 0, 15]

    def test_an_exception_in_the_loop_leaves_no_hook(self) -> None:
        model, optimizer = pair()
        watch = fi.watch(model, optimizer)
        with contextlib.suppress(KeyError), watch:
            step(model, optimizer)
            raise KeyError
        assert not model._forward_pre_hooks
        assert len(watch.run) == 1


class TestWhatIsLeftBehind:
    def test_is_nothing(self) -> None:
        model, optimizer = pair()
        classes = (nn.Module.__setattr__, torch.amp.GradScaler.step, vars(nn.Parameter).copy())
        with unchanged(model, optimizer), fi.watch(model, optimizer, blame=True):
            pass
        assert (nn.Module.__setattr__, torch.amp.GradScaler.step, vars(nn.Parameter).copy()) == classes
        assert not optimizer._optimizer_step_pre_hooks
        assert not optimizer._optimizer_step_post_hooks

    def test_two_watches_close_in_any_order(self) -> None:
        model, optimizer = pair()
        before = (nn.Module.__setattr__, torch.amp.GradScaler.step)
        one, other = (fi.watch(model, optimizer, blame=True) for _ in range(2))
        step(model, optimizer)
        one.close()
        step(model, optimizer)
        other.close()
        other.close()
        assert (len(one.run), len(other.run)) == (1, 2)
        assert (nn.Module.__setattr__, torch.amp.GradScaler.step) == before

    def test_not_in_a_copy_nor_in_a_file(self, tmp_path: Any) -> None:
        model, optimizer = pair()
        with fi.watch(model, optimizer) as watch:
            copied = copy.deepcopy(model)
            torch.save(model, tmp_path / "model.pt")
            loaded = torch.load(tmp_path / "model.pt", weights_only=False)
            for other in (copied, loaded):
                torch._dynamo.reset()
                torch.compile(other, backend="eager", fullgraph=True)(torch.randn(2, 3, 8, 8))
            assert watch._forwards == 0
        assert b"freezeinspect" not in (tmp_path / "model.pt").read_bytes()

    @pytest.mark.parametrize("protocol", [2, 5])
    def test_a_file_is_the_same_to_the_bit_and_so_are_the_user_s_own_hooks(self, protocol: int) -> None:
        model, optimizer = pair()
        model.layer1.register_forward_hook(noted)
        before = pickle.dumps(model, protocol)
        with fi.watch(model), fi.watch(model, optimizer, blame=True):
            assert pickle.dumps(model, protocol) == before
            assert not copy.deepcopy(model)._forward_pre_hooks
            assert list(copy.deepcopy(model).layer1._forward_hooks.values()) == [noted]
        assert OrderedDict not in copyreg.dispatch_table

    def test_a_reducer_of_the_user_s_stays(self, monkeypatch: pytest.MonkeyPatch) -> None:
        mine = OrderedDict.__reduce__
        monkeypatch.setitem(copyreg.dispatch_table, OrderedDict, mine)
        model, optimizer = pair()
        with fi.watch(model, optimizer):
            pickle.loads(pickle.dumps(model))(torch.randn(2, 3, 8, 8))
        assert copyreg.dispatch_table[OrderedDict] is mine

    def test_a_watched_model_compiles_into_one_graph_with_blame_too(self) -> None:
        model, optimizer = pair()
        with fi.watch(model, optimizer, blame=True):
            torch._dynamo.reset()
            train_step = torch.compile(lambda x: model(x).square().mean(), backend="eager", fullgraph=True)
            for _ in range(2):
                train_step(torch.randn(2, 3, 8, 8)).backward()
                optimizer.step()


class TestWithoutAnOptimizer:
    def test_a_forward_of_the_root_is_a_step(self) -> None:
        model, optimizer = pair()
        with fi.watch(model, every=1) as watch:
            for _ in range(3):
                step(model, optimizer)
        movement = watch.report().observed.movement[0]
        assert len(watch.run) == 3
        assert (movement.stats.forward, movement.weights.outside) == (fi.Answer.YES, fi.Answer.YES)

    def test_a_step_may_be_marked_by_hand(self) -> None:
        model, optimizer = pair()
        with fi.watch(model, optimizer, every=1) as watch:
            for _ in range(3):
                with watch.step():
                    step(model, optimizer)
        movement = watch.report().observed.movement[0]
        assert len(watch.run) == 3
        assert (movement.stats.forward, movement.weights.step) == (fi.Answer.YES, fi.Answer.YES)
        assert fi.Answer.YES not in (movement.stats.outside, movement.weights.outside)


def test_its_report_has_what_happened_and_comes_back_from_json() -> None:
    model, optimizer = pair()
    model.layer1.requires_grad_(False)
    with fi.watch(model, optimizer, every=1, blame=True) as watch:
        step(model, optimizer)
        model.layer2.bn.eval()
        for group in optimizer.param_groups:
            group["lr"] = 1e-30  # so little that no bit moves, and not nothing
        step(model, optimizer)
    observed = watch.report().observed
    assert [(flip.step, flip.path, flip.flag) for flip in observed.flips] == [(2, "layer2.bn", "training")]
    assert {(one.place, one.predicted, one.first) for one in observed.surprises} == {("step", fi.Answer.YES, 2)}
    assert observed.steps == 2
    report = watch.report()
    assert fi.Report.from_json(report.to_json()).observed == report.observed


class TestWhatMovesBetweenSteps:
    def test_is_told_as_outside(self) -> None:
        model, optimizer = pair()
        with fi.watch(model, optimizer, every=1) as watch:
            step(model, optimizer)
            model.layer1.load_state_dict({name: value + 1 for name, value in model.layer1.state_dict().items()})
            step(model, optimizer)
        outside = {
            model_name for model_name, bits in zip(names(watch), watch.history.moved(2), strict=True) if bits & OUTSIDE
        }
        assert outside == {"layer1.conv.weight", "layer1.bn.weight", "layer1.bn.bias"}

    def test_after_the_last_step_is_told_as_of_it(self) -> None:
        model, optimizer = pair()
        with fi.watch(model, optimizer, every=1) as watch:
            model.eval()
            step(model, optimizer)
            model.train()
            with torch.no_grad():
                model(torch.randn(2, 3, 8, 8))
        stats = [bits for name, bits in zip(names(watch), watch.history.moved(1), strict=True) if "running_" in name]
        assert set(stats) == {1}


class TestAModelThatChangesItself:
    @pytest.mark.parametrize("kind", ["a new head", "half", "a buffer", "deleted", "in the dict"])
    def test_is_noticed_at_the_next_step(self, kind: str) -> None:
        model, optimizer = pair()
        with fi.watch(model, optimizer, every=1) as watch:
            step(model, optimizer)
            if kind == "a new head":
                model.head[3] = nn.Linear(4, 3)
                optimizer.add_param_group({"params": model.head[3].parameters()})
            elif kind == "half":
                model.bfloat16()
            elif kind == "a buffer":
                model.register_buffer("extra", torch.ones(1))
            elif kind == "deleted":
                del model.layer3
            else:
                model.head[3]._parameters["bias"] = nn.Parameter(torch.ones(5))
            optimizer.step()
        assert [chapter.first for chapter in watch.history.chapters] == [1, 2]
        assert watch.history.last.structure == fi.inspect(model).snapshot.structure
        assert "The model itself changed before step 2." in str(watch)

    def test_a_tensor_in_the_place_of_an_equal_one_is_another(self) -> None:
        model, optimizer = pair()
        with fi.watch(model, optimizer, every=1) as watch:
            step(model, optimizer)
            model.head[3].bias = nn.Parameter(torch.ones(2))
            step(model, optimizer)
        assert watch.history.moved(2)[names(watch).index("head.3.bias")] == 0  # it is in no optimizer


def names(watch: fi.Watch) -> list[str]:
    structure = watch.history.last.structure
    return [structure.full_name(i) for i in range(len(structure.tensors))]


class TestWhatNobodyLookedAt:
    def test_is_no_move_outside_when_the_next_look_finds_it_moved(self) -> None:
        model, optimizer = pair()
        with fi.watch(model, optimizer, every=3) as watch:
            for number in range(8):
                step(model, optimizer)
                if number == 4:
                    model.layer1.extra = nn.Linear(1, 1)  # another structure in between
        assert set(watch.steps()["moved_outside"]) == {0}
        assert "outside" not in str(watch)

    def test_is_no_surprise_where_no_forward_ran(self) -> None:
        model, _ = pair()
        optimizers = [torch.optim.SGD(part.parameters(), 0.1) for part in (model.layer1, model.head)]
        with fi.watch(model, optimizers, every=1) as watch:
            for _ in range(3):
                model(torch.randn(2, 3, 8, 8)).square().mean().backward()
                for optimizer in optimizers:
                    optimizer.step()
        assert not list(watch.history.surprises())

    def test_a_forward_through_a_wrapper_is_one(self) -> None:
        model, optimizer = pair()
        for wrapped in (nn.DataParallel(model), torch.compile(model, backend="eager"), model):
            with fi.watch(wrapped, optimizer) as watch:
                step(wrapped, optimizer)
            assert list(watch.history.forwards) == [1]
