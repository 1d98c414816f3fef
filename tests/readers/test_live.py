"""The live reader: what PyTorch itself says of a model and its optimizers, read without a trace."""

from __future__ import annotations

import copy
import gc
import re
import weakref
from typing import Any

import numpy
import pytest
import torch.distributed.fsdp
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.utils import parametrize
from torch.optim import SGD, AdamW

from freezeinspect.readers.flags import MISSPELLED
from freezeinspect.readers.live import NotAnOptimizer, read
from freezeinspect.state import ABSENT, NO, UNKNOWN, YES, Answer, Group, Optimizer, Snapshot
from freezeinspect.walk import NotAModule
from witness import unchanged
from zoo import ZOO, quiet

FLAGS = ("trainable", "bn_freeze", "drop_freeze")


class Flagged(nn.Linear):
    """Say of all instances what fastai says of one."""

    trainable = False
    bn_freeze = True
    drop_freeze = ()


class Guard:
    """Raise when asked for a truth value, or to be shown."""

    def __bool__(self) -> Any:
        raise AssertionError("the reader ran the user's code")

    __repr__ = __bool__


Guarded = type("Guarded", (nn.Module,), {"trainable": property(Guard.__bool__)})
Inherited = type("Inherited", (Flagged,), {})
Renamed = type("Renamed", (nn.InstanceNorm1d,), {})
DropPath = type("DropPath", (nn.Module,), {"p": 0.25})


def flagged(module: nn.Module, **attributes: Any) -> nn.Module:
    for name, value in attributes.items():
        setattr(module, name, value)
    return module


def linear(**attributes: Any) -> nn.Module:
    return flagged(nn.Linear(2, 2), **attributes)


def named(model: nn.Module, kind: str) -> list[tuple[str, torch.Tensor]]:
    """List what each module owns, module by module, as PyTorch names it."""
    held = ((path, getattr(module, f"named_{kind}")) for path, module in model.named_modules())
    owned = ((path, own) for path, list_own in held for own in list_own(recurse=False, remove_duplicate=False))
    return [(f"{path}.{name}" if path else name, tensor) for path, (name, tensor) in owned]


def yes_or_no(value: bool) -> Answer:
    return YES if value else NO


class TestTheWholeZoo:
    @pytest.mark.parametrize("name", ZOO)
    def test_modules_are_read_as_named_modules_says(self, name: str) -> None:
        model = ZOO[name]().model
        modules = [module for _, module in model.named_modules()]
        for number, module in enumerate(modules):
            module.training = number % 2 == 1
        snapshot = read(model)
        assert snapshot.structure.paths == tuple(path for path, _ in model.named_modules())
        assert snapshot.training == tuple(yes_or_no(module.training) for module in modules)
        types = [parametrize.type_before_parametrizations(module) for module in modules]
        assert snapshot.structure.types == tuple(f"{kind.__module__}.{kind.__qualname__}" for kind in types)
        assert len({len(snapshot.structure), *map(len, flag_columns(snapshot))}) == 1

    @pytest.mark.parametrize("name", ZOO)
    def test_tensors_are_read_as_named_parameters_and_named_buffers_say(self, name: str) -> None:
        model = ZOO[name]().model
        parameters, buffers = named(model, "parameters"), named(model, "buffers")
        for _, tensor in parameters[::2]:
            tensor.requires_grad = False
        snapshot = read(model)
        structure, live = snapshot.structure, [tensor for _, tensor in parameters + buffers]
        assert [structure.full_name(i) for i in range(len(live))] == [name for name, _ in parameters + buffers]
        assert [one.kind for one in structure.tensors] == ["parameter"] * len(parameters) + ["buffer"] * len(buffers)
        lazy = [nn.parameter.is_lazy(tensor) for tensor in live]
        shapes = [None if none else tensor.shape for tensor, none in zip(live, lazy, strict=True)]
        assert [one.shape for one in structure.tensors] == shapes
        assert [f"torch.{one.dtype}" for one in structure.tensors] == [str(tensor.dtype) for tensor in live]
        answers = [yes_or_no(tensor.requires_grad) for _, tensor in parameters]
        assert snapshot.requires_grad == (*answers, *[ABSENT] * len(buffers))
        for one, tensor in zip(structure.tensors, live, strict=True):
            tied = [other for other, held in zip(structure.tensors, live, strict=True) if held is tensor]
            assert {other.tie for other in tied} == {one.tie}
            assert (one.tie is None) == (len(tied) == 1)

    @pytest.mark.parametrize("name", ZOO)
    def test_reading_leaves_no_trace_and_finds_an_optimizer_s_parameters(self, name: str) -> None:
        model = ZOO[name]().model
        parameters = list(model.parameters())
        optimizer = SGD(parameters or [nn.Parameter(torch.zeros(1))], lr=0.5)
        with unchanged(model, optimizer):
            assert read(model).optimizers == ()
            snapshot = read(model, optimizer)
        count = len(named(model, "parameters"))
        assert set(snapshot.groups[:count]) == ({(0,)} if parameters else set())
        assert set(snapshot.groups[count:]) <= {()}
        assert set(snapshot.has_grad + snapshot.has_state) <= {NO, ABSENT}
        assert snapshot.optimizers[0].groups[0][:5] == (0.5, 0.0, not parameters, max(len(parameters), 1), 0)

    def test_tied_weights_share_a_number(self) -> None:
        assert read(ZOO["tied"]().model).structure.tie_groups == {0: [0, 1]}


