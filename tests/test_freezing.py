"""The verbs of fastai 0.7: each against an independent writing of it, and what they say when they cannot act."""

from __future__ import annotations

import copy
import inspect
import re
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import freezeinspect as fi
from freezeinspect.walk import NotAModule
from witness import unchanged
from zoo import ZOO, Residual, Token

FLAGS = ("training", "trainable", "bn_freeze", "drop_freeze")


class Fastai:
    """The verbs as fastai 0.7 had them, from the description in docs/design.md: recursive, by torch's own methods."""

    def apply_leaf(self, m: Any, f: Callable[[nn.Module], Any]) -> None:
        below = m if isinstance(m, (list, tuple)) else list(m.children())
        if isinstance(m, nn.Module):
            f(m)
        for child in below:
            self.apply_leaf(child, f)

    def set_trainable(self, m: Any, b: bool) -> None:
        def each(module: nn.Module) -> None:
            module.trainable = b
            for parameter in module.parameters():
                parameter.requires_grad = b

        self.apply_leaf(m, each)

    def freeze_to(self, m: Any, n: int) -> None:
        self._set_groups(m, lambda groups: groups[n:])

    def freeze(self, m: Any) -> None:
        self.freeze_to(m, -1)

    def unfreeze(self, m: Any) -> None:
        self.freeze_to(m, 0)

    def freeze_all_but(self, m: Any, n: int) -> None:
        self._set_groups(m, lambda groups: [groups[n]])

    def _set_groups(self, m: Any, trainable: Callable[[Any], Any]) -> None:
        groups = m if isinstance(m, (list, tuple)) else list(m.children())
        for group in groups:
            self.set_trainable(group, False)
        for group in trainable(groups):
            self.set_trainable(group, True)

    def bn_freeze(self, m: Any, flag: bool) -> None:
        self.apply_leaf(m, lambda module: hasattr(module, "running_mean") and setattr(module, "bn_freeze", flag))

    def set_train_mode(self, m: Any) -> None:
        self.apply_leaf(m, self._set_one_mode)

    def _set_one_mode(self, m: nn.Module) -> None:
        frozen_norm = getattr(m, "bn_freeze", False) or not getattr(m, "trainable", False)
        frozen_drop = "drop" in type(m).__name__.lower() and hasattr(m, "p") and getattr(m, "drop_freeze", False)
        m.eval() if (hasattr(m, "running_mean") and frozen_norm) or frozen_drop else m.train()


class Owner(nn.Sequential):
    """Own a parameter beside the children."""

    def __init__(self, *below: nn.Module) -> None:
        super().__init__(*below)
        self.scale = nn.Parameter(torch.ones(1))


class StillNorms(nn.Sequential):
    """Keep every norm below in eval, as detection backbones do by their own train()."""

    def train(self, mode: bool = True) -> StillNorms:
        super().train(mode)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm1d):
                module.training = False
        return self


class DropPath(nn.Module):
    """Drop, as its name says, but by no `p`."""


