"""The traversal: fastai 0.7's order to the letter, where theirs ends; and the paths that the user wrote."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
import torch.distributed
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import nn
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper
from torch.distributed.fsdp import FullyShardedDataParallel, ShardingStrategy

from freezeinspect.walk import VISIT_LIMIT, WRAPPERS, NotAModule, apply_leaf, children, unwrapped, walk
from zoo import ZOO, quiet

Edges = list[tuple[int, int]]
Apply = Callable[[Any, Callable[[nn.Module], Any]], None]

law = settings(deadline=None, database=None)
numbers = st.integers(0, 5)
groups = st.recursive(numbers, lambda below: st.lists(below, max_size=3) | st.tuples(below, below), max_leaves=5)


@st.composite
def graphs(draw: st.DrawFn, cycles: bool = False) -> Edges:
    """Draw who holds whom: everybody somebody, some the same one, some one twice."""
    tree = [(draw(st.integers(0, child - 1)), child) for child in range(1, draw(st.integers(1, 6)))]
    extra = draw(st.lists(st.tuples(numbers, numbers), max_size=7))
    return draw(st.permutations(tree + [(a, b) for a, b in extra if a < b or cycles]))


def build(edges: Edges) -> list[nn.Module]:
    modules = [Labelled(str(i)) for i in range(6)]
    for i, (a, b) in enumerate(edges):
        modules[a].add_module(f"m{i}", modules[b])
    return modules


class Labelled(nn.Module):
    def __init__(self, label: str) -> None:
        super().__init__()
        self.label = label


def chosen(group: Any, modules: list[nn.Module]) -> Any:
    """Put modules where numbers stand in nested lists and tuples."""
    return modules[group] if isinstance(group, int) else type(group)(chosen(one, modules) for one in group)


# fastai 0.7's own two functions, as docs/design.md describes them
def fastai_children(m: Any) -> Any:
    return m if isinstance(m, (list, tuple)) else list(m.children())


def fastai_apply_leaf(m: Any, f: Callable[[nn.Module], Any]) -> None:
    c = fastai_children(m)
    if isinstance(m, nn.Module):
        f(m)
    for child in c:
        fastai_apply_leaf(child, f)


def ending_apply_leaf(m: nn.Module, f: Callable[[nn.Module], Any], above: tuple[nn.Module, ...] = ()) -> None:
    """Skip a module that is already on its own path, where fastai's would never end."""
    if all(m is not one for one in above):
        f(m)
        for child in m.children():
            ending_apply_leaf(child, f, (*above, m))


def visits(apply: Apply, m: Any) -> list[nn.Module]:
    seen: list[nn.Module] = []
    apply(m, seen.append)
    return seen


def same(one: list[Any], other: list[Any]) -> bool:
    return [id(a) for a in one] == [id(b) for b in other]


class TestChildren:
    @law
    @given(graphs(), groups)
    def test_are_fastai_s(self, edges: Edges, group: Any) -> None:
        m = chosen(group, build(edges))
        assert same(children(m), list(fastai_children(m)))

    def test_are_submodules_containers_among_them_and_never_parameters_or_none(self) -> None:
        model = ZOO["nested"]().model
        assert children(model) == [model.towers, model.scales, model.shifts]

    def test_of_a_module_held_twice_are_it_once_at_its_first_place(self) -> None:
        first, second = nn.ReLU(), nn.Tanh()
        assert same(children(nn.Sequential(first, second, first)), [first, second])

    def test_of_a_list_or_tuple_are_its_entries_in_a_list_of_their_own(self) -> None:
        group = [nn.ReLU(), (nn.Tanh(),)]
        assert children(group) == group
        assert children(group) is not group
        assert children(tuple(group)) == group


