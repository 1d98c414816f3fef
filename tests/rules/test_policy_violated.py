"""FI601: what a policy expects does not hold; each mend mends it."""

from __future__ import annotations

import tomllib
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim import SGD, AdamW

import freezeinspect as fi
from freezeinspect.policy import of_table
from mending import mended, told


def policy(*lines: str, more: str = "") -> fi.Policy:
    text = f"{more}\nexpect = [{', '.join('{' + line + '}' for line in lines)}]"
    return of_table(tomllib.loads(text), "here")


def network(blocks: int = 2) -> Any:
    block = [nn.Sequential(OrderedDict(conv=nn.Conv2d(3, 3, 1), bn=nn.BatchNorm2d(3))) for _ in range(blocks)]
    return nn.Sequential(OrderedDict(body=nn.Sequential(*block), head=nn.Linear(2, 2)))


def findings(source: Any, *lines: str, optimizer: Any = None, more: str = "") -> fi.Findings:
    return fi.check(source, optimizer, policy=policy(*lines, more=more), select=["policy-violated"])


class TestWhatIsTold:
    def test_is_the_path_what_is_what_was_expected_and_the_mend(self) -> None:
        (one,) = found = findings(network(), 'pattern = "body", requires_grad = false')
        assert told(found) == [("body", "error")]
        assert one.message == "requires_grad is yes, but the policy's line 'body' expects no"
        assert one.fix == "model.body.requires_grad_(False)"

    def test_equal_ones_are_one_line(self) -> None:
        lines = 'pattern = "body.*.bn", training = false, stats_move = false, normalises_with = "running"'
        assert str(findings(network(53), lines)) == (
            "FI601 policy-violated error: body.[0-52].bn ×53: training is yes, stats_move is\n"
            "yes, normalises_with is batch, but the policy's line 'body.*.bn' expects no, no,\n"
            "running: a model.train() undoes every eval() before it\n"
            "    model.body[0].bn.eval()  # and 52 more"
        )

    def test_of_a_part_that_is_wrong_as_a_whole_is_its_topmost_module(self) -> None:
        model = network()
        assert told(findings(model, 'pattern = "", requires_grad = false')) == [("", "error")]
        model.head.requires_grad_(False)
        found = findings(model, 'pattern = "", requires_grad = false', 'pattern = "body.1", requires_grad = true')
        assert [one.path for one in found] == ["body.0"]

    def test_of_one_parameter_is_its_name(self) -> None:
        model = network()
        model.head.weight.requires_grad_(False)
        (one,) = findings(model, 'pattern = "**.bias", requires_grad = false', 'pattern = "body", requires_grad = true')
        assert (one.path, one.tensor, one.fix) == ("head", "bias", "model.head.bias.requires_grad_(False)")


MENDED = [
    ('requires_grad = false', "", lambda m: None),
    ('training = false', "", lambda m: None),
    ('training = true', "", lambda m: m.eval()),
    ('trainable = false', "", lambda m: None),
    ('trainable = "absent"', "", lambda m: fi.set_trainable(m, True)),
    ('bn_freeze = true', "", lambda m: None),
    ('bn_freeze = "absent"', "body.0.bn", lambda m: fi.bn_freeze(m, True)),
    ('stats_move = false', "", lambda m: None),
    ('stats_move = true', "", lambda m: m.eval()),
    ('normalises_with = "running"', "body.[0-1].bn", lambda m: None),
    ('normalises_with = "batch"', "body.[0-1].bn", lambda m: m.eval()),
    ('weights_move = false', "", lambda m: None),
    ('weights_move = true', "", lambda m: m.requires_grad_(False)),
]  # fmt: skip


@pytest.mark.parametrize(("answers", "pattern", "spoil"), MENDED)
def test_each_line_that_mends_it_does(answers: str, pattern: str, spoil: Any) -> None:
    model = network()
    spoil(model)
    found = findings(model, f'pattern = "{pattern}", {answers}')
    assert found
    for one in found:
        exec(one.fix or "", {"model": model, "fi": fi})
    assert not findings(model, f'pattern = "{pattern}", {answers}')


class TestOfOptimizers:
    def test_a_part_that_was_forgotten_is_mended(self) -> None:
        model = network()
        optimizer = AdamW(model.body.parameters())
        line = 'pattern = "head", in_optimizer = true, weights_move = true'
        (one,) = findings(model, line, optimizer=optimizer)
        assert one.message == (
            "weights_move is no, in_optimizer is no, but the policy's line 'head' expects yes, yes"
            ": it may get a gradient, but never a step"
        )
        assert not mended(one, model, optimizer, policy=policy(line))

    def test_one_parameter_too(self) -> None:
        model = network()
        optimizer = AdamW([*model.body.parameters(), model.head.weight])
        line = 'pattern = "head", in_optimizer = true'
        (one,) = findings(model, line, optimizer=optimizer)
        assert (one.path, one.tensor) == ("head", "bias")
        assert one.fix == 'optimizer.add_param_group({"params": model.head.bias})'
        assert not mended(one, model, optimizer, policy=policy(line))

    def test_a_gradient_that_was_left_is_mended(self) -> None:
        model = nn.Linear(2, 2)
        optimizer = SGD(model.parameters(), 0.1)
        model(torch.ones(1, 2)).sum().backward()
        model.requires_grad_(False)
        (one,) = findings(model, 'pattern = "", weights_move = false', optimizer=optimizer)
        assert not mended(one, model, optimizer, policy=policy('pattern = "", weights_move = false'))

    def test_what_should_not_be_in_one_has_no_line_that_mends_it(self) -> None:
        model = network()
        (one,) = findings(model, 'pattern = "body", in_optimizer = false', optimizer=AdamW(model.parameters()))
        assert (one.path, one.fix) == ("body", None)

    def test_without_one_nobody_can_tell(self) -> None:
        (one,) = found = findings(network(), 'pattern = "head", in_optimizer = true')
        assert told(found) == [("head", "warning")]
        assert one.message.endswith("expects in_optimizer yes, but no optimizer was given: check it with its optimizer")


