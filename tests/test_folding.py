"""Folding: equal siblings share a line, nothing that differs ever does, and a line's pattern means its modules."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.optim import SGD

import freezeinspect as fi
from freezeinspect.folding import Line, folded, joined
from freezeinspect.patterns import Pattern
from freezeinspect.state import Structure

NAMES = st.sampled_from(
    ["a", "b", "bn1", "bn2", "bn3", "0", "1", "2", "9", "10", "11", "x*", "{y}", "[0-1]", "a,b", "01"]
)


def towers(one: Any, count: int) -> dict[str, Any]:
    return {str(i): one for i in range(count)}


def parents(below: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Hold different children, or one again and again: else nothing would ever fold."""
    again = st.builds(towers, below, st.integers(2, 12))
    return st.dictionaries(NAMES, below, min_size=1, max_size=4) | again


TREES = st.recursive(st.sampled_from("LBD"), parents, max_leaves=8)


# A structure without torch, and its lines written out again


def flat(tree: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Give path and type of every module in pre-order."""
    yield path, tree if isinstance(tree, str) else "parent"
    if not isinstance(tree, str):
        for name, below in tree.items():
            yield from flat(below, f"{path}.{name}" if path else name)


@st.composite
def structures(draw: st.DrawFn) -> tuple[Structure, list[int]]:
    """Make a tree of which a few modules differ from the rest in a fact, some with edges to shared modules."""
    paths, types = zip(*flat(draw(TREES)), strict=True)
    modules = st.integers(0, len(paths) - 1)
    holders = draw(st.sets(modules, max_size=3))
    shared = [(f"{paths[i]}.shared".removeprefix("."), draw(modules)) for i in sorted(holders)]
    facts = [0] * len(paths)
    for i in draw(st.lists(modules, max_size=3)):
        facts[i] = draw(st.integers(1, 2))
    return Structure(paths, types, shared=tuple(shared)), facts


def below(path: str, names: Iterable[str]) -> list[str]:
    return [f"{path}.{name}" if path else name for name in names]


def written_out(structure: Structure, lines: Sequence[Line]) -> dict[str, int]:
    """Give each path that the lines stand for, with the module that speaks for it."""
    found: dict[str, int] = {}
    above = {0: [""]}
    for line in lines:
        names = [structure.names[module] for module in line.modules]
        if line.depth:
            above[line.depth] = [path for top in above[line.depth - 1] for path in below(top, names)]
        assert not found.keys() & set(above[line.depth])
        found |= dict.fromkeys(above[line.depth], line.modules[0])
    return found


def moved(target: str, spokesman: str, path: str) -> str:
    """Give what an edge that stays within a folded module means for another module of its line."""
    names, common = target.split("."), 0
    for one, other in zip(names, spokesman.split("."), strict=False):
        if one != other:
            break
        common += 1
    return ".".join(path.split(".")[:common] + names[common:])


@settings(max_examples=200, deadline=None)
@given(structures())
def test_the_lines_written_out_again_are_the_whole_tree(made: tuple[Structure, list[int]]) -> None:
    structure, facts = made
    spokesmen = written_out(structure, list(folded(structure, facts)))
    said = {path: (structure.types[i], facts[i]) for path, i in spokesmen.items()}
    assert said == dict(zip(structure.paths, zip(structure.types, facts, strict=True), strict=True))
    for path, i in spokesmen.items():
        own, said_edges = (structure.further.get(module, []) for module in (structure.index[path], i))
        assert [name for name, _ in own] == [name for name, _ in said_edges]
        for (_, real), (_, told) in zip(own, said_edges, strict=True):
            target = structure.paths[told]
            assert structure.paths[real] in (target, moved(target, structure.paths[i], path))


@settings(max_examples=200, deadline=None)
@given(structures())
def test_siblings_that_agree_in_all_share_a_line(made: tuple[Structure, list[int]]) -> None:
    structure, facts = made

    def whole(module: int, top: int) -> Any:
        under = tuple((structure.names[child], whole(child, top)) for child in structure.children[module])
        edges = tuple((name, seen_from(top, target)) for name, target in structure.further.get(module, ()))
        return structure.types[module], facts[module], under, edges

    def seen_from(top: int, target: int) -> tuple[bool, str]:
        inside = top in structure.ancestors(target)
        return inside, structure.paths[target].removeprefix(structure.paths[top] if inside else "")

    lines = [line.modules[0] for line in folded(structure, facts)]
    said = [(structure.parents[first], whole(first, first)) for first in lines]
    assert len(set(said)) == len(said)


@settings(deadline=None)
@given(structures())
def test_a_lines_pattern_matches_the_modules_it_stands_for_and_what_is_below_them(
    made: tuple[Structure, list[int]],
) -> None:
    structure, facts = made
    lines = list(folded(structure, facts))
    for n, line in enumerate(lines[1:], 1):
        last = next((m for m in range(n + 1, len(lines)) if lines[m].depth <= line.depth), len(lines))
        stands_for = written_out(structure, lines[:last]).keys() - written_out(structure, lines[:n]).keys()
        assert {path for path in structure.paths if Pattern(line.pattern).matches(path)} == stands_for


@settings(deadline=None)
@given(structures(), st.integers(0, 3))
def test_down_to_a_depth_the_lines_are_those_of_the_whole_tree(made: tuple[Structure, list[int]], depth: int) -> None:
    whole = [line for line in folded(*made) if line.depth <= depth]
    assert list(folded(*made, depth)) == whole


@settings(deadline=None)
@given(structures())
def test_unfolded_each_module_has_a_line_of_its_own(made: tuple[Structure, list[int]]) -> None:
    assert [line.modules for line in folded(*made, fold=False)] == [(i,) for i in range(len(made[0]))]


# Names joined into a pattern

NUMBERED = st.builds("{}{}".format, st.sampled_from(["", "a", "bn", "x*", "0"]), st.integers(0, 12))
ODD = st.text("a10{}[]*?,!-\\|^~ \n", min_size=1, max_size=4)
SIBLINGS = st.lists(NUMBERED | ODD, min_size=1, max_size=20, unique=True)


@settings(max_examples=200, deadline=None)
@given(SIBLINGS | st.integers(0, 120).map(lambda n: [str(i) for i in range(n + 1)]), st.data())
def test_joined_names_match_exactly_themselves_among_siblings(names: list[str], data: st.DataObject) -> None:
    chosen = data.draw(st.just(names) | st.sets(st.sampled_from(names), min_size=1))
    in_order = [name for name in names if name in chosen]
    assert [name for name in names if Pattern(joined(in_order)).matches(name)] == in_order


@pytest.mark.parametrize(
    ("names", "pattern"),
    [
        (["fc"], "fc"),
        ([str(i) for i in range(80)], "[0-79]"),
        (["layer1", "layer2", "layer3"], "layer[1-3]"),
        (["0", "2", "3", "4"], "{0,[2-4]}"),
        (["q_proj", "k_proj"], "{q_proj,k_proj}"),
        (["1", "0"], "{1,0}"),
        (["01", "02"], "{01,02}"),
        (["9", "10"], "[9-10]"),
        (["a*", "a,b"], "{a[*],a[,]b}"),
    ],
)
def test_joined_names_read_as_people_write_them(names: list[str], pattern: str) -> None:
    assert joined(names) == pattern


def test_digits_of_another_script_are_letters_to_a_range() -> None:
    names = ["12", "1\u0663"]  # the Arabic-Indic digit three: Python's int() reads 13
    assert [name for name in names if Pattern(joined(names)).matches(name)] == names


# A live model


class Parent(nn.Module):
    def __init__(self, below: dict[str, nn.Module]) -> None:
        super().__init__()
        for name, module in below.items():
            self.add_module(name, module)


LEAVES: dict[str, Callable[[], nn.Module]] = {
    "L": lambda: nn.Linear(1, 1),
    "B": lambda: nn.BatchNorm1d(1),
    "D": nn.Dropout,
}
FLIPS: dict[str, Callable[[nn.Module], Any]] = {
    "mode": lambda m: setattr(m, "training", False),
    "trainable": lambda m: setattr(m, "trainable", True),
    "bn_freeze": lambda m: setattr(m, "bn_freeze", False),
    "drop_freeze": lambda m: setattr(m, "drop_freeze", True),
    "requires_grad": lambda m: [p.requires_grad_(False) for p in m.parameters()][:1],
    "bias": lambda m: [p.requires_grad_(False) for name, p in m.named_parameters() if name == "bias"],
    "tracking": lambda m: setattr(m, "track_running_stats", False) if hasattr(m, "running_mean") else None,
    "momentum": lambda m: setattr(m, "momentum", 0.0) if hasattr(m, "running_mean") else None,
    "p": lambda m: setattr(m, "p", 0.1),
    "stray": lambda m: setattr(m, "requires_grad", False),
    "gradient": lambda m: [setattr(p, "grad", torch.zeros_like(p)) for p in list(m.parameters())[:1]],
}


def built(tree: Any) -> nn.Module:
    return LEAVES[tree]() if isinstance(tree, str) else Parent({name: built(one) for name, one in tree.items()})


def facts(module: Any) -> list[Any]:
    """Give all that a report says of one module, less what it is called."""
    names = ("type", "training", "trainable", "bn_freeze", "drop_freeze", "track_running_stats", "momentum", "dropout")
    derived = ("stray", "requires_grad", "weights_move", "stats_move", "normalises_with")
    snapshot, own = module.report.snapshot, module.report.snapshot.structure.own[module.number]
    columns = (snapshot.requires_grad, snapshot.groups, snapshot.has_grad)
    tensors = [(module.report.snapshot.structure.tensors[i][1:], [c[i] for c in columns if c]) for i in own]
    return [*(getattr(module, name) for name in names + derived), tensors]


@settings(deadline=None)
@given(TREES, st.lists(st.tuples(st.integers(0, 200), st.sampled_from(sorted(FLIPS))), max_size=4), st.booleans())
def test_every_module_of_a_live_model_agrees_with_the_line_that_stands_for_it(
    tree: Any, flips: list[tuple[int, str]], stepped: bool
) -> None:
    model = built(tree)
    modules = list(model.modules())
    for number, flip in flips:
        FLIPS[flip](modules[number % len(modules)])
    parameters = list(model.parameters())
    report = fi.inspect(model, SGD(parameters[1:], lr=0.1) if stepped and parameters[1:] else None)
    structure = report.snapshot.structure
    spokesmen: dict[str, int] = {}
    for row in report.rows():
        stands_for = [p for p in structure.paths if deep(p) == row.depth and Pattern(row.pattern).matches(p)]
        assert not spokesmen.keys() & set(stands_for)
        spokesmen |= dict.fromkeys(stands_for, structure.index[stands_for[0]])
    modules_of = list(report)
    assert {path: facts(modules_of[i]) for path, i in spokesmen.items()} == {m.path: facts(m) for m in report}


def deep(path: str) -> int:
    return path.count(".") + 1 if path else 0


@pytest.mark.parametrize("flip", sorted(FLIPS))
def test_one_flag_that_differs_takes_a_layer_out_of_its_line(flip: str) -> None:
    kind = {"p": "D", "drop_freeze": "D"}.get(flip, "B")
    model = built(towers({"inner": kind}, 5))
    FLIPS[flip](model.get_submodule("3.inner"))
    report = fi.inspect(model, SGD([torch.ones(1)], lr=1))
    assert [row.pattern for row in report.rows(depth=1)] == ["", "{[0-2],4}", "3"]


class Tied(nn.Module):
    """Share a weight, and an activation, with nobody else."""

    def __init__(self) -> None:
        super().__init__()
        self.act = nn.ReLU()
        self.first = nn.Linear(1, 1)
        self.rest = nn.Sequential(nn.Linear(1, 1), self.act)
        self.rest[0].weight = self.first.weight


def test_layers_that_share_only_within_themselves_fold_too() -> None:
    assert [row.pattern for row in fi.inspect(nn.Sequential(Tied(), Tied(), Tied())).rows(depth=1)] == ["", "[0-2]"]


# Models of the size that people have


@pytest.fixture(scope="module")
def llama() -> nn.Module:
    from transformers import LlamaConfig, LlamaForCausalLM

    heads = {"num_hidden_layers": 80, "num_attention_heads": 64, "num_key_value_heads": 8}
    config = LlamaConfig(hidden_size=8192, intermediate_size=28672, vocab_size=32000, **heads)
    with torch.device("meta"):
        return LlamaForCausalLM(config)


class Weight(nn.Module):
    """Hold one weight on the meta device, without the time that a Linear takes to draw its numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(4, 4, device="meta"))


