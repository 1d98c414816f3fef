"""What the README shows is what its program and the demo print."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from freezeinspect.cli import main

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PROGRAM, *SNIPPETS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
PROGRAM_OUTPUT, DEMO_OUTPUT = re.findall(r"```text\n(.*?)```", README, re.DOTALL)


def test_the_first_program_prints_what_stands_below_it(tmp_path):
    script = tmp_path / "program.py"
    script.write_text(PROGRAM, encoding="utf-8")
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=120, check=False)
    assert done.stderr == ""
    assert done.stdout.rstrip() == PROGRAM_OUTPUT.rstrip()


SAVING = """
import os

class Hook:
    def __reduce__(self):
        return os.system, ("exit",)

torch.save({"hook": Hook(), "model": model}, "checkpoint.pt")
"""


def test_the_command_line_prints_what_stands_below_the_command(tmp_path):
    (tmp_path / "program.py").write_text(PROGRAM + SAVING, encoding="utf-8")
    subprocess.run([sys.executable, "program.py"], cwd=tmp_path, capture_output=True, timeout=120, check=True)
    ((command, output),) = re.findall(r"```console\n\$ freezeinspect (.*?)\n(.*?)```", README, re.DOTALL)
    program = [sys.executable, "-m", "freezeinspect", *command.split()]
    done = subprocess.run(program, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout == output


def test_the_demo_ends_with_what_the_readme_shows():
    done = CliRunner().invoke(main, ["demo", "--device", "cpu"])
    assert done.exit_code == 0, done.output
    assert without_percentages(DEMO_OUTPUT.rstrip()) in without_percentages(done.output)


def without_percentages(text: str) -> str:
    """Take out the one thing that differs between processors: how far the output changed, and accuracies."""
    return " ".join(re.sub(r"\s*\d+%", " n%", text).split())


def test_every_name_that_the_snippets_use_is_there():
    import freezeinspect as fi
    from freezeinspect.report import Report

    for name in re.findall(r"\bfi\.(\w+)", README):
        assert hasattr(fi, name), name
    for name in re.findall(r"\breport\.(\w+)", README):
        assert hasattr(Report, name) or name in Report.__dataclass_fields__, name
    for name in re.findall(r"\bwatch\.(\w+)\(", README):
        assert hasattr(fi.Watch, name), name


@pytest.mark.parametrize("target", re.findall(r"\]\(([^)h][^)]*)\)", README))
def test_every_link_leads_to_a_file(target):
    assert (ROOT / target).exists()


def test_the_snippets_run_on_the_programs_model(capsys, tmp_path, monkeypatch):
    import torch

    monkeypatch.chdir(tmp_path)
    world: dict[str, object] = {}
    exec(PROGRAM, world)
    world["optimizer"] = torch.optim.SGD(world["model"].parameters(), lr=0.1)
    for snippet in SNIPPETS:
        exec(snippet.replace('"**.bn*"', '"**.1"'), world)
    assert capsys.readouterr().out