class Norm(nn.Module):
    """Have statistics and a child, in a class that torch does not know."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("running_mean", torch.zeros(1))
        self.inner = nn.Dropout()


LEAVES: dict[str, Callable[[], nn.Module]] = {
    "linear": lambda: nn.Linear(1, 1),
    "norm": lambda: nn.BatchNorm1d(1),
    "norm without statistics": lambda: nn.BatchNorm1d(1, track_running_stats=False),
    "norm of the user's": Norm,
    "dropout": nn.Dropout,
    "drop path": DropPath,
    "relu": nn.ReLU,
    "lazy": lambda: nn.LazyLinear(1),
}
PARENTS = {"sequential": nn.Sequential, "owner": Owner, "still norms": StillNorms}


def nodes(below: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.tuples(st.sampled_from(sorted(PARENTS)), st.lists(below, min_size=1, max_size=4))


SHARED = st.sampled_from([0, 1])  # a number stands for one of two modules that any parent may hold
TREES = nodes(st.recursive(st.sampled_from(sorted(LEAVES)) | SHARED, nodes, max_leaves=8))
GROUPINGS: dict[str, Callable[[nn.Module], Any]] = {
    "the model": lambda m: m,
    "a list": lambda m: list(m.children()),
    "a tuple": lambda m: tuple(m.children()),
    "nested lists": lambda m: [list(m.children())[:1], (m, [list(m.children())[1:]]), []],
}
STEPS = st.one_of(
    st.tuples(st.sampled_from(["freeze", "unfreeze", "set_train_mode"])),
    st.tuples(st.sampled_from(["set_trainable", "bn_freeze"]), st.booleans()),
    st.tuples(st.sampled_from(["freeze_to", "freeze_all_but"]), st.integers(-5, 5)),
    st.tuples(st.sampled_from(["train()", "drop_freeze"]), st.booleans()),
)


def built(tree: Any) -> nn.Module:
    return grown(tree, [nn.BatchNorm1d(1), nn.Sequential(nn.Linear(1, 1), nn.Dropout())])


def grown(tree: Any, shared: list[nn.Module]) -> nn.Module:
    if isinstance(tree, int):
        return shared[tree]
    if isinstance(tree, str):
        return LEAVES[tree]()
    kind, below = tree
    return PARENTS[kind](*(grown(one, shared) for one in below))


def take(verbs: Any, model: nn.Module, grouping: str, verb: str, *args: Any) -> None:
    """Take one step; a group that is not there is an IndexError on either side."""
    if verb == "train()":
        model.train(*args)
    elif verb == "drop_freeze":
        for module in model.modules():
            if "drop" in type(module).__name__.lower():
                module.drop_freeze = args[0]
    else:
        getattr(verbs, verb)(GROUPINGS[grouping](model), *args)


def state(model: nn.Module) -> dict[str, Any]:
    modules = {path: [getattr(m, flag, "missing") for flag in FLAGS] for path, m in model.named_modules()}
    return modules | {f"{name} requires_grad": p.requires_grad for name, p in model.named_parameters()}


@settings(max_examples=150, deadline=None)
@given(TREES, st.sampled_from(sorted(GROUPINGS)), st.lists(STEPS, min_size=1, max_size=6))
def test_any_sequence_of_verbs_leaves_what_fastai_left(tree: Any, grouping: str, steps: list[Any]) -> None:
    with warnings.catch_warnings(action="ignore"):
        ours = built(tree)
        theirs = copy.deepcopy(ours)
        for step in steps:
            groups = GROUPINGS[grouping](ours)
            number = len(groups if isinstance(groups, (list, tuple)) else list(groups.children()))
            if step[0] == "freeze_all_but" and not -number <= step[1] < number:
                continue
            take(fi, ours, grouping, *step)
            take(Fastai(), theirs, grouping, *step)
            assert state(ours) == state(theirs)
        fi.set_train_mode(ours)
        Fastai().set_train_mode(theirs)
        assert state(ours) == state(theirs)


def trains(model: nn.Sequential) -> list[int]:
    return [i for i, group in enumerate(model) if all(p.requires_grad for p in group.parameters())]


@pytest.mark.parametrize(("n", "expected"), [(0, [0, 1, 2]), (-2, [1, 2]), (99, []), (-99, [0, 1, 2])])
def test_freeze_to_takes_groups_as_a_slice_does(n: int, expected: list[int]) -> None:
    model = nn.Sequential(*(nn.Linear(1, 1) for _ in range(3)))
    fi.freeze_to(model, n)
    assert trains(model) == expected


@pytest.mark.parametrize(("n", "expected"), [(-3, [0]), (-1, [2]), (0, [0]), (2, [2])])
def test_freeze_all_but_counts_groups_from_either_end(n: int, expected: list[int]) -> None:
    model = nn.Sequential(*(nn.Linear(1, 1) for _ in range(3)))
    fi.freeze_all_but(model, n)
    assert trains(model) == expected


ON_GROUPS: dict[str, Callable[[Any], None]] = {
    "freeze_to": lambda m: fi.freeze_to(m, 0),
    "freeze": fi.freeze,
    "unfreeze": fi.unfreeze,
    "freeze_all_but": lambda m: fi.freeze_all_but(m, 0),
}
ON_MODULES: dict[str, Callable[[Any], None]] = {
    "set_trainable": lambda m: fi.set_trainable(m, False),
    "bn_freeze": lambda m: fi.bn_freeze(m, True),
    "set_train_mode": fi.set_train_mode,
}


@pytest.mark.parametrize("verb", ON_GROUPS)
def test_the_parameters_of_the_root_are_in_no_group_and_the_warning_names_them(verb: str) -> None:
    model = Token()
    model.register_parameter("unset", None)
    model.scale = nn.Parameter(torch.ones(1))
    said = (
        "cls_token, scale: parameters of Token itself are in no child group and stay as they are; "
        "set their requires_grad yourself"
    )
    with pytest.warns(UserWarning, match=re.escape(said)) as caught:
        ON_GROUPS[verb](model)
    assert [str(one.message) for one in caught] == [said]
    assert model.cls_token.requires_grad is True


@pytest.mark.parametrize("verb", ON_GROUPS)
def test_the_warning_points_at_the_line_that_called_the_verb(verb: str) -> None:
    def here(call: Callable[..., None], *args: Any) -> int:
        call(*args)
        return inspect.currentframe().f_lineno - 1

    args = (Token(),) if verb in ("freeze", "unfreeze") else (Token(), 0)
    with warnings.catch_warnings(record=True, action="always") as caught:
        line = here(getattr(fi, verb), *args)
    assert [(one.filename, one.lineno) for one in caught] == [(__file__, line)]


@pytest.mark.parametrize("n", [99, 3, -4])
def test_a_group_that_is_not_there_is_named_and_nothing_is_touched(n: int) -> None:
    model = nn.Sequential(nn.Linear(1, 1), nn.BatchNorm1d(1), nn.ReLU())
    said = f"freeze_all_but: there is no group {n}: expected -3 to 2, for there are 3 groups; nothing was changed"
    with unchanged(model), pytest.raises(IndexError, match=f"^{re.escape(said)}$"):
        fi.freeze_all_but(model, n)


@pytest.mark.parametrize("verb", ON_GROUPS)
@pytest.mark.parametrize(
    ("groups", "kind"),
    [
        (nn.Linear(1, 1), "Linear without children"),
        (nn.Sequential(), "Sequential without children"),
        ([], "an empty list"),
        ((), "an empty list"),
    ],
    ids=["leaf", "empty model", "empty list", "empty tuple"],
)
def test_without_groups_the_error_says_the_way_out(verb: str, groups: Any, kind: str) -> None:
    said = (
        f"expected a model with children, or a list of groups of modules, but got {kind}; "
        "nothing was changed; for a single layer use set_trainable(layer, False)"
    )
    with unchanged(groups), pytest.raises(ValueError, match=f"^{re.escape(said)}$"):
        ON_GROUPS[verb](groups)


@pytest.mark.parametrize("verb", ON_GROUPS | ON_MODULES)
@pytest.mark.parametrize("put", [lambda odd: odd, lambda odd: [odd], lambda odd: [[nn.Linear(1, 1)], (odd,)]])
@pytest.mark.parametrize(
    ("odd", "seen"),
    [("head", "str ('head')"), (None, "NoneType"), (nn.Linear, "type")],
    ids=["str", "None", "class"],
)
def test_what_is_no_module_is_named_and_nothing_is_touched(
    verb: str, put: Callable[[Any], Any], odd: Any, seen: str
) -> None:
    model = Residual()
    groups = put(odd)
    with unchanged([model, groups]), pytest.raises(NotAModule) as error:
        (ON_GROUPS | ON_MODULES)[verb]([model, groups] if isinstance(groups, list) else groups)
    said = (
        f"expected a torch.nn.Module, or a list or tuple of them,? but got {re.escape(seen)}.*; pass the model itself"
    )
    assert re.match(said, str(error.value))


def test_parameters_that_have_no_shape_yet_freeze_too() -> None:
    model = ZOO["lazy"]().model
    fi.freeze(model)
    assert [p.requires_grad for p in model.parameters()] == [False, False, False, False, True, True]
    fi.unfreeze(model)
    assert all(p.requires_grad for p in model.parameters())


def test_bn_freeze_goes_by_the_attribute_even_where_it_is_none() -> None:
    norm, other = nn.BatchNorm1d(1, track_running_stats=False), nn.LayerNorm(1)
    fi.bn_freeze([norm, other], True)
    assert (norm.running_mean, norm.bn_freeze) == (None, True)
    assert not hasattr(other, "bn_freeze")


def test_bn_freeze_touches_no_parameter_and_no_mode() -> None:
    model = Residual()
    modes = [m.training for m in model.modules()]
    with unchanged([*model.parameters(), *model.buffers()]):
        fi.bn_freeze(model, True)
    assert [m.training for m in model.modules()] == modes


def test_plain_train_never_looks_at_bn_freeze() -> None:
    model = Residual()
    fi.bn_freeze(model, True)
    assert all(m.training for m in model.train().modules())


def test_a_model_five_thousand_deep_is_no_matter() -> None:
    layers: list[nn.Module] = [nn.BatchNorm1d(1)]
    for _ in range(5000):
        layers.append(nn.Sequential(layers[-1]))
    fi.set_train_mode(layers[-1])
    assert [m.training for m in layers] == [False] + [True] * 5000
    fi.unfreeze(layers[-1])
    fi.set_train_mode(layers[-1])
    assert all(m.training for m in layers)


class TellsBelow(nn.Sequential):
    """Pass a mode on to something that is no child of it, as a wrapper around an engine does."""

    def train(self, mode: bool = True) -> TellsBelow:
        self.told = mode
        return super().train(mode)


def test_a_train_method_of_the_users_own_is_called_and_the_modules_below_are_then_set_one_by_one() -> None:
    model = nn.Sequential(TellsBelow(nn.BatchNorm1d(1), nn.ReLU()))
    fi.set_train_mode(model.eval())
    assert model[0].told is True
    assert [m.training for m in model[0]] == [False, True]


def test_a_train_method_set_on_the_instance_is_told_what_the_rule_says_and_decides() -> None:
    told: list[bool] = []
    model = nn.Sequential(nn.BatchNorm1d(1).eval())
    model[0].train = told.append  # the usual way to pin a module that another package built
    for verb in (fi.set_train_mode, fi.unfreeze, fi.set_train_mode):
        verb(model)
    assert (told, model[0].training) == ([False, True], False)


def test_a_norm_that_two_parents_hold_follows_the_rule() -> None:
    model = ZOO["shared"]().model
    norm = model.left[1]
    assert norm is model.right[1]
    fi.freeze_all_but(model, 0)
    fi.set_train_mode(model)
    assert norm.trainable is norm.training is True
    fi.bn_freeze(model.right, True)
    fi.set_train_mode(model)
    assert norm.training is False


@pytest.mark.parametrize(
    ("kind", "drop_freeze", "expected"),
    [(nn.Dropout, True, False), (nn.Dropout, False, True), (DropPath, True, True), (nn.Identity, True, True)],
)
def test_a_dropout_that_has_a_p_goes_to_eval_when_its_drop_freeze_is_true(
    kind: Callable[[], nn.Module], drop_freeze: bool, expected: bool
) -> None:
    drop = kind()
    drop.drop_freeze = drop_freeze
    fi.set_train_mode(nn.Sequential(drop))
    assert drop.training is expected


class DroppingNorm(nn.BatchNorm1d):
    p = 0.5


def test_a_norm_that_drops_goes_to_eval_by_either_flag() -> None:
    norm = DroppingNorm(1)
    norm.trainable = norm.drop_freeze = True
    fi.set_train_mode(norm)
    assert norm.training is False


def test_a_norm_that_is_the_root_has_no_trainable_and_stays_in_eval() -> None:
    model = Norm()
    fi.unfreeze(model)
    fi.set_train_mode(model)
    assert not hasattr(model, "trainable")
    assert (model.training, model.inner.training) == (False, True)
