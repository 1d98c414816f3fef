"""The record: no answer passes for a truth value, and a structure keeps every edge of a tree that is none."""

from __future__ import annotations

import math
import pickle
from collections.abc import Callable, Iterator
from dataclasses import FrozenInstanceError, replace
from itertools import islice
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from freezeinspect.observed import Moved, Movement
from freezeinspect.readers.live import read
from freezeinspect.state import (
    ABSENT,
    ALIAS_LIMIT,
    MIXED,
    NO,
    UNKNOWN,
    YES,
    Answer,
    Snapshot,
    Structure,
    Tensor,
    combine,
)
from zoo import ZOO

Edges = list[tuple[int, int, str]]

answers = st.lists(st.sampled_from(Answer), max_size=6)
law = settings(deadline=None, database=None)


@st.composite
def graphs(draw: st.DrawFn, cycles: bool = False) -> Edges:
    """Draw who holds whom under which name; names with a dot among them, though none that two readings fit."""
    tree = [(draw(st.integers(0, child - 1)), child) for child in range(1, draw(st.integers(1, 7)))]
    extra = draw(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), max_size=7))
    edges = draw(st.permutations(tree + [(a, b) for a, b in extra if a < b or cycles]))
    dots = draw(st.lists(st.sampled_from(["", ".w", ".w.w"]), min_size=len(edges), max_size=len(edges)))
    return [(a, b, f"{i}{dot}") for i, ((a, b), dot) in enumerate(zip(edges, dots, strict=True))]


def build(edges: Edges) -> nn.Module:
    modules = [nn.Module() for _ in range(7)]
    for a, b, name in edges:
        modules[a]._modules[name] = modules[b]
    return modules[0]


def entered(root: nn.Module) -> list[tuple[nn.Module, int, str]]:
    """List each module once, in pre-order, with the number of its holder and its name there."""
    found: list[tuple[nn.Module, int, str]] = []

    def enter(module: nn.Module, holder: int, name: str) -> None:
        if all(module is not other for other, _, _ in found):
            here = len(found)
            found.append((module, holder, name))
            for below, child in module._modules.items():
                enter(child, here, below)

    enter(root, -1, "")
    return found


def numbered(root: nn.Module) -> dict[int, int]:
    return {id(module): number for number, (module, _, _) in enumerate(entered(root))}


def reachable(module: nn.Module, seen: set[int]) -> set[int]:
    if id(module) not in seen:
        seen.add(id(module))
        for child in module._modules.values():
            reachable(child, seen)
    return seen


def structure_of(root: nn.Module) -> Structure:
    return read(root).structure


class TestAnswer:
    def test_the_vocabulary_is_five_words(self) -> None:
        assert [str(answer) for answer in Answer] == ["yes", "no", "mixed", "absent", "unknown"]
        assert [Answer(str(answer)) for answer in Answer] == list(Answer)

    @pytest.mark.parametrize("answer", Answer)
    def test_no_answer_is_true_or_false_and_the_error_says_what_to_write(self, answer: Answer) -> None:
        wanted = f"^Answer.{answer.name} is not true or false: compare it, e.g. `answer is Answer.YES`$"
        for ask in (bool, lambda one: not one, lambda one: one or 1):
            with pytest.raises(TypeError, match=wanted):
                ask(answer)


class TestCombine:
    @pytest.mark.parametrize(
        ("together", "whole"),
        [
            ([], ABSENT),
            ([YES, NO], MIXED),
            ([YES, MIXED], MIXED),
            ([YES, UNKNOWN], UNKNOWN),
            ([NO, UNKNOWN], UNKNOWN),
            ([YES, UNKNOWN, NO], MIXED),
            ([UNKNOWN, MIXED], MIXED),
        ],
    )
    def test_the_answers_that_many_give_together(self, together: list[Answer], whole: Answer) -> None:
        assert combine(together) is whole

    @given(st.sampled_from(Answer))
    def test_one_answer_alone_stands(self, answer: Answer) -> None:
        assert combine([answer]) is answer

    @law
    @given(answers.flatmap(lambda drawn: st.tuples(st.just(drawn), st.permutations(drawn * 2))))
    def test_neither_order_nor_repetition_matters(self, pair: tuple[list[Answer], list[Answer]]) -> None:
        assert combine(pair[0]) is combine(pair[1])

    @law
    @given(answers)
    def test_absent_is_neutral(self, drawn: list[Answer]) -> None:
        assert combine([*drawn, ABSENT]) is combine(drawn)
        assert combine(one for one in drawn if one is not ABSENT) is combine(drawn)

    @law
    @given(answers, answers)
    def test_combining_in_parts_can_only_lose_to_unknown(self, left: list[Answer], right: list[Answer]) -> None:
        assert combine([combine(left), combine(right)]) in (combine(left + right), UNKNOWN)


