"""A policy: TOML, both ways; and the one that says exactly a state: it holds, and one flip breaks it."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.optim import SGD

import freezeinspect as fi
from freezeinspect.policy import BadPolicy, load, of_table
from freezeinspect.state import ABSENT, MIXED, NO, UNKNOWN, YES
from test_folding import TREES
from zoo import ZOO

RULES = ["FI601", "FI602"]
HOSTILE = [
    '"',
    "\\",
    "'''",
    "a b",
    "*",
    "**",
    "{",
    "}",
    "[0-1]",
    "a,b",
    "]",
    "é",
    "\t",
    "\u202e",
    "\x7f",
    "=",
    "𝔘",
    "if",
]


def findings(model: nn.Module, policy: Any, optimizer: Any = None) -> fi.Findings:
    return fi.check(model, optimizer, policy=policy, select=RULES)


def written(text: str, folder: Path, name: str = "freeze.toml") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


# Models in any state


def grown(tree: Any) -> nn.Module:
    if isinstance(tree, str):
        return {"L": lambda: nn.Linear(2, 2), "B": lambda: nn.BatchNorm1d(2), "D": nn.Dropout}[tree]()
    model = nn.Module()
    for name, below in tree.items():
        model.add_module(name, grown(below))
    return model


def shuffle(draw: st.DrawFn, model: nn.Module) -> nn.Module:
    """Set every flag of a few modules at random; the rest agree, so that something folds."""
    attributes = st.sampled_from([None, True, False])
    modules = list(model.modules())
    frozen = draw(st.booleans())
    for parameter in model.parameters():
        parameter.requires_grad = frozen
    for module in draw(st.lists(st.sampled_from(modules), max_size=6)):
        module.training = draw(st.booleans())
        for name in ("trainable", "bn_freeze"):
            if (value := draw(attributes)) is not None:
                setattr(module, name, value)
        for parameter in module.parameters(recurse=draw(st.booleans())):
            if parameter.is_floating_point():
                parameter.requires_grad = draw(st.booleans())
    return model


@st.composite
def models(draw: st.DrawFn) -> nn.Module:
    tree = draw(TREES)
    if not isinstance(tree, str) and draw(st.booleans()):
        tree = {draw(st.sampled_from(HOSTILE)): below for below in tree.values()} | tree
    return shuffle(draw, grown(tree))


CHEAP = ["plain_cnn", "lstm", "tied", "shared", "nested", "norms", "lora", "instance_norm", "root_parameter"]


@st.composite
def specimens(draw: st.DrawFn) -> nn.Module:
    return shuffle(draw, ZOO[draw(st.sampled_from(CHEAP))]().model)


@st.composite
def stepped(draw: st.DrawFn, of: st.SearchStrategy[nn.Module] = models()) -> tuple[nn.Module, Any]:  # noqa: B008
    """Give a model with no optimizer, or one over some of its parameters, some at lr 0."""
    model = draw(of)
    held = [one for one in model.parameters() if draw(st.integers(0, 3))]
    if not held or draw(st.booleans()):
        return model, None
    cut = draw(st.integers(0, len(held)))
    groups = [{"params": some, "lr": lr} for some, lr in ((held[:cut], 0.0), (held[cut:], 0.1)) if some]
    return model, SGD(groups, 0.1)


ANY = stepped() | stepped(specimens())


def flips(model: nn.Module) -> list[Callable[[], None]]:
    """Give every way to flip one flag."""
    found: list[Callable[[], None]] = []
    for module in model.modules():
        found.append(lambda m=module: setattr(m, "training", not m.training))
        for name in ("trainable", "bn_freeze"):
            now = vars(module).get(name)
            found += [lambda m=module, n=name, v=value: setattr(m, n, v) for value in (True, False) if value is not now]
            if now is not None and (name == "trainable" or hasattr(module, "running_mean")):
                found.append(lambda m=module, n=name: delattr(m, n))
    found += [lambda p=p: p.requires_grad_(not p.requires_grad) for p in model.parameters() if p.is_floating_point()]
    return found


@settings(max_examples=150, deadline=None)
@given(ANY)
def test_the_policy_of_a_model_holds_in_no_more_lines_than_its_folded_tree(made: tuple[nn.Module, Any]) -> None:
    policy = fi.policy_of(*made)
    assert str(findings(made[0], policy, made[1])) == "no findings"
    assert len(policy.expect) <= len(fi.inspect(*made).rows())


@settings(max_examples=250, deadline=None)
@given(ANY, st.data())
def test_any_single_flipped_flag_breaks_it(made: tuple[nn.Module, Any], data: st.DataObject) -> None:
    model, optimizer = made
    policy = fi.policy_of(model, optimizer)
    data.draw(st.sampled_from(flips(model)))()
    assert {one.code for one in findings(model, policy, optimizer)} == {"FI601"}


@settings(max_examples=100, deadline=None)
@given(stepped() | stepped(specimens()), st.data())
def test_a_parameter_that_joins_or_leaves_the_optimizer_breaks_it(
    made: tuple[nn.Module, Any], data: st.DataObject
) -> None:
    model, optimizer = made
    parameters = list(model.parameters())
    if optimizer is None or len(parameters) < 2:
        return
    policy = fi.policy_of(model, optimizer)
    held = {id(one) for group in optimizer.param_groups for one in group["params"]}
    held ^= {id(data.draw(st.sampled_from(parameters)))}
    if rest := [one for one in parameters if id(one) in held]:
        assert "FI601" in {one.code for one in findings(model, policy, SGD(rest, 0.1))}


@settings(max_examples=100, deadline=None)
@given(ANY)
def test_it_is_read_back_from_its_toml_as_it_was(made: tuple[nn.Module, Any]) -> None:
    policy = fi.policy_of(*made)
    assert of_table(tomllib.loads(policy.to_toml()), "here") == policy
    assert fi.policy_of(*made).to_toml() == policy.to_toml()


@pytest.mark.parametrize("name", sorted(ZOO))
def test_the_whole_zoo_has_policies_that_hold(name: str, tmp_path: Path) -> None:
    model = ZOO[name]().model
    policy = fi.policy_of(model)
    assert not findings(model, written(policy.to_toml(), tmp_path))
    assert len(policy.expect) <= len(fi.inspect(model).rows())


@pytest.mark.parametrize("name", HOSTILE)
def test_a_module_of_any_name_is_held_and_only_it(name: str, tmp_path: Path) -> None:
    model = nn.Module()
    for one in (name, "other"):
        model.add_module(one, nn.Linear(2, 2))
    model.get_submodule(name).requires_grad_(False)
    path = written(fi.policy_of(model).to_toml(), tmp_path)
    assert not findings(model, path)
    model.get_submodule(name).requires_grad_(True)
    (one,) = findings(model, path)
    exec(one.fix or "", {"model": model})
    assert not findings(model, path)


class TestOfAState:
    def test_is_fit_for_review(self) -> None:
        model = nn.Sequential()
        blocks = [nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)) for _ in range(12)]
        model.add_module("body", nn.Sequential(*blocks).requires_grad_(False).eval())
        model.add_module("head", nn.Linear(3, 2))
        model.body[3][1].train()
        model.head.bias.requires_grad_(False)
        assert str(fi.policy_of(model)) == (
            "# The last line that matches wins, key by key: docs/reference/policy.md\n"
            "expect = [\n"
            '    {pattern = "", training = true, trainable = "absent", bn_freeze = "absent"},\n'
            '    {pattern = "body", requires_grad = false, training = false},\n'
            '    {pattern = "body.{[0-2],[4-11]}.1", stats_move = false, normalises_with = "running"},\n'
            '    {pattern = "body.3.1", training = true, stats_move = true, normalises_with = "batch"},\n'
            '    {pattern = "head", requires_grad = {weight = true, bias = false}},\n'
            "]"
        )

    def test_of_a_state_dict_says_nothing_for_it_tells_no_flag(self, tmp_path: Path) -> None:
        torch.save(nn.Linear(2, 2).state_dict(), tmp_path / "state.pt")
        assert fi.policy_of(tmp_path / "state.pt").expect == ()

    def test_of_a_file_is_that_of_the_model_in_it(self, tmp_path: Path) -> None:
        model = ZOO["residual"]().model
        model.layer1.requires_grad_(False).eval()
        torch.save(model, tmp_path / "model.pt")
        assert fi.policy_of(tmp_path / "model.pt") == fi.policy_of(model)

    def test_what_a_source_cannot_tell_below_what_it_can_is_unknown(self) -> None:
        from dataclasses import replace

        report = fi.inspect(nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2)))
        snapshot = replace(report.snapshot, training=(YES, UNKNOWN, YES))
        policy = fi.policy_of(fi.Report(snapshot))
        assert [(one.pattern, one.answers) for one in policy.expect[1:]] == [("0", {"training": UNKNOWN})]
        assert not fi.check(fi.Report(snapshot), policy=policy, select=RULES)


class TestReading:
    def test_takes_the_five_words_and_true_and_false(self, tmp_path: Path) -> None:
        lines = ["true", "false", "'yes'", "'no'", "'mixed'", "'absent'", "'unknown'"]
        text = "expect = [" + ",".join(f"{{pattern = 'a', trainable = {one}}}" for one in lines) + "]"
        policy = load(written(text, tmp_path))
        assert [one.answers["trainable"] for one in policy.expect] == [YES, NO, YES, NO, MIXED, ABSENT, UNKNOWN]

    def test_takes_tables_that_are_written_out(self, tmp_path: Path) -> None:
        text = "complete = true\nallow = ['FI102']\n[[expect]]\npattern = 'a'\ntraining = true\n"
        text += "[expect.requires_grad]\nweight = true\n"
        policy = load(written(text, tmp_path))
        assert policy.expect == (fi.policy_of(nn.Linear(1, 1)).expect[0]._replace(
            pattern="a", answers={"training": YES, "requires_grad": {"weight": YES}}
        ),)  # fmt: skip
        assert (policy.allow, policy.complete) == (("FI102",), True)

    def test_of_pyproject_takes_its_table(self, tmp_path: Path) -> None:
        text = "[tool.freezeinspect.policy]\nexpect = [{pattern = 'a', training = true}]\n"
        assert len(load(written(text, tmp_path, "pyproject.toml")).expect) == 1

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ("expect = [", "not TOML: Invalid value (at end of document)"),
            ("\nx = = 1", "not TOML: Invalid value (at line 2, column 5)"),
            ("expects = []", "expects: no such key; did you mean expect?; expected expect, allow, complete"),
            ("expect = {a = 1}", "expect = {'a': 1}: expected a list of lines such as {pattern = "),
            ("expect = [1]", "expect[0] = 1: expected a table such as {pattern = "),
            ("expect = [{training = true}]", 'expect[0]: no pattern: expected a text, as "backbone", or "" for'),
            ("expect = [{pattern = 1}]", 'expect[0].pattern = 1: expected a text, as "backbone", or "" for'),
            ("expect = [{pattern = 'a'}]", "expect[0]: pattern 'a' expects nothing; add one of requires_grad, "),
            ("expect = [{pattern = 'a[', training = true}]", "expect[0].pattern: pattern 'a[': a '[' is not closed"),
            ("expect = [{pattern = '', trainin = true}]", "expect[0].trainin: no such key; did you mean training?"),
            ("expect = [{pattern = '', training = 1}]", "expect[0].training = 1: expected true, false or one of 'yes'"),
            ("expect = [{pattern = '', training = {a = true}}]", "expect[0].training = {'a': True}: expected true, "),
            ("expect = [{pattern = '', requires_grad = {}}]", "or a table by parameters, as {weight = false, bias = "),
            ("expect = [{pattern = '', requires_grad = {a = 1}}]", "expect[0].requires_grad.a = 1: expected true, "),
            ("expect = [{pattern = '', normalises_with = true}]", "expected one of batch, none, running, sample, "),
            ("allow = 'FI101'", "allow = 'FI101': expected a list of rules, as"),
            ("allow = ['FI101', 1]", "allow[1] = 1: expected a rule, as 'FI102' or 'FI106:backbone'"),
            ("allow = ['FI601x']", "allow[0] = 'FI601x': expected a rule, as 'FI102' or 'FI106:backbone'; did"),
            ("allow = ['FI101:[']", "allow[0]: pattern '[': a '[' is not closed"),
            ("complete = 'yes'", "complete = 'yes': expected true or false"),
            ('"a\\u0000\\n" = 1', '"a\\u0000\\u000a": no such key; expected'),
        ],
    )  # fmt: skip
    def test_refuses_what_is_none_and_says_where(self, text: str, said: str, tmp_path: Path) -> None:
        path = written(text, tmp_path)
        with pytest.raises(BadPolicy, match=re.escape(f"{path}: ") + ".*" + re.escape(said)):
            load(path)

    def test_refuses_a_pyproject_without_one(self, tmp_path: Path) -> None:
        with pytest.raises(BadPolicy, match=r"no table tool\.freezeinspect"):
            load(written("[tool.x]\n", tmp_path, "pyproject.toml"))
        with pytest.raises(BadPolicy, match=r"tool\.freezeinspect\.policy\.expect\[0\]\.x: no such key"):
            load(written("[tool.freezeinspect.policy]\nexpect = [{pattern = '', x = 1}]", tmp_path, "pyproject.toml"))
        with pytest.raises(BadPolicy, match=r"tool\.freezeinspect\.policy = 1: expected a table"):
            load(written("[tool.freezeinspect]\npolicy = 1", tmp_path, "pyproject.toml"))

    def test_refuses_a_file_that_cannot_be_read(self, tmp_path: Path) -> None:
        with pytest.raises(BadPolicy, match="no such file or directory; name a policy that can be read"):
            load(tmp_path / "none.toml")
        (tmp_path / "bytes.toml").write_bytes(b"\xff")
        with pytest.raises(BadPolicy, match="not TOML: 'utf-8' codec"):
            load(tmp_path / "bytes.toml")
        with pytest.raises(BadPolicy, match="it is nested too deep"):
            load(written(f"allow = {'[' * 10_000}{']' * 10_000}", tmp_path))


def test_it_prints_as_its_toml() -> None:
    policy = fi.Policy(allow=("FI102", 'FI106:"'), complete=True)
    assert str(policy).splitlines()[1:] == ["complete = true", 'allow = ["FI102", "FI106:\\""]', "expect = []"]


PAGE = (Path(__file__).parents[1] / "docs/reference/policy.md").read_text(encoding="utf-8")


class TestThePage:
    def test_has_every_key(self) -> None:
        from freezeinspect.expected import KEYS

        assert [key for key in KEYS if f"`{key}`" not in PAGE] == []

    def test_s_policy_is_one_and_means_what_it_says(self, tmp_path: Path) -> None:
        (text,) = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)
        policy = load(written(text, tmp_path))
        body = nn.ModuleDict({"adapters": nn.Linear(2, 2), "conv": nn.Linear(2, 2)})
        model = nn.ModuleDict({"backbone": body, "head": nn.Linear(2, 2)})
        model.backbone.conv.requires_grad_(False)
        model.backbone.eval()
        assert not findings(model, policy, SGD(model.parameters(), 0.1))
        model.backbone.adapters.train()
        assert [one.path for one in findings(model, policy, SGD(model.parameters(), 0.1))] == ["backbone.adapters"]
