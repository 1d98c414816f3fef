"""The log of a run, read: as it was written, to wherever it goes, and whatever somebody made of it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from torch import nn

import freezeinspect as fi
from freezeinspect.cli import main
from freezeinspect.readers.limits import MIB
from freezeinspect.report import read
from freezeinspect.report.run import Run

PAGE = Path(__file__).parents[2] / "docs/reference/log.md"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, Path]:
    """Watch a run in which all kinds of lines are written, and give it with its log."""
    path = tmp_path_factory.mktemp("run") / "run.fi.jsonl"
    shared = nn.Linear(4, 4)
    model = nn.Sequential(shared, nn.BatchNorm1d(4), shared, nn.Linear(4, 2))
    model[1].require_grad = False
    optimizers = [torch.optim.AdamW(part.parameters(), lr=0.01) for part in (model[0], model[3])]
    scaler = torch.amp.GradScaler("cpu")
    with fi.watch(model, optimizers, every=1, blame=True, log=path) as watch:
        for n in range(6):
            model[0].bias.requires_grad_(n < 4)
            scaler.scale(model(torch.randn(8, 4)).sum() * (float("inf") if n == 2 else 1)).backward()
            for optimizer in optimizers:
                scaler.step(optimizer)
            scaler.update()
            for optimizer in optimizers:
                optimizer.zero_grad()
    return watch.run, path


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def written(path: Path, told: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(line, separators=(",", ":")) + "\n" for line in told), encoding="utf-8")
    return path


def test_a_log_reads_as_the_run_that_it_is_of(run: tuple[Run, Path]) -> None:
    watched, path = run
    found = read(path)
    assert isinstance(found, Run)
    assert str(found) == str(watched)
    ours, theirs = (json.loads(one.to_json()) for one in (found, watched))
    assert ours.pop("source") == {
        "kind": "watch",
        "path": str(path),
        "format": "freezeinspect-log/1",
        "content": "12 steps of AdamW",
    }
    assert theirs.pop("source")["kind"] == "watch"
    assert ours == theirs


def test_inspect_gives_the_end_with_what_was_seen(run: tuple[Run, Path]) -> None:
    watched, path = run
    report = fi.inspect(path)
    assert report == watched.report()
    assert report.observed == watched.report().observed
    assert str(report.observed.movement[1].weights.step) == "yes"


def test_the_command_prints_the_run_and_other_formats_its_end(run: tuple[Run, Path]) -> None:
    _, path = run
    assert printed(str(path)) == f"{read(path)}\n"
    assert json.loads(printed("--format", "json", str(path)))["schema"] == "freezeinspect-run/1"
    for form, text in (("table", fi.inspect(path).table()), ("markdown", fi.inspect(path).to_markdown())):
        assert printed("--format", form, str(path)).strip() == text.strip()
    assert printed("--depth", "0", str(path)).strip() == fi.inspect(path).tree(depth=0).strip()
    program = [sys.executable, "-m", "freezeinspect", "report", "-"]
    piped = subprocess.run(program, input=path.read_bytes(), capture_output=True, check=True)
    assert piped.stdout.decode() == f"{read(path)}\n"


def printed(*args: str) -> str:
    done = CliRunner().invoke(main, ["report", *args])
    assert done.exit_code == 0, done.output
    return done.stdout


def test_two_logs_compare_by_their_ends(run: tuple[Run, Path], tmp_path: Path) -> None:
    _, path = run
    told = lines(path)
    last = max(n for n, line in enumerate(told) if line.get("column") == "requires_grad")
    frozen = written(tmp_path / "frozen.fi.jsonl", [*told[:last], *told[last + 1 :]])
    differences = fi.diff(path, frozen)
    assert {change.path for change in differences.differences.flags} == {"0.bias"}
    assert not differences.weights
    assert "alues were not recorded" in str(differences)


def test_reading_imports_no_torch(run: tuple[Run, Path]) -> None:
    code = "import sys, freezeinspect as fi; print(fi.inspect(sys.argv[1])); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code, run[1]], capture_output=True, text=True, check=True)
    assert done.stdout.endswith("False\n")


def test_a_torn_log_reads_wherever_it_was_torn(run: tuple[Run, Path], tmp_path: Path) -> None:
    whole = run[1].read_bytes()
    torn, steps = tmp_path / "torn.fi.jsonl", set()
    first = whole.index(b'"within"') + 20
    for end in range(first + whole[first:].index(b"\n"), len(whole), 13):
        torn.write_bytes(whole[:end])
        found = read(torn)
        assert len(found) == whole[: whole.rindex(b"\n", 0, end) + 1].count(b'{"step"')
        assert f"{found}{found.report()}"
        steps.add(len(found))
    assert steps == set(range(13))
    assert ", not ended" in str(found.source.content)


Change = Callable[[list[dict[str, Any]]], Any]


def one(told: list[dict[str, Any]], key: str) -> dict[str, Any]:
    return next(line for line in told if key in line)


HOSTILE: dict[str, tuple[Change, str]] = {
    "another version": (lambda told: told[0].update(schema="freezeinspect-log/9"), "line 1: expected the schema"),
    "no state": (lambda told: told.__delitem__(slice(4, None)), "before the first state"),
    "no root": (lambda told: one(told, "modules")["modules"].pop(0), "expected the root first"),
    "a path twice": (lambda told: one(told, "modules")["modules"].append(["0", "x"]), "each path once"),
    "a long path": (lambda told: one(told, "modules")["modules"].append(["x" * 2000, "x"]), "a name that is none"),
    "a deep path": (lambda told: one(told, "modules")["modules"].append(["x." * 300, "x"]), "more than 200 dots"),
    "an owner": (lambda told: one(told, "tensors")["tensors"][0].__setitem__(0, 99), "saw 99, expected a number"),
    "a kind": (lambda told: one(told, "tensors")["tensors"][0].__setitem__(2, "gift"), "'gift'"),
    "a shape": (lambda told: one(told, "tensors")["tensors"][0].__setitem__(3, [-1]), "saw -1"),
    "a number": (lambda told: one(told, "tensors")["tensors"][0].__setitem__(3, [True]), "saw True"),
    "shared": (lambda told: one(told, "shared")["shared"].append(["9", 99]), "saw 99"),
    "many runs": (lambda told: one(told, "runs")["runs"].append(["yes", 10**12]), "saw 1000000000000"),
    "a word": (lambda told: one(told, "runs")["runs"].__setitem__(0, ["maybe", 4]), "saw 'maybe'"),
    "a short column": (lambda told: one(told, "runs")["runs"].pop(), "training: expected 4 entries"),
    "no number": (lambda told: one(told, "groups")["groups"][0].__setitem__(0, 1e999), "saw inf"),
    "an optimizer": (lambda told: one(told, "step").update(optimizer=7), "optimizer that is not there"),
    "at": (lambda told: one(told, "at").update(at=[[0, 10**9]]), "saw 1000000000"),
    "never told": (lambda told: told.remove(one(told, "changed")), "of which nothing was said"),
    "changed": (lambda told: one(told, "changed")["changed"].append([0, 2**20]), "saw 1048576"),
    "a step to come": (lambda told: one(told, "done").update(looked=99), "saw 99"),
    "skipped": (lambda told: told.append({"skipped": 99}), "step 99 of 12"),
    "stray": (lambda told: one(told, "stray")["stray"].append([77, ["x"]]), "saw 77"),
    "no object": (lambda told: told.append([1]), "TypeError"),  # type: ignore[arg-type]
    "a long line": (lambda told: told.append({"x": "y" * MIB}), "is longer than 1,048,576 bytes"),
    "too many": (lambda told: told.extend([{"state": "", "calls": [["", "", ""]] * 9000}] * 14), "126,000 entries"),
}


@pytest.mark.parametrize(("change", "said"), HOSTILE.values(), ids=HOSTILE)
def test_a_log_that_is_not_as_it_should_be_is_unreadable_and_says_where(
    change: Change, said: str, run: tuple[Run, Path], tmp_path: Path
) -> None:
    told = lines(run[1])
    change(told)
    with pytest.raises(fi.Unreadable, match=re.escape(said)) as refused:
        fi.inspect(written(tmp_path / "hostile.fi.jsonl", told))
    assert re.search(r"line \d|after \d+ lines", str(refused.value))
    assert ("can be saved" in str(refused.value)) == (": not as freezeinspect-log" in str(refused.value))


def test_any_one_byte_changed_gives_a_run_or_one_line(run: tuple[Run, Path], tmp_path: Path) -> None:
    whole, path, refused = bytearray(run[1].read_bytes()), tmp_path / "changed.fi.jsonl", []
    for at in range(0, len(whole), 13):
        changed = bytearray(whole)
        changed[at] = b'0"[{9,'[at % 6]
        path.write_bytes(changed)
        try:
            found = read(path)
        except fi.Unreadable as error:
            refused.append(str(error))
        else:
            assert f"{found}{found.report()}" + found.to_json()
    assert refused
    assert not any("\n" in error for error in refused)


def test_the_page_has_the_keys_that_a_log_has(run: tuple[Run, Path]) -> None:
    examples = [json.loads(line) for line in re.findall(r"^(\{.*\})$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)]
    assert {frozenset(line) for line in lines(run[1])} <= {frozenset(line) for line in examples}
