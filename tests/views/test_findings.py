"""Findings beside a report: its graver ones as text, and a code in the row of their module."""

from __future__ import annotations

import pytest
from torch import nn

import freezeinspect as fi
from freezeinspect.state import Finding
from freezeinspect.views.findings import TOLD, beside, codes
from freezeinspect.views.rows import rows


def backbone(layers: int = 3) -> fi.Report:
    norms = nn.Sequential(*(nn.BatchNorm1d(4) for _ in range(layers)))
    model = nn.ModuleDict({"body": norms.requires_grad_(False), "head": nn.Linear(4, 2)})
    return fi.inspect(model.train())


def finding(code: str, severity: str, path: str, message: str = "so") -> Finding:
    return Finding(code, "name", severity, path, message)


def test_a_report_s_text_tells_its_findings_between_the_sentence_and_what_is_known_of_the_file() -> None:
    drawn = str(backbone())
    assert "FI101 frozen-norm-updates-stats error: body.[0-2] ×3: BatchNorm1d is frozen" in drawn
    assert drawn.index("update their running") < drawn.index("FI101 frozen") < drawn.index("model.body[0].eval()")


@pytest.mark.parametrize("form", ["tree", "table", "to_markdown", "_repr_html_"])
def test_each_form_has_the_code_beside_the_module(form: str) -> None:
    shown = getattr(backbone(), form)().partition("<script>")[0]
    lines = [line for line in shown.splitlines() if "[0-2]" in line and "batch" in line]
    assert ["FI101" in line for line in lines] == [True]


def test_a_model_with_nothing_wrong_has_no_column_and_no_word_of_it() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    drawn = str(fi.inspect(model.train()))
    assert "rule" not in drawn
    assert drawn.endswith("statistics.")


def test_what_is_only_information_is_left_to_check() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    model[1].bias.requires_grad_(False)
    report = fi.inspect(model.train())
    assert [one.severity for one in report.findings] == ["info"]
    assert "FI107" not in str(report)


def test_beside_graver_ones_information_is_counted() -> None:
    structure = backbone().snapshot.structure
    told = beside(structure, [finding("FI107", "info", "head"), finding("FI101", "error", "body.0")])
    assert told == "FI101 name error: body.0: so\nand 1 for information; a check names them all"


def test_the_graver_come_first_and_too_many_are_counted() -> None:
    structure = backbone(TOLD + 3).snapshot.structure
    many = [finding("FI103", "warning", f"body.{n}", f"said {n}") for n in range(TOLD + 2)]
    lines = beside(structure, [*many, finding("FI101", "error", "head")]).splitlines()
    assert lines[0] == "FI101 name error: head: so"
    assert lines[-1] == "and 3 more; a check names them all"


def test_a_module_with_several_has_the_code_of_the_worst_and_a_plus() -> None:
    structure = backbone().snapshot.structure
    some = [
        finding("FI103", "warning", "body.0"),
        finding("FI101", "error", "body.0"),
        finding("FI101", "error", "body.1"),
        finding("FI101", "error", "body.1", "again"),
        finding("FI107", "info", "head"),
    ]
    assert codes(structure, some) == {structure.index["body.0"]: "FI101+", structure.index["body.1"]: "FI101"}


def test_siblings_of_which_one_has_a_finding_are_not_folded_together() -> None:
    report = fi.inspect(nn.Sequential(*(nn.Linear(2, 2) for _ in range(3))))
    drawn = rows(report.snapshot, report.verdicts, report.observed, codes={2: "FI103"})
    assert [(row.pattern, row.finding) for row in drawn] == [("", ""), ("{0,2}", ""), ("1", "FI103")]