class TestApplyLeaf:
    @law
    @given(graphs(), groups)
    def test_visits_what_fastai_s_visits_in_its_order(self, edges: Edges, group: Any) -> None:
        m = chosen(group, build(edges))
        wanted = visits(fastai_apply_leaf, m)
        assume(max(Counter(map(id, wanted)).values(), default=0) <= VISIT_LIMIT)
        assert same(visits(apply_leaf, m), wanted)

    @law
    @given(graphs(), st.lists(st.sampled_from(["add", "drop", "swap", "keep"]), max_size=9))
    def test_takes_the_children_before_f_runs(self, edges: Edges, actions: list[str]) -> None:
        def labels(apply: Apply) -> list[str]:
            seen: list[str] = []

            def f(module: Any) -> None:
                action = actions[len(seen)] if len(seen) < len(actions) else "keep"
                seen.append(module.label)
                if action in ("drop", "swap") and module._modules:
                    del module._modules[next(iter(module._modules))]
                if action in ("add", "swap"):
                    module.add_module(f"new{len(seen)}", Labelled(f"new{len(seen)}"))

            apply(build(edges)[0], f)
            return seen

        wanted = labels(fastai_apply_leaf)
        assume(max(Counter(wanted).values()) <= VISIT_LIMIT)
        assert labels(apply_leaf) == wanted

    @law
    @given(graphs(cycles=True))
    def test_a_cycle_ends_where_it_meets_its_own_path(self, edges: Edges) -> None:
        model = build(edges)[0]
        wanted: list[nn.Module] = []
        ending_apply_leaf(model, wanted.append)
        assume(max(Counter(map(id, wanted)).values()) <= VISIT_LIMIT)
        assert same(visits(apply_leaf, model), wanted)

    def test_a_module_under_two_parents_is_visited_twice_and_held_twice_by_one_parent_once(self) -> None:
        model = ZOO["shared"]().model
        seen = visits(apply_leaf, model)
        assert seen.count(model.left[1]) == 2
        assert seen.count(model.twice[0]) == 1

    def test_a_rule_that_recurses_is_corrected_by_the_children(self) -> None:
        model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
        apply_leaf(model, lambda m: m.train(not isinstance(m, nn.BatchNorm1d)))
        assert [m.training for m in model.modules()] == [True, True, False]

    @pytest.mark.parametrize(("parents", "expected"), [(2, 2), (32, 32), (33, 32 + 1), (96, 32 + 1)])
    def test_a_shared_module_is_visited_32_times_and_once_more_where_there_are_more_parents(
        self, parents: int, expected: int
    ) -> None:
        norm = nn.BatchNorm1d(2)
        model = nn.Sequential(*[nn.Sequential(norm) for _ in range(parents)])
        seen = visits(apply_leaf, model)
        assert seen.count(norm) == expected
        assert seen.count(model) == (1 if parents <= 32 else 2)

    @pytest.mark.parametrize("parents", [2, VISIT_LIMIT, VISIT_LIMIT + 1, 3 * VISIT_LIMIT])
    def test_however_many_parents_recurse_the_shared_child_has_the_last_word(self, parents: int) -> None:
        norm = nn.BatchNorm1d(2)
        model = nn.Sequential(*[nn.Sequential(norm) for _ in range(parents)])
        apply_leaf(model, lambda m: m.train(m is not norm))
        assert not norm.training

    def test_what_comes_after_a_module_that_was_visited_too_often_is_visited_as_ever(self) -> None:
        shared, last = nn.Tanh(), nn.ReLU()
        seen = visits(apply_leaf, [*[nn.Sequential(shared) for _ in range(VISIT_LIMIT + 2)], last])
        assert (seen.count(shared), seen.count(last)) == (VISIT_LIMIT + 1, 2)

    def test_the_visit_of_every_module_beyond_the_limit_takes_a_root_that_holds_itself_once(self) -> None:
        model = nn.Sequential(*[nn.Sequential(shared) for shared in [nn.Tanh()] * (VISIT_LIMIT + 1)])
        model[0].add_module("up", model)
        assert visits(apply_leaf, model).count(model) == 2

    @pytest.mark.parametrize("depth", [2, 5, 7])
    def test_however_deep_the_sharing_is_nested_the_shared_child_has_the_last_word(self, depth: int) -> None:
        norm = nn.BatchNorm1d(2)
        apply_leaf(nested_sharing(norm, depth), lambda m: m.train(m is not norm))
        assert not norm.training

    def test_22_nested_sharings_end_and_reach_every_module(self) -> None:
        leaf = nn.ReLU()
        model = nested_sharing(leaf, 22)
        seen = Counter(map(id, visits(apply_leaf, model)))
        assert seen.keys() == set(map(id, model.modules()))
        assert sum(seen.values()) < 10_000

    def test_a_nesting_of_5000_needs_no_recursion(self) -> None:
        models = [nn.Sequential()]
        for _ in range(5000):
            models.append(nn.Sequential(models[-1]))
        assert same(visits(apply_leaf, models[-1]), models[::-1])

    def test_stops_where_f_raises(self) -> None:
        seen: list[nn.Module] = []

        def f(module: nn.Module) -> None:
            seen.append(module)
            if isinstance(module, nn.ReLU):
                raise LookupError

        model = nn.Sequential(nn.Sequential(nn.ReLU()), nn.Tanh())
        with pytest.raises(LookupError):
            apply_leaf(model, f)
        assert same(seen, [model, model[0], model[0][0]])