class TestTensors:
    @given(st.lists(st.integers(0, 9)))
    def test_elements_are_the_product_of_the_shape(self, shape: list[int]) -> None:
        assert Tensor(0, "weight", "parameter", tuple(shape), None).elements == math.prod(shape)

    def test_elements_of_an_unknown_shape_are_unknown(self) -> None:
        assert Tensor(0, "weight", "parameter", None, None).elements is None

    @given(st.lists(st.none() | st.integers(0, 3), max_size=8))
    def test_unique_takes_the_first_of_each_tie_group_and_all_that_is_untied(self, ties: list[int | None]) -> None:
        structure = columns(ties)
        kept = [i for i, tie in enumerate(ties) if tie is None or tie not in ties[:i]]
        assert structure.unique == tuple(kept)
        groups = {tie: [i for i, other in enumerate(ties) if other == tie] for tie in ties if tie is not None}
        assert structure.tie_groups == groups

    def test_own_and_full_names_follow_the_owner(self) -> None:
        structure = Structure(("", "a"), (None, None), ((1, 0, 1), ("w", "b", "m"), *[(None,) * 3] * 4))
        assert structure.own == ((1,), (0, 2))
        assert [structure.full_name(i) for i in range(3)] == ["a.w", "b", "a.m"]


def columns(ties: list[int | None]) -> Structure:
    many = len(ties)
    names = tuple(map(str, range(many)))
    return Structure(("",), (None,), ((0,) * many, names, *[(None,) * many] * 3, tuple(ties)))


DIAMOND = Structure(("", "a", "a.x", "a.x.y", "b"), (None,) * 5, shared=(("b.x", 2),))


class TestDiamond:
    def test_relations(self) -> None:
        assert DIAMOND.parents == (-1, 0, 1, 2, 0)
        assert DIAMOND.names == ("", "a", "x", "y", "b")
        assert DIAMOND.children == ((1, 4), (2,), (3,), (), ())

    def test_aliases_lead_to_the_shared_module_and_below_it(self) -> None:
        assert DIAMOND.aliases == ((), (), ("b.x",), ("b.x.y",), ())
        assert DIAMOND.index == {"": 0, "a": 1, "a.x": 2, "a.x.y": 3, "b": 4, "b.x": 2, "b.x.y": 3}

    def test_a_subtree_goes_through_shared_edges(self) -> None:
        assert sorted(DIAMOND.subtree(4)) == [2, 3, 4]
        assert DIAMOND.over_subtrees([1, 2, 4, 8, 16]) == [31, 14, 12, 8, 28]