class Expert(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gate, self.up, self.down, self.act = Weight(), Weight(), Weight(), nn.SiLU()


class Layer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.router = Weight()
        self.experts = nn.ModuleList(Expert() for _ in range(256))


@pytest.fixture(scope="module")
def mixture() -> nn.Module:
    return nn.ModuleList(Layer() for _ in range(48))


def test_eighty_layers_print_as_one(llama: nn.Module) -> None:
    text = str(fi.inspect(llama))
    assert "layers.[0-79] ×80" in text
    assert len(text.splitlines()) < 60


@pytest.mark.parametrize("layers", [[40], [0, 79], list(range(0, 80, 2))])
def test_layers_that_are_frozen_have_a_line_apart(llama: nn.Module, layers: list[int]) -> None:
    frozen: list[Tensor] = [p for i in layers for p in llama.model.layers[i].parameters()]
    for parameter in frozen:
        parameter.requires_grad_(False)
    rows = fi.inspect(llama).rows()
    for parameter in frozen:
        parameter.requires_grad_(True)
    counts = Counter({row.requires_grad: row.times for row in rows if row.type == "LlamaDecoderLayer"})
    assert counts == {"no": len(layers), "yes": 80 - len(layers)}
    assert len(rows) < 60


def test_sixty_thousand_modules_print_on_a_screen_and_one_flag_deep_inside_shows(mixture: nn.Module) -> None:
    mixture[17].experts[201].up.weight.requires_grad_(False)
    report = fi.inspect(mixture)
    assert len(report) > 60_000
    assert len(str(report).splitlines()) < 200
    still = {row.pattern: row.weights for row in report.rows() if row.weights != "move" and row.weights != "–"}
    deep = {"17": "mixed", "17.experts": "mixed", "17.experts.201": "mixed", "17.experts.201.up": "still"}
    assert still == {"": "mixed"} | deep
