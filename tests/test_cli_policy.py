"""freezeinspect policy, and check --policy: what is written, what is held, and the exit codes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from click.testing import CliRunner, Result
from torch import nn

import freezeinspect as fi
from freezeinspect.cli import main
from freezeinspect.policy import load
from test_findings import leaking

ONLY = ["--select", "FI601", "--select", "FI602"]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    torch.save(leaking(), "model.pt")
    torch.save(leaking().eval(), "still.pt")
    torch.save(nn.Linear(2, 2).state_dict(), "state.pt")
    return tmp_path


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments)


class TestPolicy:
    def test_prints_or_writes_the_policy_that_says_exactly_this_state(self, folder: Path) -> None:
        assert run("policy", "model.pt").output == fi.policy_of(leaking()).to_toml()
        assert run("policy", "model.pt", "-o", "freeze.toml").output == ""
        assert load("freeze.toml") == fi.policy_of(leaking())

    def test_it_holds_of_its_file_and_not_of_another(self, folder: Path) -> None:
        run("policy", "model.pt", "-o", "freeze.toml")
        assert run("check", "model.pt", "--policy", "freeze.toml", *ONLY).output == "no findings\n"
        done = run("check", "still.pt", "--policy", "freeze.toml", *ONLY)
        assert done.exit_code == 1
        assert done.output.startswith("FI601 policy-violated error: (root): training is no, but the policy's line ''")

    def test_says_that_a_state_dict_tells_no_flags(self, folder: Path) -> None:
        done = run("policy", "state.pt")
        assert (done.exit_code, done.stderr) == (
            0,
            "freezeinspect: state.pt tells no flags, so its policy expects nothing\n",
        )
        assert done.stdout.endswith("expect = []\n")

    def test_ends_with_2_for_what_cannot_be_read_or_written(self, folder: Path) -> None:
        done = run("policy", "none.pt")
        assert (done.exit_code, done.output.count("\n")) == (2, 1)
        assert run("policy", "model.pt", "-o", "no/such/folder.toml").exit_code == 2


class TestCheck:
    def test_ends_with_2_for_a_policy_that_is_none(self, folder: Path) -> None:
        Path("freeze.toml").write_text("\nexpect = [{pattern = 'a', trainin = true}]")
        done = run("check", "model.pt", "--policy", "freeze.toml")
        assert (done.exit_code, done.output.count("\n")) == (2, 1)
        assert "freeze.toml: expect[0].trainin: no such key; did you mean training?" in done.output
        assert run("check", "model.pt", "--policy", "none.toml").exit_code == 2

    def test_writes_annotations_that_name_path_expected_seen_and_mend(self, folder: Path) -> None:
        Path("freeze.toml").write_text("expect = [{pattern = 'body', training = false}]")
        done = run("check", "model.pt", "--policy", "freeze.toml", "--format", "github", *ONLY)
        assert done.output == (
            "::error file=model.pt,title=FI601 policy-violated::body: training is yes, but the policy's line 'body' "
            "expects no: a model.train() undoes every eval() before it Fix: model.body.eval()\n"
        )

    def test_a_state_dict_fails_only_where_warnings_do(self, folder: Path) -> None:
        Path("freeze.toml").write_text("expect = [{pattern = '', training = false}]")
        assert run("check", "state.pt", "--policy", "freeze.toml", *ONLY).exit_code == 0
        assert run("check", "state.pt", "--policy", "freeze.toml", "--fail-on", "warning", *ONLY).exit_code == 1

    def test_imports_no_torch(self, folder: Path) -> None:
        import subprocess
        import sys

        run("policy", "model.pt", "-o", "freeze.toml")
        code = "import sys; from freezeinspect.cli import main; main(sys.argv[1:], standalone_mode=False); "
        code += "assert not {'torch', 'pandas', 'torchinfo', 'jinja2'} & sys.modules.keys()"
        for command in (["policy", "model.pt"], ["check", "model.pt", "--policy", "freeze.toml", *ONLY]):
            subprocess.run([sys.executable, "-c", code, *command], check=True, capture_output=True)


class TestSettings:
    def test_a_policy_of_pyproject_is_the_default(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        text = '[tool.freezeinspect.policy]\nallow = ["FI101"]\nexpect = [{pattern = "body", training = false}]\n'
        Path("pyproject.toml").write_text(text)
        (folder / "below").mkdir()
        monkeypatch.chdir(folder / "below")
        done = run("check", "../model.pt")
        assert done.exit_code == 1
        assert "FI601" in done.output
        assert "FI101" not in done.output
        assert "FI601" not in run("check", "../still.pt").output

    def test_a_pyproject_without_tools_has_none(self, folder: Path) -> None:
        for text in ("tool = 3", "[project]", ""):
            Path("pyproject.toml").write_text(text)
            assert run("check", "still.pt").exit_code == 0

    def test_the_path_of_one_is_beside_pyproject(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        Path("pyproject.toml").write_text('[tool.freezeinspect]\npolicy = "freeze.toml"')
        Path("freeze.toml").write_text("expect = [{pattern = '', training = false}]")
        (folder / "below").mkdir()
        monkeypatch.chdir(folder / "below")
        assert run("check", "../model.pt", *ONLY).exit_code == 1

    def test_another_is_chosen_over_it(self, folder: Path) -> None:
        Path("pyproject.toml").write_text('[tool.freezeinspect.policy]\nexpect = [{pattern = "", training = false}]\n')
        Path("freeze.toml").write_text("expect = [{pattern = '', training = true}]")
        assert run("check", "model.pt", *ONLY).exit_code == 1
        assert run("check", "model.pt", "--policy", "freeze.toml", *ONLY).exit_code == 0

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ("[tool]\nfreezeinspect = 1", "tool.freezeinspect = 1: expected a table"),
            (f"x = {'[' * 10_000}", "pyproject.toml: not TOML that can be read: it is nested too deep"),
            (
                "[tool.freezeinspect]\npolicy = 1",
                "tool.freezeinspect.policy = 1: expected select, ignore, allow: lists",
            ),
            (
                "[tool.freezeinspect.policy]\nx = 1",
                "tool.freezeinspect.policy.x: no such key; expected expect, allow, co",
            ),
        ],
    )
    def test_another_form_is_refused_with_its_place(self, text: str, said: str, folder: Path) -> None:
        Path("pyproject.toml").write_text(text)
        done = run("check", "model.pt")
        assert done.exit_code == 2
        assert said in done.output
