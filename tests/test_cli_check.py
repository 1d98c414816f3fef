"""freezeinspect check and explain: what is printed, and the exit codes."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner, Result

from freezeinspect.cli import main
from freezeinspect.rules import RULES, name_of
from test_findings import CODE, MESSAGE, leaking


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    torch.save(leaking(), "model.pt")
    torch.save(leaking().eval(), "still.pt")
    return tmp_path


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments)


class TestCheck:
    def test_prints_findings_and_ends_with_1(self, folder: Path) -> None:
        done = run("check", "model.pt", "--select", CODE)
        assert done.exit_code == 1
        assert done.output.startswith("FI101 frozen-norm-updates-stats error: body.0.1: BatchNorm1d is frozen, but in")

    def test_ends_with_0_where_nothing_is_so_bad(self, folder: Path) -> None:
        assert run("check", "still.pt", "--select", CODE).output == "no findings\n"
        assert run("check", "model.pt", "--allow", f"{CODE}:body", "--select", CODE).exit_code == 0

    def test_writes_json_and_github_s_annotations(self, folder: Path) -> None:
        done = run("check", "model.pt", "--format", "json", "--select", CODE)
        assert [one["path"] for one in json.loads(done.output)] == ["body.0.1"]
        done = run("check", "model.pt", "--format", "github", "--select", CODE)
        place = "::error file=model.pt,title=FI101 frozen-norm-updates-stats::body.0.1: "
        assert done.output == f"{place}{MESSAGE} Fix: model.body[0][1].eval()\n"

    @pytest.mark.parametrize(
        ("arguments", "said"),
        [
            (["none.pt"], "freezeinspect: none.pt: no such file or directory; name a file that can be read"),
            (["model.pt", "--ignore", "FI999"], "freezeinspect: no rule 'FI999'; there are: FI101 frozen-norm"),
            (["model.pt", "--allow", "FI101:["], "freezeinspect: "),
        ],
    )
    def test_ends_with_2_for_what_cannot_be_used(self, arguments: list[str], said: str, folder: Path) -> None:
        done = run("check", *arguments)
        assert done.exit_code == 2
        assert done.output.startswith(said)
        assert done.output.count("\n") == 1


class TestSettings:
    def test_of_pyproject_here_or_above_are_the_defaults(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (folder / "pyproject.toml").write_text('[tool.freezeinspect]\nselect = ["FI101"]\nallow = ["FI101:body"]\n')
        (folder / "below").mkdir()
        monkeypatch.chdir(folder / "below")
        assert run("check", "../model.pt").output == "no findings\n"
        assert run("check", "../model.pt", "--allow", "FI101:head").exit_code == 1

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            (
                "selects = []",
                r"pyproject.toml: tool.freezeinspect.selects = \[\]: expected select, ignore, allow: lists",
            ),
            ('select = "FI101"', "tool.freezeinspect.select = 'FI101': expected select"),
            ("select = [", "pyproject.toml: not TOML: Invalid value"),
            (
                'fail-on = "eror"',
                "tool.freezeinspect.fail-on = 'eror': expected one of error, warning, info",
            ),
            (r'"\u001b[31mx" = 1', r"tool\.freezeinspect\.\\x1b\[31mx = 1: expected select"),
        ],
    )
    def test_of_another_form_are_refused_with_their_place(self, text: str, said: str, folder: Path) -> None:
        (folder / "pyproject.toml").write_text(f"[tool.freezeinspect]\n{text}\n")
        done = CliRunner().invoke(main, ["check", "model.pt"], color=True)
        assert done.exit_code == 2
        assert re.search(said, done.output)


class TestExplain:
    def test_lists_every_rule(self) -> None:
        done = run("explain")
        assert all(rule.CODE in done.output and name_of(rule) in done.output for rule in RULES)

    def test_shows_a_page_by_code_or_name(self) -> None:
        assert run("explain", CODE).output == run("explain", "frozen-norm-updates-stats").output
        assert run("explain", CODE).output.startswith("# FI101 frozen-norm-updates-stats\n")

    def test_ends_with_2_for_no_rule(self) -> None:
        done = run("explain", "FI999")
        assert (done.exit_code, done.output[:37]) == (2, "freezeinspect: no rule 'FI999'; there")