def flag_columns(snapshot: Snapshot) -> list[tuple[Any, ...]]:
    modes = [snapshot.training, snapshot.trainable, snapshot.bn_freeze, snapshot.drop_freeze]
    return [*modes, snapshot.track_running_stats, snapshot.momentum, snapshot.dropout]


class TestFlags:
    @pytest.mark.parametrize("flag", FLAGS)
    @pytest.mark.parametrize(
        ("value", "answer"),
        [
            *[(True, YES), (1, YES), (0.5, YES), (float("nan"), YES)],
            *[(False, NO), (None, NO), (0, NO), (0.0, NO)],
            *[(torch.tensor(True), UNKNOWN), ([], UNKNOWN), ("no", UNKNOWN), (numpy.zeros(2), UNKNOWN)],
            (Guard(), UNKNOWN),
        ],
    )
    def test_are_read_as_fastai_s_if_does_where_that_runs_nothing(self, flag: str, value: Any, answer: Answer) -> None:
        model = nn.Sequential(linear(**{flag: value}), nn.Linear(2, 2))
        with unchanged(model):
            assert getattr(read(model), flag) == (ABSENT, answer, ABSENT)

    def test_of_a_class_hold_for_its_instances_until_one_has_its_own(self) -> None:
        snapshot = read(nn.Sequential(Flagged(2, 2), flagged(Inherited(2, 2), trainable=True)))
        assert snapshot.trainable == (ABSENT, NO, YES)
        assert (snapshot.bn_freeze, snapshot.drop_freeze) == ((ABSENT, YES, YES), (ABSENT, UNKNOWN, UNKNOWN))

    def test_of_a_class_even_of_torch_s_own_are_read_anew_each_time(self, monkeypatch: pytest.MonkeyPatch) -> None:
        assert read(nn.Linear(2, 2)).trainable == (ABSENT,)
        monkeypatch.setattr(nn.Module, "trainable", False, raising=False)
        assert read(nn.Linear(2, 2)).trainable == (NO,)

    def test_that_are_properties_are_unknown_and_not_run(self) -> None:
        assert read(Guarded()).trainable == (UNKNOWN,)

    def test_set_before_scripting_are_not_called_absent(self) -> None:
        with quiet():
            model = torch.jit.script(nn.Sequential(linear(bn_freeze=True, trainable=False)))
        assert model._modules["0"].bn_freeze
        assert (read(model).bn_freeze[1], read(model).trainable[1]) in [(YES, NO), (UNKNOWN, UNKNOWN)]

    @settings(deadline=None, database=None)
    @given(st.lists(st.sampled_from([0, 1, True, False, 0.0, numpy.float32(1), numpy.True_]), min_size=1, max_size=3))
    def test_of_one_module_do_not_depend_on_its_neighbours(self, values: list[Any]) -> None:
        def module(value: Any) -> nn.Module:
            return flagged(nn.Dropout(), p=value, momentum=value, track_running_stats=value, trainable=value)

        together = flag_columns(read(nn.Sequential(*map(module, values))))
        alone = [flag_columns(read(module(value))) for value in values]
        assert [column[1:] for column in together] == [sum(columns, ()) for columns in zip(*alone, strict=True)]

    def test_training_that_is_nowhere_is_not_guessed(self) -> None:
        with quiet():
            frozen = torch.jit.freeze(torch.jit.script(nn.Sequential(nn.Linear(2, 2))).eval())
        assert not hasattr(frozen, "training")
        assert read(frozen).training[0] in (ABSENT, UNKNOWN)


