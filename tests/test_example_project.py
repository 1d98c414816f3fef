"""The project of docs/how-to: its CI passes, and fails on each slip with a message that names module and mend."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import freezeinspect
from plugged import with_entry_point

HOW_TO = Path(__file__).parents[1] / "docs/how-to"
PROJECT = HOW_TO / "project"
PAGE = (HOW_TO / "hold-it-in-ci.md").read_text(encoding="utf-8")


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Copy the project to where `python`, `pytest` and `freezeinspect` are those of this run."""
    shutil.copytree(PROJECT, tmp_path / "project", ignore=shutil.ignore_patterns("__pycache__", "*.pt"))
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, module in {"python": "", "freezeinspect": "-m freezeinspect", "pytest": "-m pytest"}.items():
        (programs / name).write_text(f'#!/bin/sh\nexec "{sys.executable}" {module} "$@"\n')
        (programs / name).chmod(0o755)
    tree = Path(freezeinspect.__file__).parents[1]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(map(str, (with_entry_point(tmp_path / "site"), tree))))
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    return tmp_path / "project"


def run(command: str, folder: Path) -> tuple[int, str]:
    done = subprocess.run(["sh", "-c", command], cwd=folder, capture_output=True, text=True, timeout=300, check=False)
    return done.returncode, " ".join((done.stdout + done.stderr).split())


def steps(job: str) -> list[str]:
    """Give the commands of a workflow's steps, but for what installs."""
    commands = re.findall(r"^ +- run: (.+)$", (PROJECT / job).read_text(), re.MULTILINE)
    return [command for command in commands if not command.startswith("pip ")]


def changed(file: Path, before: str, after: str) -> None:
    text = file.read_text()
    assert before in text
    file.write_text(text.replace(before, after))


SLIPS = {
    "train after eval": (
        "network.py",
        "    model.backbone.eval()\n",
        "    model.backbone.eval()\n    model.train()\n",
        [
            "FI601 policy-violated error: backbone: training is yes",
            "a model.train() undoes every eval() before it model.backbone.eval()",
        ],
    ),
    "the backbone renamed": (
        "network.py",
        "backbone",
        "encoder",
        [
            "FI601 policy-violated error: encoder: no line of the policy matches it",
            "FI602 pattern-matches-nothing error: (root): pattern 'backbone' matches nothing",
            'pattern = "encoder" # in the policy',
        ],
    ),
    "a layer forgotten in the optimizer": (
        "train.py",
        "[*model.neck.parameters(), *model.head.parameters()]",
        "model.head.parameters()",
        [
            "FI601 policy-violated error: neck: in_optimizer is no",
            'optimizer.add_param_group({"params": model.neck.parameters()})',
        ],
    ),
    "unfrozen by accident": (
        "network.py",
        "    model.train()\n",
        "    model.train()\n    model.backbone[3].requires_grad_(True)\n",
        [
            "FI601 policy-violated error: backbone.3: requires_grad is yes",
            "model.backbone[3].requires_grad_(False)",
        ],
    ),
}


def test_its_shell_step_passes(project: Path) -> None:
    status, told = run("./ci.sh", project)
    assert status == 0, told


@pytest.mark.parametrize("slip", SLIPS)
def test_a_slip_fails_the_shell_step_with_module_and_mend(slip: str, project: Path) -> None:
    file, before, after, said = SLIPS[slip]
    changed(project / file, before, after)
    status, told = run("./ci.sh", project)
    assert status == 1
    assert [one for one in said if one not in told] == [], told


def test_its_tests_pass_once_the_policy_is_written_and_fail_on_each_slip(project: Path) -> None:
    pytest_ = "pytest -q -p no:cacheprovider"
    status, told = run(f"{pytest_} --freeze-update && {pytest_}", project)
    assert status == 0, told
    for file, before, after, said in SLIPS.values():
        whole = (project / file).read_text()
        changed(project / file, before, after)
        status, told = run(pytest_, project)
        (project / file).write_text(whole)
        assert status == 1
        assert "test_the_state_is_the_one_that_was_reviewed" in told
        assert said[-1].partition(" # ")[0].split(" it ")[-1] in told


def test_the_steps_of_its_workflow_pass_and_annotate_a_slip(project: Path) -> None:
    run("pytest -q --freeze-update", project)
    assert len(steps("freeze.yml")) == 3
    for command in steps("freeze.yml"):
        status, told = run(command, project)
        assert status == 0, told
    file, before, after, _ = SLIPS["unfrozen by accident"]
    changed(project / file, before, after)
    train, check, _ = steps("freeze.yml")
    run(train, project)
    status, told = run(check, project)
    assert status == 1
    assert "::error file=checkpoint.pt,title=FI601 policy-violated::backbone.3: requires_grad is yes" in told
    assert "Fix: model.backbone[3].requires_grad_(False)" in told


@pytest.mark.parametrize("name", sorted(path.name for path in PROJECT.iterdir() if path.is_file()))
def test_the_page_shows_the_files_as_they_are(name: str) -> None:
    if name in ("network.py", "train.py"):
        assert f"project/{name}" in PAGE
    else:
        assert (PROJECT / name).read_text() in PAGE


def test_what_the_page_says_is_printed_is_printed(project: Path) -> None:
    for slip, shown in zip(SLIPS, re.findall(r"```text\n(.*?)```", PAGE, re.DOTALL), strict=True):
        file, before, after, _ = SLIPS[slip]
        whole = (project / file).read_text()
        changed(project / file, before, after)
        _, told = run("./ci.sh", project)
        (project / file).write_text(whole)
        assert " ".join(shown.split()) in told
