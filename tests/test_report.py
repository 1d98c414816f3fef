"""The Report: what it says when asked, what it draws, and that it leaves what it looks at alone."""

from __future__ import annotations

import copy
import re
import sys
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim import SGD, Adam

import freezeinspect as fi
from freezeinspect.patterns import BadPattern, MatchesNothing
from freezeinspect.readers.live import NotAnOptimizer
from freezeinspect.report import NoSuchModule, Report
from freezeinspect.serial import NotARecord
from freezeinspect.state import ABSENT, MIXED, NO, YES, Answer
from freezeinspect.walk import NotAModule
from witness import unchanged
from zoo import ZOO, Residual

VIEWS: dict[str, Callable[[Report], Any]] = {
    "str": str,
    "repr": repr,
    "tree": lambda report: report.tree(depth=2, fold=False, width=60),
    "html": lambda report: report._repr_html_(),
    "markdown": lambda report: report.to_markdown(),
    "frame": lambda report: report.to_frame(),
    "json": lambda report: report.to_json(),
    "summary": lambda report: report.summary,
    "sentence": lambda report: report.sentence,
    "modules": lambda report: [repr(module) for module in report],
    "find": lambda report: report.find("**"),
}


@pytest.fixture
def model() -> Residual:
    model = Residual()
    fi.freeze(model)
    fi.bn_freeze(model, True)
    fi.set_train_mode(model)
    return model


@pytest.fixture
def report(model: Residual) -> Report:
    return fi.inspect(model)


def paths(modules: Any) -> list[str]:
    return [module.path for module in modules]


# Modules by path


def test_a_module_is_found_by_its_path(report: Report) -> None:
    norm = report["layer2.bn"]
    assert (norm.path, norm.type) == ("layer2.bn", "torch.nn.modules.batchnorm.BatchNorm2d")
    assert (norm.training, norm.trainable, norm.bn_freeze, norm.drop_freeze) == (NO, NO, YES, ABSENT)
    assert (norm.track_running_stats, norm.momentum, norm.dropout, norm.stray) == (YES, 0.1, None, ())
    assert (norm.requires_grad, norm.weights_move, norm.stats_move, norm.normalises_with) == (NO, NO, NO, "running")
    assert [tensor.name for tensor in norm.tensors] == [
        "weight",
        "bias",
        "running_mean",
        "running_var",
        "num_batches_tracked",
    ]
    assert norm.shape is None


def test_a_module_speaks_for_its_subtree_and_of_its_own_mode(report: Report) -> None:
    root = report[""]
    assert (root.requires_grad, root.weights_move, root.stats_move) == (MIXED, MIXED, NO)
    assert (root.training, root.normalises_with, root.tensors) == (YES, "none", ())


def test_a_module_has_its_dropout_and_its_stray_attributes(model: Residual) -> None:
    model.head[2].p = 0.25
    model.layer1.requires_grad = False
    model.layer1.conv.weight.require_grad = False
    report = fi.inspect(model)
    assert report["head.2"].dropout == 0.25
    assert report["layer1"].stray == ("requires_grad",)
    assert report["layer1.conv"].stray == ("weight.require_grad",)


def test_a_module_prints_its_flags_and_verdicts(report: Report) -> None:
    assert repr(report["stem.1"]) == (
        "ModuleState('stem.1', training=no, trainable=no, bn_freeze=yes, requires_grad=no, weights_move=no, "
        "stats_move=no, normalises_with=running)"
    )


def test_a_shared_module_is_found_by_each_of_its_paths() -> None:
    report = fi.inspect(ZOO["shared"]().model)
    assert report["right.1"] == report["left.1"]
    assert report["right.1"].path == "left.1"
    assert report["left.1"].aliases == ("right.1",)
    assert report["twice.2"].path == "twice.0"


@pytest.mark.parametrize(
    ("path", "hint"),
    [
        ("layer2.bm", "; did you mean 'layer2.bn' or 'layer2' or 'layer3.bn'?"),
        ("hed", "; did you mean 'head' or 'head.3' or 'head.2'?"),
        ("layer2.*", None),
        ("zzz", "; report.find() takes patterns"),
    ],
)
def test_a_path_that_is_not_there_names_the_nearest(report: Report, path: str, hint: str | None) -> None:
    with pytest.raises(NoSuchModule) as error:
        report[path]
    assert str(error.value).startswith(f"no module at {path!r}; ")
    assert hint is None or str(error.value) == f"no module at {path!r}{hint}"
    assert isinstance(error.value, KeyError)


def test_a_report_iterates_over_the_modules_as_named_modules_does(model: Residual, report: Report) -> None:
    assert paths(report) == [path for path, _ in model.named_modules()]
    assert len(report) == len(list(model.modules()))
    assert [report[path] for path in paths(report)] == list(report)