class TestAnyGraph:
    @law
    @given(graphs(cycles=True))
    def test_parents_names_and_children_are_those_of_the_first_visit(self, edges: Edges) -> None:
        root = build(edges)
        structure, wanted = structure_of(root), entered(root)
        assert structure.parents == tuple(holder for _, holder, _ in wanted)
        assert structure.names == tuple(name for _, _, name in wanted)
        children = [[i for i, (_, holder, _) in enumerate(wanted) if holder == here] for here in range(len(wanted))]
        assert structure.children == tuple(map(tuple, children))

    @law
    @given(graphs(cycles=True), st.data())
    def test_a_subtree_is_what_can_be_reached_and_its_bits_are_joined(self, edges: Edges, data: st.DataObject) -> None:
        root = build(edges)
        structure, number = structure_of(root), numbered(root)
        own = data.draw(st.lists(st.integers(0, 255), min_size=len(number), max_size=len(number)))
        given_in, wanted = list(own), []
        for here, (module, _, _) in enumerate(entered(root)):
            below = sorted(number[one] for one in reachable(module, set()))
            assert sorted(structure.subtree(here)) == below
            bits = 0
            for one in below:
                bits |= own[one]
            wanted.append(bits)
        assert structure.over_subtrees(own) == wanted
        assert own == given_in

    @law
    @given(graphs())
    def test_aliases_are_all_other_paths_up_to_the_limit_and_no_edge_is_lost(self, edges: Edges) -> None:
        root = build(edges)
        structure, number = structure_of(root), numbered(root)
        others: list[set[str]] = [set() for _ in number]
        for path, module in root.named_modules(remove_duplicate=False):
            others[number[id(module)]].add(path)
        for here, aliases in enumerate(structure.aliases):
            wanted = others[here] - {structure.paths[here]}
            direct = {path for path, module in structure.shared if module == here}
            assert len(set(aliases)) == len(aliases)
            assert direct <= set(aliases) <= wanted
            assert set(aliases) == wanted or len(aliases) >= ALIAS_LIMIT

    @law
    @given(graphs(cycles=True))
    def test_every_edge_is_kept_once_and_every_alias_leads_to_its_module(self, edges: Edges) -> None:
        root = build(edges)
        structure, number = structure_of(root), numbered(root)
        held = sum(len(module._modules) for module, _, _ in entered(root))
        assert len(structure) - 1 + len(structure.shared) == held
        assert all(set(structure.aliases[module]) >= {path} for path, module in structure.shared)
        for here, aliases in enumerate(structure.aliases):
            for alias in aliases:
                along = [number[id(module)] for module in follow(root, alias)]
                assert structure.index[alias] == here == along[-1]
                assert len(set(along)) == len(along) or (alias, here) in structure.shared

    @law
    @given(st.lists(st.tuples(st.integers(0, 3), st.sampled_from(["", ".", "a", "a.b", ".a", "b.", "b"])), max_size=5))
    def test_no_name_put_in_by_hand_hangs_the_way_up(self, drawn: list[tuple[int, str]]) -> None:
        modules = [nn.Module() for _ in range(6)]
        for child, (holder, name) in enumerate(drawn, 1):
            modules[min(holder, child - 1)]._modules[name] = modules[child]
        structure = structure_of(modules[0])
        for here in range(len(structure)):
            assert len(list(islice(structure.ancestors(here), 99))) <= len(structure)


def follow(root: nn.Module, path: str) -> list[nn.Module]:
    """List the modules along a path whose names may have dots."""
    if not path:
        return [root]
    steps = [(name, child) for name, child in root._modules.items() if f"{path}.".startswith(f"{name}.")]
    ((name, child),) = steps
    return [root, *follow(child, path[len(name) + 1 :])]


class TestExtremes:
    def test_a_dotted_name_belongs_to_the_module_that_holds_it(self) -> None:
        root, inner = nn.Module(), nn.Sequential(nn.ReLU())
        root._modules["a.b"] = inner
        root._modules["c.d"] = nn.Sequential(inner)
        structure = structure_of(root)
        assert structure.paths == ("", "a.b", "a.b.0", "c.d")
        assert structure.names == ("", "a.b", "0", "c.d")
        assert structure.parents == (-1, 0, 1, 0)
        assert structure.further == {3: [("0", 1)]}
        assert structure.aliases == ((), ("c.d.0",), ("c.d.0.0",), ())

    @pytest.mark.parametrize(
        "share", [lambda m: nn.Sequential(m, m), lambda m: nn.Sequential(nn.Sequential(m), nn.Sequential(m))]
    )
    def test_22_nested_sharings_keep_every_edge_and_few_paths(self, share: Callable[[nn.Module], nn.Module]) -> None:
        model: nn.Module = nn.ReLU()
        for _ in range(22):
            model = share(model)
        structure = structure_of(model)
        assert len(structure.shared) == 22
        assert {(path, module) for path, module in structure.shared} <= set(pairs(structure))
        assert max(map(len, structure.aliases)) == ALIAS_LIMIT
        assert len(list(structure.subtree(0))) == len(structure)
        assert structure.over_subtrees([0] * (len(structure) - 1) + [1])[0] == 1

    def test_edges_are_kept_beyond_the_limit_of_aliases(self) -> None:
        shared = nn.Sequential(nn.ReLU())
        structure = structure_of(nn.Sequential(*[nn.Sequential(shared) for _ in range(ALIAS_LIMIT + 9)]))
        assert structure.aliases[2] == tuple(f"{i}.0" for i in range(1, ALIAS_LIMIT + 9))
        assert len(structure.aliases[3]) == ALIAS_LIMIT

    def test_a_nesting_of_5000_needs_no_recursion(self) -> None:
        model: nn.Module = nn.ReLU()
        for _ in range(5000):
            model = nn.Sequential(model)
        structure = structure_of(model)
        assert structure.parents == tuple(range(-1, 5000))
        assert set(structure.names[1:]) == {"0"}
        assert list(structure.ancestors(5000)) == list(range(5000, -1, -1))
        assert list(structure.subtree(0)) == list(range(5001))
        assert structure.over_subtrees([0] * 5000 + [1]) == [1] * 5001
        assert structure.aliases == ((),) * 5001

    def test_a_module_that_holds_itself_is_its_own_alias(self) -> None:
        model = nn.Sequential()
        model._modules["me"] = model
        structure = structure_of(model)
        assert (structure.paths, structure.aliases, structure.index) == (("",), (("me",),), {"": 0, "me": 0})
        assert list(structure.subtree(0)) == [0]

    def test_an_alias_into_a_cycle_goes_round_it_once(self) -> None:
        inner, outer = nn.Sequential(), nn.Sequential()
        outer._modules["down"] = inner
        inner._modules["up"] = outer
        root = nn.Sequential(nn.Sequential(outer), nn.Sequential(outer))
        assert structure_of(root).aliases == ((), (), ("0.0.down.up", "1.0"), ("1.0.down",), ())


