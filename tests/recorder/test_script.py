"""`freezeinspect run` of real scripts: what is seen of their training, and that it is theirs alone."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from freezeinspect.history import OUTCOMES
from freezeinspect.journal import Replay, replayed
from freezeinspect.recorder.log import Log

HEAD = """
import os, sys
assert "torch" not in sys.modules
os.environ["OMP_NUM_THREADS"] = "1"
import torch
from torch import nn

assert torch.get_num_threads() == 1

def step(model, *optimizers):
    model(torch.randn(8, 4)).square().sum().backward()
    for optimizer in optimizers:
        optimizer.step()
    model.zero_grad()

def network():
    return nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
"""


def run(folder: Path, code: str, *options: str, **environment: str) -> subprocess.CompletedProcess[str]:
    (folder / "train.py").write_text(HEAD + code, encoding="utf-8")
    program = [sys.executable, "-m", "freezeinspect", "run", *options, "train.py"]
    env = os.environ | {"OMP_NUM_THREADS": "2"} | environment
    return subprocess.run(program, cwd=folder, env=env, capture_output=True, text=True, timeout=120, check=False)


def log(path: Path) -> Replay:
    with path.open("rb") as lines:
        return replayed(lines)


def outcomes(path: Path) -> list[str]:
    return [OUTCOMES[one] for one in log(path).history.outcomes]


def test_a_script_that_changes_folder_and_forks_is_watched_where_it_began(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    code = """
os.chdir("elsewhere")
model = network()
model[0].requires_grad_(False)
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
for _ in range(5):
    step(model, optimizer)
print("trained", flush=True)
if os.fork() == 0:
    for _ in range(3):
        step(model, optimizer)
    sys.exit(7)
print("child", os.waitstatus_to_exitcode(os.wait()[1]))
sys.exit(3)
"""
    done = run(tmp_path, code)
    assert (done.returncode, done.stdout) == (3, "trained\nchild 7\n")
    assert done.stderr == f"freezeinspect: of Sequential\n5 steps of SGD.\nLog: {tmp_path / 'train.fi.jsonl'}\n"
    replay = log(tmp_path / "train.fi.jsonl")
    assert len(replay.history.taken) == 5
    assert replay.history.ended
    assert sorted(path.name for path in tmp_path.rglob("*.jsonl")) == ["train.fi.jsonl"]


def test_what_led_to_the_first_step_is_unknown_and_the_step_itself_is_seen(tmp_path: Path) -> None:
    run(tmp_path, "model = network()\noptimizer = torch.optim.SGD(model.parameters(), lr=0.1)\nstep(model, optimizer)")
    (chapter,) = log(tmp_path / "train.fi.jsonl").history.chapters
    spans = chapter.spans_by_tensor()
    seen = {chapter.structure.full_name(i): spans[i][0] for i in range(len(chapter.structure.tensors))}
    assert [str(seen["0.weight"].moved(place)) for place in (1, 2, 4)] == ["unknown", "yes", "unknown"]
    assert [str(seen["1.running_mean"].moved(place)) for place in (1, 2, 4)] == ["unknown", "no", "unknown"]


def test_each_model_has_its_log_and_two_optimizers_of_one_share_it(tmp_path: Path) -> None:
    code = """
model = network()
head, body = (torch.optim.Adam(part.parameters(), lr=0.01) for part in (model[2], model[0]))
for _ in range(3):
    step(model, head, body)
step(model, head)

other = nn.Linear(4, 1)
lbfgs = torch.optim.LBFGS(other.parameters(), max_iter=2)
def closure():
    other.zero_grad()
    loss = other(torch.ones(2, 4)).square().sum()
    loss.backward()
    return loss
lbfgs.step(closure)
lbfgs.step(closure)

scaled = nn.Linear(4, 1)
scaler, sgd = torch.amp.GradScaler("cpu"), torch.optim.SGD(scaled.parameters(), lr=0.1)
for factor in (1, float("inf"), 1):
    scaler.scale(scaled(torch.ones(2, 4)).sum() * factor).backward()
    scaler.step(sgd)
    scaler.update()
    sgd.zero_grad()