def nested_sharing(model: nn.Module, depth: int) -> nn.Module:
    for _ in range(depth):
        model = nn.Sequential(nn.Sequential(model), nn.Sequential(model))
    return model


class Unspeakable:
    def __repr__(self) -> str:
        raise RuntimeError("no words")


class TestNotAModule:
    @pytest.mark.parametrize("ask", [children, lambda m: apply_leaf(m, id), lambda m: list(walk([m], []))])
    def test_says_what_it_got_and_what_to_pass(self, ask: Callable[[Any], Any]) -> None:
        wanted = (
            "expected a torch.nn.Module, or a list or tuple of them, but got dict "
            "(\"{'weight': 'aaaaaaaaaaaaaaaaaaaaaaaaaaaa\"); pass the model itself, or its groups of modules"
        )
        with pytest.raises(NotAModule, match=f"^{re.escape(wanted)}$"):
            ask({"weight": "a" * 999})

    @pytest.mark.parametrize("seen", [None, nn.Linear, "model.pt", torch.zeros(1), nn.Linear(1, 1).parameters(), {1}])
    def test_is_raised_for_all_that_is_no_module(self, seen: Any) -> None:
        with pytest.raises(NotAModule, match=f"but got {type(seen).__qualname__} "):
            apply_leaf([nn.ReLU(), (seen,)], id)

    def test_is_a_type_error_even_of_what_cannot_be_shown(self) -> None:
        with pytest.raises(TypeError, match="Unspeakable"):
            children(Unspeakable())


class TestPaths:
    @pytest.mark.parametrize("name", ZOO)
    def test_entering_each_module_once_is_named_modules(self, name: str) -> None:
        model = ZOO[name]().model
        shared: list[tuple[str, int]] = []
        seen, wanted = list(walk(model, shared)), list(model.named_modules())
        assert [path for path, _ in seen] == [path for path, _ in wanted]
        assert same([module for _, module in seen], [module for _, module in wanted])
        if not shared:
            assert same(visits(apply_leaf, model), [module for _, module in wanted])
        assert bool(shared) == (name == "shared")

    @law
    @given(graphs(cycles=True))
    def test_each_edge_is_walked_or_noted_once(self, edges: Edges) -> None:
        model = build(edges)[0]
        shared: list[tuple[str, int]] = []
        seen = list(walk(model, shared))
        assert [path for path, _ in seen] == [path for path, _ in model.named_modules()]
        assert len(seen) - 1 + len(shared) == sum(len(module._modules) for _, module in seen)
        assert same([model.get_submodule(path) for path, _ in shared], [seen[which][1] for _, which in shared])

    @law
    @given(graphs())
    def test_the_path_of_every_visit_leads_to_its_module(self, edges: Edges) -> None:
        model = build(edges)[0]
        for path, module in walk(model):
            assert model.get_submodule(path) is module

    def test_the_path_of_every_visit_beyond_the_limit_leads_to_its_module(self) -> None:
        shared = nn.ReLU()
        model = nn.Sequential(*[nn.Sequential(shared) for _ in range(VISIT_LIMIT + 1)])
        assert [path for path, module in walk(model) if model.get_submodule(path) is not module] == []

    def test_a_module_held_twice_goes_by_its_first_name(self) -> None:
        twice = nn.ReLU()
        model = nn.Sequential(twice, nn.Tanh(), twice)
        assert [path for path, _ in walk(model)] == [path for path, _ in model.named_modules()]

    def test_entries_of_a_list_go_by_their_index(self) -> None:
        assert [path for path, _ in walk([nn.Sequential(nn.ReLU()), nn.Tanh()])] == ["0", "0.0", "1"]

    def test_entries_of_a_list_in_a_list_go_by_both_indices(self) -> None:
        assert [path for path, _ in walk([[nn.ReLU()], (nn.Tanh(),)])] == ["0.0", "1.0"]

    @pytest.mark.parametrize("model", [nested_sharing(nn.ReLU(), 22), nn.Sequential()])
    def test_each_module_is_entered_once_however_it_is_shared(self, model: nn.Module) -> None:
        assert len(list(walk(model, []))) == len(list(model.modules()))

    def test_a_traced_model_is_walked_as_named_modules_does(self) -> None:
        with quiet():
            model = torch.jit.trace(nn.Sequential(nn.Linear(2, 2), nn.ReLU()), torch.zeros(1, 2))
        assert [path for path, _ in walk(model, [])] == ["", "0", "1"]
        assert len(visits(apply_leaf, model)) == 3

    def test_a_module_whose_init_was_never_called_is_named(self) -> None:
        class Forgetful(nn.Module):
            def __init__(self) -> None:
                pass

        with pytest.raises(Exception, match="Forgetful"):
            list(walk([Forgetful()], []))