def pairs(structure: Structure) -> Iterator[tuple[str, int]]:
    return ((alias, module) for module, aliases in enumerate(structure.aliases) for alias in aliases)


class TestSharing:
    @pytest.mark.parametrize("name", ["residual", "tied", "shared", "lazy", "nested"])
    def test_equal_models_have_equal_structures_with_one_hash(self, name: str) -> None:
        one, other = structure_of(ZOO[name]().model), structure_of(ZOO[name]().model)
        assert one is not other
        assert one.aliases is one.aliases  # what is worked out once does not count in what follows
        assert one == other
        assert len({one, other}) == 1
        assert one.digest == other.digest

    @pytest.mark.parametrize(
        "change",
        [
            lambda m: m.append(nn.ReLU()),
            lambda m: setattr(m, "0", nn.Identity()),
            lambda m: setattr(m, "0", nn.Linear(3, 2)),
            lambda m: m.double(),
            lambda m: setattr(m[1], "weight", m[0].weight),
            lambda m: m.append(m[0]),
            lambda m: m[0].register_buffer("extra", m[0].bias.detach()),
        ],
    )
    def test_structures_differ_where_paths_types_tensors_or_sharing_do(self, change: Callable[[Any], Any]) -> None:
        model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
        before = structure_of(model)
        change(model)
        assert structure_of(model) != before
        assert structure_of(model).digest != before.digest

    @law
    @given(st.booleans(), st.booleans(), st.booleans())
    def test_no_flag_is_part_of_the_structure(self, mode: bool, grad: bool, frozen: bool) -> None:
        model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2)).train(mode).requires_grad_(grad)
        model[1].bn_freeze = frozen
        assert structure_of(model) == structure_of(nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2)))

    def test_a_later_snapshot_shares_the_structure_and_differs_in_its_flags_only(self) -> None:
        before = read(nn.Sequential(nn.Linear(2, 2)))
        after = replace(before, training=(NO, NO))
        assert after.structure is before.structure
        assert after != before
        assert replace(after, training=(YES, YES)) == before

    @pytest.mark.parametrize("record", [DIAMOND, read(nn.Linear(2, 2))], ids=["structure", "snapshot"])
    def test_a_record_cannot_be_written_to_and_survives_pickle(self, record: Structure | Snapshot) -> None:
        name = next(iter(vars(record)))
        with pytest.raises(FrozenInstanceError):
            setattr(record, name, ())
        again = pickle.loads(pickle.dumps(record))
        assert again == record
        assert again is not record

    def test_what_nobody_watched_is_unknown(self) -> None:
        assert set(Moved()) == {UNKNOWN}
        assert set(Movement()) == {Moved()}
