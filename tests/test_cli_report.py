"""`freezeinspect report`: what it prints of a file, and what it says of one that cannot be read."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner, Result
from torch import nn

import freezeinspect as fi
from freezeinspect.cli import main
from zoo import Residual

RUN = [sys.executable, "-m", "freezeinspect", "report"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Save a module, its state_dict, a checkpoint, and one whose loading would run a command."""
    folder = tmp_path_factory.mktemp("files")
    model = Residual()
    model.layer1.requires_grad_(False)
    torch.save(model, folder / "model.pt")
    torch.save(model.state_dict(), folder / "state_dict.pt")
    optimizer = torch.optim.AdamW(model.named_parameters(), lr=0.5)
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, folder / "checkpoint.pt")
    torch.save({"model": nn.Linear(2, 2), "other": nn.Linear(3, 3), "hook": Command()}, folder / "hostile.pt")
    return folder


class Command:
    """Run a command when it is loaded."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("echo ran >&2",)


def report(*args: Any, **options: Any) -> Result:
    return CliRunner().invoke(main, ["report", *map(str, args)], **options)


def said(error: str) -> str:
    assert error.count("\n") == 1
    assert error.startswith("freezeinspect: ")
    return error.removeprefix("freezeinspect: ").rstrip("\n")


@pytest.mark.parametrize("name", ["model", "state_dict", "checkpoint", "hostile"])
def test_a_file_s_tree_reads(name: str, folder: Path, snapshot: Any) -> None:
    done = subprocess.run([*RUN, f"{name}.pt"], cwd=folder, capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == (snapshot, "")
    assert max(map(len, done.stdout.splitlines())) <= 80


@pytest.mark.parametrize("form", ["tree", "table", "json", "markdown", "html"])
def test_neither_torch_nor_pandas_nor_torchinfo_is_imported_and_jinja2_for_html_alone(folder: Path, form: str) -> None:
    program = (
        "import atexit, sys; from freezeinspect.cli import main;"
        "heavy = ('torch', 'pandas', 'torchinfo', 'numpy', 'jinja2');"
        "atexit.register(lambda: print([name for name in heavy if name in sys.modules], file=sys.stderr));"
        "main(['report', sys.argv[1], '--format', sys.argv[2]])"
    )
    command = [sys.executable, "-c", program, str(folder / "model.pt"), form]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "['jinja2']\n" if form == "html" else "[]\n")


class TestFormats:
    def test_json_is_the_record(self, folder: Path) -> None:
        done = report(folder / "model.pt", "--format", "json")
        assert fi.Report.from_json(done.stdout) == fi.inspect(folder / "model.pt")

    def test_json_of_several_files_is_a_list(self, folder: Path) -> None:
        done = report(folder / "model.pt", folder / "state_dict.pt", "--format", "json")
        assert [record["source"]["content"] for record in json.loads(done.stdout)] == [
            "a pickled module",
            "a state_dict",
        ]

    def test_json_is_always_whole(self, folder: Path) -> None:
        done = report(folder / "model.pt", "--format", "json", "--depth", "0")
        assert done.exit_code == 2
        assert (
            said(done.stderr) == "--format json is always the whole record; leave --depth, --filter and --no-fold out"
        )

    def test_html_is_the_page_of_the_report(self, folder: Path) -> None:
        assert report(folder / "model.pt", "--format", "html").stdout == fi.inspect(folder / "model.pt").to_html()

    def test_html_is_always_whole(self, folder: Path) -> None:
        done = report(folder / "model.pt", "--format", "html", "--filter", "layer1")
        assert (done.exit_code, said(done.stderr)) == (
            2,
            "--format html is always the whole tree, to search and filter in a browser;"
            " leave --depth, --filter and --no-fold out",
        )

    def test_html_is_one_page_of_one_file(self, folder: Path) -> None:
        done = report(folder / "model.pt", folder / "state_dict.pt", "--format", "html")
        assert (done.exit_code, said(done.stderr)) == (
            2,
            "--format html is one page of one file; name one, and the next in another call",
        )

    def test_a_table_has_whole_paths(self, folder: Path) -> None:
        done = report(folder / "model.pt", "--format", "table")
        assert "\nlayer{2,3}.conv " in done.stdout.replace("layer[2-3]", "layer{2,3}")

    def test_markdown_is_a_table_and_names_are_code(self, folder: Path) -> None:
        done = report(folder / "hostile.pt", "--format", "markdown")
        assert done.stdout.startswith(
            f"```text\n{folder}/hostile.pt: torch zip, a pickled module under 'model' (also there"
        )
        assert "\n```\n\n| module " in done.stdout
        assert "```text\nNothing of it was run." in done.stdout


class TestOptions:
    def test_depth_shows_that_many_levels(self, folder: Path) -> None:
        assert "layer1.conv" not in report(folder / "model.pt", "--depth", "1").stdout
        assert "layer1 " in report(folder / "model.pt", "--depth", "1").stdout

    def test_filter_shows_what_matches_and_what_holds_it(self, folder: Path) -> None:
        lines = report(folder / "model.pt", "--filter", "layer2.bn").stdout.splitlines()
        shown = [line.split()[0] for line in lines if line and line.split()[-1] in ("move", "batch")]
        assert shown == ["Residual", "layer2", "bn"]

    def test_a_filter_that_matches_nothing_names_the_nearest(self, folder: Path) -> None:
        done = report(folder / "model.pt", "--filter", "layer9")
        assert done.exit_code == 2
        assert "'layer9'" in said(done.stderr)
        assert "layer1" in done.stderr

    def test_no_fold_gives_each_module_a_line(self, folder: Path) -> None:
        assert "×2" in report(folder / "model.pt").stdout
        assert "×2" not in report(folder / "model.pt", "--no-fold").stdout

    def test_key_chooses(self, folder: Path) -> None:
        done = report(folder / "hostile.pt", "--key", "other")
        assert "module under 'other' (also there: 'model'; --key chooses)" in " ".join(done.stdout.split())

    def test_output_writes_what_would_be_printed(self, folder: Path, tmp_path: Path) -> None:
        printed = report(folder / "model.pt").stdout
        done = report(folder / "model.pt", "--output", tmp_path / "report.txt")
        assert (done.stdout, (tmp_path / "report.txt").read_text(encoding="utf-8")) == ("", printed)

    def test_output_never_overwrites_what_is_read(self, folder: Path, tmp_path: Path) -> None:
        copy = shutil.copy(folder / "model.pt", tmp_path)
        done = report(copy, "--output", copy)
        assert said(done.stderr) == f"--output {copy} is one of the files to read; name another"
        assert Path(copy).read_bytes() == (folder / "model.pt").read_bytes()

    def test_output_that_cannot_be_written_is_said(self, folder: Path, tmp_path: Path) -> None:
        done = report(folder / "model.pt", "--output", tmp_path / "no" / "report.txt")
        assert done.exit_code == 2
        assert "No such file or directory; name a file that can be written" in said(done.stderr)


class TestStreams:
    @pytest.mark.parametrize("piped", [True, False])
    def test_a_dash_is_standard_input(self, piped: bool, folder: Path) -> None:
        with (folder / "model.pt").open("rb") as file:
            given = {"input": file.read()} if piped else {"stdin": file}
            done = subprocess.run([*RUN, "-"], capture_output=True, check=True, **given)
        assert done.stdout.decode().startswith("-: torch zip, a pickled module\n")

    def test_closed_standard_input_is_said(self) -> None:
        done = subprocess.run(
            f"{sys.executable} -m freezeinspect report - <&-", shell=True, capture_output=True, text=True
        )
        assert (done.returncode, done.stdout) == (2, "")
        assert said(done.stderr) == "-: standard input is closed; name a file"

    def test_closed_standard_output_is_no_error(self, folder: Path) -> None:
        command = f"{sys.executable} -m freezeinspect report {folder}/model.pt >&-"
        done = subprocess.run(command, shell=True, capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (0, "")

    def test_a_full_disk_is_said(self, folder: Path) -> None:
        with open("/dev/full", "w", encoding="utf-8") as full:
            done = subprocess.run([*RUN, folder / "model.pt"], stdout=full, stderr=subprocess.PIPE, text=True)
        assert done.returncode == 2
        assert "No space left on device" in said(done.stderr)

    def test_a_broken_pipe_is_silent(self, folder: Path) -> None:
        command = f"{sys.executable} -m freezeinspect report {folder}/model.pt --no-fold | true"
        done = subprocess.run(command, shell=True, capture_output=True, text=True)
        assert done.stderr == ""

    def test_what_the_terminal_s_encoding_lacks_is_escaped(self, folder: Path) -> None:
        environment = {**os.environ, "PYTHONIOENCODING": "latin-1"}
        done = subprocess.run([*RUN, folder / "model.pt"], env=environment, capture_output=True, check=True)
        assert "×2 Block".encode("latin-1") in done.stdout
        assert b"\\u2013" in done.stdout


class TestSeveralFiles:
    def test_each_is_told_and_one_that_cannot_be_read_ends_with_2(self, folder: Path) -> None:
        done = report(folder / "model.pt", folder / "none.pt", folder / "state_dict.pt")
        assert done.exit_code == 2
        assert done.stdout.count(": torch zip, ") == 2
        assert said(done.stderr).startswith(f"{folder}/none.pt: no such file or directory; ")

    def test_with_none_that_can_be_read_nothing_is_printed(self, folder: Path) -> None:
        assert report(folder / "none.pt").stdout == ""

    def test_none_at_all_is_a_call_that_cannot_be_used(self) -> None:
        assert report().exit_code == 2


def test_what_would_be_imported_comes_last_and_the_worst_of_it_first(folder: Path) -> None:
    done = report(folder / "hostile.pt")
    names = done.stdout.rpartition("the model's classes:\n")[2].splitlines()
    assert names[0] == "  posix.system  <- of Python itself: what attacks are made of"


def test_a_file_where_a_command_should_stand_is_said(folder: Path) -> None:
    done = CliRunner().invoke(main, [str(folder / "model.pt")])
    assert done.exit_code == 2
    assert said(done.stderr).endswith(f"is a file, not a command; to read it: freezeinspect report {folder}/model.pt")


def test_a_wider_terminal_is_made_use_of(folder: Path) -> None:
    narrow, wide = (report(folder / "model.pt", env={"COLUMNS": columns}).stdout for columns in ("20", "200"))
    assert "their running\nstatistics." in narrow
    assert "their running statistics." in wide


def test_help_explains_the_signs_in_80_columns() -> None:
    done = CliRunner().invoke(main, ["report", "--help"], terminal_width=78)
    assert "≤            at most" in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80