# Modules by pattern


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("head", "head head.0 head.1 head.2 head.3"),
        ("layer[1-2]", "layer1 layer1.conv layer1.bn layer2 layer2.conv layer2.bn"),
        ("**.bn", "layer1.bn layer2.bn layer3.bn"),
        ("**.running_mean", "stem.1 layer1.bn layer2.bn layer3.bn"),
        ("head.3.bias", "head.3"),
        ("{stem.0,head.3}", "stem.0 head.3"),
    ],
)
def test_find_gives_subtrees_and_the_owners_of_tensors(report: Report, pattern: str, found: str) -> None:
    assert paths(report.find(pattern)) == found.split()


def test_find_knows_a_shared_module_by_each_of_its_paths() -> None:
    report = fi.inspect(ZOO["shared"]().model)
    assert paths(report.find("right")) == ["left.1", "right", "right.0"]
    assert paths(report.find("right.1")) == ["left.1"]


@pytest.mark.parametrize("tensor", ["right.1.weight", "right.1.running_mean", "twice.2.bias"])
def test_find_knows_a_tensor_of_a_shared_module_by_each_of_its_names(tensor: str) -> None:
    model = ZOO["shared"]().model
    assert tensor in model.state_dict()
    assert len(fi.inspect(model).find(tensor)) == 1


def test_find_says_what_is_near_to_a_pattern_that_matches_nothing(report: Report) -> None:
    with pytest.raises(MatchesNothing) as error:
        report.find("layer2.bm")
    assert str(error.value) == (
        "pattern 'layer2.bm' matches nothing; did you mean 'layer2.bn' or 'layer2' or 'layer3.bn'?"
    )


def test_find_says_what_is_wrong_with_a_pattern(report: Report) -> None:
    with pytest.raises(BadPattern, match=r"^pattern 'layer\[': a '\[' is not closed"):
        report.find("layer[")


def test_frozen_and_trainable_are_the_modules_that_are_so_altogether(report: Report) -> None:
    assert paths(report.trainable) == ["head", "head.3"]
    assert paths(report.frozen) == [
        *["stem", "stem.0", "stem.1"],
        *[f"layer{i}{part}" for i in (1, 2, 3) for part in ("", ".conv", ".bn")],
    ]


# Totals


def test_the_summary_counts(model: Residual, report: Report) -> None:
    summary = report.summary
    assert summary.modules == 19
    assert summary.parameters == sum(p.numel() for p in model.parameters()) == 586
    assert (summary.trainable_parameters, summary.frozen_parameters) == (10, 576)
    assert (summary.train_mode_modules, summary.eval_mode_modules) == (15, 4)
    assert (summary.stats_layers, summary.stats_layers_moving) == (4, 0)


@pytest.mark.parametrize("name", sorted(ZOO.keys() - {"lazy"}))
def test_the_summary_counts_as_torch_does(name: str) -> None:
    model = ZOO[name]().model
    summary = fi.inspect(model).summary
    parameters = list(model.parameters())
    assert summary.parameters == sum(p.numel() for p in parameters)
    assert summary.trainable_parameters == sum(p.numel() for p in parameters if p.requires_grad)
    assert summary.train_mode_modules == sum(m.training for m in model.modules())


def test_nothing_looks_for_findings_yet(report: Report) -> None:
    assert report.findings == ()


def test_nothing_is_worked_out_before_it_is_asked_for(model: Residual) -> None:
    report = fi.inspect(model, SGD(model.parameters(), lr=0.1))
    assert set(vars(report)) == {"snapshot", "observed", "source", "shapes"}
    assert set(vars(report.snapshot.structure)) == {"paths", "types", "columns", "shared"}
    assert report.sentence
    assert "sentence" in vars(report)


# Views


def test_a_tree_takes_a_depth_and_may_be_unfolded(report: Report) -> None:
    def names(**options: Any) -> list[str]:
        return [line.split()[0] for line in report.tree(**options).split("\n\n")[0].splitlines()[3:]]

    assert names(depth=0) == ["Residual"]
    assert names(depth=1) == ["Residual", "stem", "layer[1-3]", "head"]
    assert names(depth=1, fold=False) == ["Residual", "stem", "layer1", "layer2", "layer3", "head"]
    assert len(names(fold=False)) == len(report)
    assert str(report) == report.tree() == report.tree(depth=None, fold=True, width=80)


