"""What a shell completes: commands, files where a file is meant, and rules by code or name."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.shell_completion import ShellComplete

from freezeinspect.cli import main
from freezeinspect.rules import RULES


def completed(*words: str) -> list[tuple[str, str]]:
    """Give what may stand for the last of these words, each with what kind of thing it is."""
    shell = ShellComplete(main, {}, "freezeinspect", "_FREEZEINSPECT_COMPLETE")
    return [(item.type, item.value) for item in shell.get_completions(list(words[:-1]), words[-1])]


def test_commands() -> None:
    assert completed("re") == [("plain", "report")]
    assert ("plain", "demo") in completed("")


@pytest.mark.parametrize(
    "words",
    ["report", "report a.pt", "diff", "diff a.pt", "check", "check a.pt --policy", "policy", "policy a.pt -o", "run"],
)
def test_files_where_a_file_is_meant(words: str) -> None:
    assert completed(*words.split(), "mod") == [("file", "mod")]


@pytest.mark.parametrize("before", ["explain", "check --select", "check --ignore", "check --allow"])
def test_rules_by_code_and_name(before: str) -> None:
    assert completed(*before.split(), "FI30")[0] == ("plain", "FI301")
    assert ("plain", "frozen-stats-moved") in completed(*before.split(), "frozen-")
    assert len(completed(*before.split(), "")) == 2 * len(RULES)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_gets_a_script(shell: str, tmp_path: Path) -> None:
    program = Path(sys.executable).with_name("freezeinspect")
    environment = {**os.environ, "_FREEZEINSPECT_COMPLETE": f"{shell}_source"}
    done = subprocess.run([program], env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert "_FREEZEINSPECT_COMPLETE" in done.stdout, done.stderr
