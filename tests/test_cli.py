"""The command line: what it prints, what it writes, and its exit codes."""

import json
import subprocess
import sys

import pytest
import torch
from click.testing import CliRunner

from freezeinspect.cli import main

needs_no_cuda = pytest.mark.skipif(torch.cuda.is_available(), reason="says what happens without CUDA")


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """Run the demo once, with fewer steps."""
    folder = tmp_path_factory.mktemp("demo")
    return CliRunner().invoke(main, ["demo", "--device", "cpu", "--steps", "9", "--output", str(folder)]), folder


def test_the_demo_tells_each_regime_and_ends_well(demo):
    done, _ = demo
    assert done.exit_code == 0, done.output
    for name in ("fresh model", "unfreeze(), bn_freeze(True), bn_freeze(False)", "plain: bn.eval(), later train()"):
        assert f"\n{name}\n" in done.stdout
    assert max(map(len, done.stdout.replace(str(demo[1]), "").splitlines())) <= 80


def test_the_demo_writes_what_it_printed_and_the_figures(demo):
    done, folder = demo
    said = (folder / "demo.txt").read_text(encoding="utf-8")
    assert done.stdout.startswith(said)
    figures = json.loads((folder / "demo.json").read_text(encoding="utf-8"))
    assert figures["device"] == "cpu"
    assert figures["torch"] == torch.__version__
    assert len(figures["regimes"]) == 8
    assert all(regime["as_tabled"] for regime in figures["regimes"])


def test_the_demo_writes_the_regimes_side_by_side_and_says_where(demo):
    done, folder = demo
    assert done.stdout.endswith(f"The regimes side by side, for a browser: {folder / 'what_if.html'}\n")
    page = (folder / "what_if.html").read_text(encoding="utf-8")
    assert page.count('<th scope="row">') == 9


def test_without_a_folder_the_page_is_in_a_temporary_one(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    done = CliRunner().invoke(main, ["demo", "--device", "cpu", "--steps", "6"])
    (page,) = tmp_path.glob("freezeinspect-*/what_if.html")
    assert done.stdout.endswith(f"for a browser: {page}\n")


def test_a_regime_that_comes_out_otherwise_ends_with_exit_code_1(monkeypatch):
    from freezeinspect import regimes

    wrong = regimes.Regime("wrong", regimes.REGIMES[1].verbs, regimes.SET_TRAIN_MODE, regimes.ALL_MOVE)
    monkeypatch.setattr(regimes, "REGIMES", (*regimes.REGIMES, wrong))
    done = CliRunner().invoke(main, ["demo", "--device", "cpu", "--steps", "6"])
    assert done.exit_code == 1
    assert done.stderr.endswith("freezeinspect: not as it should come out: wrong\n")


@needs_no_cuda
def test_cuda_that_is_not_there_is_one_line_and_exit_code_2():
    done = CliRunner().invoke(main, ["demo", "--device", "cuda"])
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr == "freezeinspect: --device cuda: torch sees no CUDA device here; use --device cpu, or auto\n"


def test_an_output_folder_that_cannot_be_made_is_one_line_and_exit_code_2(tmp_path):
    (tmp_path / "file").touch()
    done = CliRunner().invoke(main, ["demo", "--device", "cpu", "--output", str(tmp_path / "file" / "folder")])
    assert done.exit_code == 2
    assert done.stderr.count("\n") == 1
    assert "name a folder that can be written" in done.stderr


@pytest.mark.parametrize("steps", ["5", "0", "-3", "many"])
def test_too_few_steps_are_refused(steps):
    done = CliRunner().invoke(main, ["demo", "--steps", steps])
    assert done.exit_code == 2
    assert "--steps" in done.stderr


def test_help_and_version_load_no_torch():
    code = (
        "import sys; from click.testing import CliRunner; from freezeinspect.cli import main;"
        "codes = [CliRunner().invoke(main, [flag]).exit_code for flag in ('--help', '--version')];"
        "print(codes, 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[0, 0] False\n"


def test_python_m_is_the_same_program():
    done = subprocess.run([sys.executable, "-m", "freezeinspect", "--help"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("Usage: freezeinspect [OPTIONS] COMMAND")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_the_regimes_come_out_as_tabled_on_a_gpu():
    done = CliRunner().invoke(main, ["demo", "--device", "cuda"])
    assert done.exit_code == 0, done.output
