"""The log: what is in it at any instant, and that it is the run told again."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import freezeinspect as fi
from freezeinspect.journal import ENTRIES, replayed
from freezeinspect.report.run import Run
from freezeinspect.serial import NotARecord
from loops import OPTIMIZERS, Expected, closing, half_precision, plain
from zoo import ZOO, Residual

KILLED = Path(__file__).parents[1] / "killed.py"


def logged(
    path: Path, name: str = "residual", kind: str = "AdamW, foreach", loop: Any = plain, **options: Any
) -> fi.Watch:
    specimen = ZOO[name]()
    optimizer = OPTIMIZERS[kind](specimen.model.parameters())
    with fi.watch(specimen.model, optimizer, log=path, **options) as watch:
        loop(specimen, optimizer, Expected(specimen.model, is_on=False))
    return watch


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.parametrize(
    "options", [{"every": 1}, {"every": 3}, {"evidence": "auto"}, {"evidence": "off"}, {"blame": True}]
)
@pytest.mark.parametrize(
    ("name", "kind", "loop"),
    [
        ("residual", "AdamW, foreach", plain),
        ("shared", "momentum", plain),
        ("tied", "SGD", plain),
        ("resnet", "LBFGS", closing),
        ("residual", "AdamW, fused", half_precision),
    ],
)
def test_a_log_is_the_run_told_again(name: str, kind: str, loop: Any, options: dict[str, Any], tmp_path: Path) -> None:
    watch = logged(tmp_path / "run.fi.jsonl", name, kind, loop, **options)
    with (tmp_path / "run.fi.jsonl").open("rb") as file:
        run = Run(replayed(file).history, watch.run.source)
    assert run.to_json() == watch.to_json()
    assert str(run) == str(watch)
    assert run.report() == Run(watch.history).report()


def test_a_run_that_is_killed_at_any_instant_keeps_every_finished_step(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, KILLED, tmp_path, "12", "1"], capture_output=True, text=True, check=True)
    counts = [list(map(int, line.split())) for line in done.stdout.splitlines()]
    assert len(counts) == 12
    assert all(finished <= told <= finished + 1 for finished, told, _ in counts)
    assert not any(ended for _, _, ended in counts)


def test_a_log_cut_off_at_any_byte_is_told_to_its_last_whole_line(tmp_path: Path) -> None:
    logged(tmp_path / "run.fi.jsonl")
    content = (tmp_path / "run.fi.jsonl").read_bytes()
    whole = replayed(content.splitlines(keepends=True)).history
    for length in range(0, len(content), 97):
        steps = steps_of(content[:length])
        assert steps == list(whole.taken)[: len(steps)]


def steps_of(content: bytes) -> list[int]:
    """Give the optimizer of each step; none where not even the first state of the model is whole."""
    try:
        return list(replayed(content.splitlines(keepends=True)).history.taken)
    except NotARecord as error:
        if "before the first state of the model is told" not in str(error):
            raise
        return []


def test_no_line_has_more_entries_than_are_promised(tmp_path: Path) -> None:
    model = torch.nn.Sequential(*(torch.nn.BatchNorm1d(1) for _ in range(700)))
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with fi.watch(model, optimizer, every=1, log=tmp_path / "run.fi.jsonl") as watch:
        for i, norm in enumerate(model):
            norm.train(i % 2 == 0)
        model(torch.randn(2, 1)).sum().backward()
        optimizer.step()
    found = lines(tmp_path / "run.fi.jsonl")
    assert max(len(value) for line in found for value in line.values() if isinstance(value, list)) <= ENTRIES
    assert any(line.get("more") for line in found)
    with (tmp_path / "run.fi.jsonl").open("rb") as file:
        assert Run(replayed(file).history, watch.run.source).to_json() == watch.to_json()


def test_a_step_without_news_is_a_line_of_few_bytes(tmp_path: Path) -> None:
    model = Residual()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with fi.watch(model, optimizer, every=1, log=tmp_path / "run.fi.jsonl"):
        for _ in range(4):
            model(torch.randn(2, 3, 8, 8)).sum().backward()
            optimizer.step()
    assert lines(tmp_path / "run.fi.jsonl")[-3:] == [{"step": 4}, {"looked": 4, "done": True}, {"end": 4}]


def test_another_run_in_the_same_file_is_the_one_that_is_told(tmp_path: Path) -> None:
    logged(tmp_path / "run.fi.jsonl", "residual")
    watch = logged(tmp_path / "run.fi.jsonl", "tied", "SGD")
    with (tmp_path / "run.fi.jsonl").open("rb") as file:
        assert replayed(file).history.last.structure == watch.history.last.structure


def test_the_rank_is_in_the_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "3")
    monkeypatch.setenv("WORLD_SIZE", "4")
    logged(tmp_path / "run.fi.jsonl")
    assert [path.name for path in tmp_path.iterdir()] == ["run.rank3.fi.jsonl"]
    assert lines(tmp_path / "run.rank3.fi.jsonl")[0]["rank"] == 3


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_full_disk_ends_the_log_and_not_the_training(tmp_path: Path) -> None:
    (tmp_path / "run.fi.jsonl").symlink_to("/dev/full")
    with pytest.warns(UserWarning, match=r"the log .*run\.fi\.jsonl ends here: No space left on device"):
        watch = logged(tmp_path / "run.fi.jsonl")
    assert len(watch.run) == 5


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"", "it ends after 0 lines, before the first state of the model is told"),
        (b"{}\n", "line 1: expected the schema 'freezeinspect-log/1', saw None"),
        (b'{"schema":"freezeinspect-log/1"}\n{"step":1,"optimizer":-1}\n', "line 2: not as freezeinspect-log/1 says"),
        (b'{"schema":"freezeinspect-log/1"}\n{"skipped":1}\n', "line 2: .*step 1 of 0"),
        (b'{"schema":"freezeinspect-log/1"}\n[1]\n', "line 2: not as freezeinspect-log/1 says"),
    ],
)
def test_what_is_no_log_is_said_with_its_line(text: bytes, said: str) -> None:
    with pytest.raises(NotARecord, match=said):
        replayed(text.splitlines(keepends=True))