class TestNormsAndDropouts:
    @pytest.mark.parametrize(
        ("module", "tracking", "momentum"),
        [
            *[(nn.BatchNorm1d(2), YES, 0.1), (nn.BatchNorm1d(2, momentum=None), YES, None)],
            *[(nn.BatchNorm1d(2, momentum=1), YES, 1.0), (nn.BatchNorm1d(2, momentum=0), YES, 0.0)],
            *[(nn.BatchNorm1d(2, track_running_stats=False), NO, 0.1), (nn.InstanceNorm1d(2), NO, 0.1)],
            *[(nn.LayerNorm(2), ABSENT, None), (linear(momentum=0.5), ABSENT, 0.5)],
            *[(nn.BatchNorm1d(2, momentum=float("nan")), UNKNOWN, None), (Renamed(2), UNKNOWN, 0.1)],
            (linear(track_running_stats=True), UNKNOWN, None),
            (linear(track_running_stats=True, momentum=torch.tensor(0.5)), UNKNOWN, None),
            (linear(track_running_stats=True, momentum=torch.tensor(0.5, device="meta")), UNKNOWN, None),
            (linear(track_running_stats=torch.tensor(True), momentum=0.1), UNKNOWN, 0.1),
        ],
    )
    def test_tracking_and_momentum(self, module: nn.Module, tracking: Answer, momentum: float | None) -> None:
        snapshot = read(module)
        assert (snapshot.track_running_stats, snapshot.momentum) == ((tracking,), (momentum,))

    @pytest.mark.parametrize(
        ("module", "p"),
        [
            *[(nn.Dropout(), 0.5), (nn.Dropout2d(0), 0.0), (nn.AlphaDropout(1), 1.0), (DropPath(), 0.25)],
            *[(nn.PairwiseDistance(p=2.0), None), (linear(p=0.5), None), (nn.Identity(), None)],
        ],
    )
    def test_p_is_a_dropout_s(self, module: nn.Module, p: float | None) -> None:
        assert read(module).dropout == (p,)

    @pytest.mark.parametrize("wrap", ["spectral_norm_parametrized", "weight_norm_parametrized"])
    def test_a_parametrized_weight_is_read_at_its_originals_and_typed_as_written(self, wrap: str) -> None:
        structure = read(copy.deepcopy(ZOO[wrap]().model)).structure
        assert structure.types[structure.index["0"]] == "torch.nn.modules.linear.Linear"
        names = " ".join(map(structure.full_name, range(len(structure.tensors))))
        assert "0.parametrizations.weight.original" in names
        assert "0.weight" not in names


class TestStrays:
    @pytest.mark.parametrize("name", ["requires_grad", "require_grad"])
    @pytest.mark.parametrize(("value", "stray"), [(False, True), (True, False), (None, False), (0, False)])
    def test_on_a_module(self, name: str, value: Any, stray: bool) -> None:
        assert read(nn.Sequential(linear(**{name: value}))).stray == ({1: (name,)} if stray else {})

    @pytest.mark.parametrize("name", sorted({*MISSPELLED, "trainable"}))
    @pytest.mark.parametrize("value", [False, True])
    def test_on_a_parameter(self, name: str, value: bool) -> None:
        model = nn.Sequential(nn.Linear(2, 2))
        setattr(model[0].weight, name, value)
        assert read(model).stray == ({} if value else {1: (f"weight.{name}",)})

    def test_on_a_module_and_on_its_parameters_stand_together(self) -> None:
        model = linear(requires_grad=False)
        model.weight.require_grad = model.bias.trainable = False
        assert read(model).stray == {0: ("requires_grad", "weight.require_grad", "bias.trainable")}

    def test_what_is_spelt_right_is_none(self) -> None:
        assert read(linear(trainable=False).requires_grad_(False)).stray == {}