@pytest.mark.parametrize(
    ("tty", "no_color", "coloured"),
    [(True, None, True), (True, "1", False), (True, "", True), (False, None, False)],
    ids=["terminal", "NO_COLOR", "NO_COLOR is empty, so not set (no-color.org)", "pipe"],
)
def test_only_a_terminal_gets_colour(
    report: Report, monkeypatch: pytest.MonkeyPatch, tty: bool, no_color: str | None, coloured: bool
) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    if no_color is not None:
        monkeypatch.setenv("NO_COLOR", no_color)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: tty, raising=False)
    assert ("\x1b[" in repr(report)) is coloured
    assert "\x1b" not in str(report)


# Equality and JSON


def test_reports_of_equal_states_are_equal(model: Residual) -> None:
    report = fi.inspect(model)
    assert report == fi.inspect(copy.deepcopy(model))
    assert hash(report) == hash(fi.inspect(model))
    assert report != report.snapshot


CHANGES: dict[str, Callable[[Residual], Any]] = {
    "mode": lambda m: m.layer1.bn.train(),
    "requires_grad": lambda m: m.stem[0].weight.requires_grad_(True),
    "trainable": lambda m: setattr(m, "trainable", True),
    "structure": lambda m: setattr(m, "more", nn.ReLU()),
    "shape": lambda m: setattr(m.head[3], "bias", nn.Parameter(torch.zeros(3), requires_grad=False)),
    "momentum": lambda m: setattr(m.stem[1], "momentum", 0.2),
}


@pytest.mark.parametrize("change", CHANGES)
def test_reports_of_different_states_are_not(model: Residual, change: str) -> None:
    report = fi.inspect(model)
    CHANGES[change](model)
    assert report != fi.inspect(model)


def test_reports_with_different_optimizers_are_not_equal(model: Residual) -> None:
    def stepped(lr: float) -> Report:
        return fi.inspect(model, SGD(model.parameters(), lr=lr))

    assert stepped(0.1) == stepped(0.1)
    assert stepped(0.1) != stepped(0.2)
    assert stepped(0.1) != fi.inspect(model)


@pytest.mark.parametrize("name", ZOO)
@pytest.mark.parametrize("stepped", [False, True], ids=["alone", "with an optimizer"])
def test_a_report_comes_back_from_its_json(name: str, stepped: bool) -> None:
    model = ZOO[name]().model
    parameters = list(model.parameters())[1:]
    report = fi.inspect(model, Adam(parameters) if stepped and parameters else None)
    again = Report.from_json(report.to_json())
    assert again == report
    assert (again.observed, again.source) == (report.observed, report.source)
    assert again.to_json() == report.to_json()
    assert str(again) == str(report)


def test_what_is_no_record_is_refused() -> None:
    with pytest.raises(NotARecord, match=r"^not JSON: .*; expected the text that report\.to_json"):
        Report.from_json("{")


# What it looks at stays as it was


@pytest.mark.parametrize("name", ZOO)
def test_inspecting_and_every_view_leave_the_model_as_it_was(name: str) -> None:
    with warnings.catch_warnings(action="ignore"):
        specimen = ZOO[name]()
    model, parameters = specimen.model, list(specimen.model.parameters())
    optimizer = Adam(parameters) if parameters else None
    with unchanged(model, optimizer):
        report = fi.inspect(model, optimizer)
        for view in VIEWS.values():
            view(report)


def test_inspecting_in_the_middle_of_a_run_leaves_gradients_and_states_as_they_were() -> None:
    specimen = ZOO["residual"]()
    optimizer = Adam(list(specimen.model.parameters())[:-1])
    specimen.loss().backward()
    optimizer.step()
    with unchanged(specimen.model, optimizer):
        report = fi.inspect(specimen.model, optimizer)
    assert set(report.snapshot.has_grad) == {YES, ABSENT}
    assert report.snapshot.has_state.count(Answer.NO) == 1


@pytest.mark.parametrize("name", ZOO)
def test_an_optimizer_that_is_none_is_refused_and_the_model_left_as_it_was(name: str) -> None:
    model = ZOO[name]().model
    said = (
        "expected a torch.optim.Optimizer, or a list of them, but got float ('0.1'); "
        "pass the optimizer that steps this model"
    )
    with unchanged(model), pytest.raises(NotAnOptimizer) as error:
        fi.inspect(model, 0.1)
    assert str(error.value) == said


@pytest.mark.parametrize(
    ("odd", "seen"),
    [(nn.Linear, "type"), (b"model.zip", "bytes"), ({"weight": 1}, "dict"), ([nn.ReLU()], "list")],
    ids=["class", "bytes", "dict", "list"],
)
def test_what_is_no_module_is_refused(odd: Any, seen: str) -> None:
    with unchanged(odd), pytest.raises(NotAModule) as error:
        fi.inspect(odd)
    said = f"expected a torch.nn.Module.* but got {re.escape(seen)}.*; pass the model itself"
    assert re.match(said, str(error.value))