"""
    done = run(tmp_path, code, "--log", "logs.fi.jsonl", "--every", "1")
    assert (done.returncode, done.stdout) == (0, "")
    first = log(tmp_path / "logs.fi.jsonl").history
    assert list(first.taken) == [0, 1, 0, 1, 0, 1, 0]
    assert [kind for kind, _ in first.last.states[-1].snapshot.optimizers] == ["torch.optim.adam.Adam"] * 2
    assert {name: moved_by(first, name) for name in ("0.weight", "2.weight")} == {"0.weight": {1}, "2.weight": {0}}
    assert outcomes(tmp_path / "logs.2.fi.jsonl") == ["taken"] * 2
    assert outcomes(tmp_path / "logs.3.fi.jsonl") == ["taken", "skipped", "taken"]
    assert done.stderr.count("freezeinspect: of ") == 3


def moved_by(history: Any, name: str) -> set[int]:
    """Give the optimizers in whose steps a tensor moved."""
    chapter = history.last
    names = {chapter.structure.full_name(i): i for i in range(len(chapter.structure.tensors))}
    spans = {optimizer: found for (optimizer, tensor), found in chapter.spans.items() if tensor == names[name]}
    return {optimizer for optimizer, found in spans.items() if any(span.seen & 2 for span in found)}


@pytest.mark.parametrize("left", ['{"schema":"freezeinspect-log/1"}\n{"ste', '{"sch', ""])
def test_a_log_goes_on_after_what_a_killed_run_left_of_a_line(left: str, tmp_path: Path) -> None:
    (tmp_path / "train.fi.jsonl").write_text(left, encoding="utf-8")
    opened = Log(tmp_path / "train.fi.jsonl")
    opened.close()
    told = (tmp_path / "train.fi.jsonl").read_text(encoding="utf-8")
    assert [next(iter(json.loads(line))) for line in told.splitlines()] in (["schema", "end"], ["schema"] * 2 + ["end"])


def test_a_file_that_is_no_log_stays_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text("import torch")
    with pytest.raises(FileExistsError, match="is not the log of a run; name another"):
        Log(tmp_path / "train.py")
    assert (tmp_path / "train.py").read_text() == "import torch"


def test_a_run_that_is_killed_leaves_all_its_finished_steps(tmp_path: Path) -> None:
    code = """
import signal
model = network()
optimizer = torch.optim.AdamW(model.parameters())
for done in range(1, 100):
    step(model, optimizer)
    open("count", "w").write(str(done))
    if done == 11:
        os.kill(os.getpid(), signal.SIGKILL)
"""
    done = run(tmp_path, code)
    assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGKILL, "", "")
    replay = log(tmp_path / "train.fi.jsonl")
    assert len(replay.history.taken) == int((tmp_path / "count").read_text()) == 11
    assert not replay.history.ended


FAILING = """
class Broken(dict):
    def items(self):
        raise RuntimeError("no items\\nhere")

model = network()
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for n in range(5):
    step(model, optimizer)
    if n == 2:
        model._buffers = Broken(model._buffers, x=None)
print("all", n + 1)
"""


def test_a_failure_of_the_watch_is_one_line_and_the_script_goes_on(tmp_path: Path) -> None:
    done = run(tmp_path, FAILING)
    assert (done.returncode, done.stdout) == (0, "all 5\n")
    first, *_ = done.stderr.splitlines()
    assert first == ("freezeinspect: the watch failed and the script goes on without it: RuntimeError: no items here")
    assert "3 steps of SGD; the run did not end, or not yet." in done.stderr
    assert outcomes(tmp_path / "train.fi.jsonl") == ["taken"] * 3


def test_a_log_that_cannot_be_written_is_one_line_and_the_script_goes_on(tmp_path: Path) -> None:
    (tmp_path / "train.fi.jsonl").mkdir()
    done = run(tmp_path, FAILING)
    assert (done.returncode, done.stdout) == (0, "all 5\n")
    assert done.stderr.count("\n") == 1
    assert "IsADirectoryError" in done.stderr


def test_a_traceback_through_the_hooks_has_no_frame_of_theirs(tmp_path: Path) -> None:
    code = """
model = network()
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
step(model, optimizer)
def closure():
    raise LookupError("of the closure")
optimizer.step(closure)
"""
    done = run(tmp_path, code)
    plain = subprocess.run([sys.executable, "train.py"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == plain.returncode == 1
    assert done.stderr.startswith(plain.stderr)
    assert "1 step ended by an exception: 2." in done.stderr


@pytest.mark.parametrize("option", ["off", "auto"])
def test_parameters_that_no_module_holds_are_told_of(tmp_path: Path, option: str) -> None:
    code = "w = nn.Parameter(torch.ones(2)); o = torch.optim.SGD([w], lr=1.0); w.sum().backward(); o.step()"
    done = run(tmp_path, code, "--evidence", option)
    assert done.returncode == 0
    assert done.stderr.startswith("freezeinspect: no live module holds what SGD steps, so it is not watched\n")


def test_models_that_the_script_lets_go_of_are_let_go_of(tmp_path: Path) -> None:
    code = """
import gc, weakref
alive = []
def trial(n):
    model = network()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 2) if n % 2 else None
    for _ in range(4):
        step(model, optimizer)
        if n == 1:
            model.add_module("late", nn.Identity()) if _ == 2 else None
    alive.append(weakref.ref(model))
for n in range(10):
    trial(n)
    gc.collect()
    print(sum(one() is not None for one in alive), end=" ")
kept = network()
for lr in (0.1, 0.2):
    optimizer = torch.optim.SGD(kept.parameters(), lr=lr)
    step(kept, optimizer)
    del optimizer
    gc.collect()
"""
    done = run(tmp_path, code)
    assert (done.returncode, done.stdout) == (0, "0 " * 10)
    logs = [log(path) for path in tmp_path.glob("*.jsonl")]
    assert sorted(len(one.history.taken) for one in logs) == [2, *[4] * 10]
    assert all(one.history.ended for one in logs)
    assert done.stderr.endswith("freezeinspect: 3 more models were trained; the last log is "
                                f"{tmp_path / 'train.11.fi.jsonl'}\n")  # fmt: skip