class TestOptimizers:
    def test_one_with_two_groups(self) -> None:
        model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2), nn.BatchNorm1d(2, affine=False))
        groups = [{"params": [model[0].weight], "lr": 1, "weight_decay": 0.5}, {"params": model[1].parameters()}]
        snapshot = read(model, SGD(groups, lr=0.25))
        assert snapshot.groups == ((0,), (), (1,), (1,), (), (), ())
        assert snapshot.optimizers == (
            Optimizer("torch.optim.sgd.SGD", (Group(1.0, 0.5, 0, 1, 0), Group(0.25, 0.0, 0, 2, 0))),
        )

    def test_groups_count_across_optimizers(self) -> None:
        model = nn.Linear(2, 2)
        first = SGD([{"params": [model.weight]}, {"params": [nn.Parameter(torch.zeros(1))]}], lr=0.1)
        snapshot = read(model, (first, AdamW(model.parameters(), lr=0.5, weight_decay=0.25)))
        assert snapshot.groups == ((0, 2), (2,))
        assert [one.type for one in snapshot.optimizers] == ["torch.optim.sgd.SGD", "torch.optim.adamw.AdamW"]
        groups = [group for optimizer in snapshot.optimizers for group in optimizer.groups]
        assert groups == [Group(0.1, 0.0, 0, 1, 0), Group(0.1, 0.0, 1, 1, 0, ((1,),)), Group(0.5, 0.25, 0, 2, 0)]

    @pytest.mark.parametrize("optimizers", [None, [], ()])
    def test_none_leaves_their_columns_empty(self, optimizers: Any) -> None:
        snapshot = read(nn.Linear(2, 2), optimizers)
        assert (snapshot.optimizers, snapshot.groups, snapshot.has_grad, snapshot.has_state) == ((),) * 4

    @pytest.mark.parametrize(
        ("lr", "read_as"),
        [
            *[(torch.tensor(0.5), 0.5), (torch.tensor(0.5, requires_grad=True), 0.5), (torch.tensor([0.5]), 0.5)],
            *[(torch.tensor(0.5, device="meta"), None), (numpy.float32(0.5), 0.5), (torch.ones(2), None)],
        ],
    )
    def test_lr_is_a_number_but_for_a_device_tensor(self, lr: Any, read_as: float | None) -> None:
        model = nn.Linear(2, 2)
        optimizer = SGD(model.parameters())
        optimizer.param_groups[0]["lr"] = lr
        assert read(model, optimizer).optimizers[0].groups == (Group(read_as, 0.0, 0, 2, 0),)

    def test_a_tied_parameter_is_in_its_group_under_both_names(self) -> None:
        model = ZOO["tied"]().model
        assert read(model, SGD(model.parameters())).groups == ((0,), (0,))

    def test_orphans_are_a_group_s_tensors_that_no_module_owns(self) -> None:
        model = nn.Linear(2, 2)
        optimizer = SGD([*model.parameters(), nn.Parameter(torch.zeros(1))], lr=0.1)
        model.weight = nn.Parameter(model.weight.detach().clone())
        snapshot = read(model, optimizer)
        assert (snapshot.optimizers[0].groups[0][2:], snapshot.groups) == ((2, 3, 0, ((2, 2), (1,))), ((), (0,)))

    def test_gradients_and_state_are_told_apart_and_no_entry_is_made(self) -> None:
        model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2), nn.BatchNorm1d(2, affine=False))
        model[1].requires_grad_(False)
        optimizer = AdamW(model.parameters())
        model(torch.ones(3, 2)).square().sum().backward()
        assert read(model, optimizer).has_grad == (YES, YES, NO, NO, ABSENT, ABSENT, ABSENT)
        optimizer.step()
        optimizer.zero_grad()
        with unchanged(model, optimizer):
            snapshot = read(model, [SGD(model.parameters(), lr=0.1), optimizer])
        assert snapshot.has_grad == (NO, NO, NO, NO, ABSENT, ABSENT, ABSENT)
        assert snapshot.has_state == (YES, YES, NO, NO, ABSENT, ABSENT, ABSENT)
        assert len(optimizer.state) == 2

    def test_accelerate_s_wrapper_is_opened(self) -> None:
        accelerate = pytest.importorskip("accelerate")
        model = nn.Linear(2, 2)
        optimizer = SGD(model.parameters(), lr=0.5)
        try:
            wrapper = accelerate.Accelerator(cpu=True).prepare(optimizer)
        finally:
            accelerate.state.AcceleratorState._reset_state(reset_partial_state=True)
        assert type(wrapper).__name__ == "AcceleratedOptimizer"
        assert read(model, wrapper) == read(model, [optimizer])

    @pytest.mark.parametrize("seen", [0.1, SGD, nn.Linear(2, 2).parameters(), {"optimizer": 1}, [None], Guard()])
    def test_anything_else_raises_and_leaves_no_trace(self, seen: Any) -> None:
        model, name = nn.Linear(2, 2), type(seen[0] if isinstance(seen, list) else seen).__qualname__
        with unchanged(model), pytest.raises(NotAnOptimizer, match=f"but got {name}"):
            read(model, seen)

    def test_the_error_says_what_it_got_and_what_to_pass(self) -> None:
        wanted = "expected a torch.optim.Optimizer, or a list of them, but got str ('adam'); "
        with pytest.raises(NotAnOptimizer, match=f"^{re.escape(wanted)}pass the optimizer that steps this model$"):
            read(nn.Linear(2, 2), "adam")