@pytest.fixture(scope="module")
def _alone() -> Iterator[None]:
    """Let this process be a group of one."""
    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


def compiled(model: nn.Module) -> Any:
    return torch.compile(model, backend="eager")


def compiled_in_parallel(model: nn.Module) -> Any:
    return compiled(nn.parallel.DistributedDataParallel(model))


def averaged(model: nn.Module) -> nn.Module:
    """Wrap as AveragedModel does, but without its copy."""
    wrapper = torch.optim.swa_utils.AveragedModel(model)
    wrapper.module = model
    return wrapper


def sharded(model: nn.Module) -> nn.Module:
    return FullyShardedDataParallel(model, None, ShardingStrategy.NO_SHARD, device_id=torch.device("cpu"))


WRAP: dict[str, Callable[[nn.Module], nn.Module]] = {
    "torch._dynamo.eval_frame.OptimizedModule": compiled,
    "torch.nn.parallel.data_parallel.DataParallel": nn.DataParallel,
    "torch.nn.parallel.distributed.DistributedDataParallel": nn.parallel.DistributedDataParallel,
    "torch.optim.swa_utils.AveragedModel": averaged,
    "torch.distributed.fsdp.fully_sharded_data_parallel.FullyShardedDataParallel": sharded,
    "torch.distributed.algorithms._checkpoint.checkpoint_wrapper.CheckpointWrapper": checkpoint_wrapper,
}


@pytest.mark.usefixtures("_alone")
class TestWrappers:
    def test_each_is_tested_here(self) -> None:
        assert WRAP.keys() == WRAPPERS.keys()

    @pytest.mark.parametrize("wrap", [*WRAP.values(), compiled_in_parallel, type("Mine", (nn.DataParallel,), {})])
    def test_around_the_model_is_passed_over(self, wrap: Callable[[nn.Module], nn.Module]) -> None:
        model = ZOO["residual"]().model
        assert list(walk(wrap(model), [])) == list(model.named_modules())
        assert unwrapped(wrap(model)) is model

    @pytest.mark.parametrize("wrap", WRAP.values())
    def test_around_a_submodule_is_passed_over(self, wrap: Callable[[nn.Module], nn.Module]) -> None:
        model = ZOO["residual"]().model
        paths = [path for path, _ in model.named_modules()]
        inner = model.layer2
        model.layer2 = wrap(inner)
        assert model._modules["layer2"] is not inner
        seen = dict(walk(model, []))
        assert list(seen) == paths
        assert seen["layer2"] is inner

    def test_around_a_module_that_stands_elsewhere_too_makes_it_shared(self) -> None:
        inner = nn.Sequential(nn.ReLU())
        shared: list[tuple[str, int]] = []
        assert [path for path, _ in walk(nn.Sequential(compiled(inner), inner), shared)] == ["", "0", "0.0"]
        assert shared == [("1", 1)]

    def test_is_a_module_like_any_other_to_apply_leaf(self) -> None:
        wrapper = nn.DataParallel(nn.ReLU())
        assert same(visits(apply_leaf, wrapper), visits(fastai_apply_leaf, wrapper))

    def test_of_the_users_own_is_not_passed_over(self) -> None:
        class DataParallel(nn.Sequential):
            pass

        model = DataParallel(nn.ReLU())
        assert [path for path, _ in walk(model, [])] == ["", "0"]
        assert unwrapped(model) is model

    def test_so_does_that_of_a_list_of_groups(self) -> None:
        shared = nn.ReLU()
        groups = [nn.Sequential(shared) for _ in range(VISIT_LIMIT + 1)]
        assert [path for path, m in walk(groups) if m is shared] == [*(f"{n}.0" for n in range(VISIT_LIMIT)), "0.0"]

    def test_wrappers_are_told_of_with_the_path_of_what_is_in_them(self) -> None:
        one, other = nn.DataParallel(nn.ReLU()), nn.DataParallel(nn.DataParallel(nn.Tanh()))
        wrapped: list[tuple[str, nn.Module]] = []
        list(walk(nn.Sequential(one, other), [], wrapped))
        assert wrapped == [("0", one), ("1", other), ("1", other.module)]
