"""FI602: a line of a policy that speaks of nothing."""

from __future__ import annotations

from typing import Any

import pytest
from torch import nn

import freezeinspect as fi
from freezeinspect.expected import Expectation
from freezeinspect.state import NO, YES


def network() -> nn.Module:
    layers = {"layer1": nn.Linear(2, 2), "layer2": nn.Linear(2, 2)}
    return nn.ModuleDict({"encoder": nn.ModuleDict(layers), "head": nn.Linear(2, 2)})


def messages(pattern: str, **answers: Any) -> list[str]:
    policy = fi.Policy((Expectation(pattern, answers),))
    return [one.message for one in fi.check(network(), policy=policy, select=["pattern-matches-nothing"])]


@pytest.mark.parametrize(
    ("pattern", "said"),
    [
        ("backbone.layer1", "pattern 'backbone.layer1' matches nothing; did you mean 'encoder.layer1'"),
        ("head.wait", "pattern 'head.wait' matches nothing; did you mean 'head.weight'"),
        ("zzz", "pattern 'zzz' matches nothing; there are 'encoder', 'head'"),
        ("encoder.layer[3-4]", "pattern 'encoder.layer[3-4]' matches nothing; did you mean 'encoder.layer"),
    ],
)
def test_the_nearest_are_named_or_else_the_topmost(pattern: str, said: str) -> None:
    (message,) = messages(pattern, requires_grad=NO)
    assert message.startswith(said)


def test_a_pattern_of_parameters_alone_has_no_mode() -> None:
    said = "pattern '**.bias' matches parameters alone, and training, stats_move is of modules"
    assert messages("**.bias", training=NO, stats_move=NO, requires_grad=NO) == [said]
    assert messages("**.bias", requires_grad=NO) == []


def test_what_has_no_parameter_cannot_train_though_it_may_be_said_to_be_frozen() -> None:
    model = nn.ModuleDict({"body": nn.Linear(2, 2), "head": nn.Identity()})

    def said(**answers: Any) -> list[str]:
        policy = fi.Policy((Expectation("head", answers),))
        return [one.message for one in fi.check(model, policy=policy, select=["FI602"])]

    assert said(requires_grad=NO, stats_move=NO) == []
    expected = "pattern 'head' matches no parameter, but requires_grad, in_optimizer expects one"
    assert said(requires_grad=YES, in_optimizer=YES, weights_move=NO) == [expected]


def test_a_name_in_a_table_that_no_parameter_has_is_told() -> None:
    table = {"weight": NO, "wieght": NO}
    assert messages("encoder", requires_grad=table) == ["pattern 'encoder' matches no parameter of the name wieght"]
    assert messages("encoder", requires_grad={"weight": NO, "bias": NO}) == []


@pytest.mark.parametrize("pattern", ["", "**", "encoder", "*.layer1", "**.weight", "head.bias"])
def test_a_pattern_that_matches_is_silent(pattern: str) -> None:
    assert messages(pattern, requires_grad=NO) == []


def test_the_line_that_mends_it_names_the_nearest_or_the_one_part_that_no_line_matches() -> None:
    def mends(*patterns: str) -> list[str | None]:
        policy = fi.Policy(tuple(Expectation(pattern, {"requires_grad": NO}) for pattern in patterns))
        return [one.fix for one in fi.check(network(), policy=policy, select=["FI602"])]

    assert mends("backbone.layer1") == ['pattern = "encoder.layer1"  # in the policy']
    assert mends("zzz", "head") == ['pattern = "encoder"  # in the policy']
    assert mends("zzz") == [None]