class TestOddModels:
    @pytest.mark.parametrize("layout", [torch.strided, torch.jagged])
    def test_a_nested_tensor_has_no_shape_of_numbers(self, layout: torch.layout) -> None:
        model = nn.Module()
        with quiet():
            parts = [torch.zeros(2), torch.zeros(3)]
            model.register_buffer("ragged", torch.nested.nested_tensor(parts, layout=layout))
        (tensor,) = read(model).structure.tensors
        assert (tensor.shape, tensor.elements) == (None, None)

    def test_the_record_needs_no_torch(self) -> None:
        shape = read(nn.Linear(2, 3)).structure.tensors[0].shape
        assert (type(shape), repr(shape)) == (tuple, "(3, 2)")

    def test_a_traced_model_is_read(self) -> None:
        with quiet():
            model = torch.jit.trace(nn.Sequential(nn.Linear(2, 2)).eval(), torch.zeros(1, 2))
        snapshot = read(model)
        assert snapshot.training == (NO, NO)
        assert [one.name for one in snapshot.structure.tensors] == ["weight", "bias"]

    @pytest.mark.parametrize("seen", [None, nn.Linear, [nn.Linear(2, 2)], {"weight": 1}])
    def test_only_one_module_is_a_model_and_the_error_asks_for_no_list(self, seen: Any) -> None:
        with pytest.raises(NotAModule, match=f"but got {type(seen).__qualname__} ") as caught:
            read(seen)
        assert "list or tuple" not in str(caught.value)

    def test_fsdp2_s_renamed_classes_are_shown_as_written(self) -> None:
        model = nn.Sequential(nn.Linear(2, 2))
        before = read(model).structure.types
        torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
        try:
            torch.distributed.fsdp.fully_shard(model, mesh=torch.distributed.init_device_mesh("cpu", (1,)))
        finally:
            torch.distributed.destroy_process_group()
        assert type(model) is not nn.Sequential
        assert read(model).structure.types == before


class TestSnapshots:
    def test_share_a_structure_that_is_still_the_model_s(self) -> None:
        model = ZOO["shared"]().model
        structure = read(model).structure
        model.eval().requires_grad_(False)
        assert read(model, known=structure).structure is structure
        model.twice.append(nn.ReLU())
        assert read(model, known=structure).structure == read(model).structure != structure

    @pytest.mark.parametrize("name", ["plain_cnn", "shared", "tied"])
    def test_later_changes_of_the_model_alter_none(self, name: str) -> None:
        model = ZOO[name]().model
        optimizer = SGD(model.parameters(), lr=0.1, momentum=0.9)
        snapshot, before = read(model, optimizer), read(model, optimizer)
        model.eval().requires_grad_(False).double()
        model.trainable = model.bn_freeze = model.requires_grad = False
        model.add_module("later", nn.Linear(2, 2))
        optimizer.param_groups[0]["lr"] = 0.0
        optimizer.add_param_group({"params": model.later.parameters()})
        assert snapshot == before
        assert read(model, optimizer) != before

    def test_keep_neither_the_model_nor_its_class_alive(self) -> None:
        class Temporary(nn.Linear):
            pass

        model = Temporary(2, 2)
        gone = [weakref.ref(model.weight), weakref.ref(model), weakref.ref(Temporary)]
        snapshot = read(model, SGD(model.parameters(), lr=0.1))
        del model, Temporary
        gc.collect()
        assert [one() for one in gone] == [None] * 3
        assert len(snapshot.structure) == 1
