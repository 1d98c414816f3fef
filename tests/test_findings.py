"""Findings: a list that folds, filters and raises; in every report, and of every source."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import nn

import freezeinspect as fi
from freezeinspect.patterns import BadPattern
from freezeinspect.report.findings import FindingsError, NoSuchRule

CODE = "FI101"
MESSAGE = "BatchNorm1d is frozen, but in train mode: each forward moves its running statistics"


def leaking(blocks: int = 1) -> nn.Module:
    """Freeze weights, and let statistics go."""
    model = nn.Sequential()
    model.add_module("body", nn.Sequential(*(nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2)) for _ in range(blocks))))
    model.add_module("head", nn.Linear(2, 2))
    model.body.requires_grad_(False)
    return model


def check(source: object, **which: object) -> fi.Findings:
    return fi.check(source, select=[CODE], **which)


class TestOfAModel:
    def test_each_has_its_place_what_was_seen_and_the_line_that_mends_it(self) -> None:
        (one,) = check(leaking())
        assert (one.code, one.name, one.severity) == (CODE, "frozen-norm-updates-stats", "error")
        assert (one.path, one.message, one.fix) == ("body.0.1", MESSAGE, "model.body[0][1].eval()")

    def test_they_stand_in_its_report_and_its_json(self) -> None:
        report = fi.inspect(leaking())
        assert CODE in {one.code for one in report.findings}
        assert CODE in {one["code"] for one in json.loads(report.to_json())["findings"]}

    def test_each_stands_beside_its_module(self) -> None:
        report = fi.inspect(leaking())
        assert CODE in {one.code for one in report["body.0.1"].findings}
        assert CODE not in {one.code for one in report["head"].findings}

    def test_the_line_mends_it(self) -> None:
        model = leaking()
        (one,) = check(model)
        exec(one.fix or "", {"model": model})
        assert not check(model)

    def test_equal_ones_are_one_line_with_their_pattern_and_number(self) -> None:
        assert str(check(leaking(53))) == (
            "FI101 frozen-norm-updates-stats error: body.[0-52].1 ×53: BatchNorm1d is frozen,\n"
            "but in train mode: each forward moves its running statistics\n"
            "    model.body[0][1].eval()  # and 52 more"
        )

    def test_one_line_that_mends_them_all_is_not_said_to_be_one_of_many(self) -> None:
        model = leaking(3)
        found = fi.check(model, torch.optim.SGD(model.parameters(), 0.1), select=["FI204"])
        assert len(found) > 1
        assert "more" not in str(found)

    def test_none_are_said_to_be_none(self) -> None:
        assert str(check(leaking().eval())) == "no findings"


class TestOfOtherSources:
    def test_a_file_a_report_a_run_and_its_log_have_the_same(self, tmp_path: Path) -> None:
        model = leaking()
        optimizer = torch.optim.SGD(model.parameters(), 0.1)
        torch.save(model, tmp_path / "model.pt")
        with fi.watch(model, optimizer, log=tmp_path / "run.fi.jsonl") as watch:
            model(torch.randn(4, 2)).sum().backward()
            optimizer.step()
        sources = [model, tmp_path / "model.pt", fi.inspect(model), watch, watch.run, tmp_path / "run.fi.jsonl"]
        assert [[one.path for one in check(source)] for source in sources] == [["body.0.1"]] * 6

    def test_a_state_dict_knows_too_little_to_have_any(self, tmp_path: Path) -> None:
        torch.save(leaking().state_dict(), tmp_path / "model.pt")
        assert not check(tmp_path / "model.pt")


class TestWhichAreKept:
    def test_rules_are_chosen_left_out_and_allowed_by_code_or_name(self) -> None:
        model, name = leaking(3), "frozen-norm-updates-stats"
        assert len(fi.check(model, select=[name])) == 3
        assert CODE not in {one.code for one in fi.check(model, ignore=[name])}
        assert CODE not in {one.code for one in fi.check(model, allow=[CODE])}
        assert [one.path for one in check(model, allow=[f"{CODE}:body.[0-1]"])] == ["body.2.1"]

    def test_another_rule_or_pattern_is_refused(self) -> None:
        with pytest.raises(NoSuchRule, match="no rule 'FI999'; there are: FI101 frozen-norm-updates-stats"):
            fi.check(leaking(), ignore=["FI999"])
        with pytest.raises(NoSuchRule, match="did you mean 'frozen-norm-updates-stats'"):
            fi.check(leaking(), ignore=["frozen-norm-update-stat"])
        with pytest.raises(BadPattern):
            check(leaking(), allow=[f"{CODE}:["])

    def test_by_severity(self) -> None:
        found = check(leaking())
        assert [len(found.at_least(word)) for word in ("error", "warning", "info")] == [1, 1, 1]
        with pytest.raises(ValueError, match="severity 'fatal': expected one of error, warning, info"):
            found.at_least("fatal")


def test_raising_names_them_all() -> None:
    with pytest.raises(FindingsError, match=r"1 finding:\nFI101 frozen-norm-updates-stats error: body\.0\.1"):
        check(leaking()).raise_for("error")
    check(leaking().eval()).raise_for("info")


def test_they_are_a_list_a_frame_and_json() -> None:
    found = check(leaking(2))
    assert (len(found), found[0], list(found)) == (2, found.found[0], list(found.found))
    assert found.to_frame()["path"].tolist() == ["body.0.1", "body.1.1"]
    assert [one["path"] for one in json.loads(found.to_json())] == ["body.0.1", "body.1.1"]