class TestTheFiveWords:
    def test_mixed_wants_some_and_some(self) -> None:
        model = network()
        (one,) = findings(model, 'pattern = "body", requires_grad = "mixed"')
        assert (one.path, one.message) == ("body", "requires_grad is yes, but the policy's line 'body' expects mixed")
        model.body[0].requires_grad_(False)
        assert not findings(model, 'pattern = "body", requires_grad = "mixed"')

    def test_absent_wants_none(self) -> None:
        assert not findings(network(), 'pattern = "head", stats_move = "absent", bn_freeze = "absent"')
        assert findings(network(), 'pattern = "body", stats_move = "absent"')

    def test_unknown_takes_back_what_was_said(self) -> None:
        lines = ['pattern = "", requires_grad = false', 'pattern = "head", requires_grad = "unknown"']
        model = network()
        model.body.requires_grad_(False)
        assert findings(model, lines[0])
        assert not findings(model, *lines)

    def test_what_has_nothing_to_say_does_not_break_a_yes_or_a_no(self) -> None:
        model = nn.Sequential(nn.ReLU(), nn.Dropout())
        for word in ("true", "false"):
            line = (
                f'pattern = "", requires_grad = {word}, stats_move = {word}, bn_freeze = {word}, weights_move = {word}'
            )
            assert not findings(model, line)

    def test_a_table_speaks_of_the_parameters_that_it_names(self) -> None:
        model = network()
        assert not findings(model, 'pattern = "head", requires_grad = {weight = true}')
        (one,) = findings(model, 'pattern = "head", requires_grad = {weight = false, bias = true}')
        assert (one.path, one.tensor) == ("head", "weight")


class TestComplete:
    def test_demands_a_line_for_each_module(self) -> None:
        model = network()
        (one,) = found = findings(model, 'pattern = "body", training = true', more="complete = true")
        assert told(found) == [("head", "error")]
        assert one.message == "no line of the policy matches it, and the policy is complete: add one that does"
        assert not findings(model, 'pattern = "{body,head}", training = true', more="complete = true")

    def test_takes_a_module_by_all_its_parameters(self) -> None:
        lines = ['pattern = "**.weight", requires_grad = true', 'pattern = "**.bias", requires_grad = true']
        assert not findings(nn.Sequential(nn.Linear(2, 2)), *lines, more="complete = true")
        assert findings(nn.Sequential(nn.Linear(2, 2)), lines[0], more="complete = true")

    def test_an_empty_policy_expects_nothing_unless_it_is_complete(self) -> None:
        assert not findings(network())
        assert told(findings(network(), more="complete = true")) == [("", "error")]


class TestSources:
    def test_a_shared_module_goes_by_its_first_path(self) -> None:
        norm = nn.BatchNorm1d(2)
        model = nn.ModuleDict({"left": nn.Sequential(norm), "right": nn.Sequential(norm)})
        assert not findings(model, 'pattern = "left", training = true', 'pattern = "right.0", training = false')
        assert findings(model, 'pattern = "right.0", training = false')

    def test_a_state_dict_that_does_not_tell_is_a_warning(self, tmp_path: Path) -> None:
        torch.save(network().state_dict(), tmp_path / "state.pt")
        line = 'pattern = "body", requires_grad = false, training = false'
        found = findings(tmp_path / "state.pt", line)
        assert {one.severity for one in found} == {"warning"}
        assert {one.message.rpartition(", ")[2] for one in found} == {"but this source does not tell"}

    def test_of_a_run_and_of_its_log_it_is_what_moved(self, tmp_path: Path) -> None:
        model = nn.Sequential(
            OrderedDict(norm=nn.BatchNorm1d(2, affine=False), idle=nn.Linear(2, 2), head=nn.Linear(2, 2))
        )
        optimizer = SGD(model.parameters(), 0.1)
        with fi.watch(model, optimizer, log=tmp_path / "run.fi.jsonl") as watch:
            for _ in range(3):
                model.head(model.norm(torch.randn(4, 2))).sum().backward()
                optimizer.step()
            model.norm.eval()
            model.head.requires_grad_(False)
        lines = [
            'pattern = "norm", stats_move = false',
            'pattern = "{idle,head}", weights_move = {weight = false, bias = true}',
        ]
        assert {(one.path, one.tensor) for one in findings(model, *lines)} == {("idle", "weight"), ("head", "bias")}
        for source in (watch, tmp_path / "run.fi.jsonl"):
            found = {(one.path, one.tensor) for one in findings(source, *lines)}
            assert found == {("norm", None), ("idle", "bias"), ("head", "weight")}


def test_statistics_that_a_policy_lets_move_are_no_error_of_other_rules() -> None:
    model = network()
    model.body.requires_grad_(False)
    assert "FI101" in {one.code for one in fi.check(model)}
    said = policy('pattern = "body", requires_grad = false, stats_move = true')
    assert {one.code for one in fi.check(model, policy=said)} & {"FI101", "FI601"} == set()


def test_a_policy_allows_findings_beside_those_that_the_call_allows() -> None:
    model = network()
    model.body.requires_grad_(False)
    said = policy(more='allow = ["FI101:body.0"]')
    assert [one.path for one in fi.check(model, policy=said, select=["FI101"])] == ["body.1.bn"]
    assert not fi.check(model, policy=said, select=["FI101"], allow=["FI101:body.1"])
