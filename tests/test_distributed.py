"""What ranks that train one model agree in, in real processes over gloo."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
from click.testing import CliRunner
from torch import nn

import freezeinspect as fi
from freezeinspect.cli import main
from freezeinspect.distributed import NotDistributed
from ranks import ENVIRONMENT, torchrun

PROGRAM = Path(__file__).parent / "ranked.py"
Seen = list[dict[str, Any]]  # by rank, by scenario


@pytest.fixture(scope="module", params=[2, 4])
def seen(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Seen:
    folder = tmp_path_factory.mktemp("ranks")
    torchrun(PROGRAM, request.param, str(folder))
    return [json.loads((folder / f"{rank}.json").read_text(encoding="utf-8")) for rank in range(request.param)]


def test_ranks_that_agree_differ_only_in_statistics_which_is_information(seen: Seen) -> None:
    assert {(code, severity) for code, severity, *_ in seen[0]["agreeing"]} == {("FI403", "info")}
    assert all(tensor.startswith("running_") for *_, tensor, _ in seen[0]["agreeing"])


@pytest.mark.parametrize(
    ("scenario", "path", "ranks"),
    [
        ("one_unfrozen", "0", [1]),
        ("one_in_train", "1", [0]),
        ("one_with_a_layer_more", "", [0]),
        ("one_unfrozen_under_fsdp2", "3", [1]),
    ],
)
def test_a_rank_that_disagrees_is_named_with_the_module(seen: Seen, scenario: str, path: str, ranks: list[int]) -> None:
    many = ranks if len(seen) > 2 else [1]  # of two nobody is in the minority
    assert seen[0][scenario] == [["FI401", "error", path, None, many]]


def test_a_learning_rate_of_its_own_is_told(seen: Seen) -> None:
    ((code, _, path, _, ranks),) = seen[0]["one_with_another_rate"]
    assert (code, path, len(ranks)) == ("FI401", "", len(seen) - 1)


def test_ranks_whose_states_are_too_many_to_compare_are_told(seen: Seen) -> None:
    ((message, _),) = seen[0]["more_states_than_are_compared"]
    assert message.startswith("flags that were not compared one by one: one of the first 1 states on rank 0, one of 1 ")


def test_every_rank_gets_the_same_answer(seen: Seen) -> None:
    own = {"under_fsdp1", "under_fsdp2", "half_of_the_ranks", "watches_one_after_another"}
    # where a rank has no element of a parameter it cannot tell whether that moved; and each half has its own answer
    for one in seen[1:]:
        assert {key: one[key] for key in one if key not in own} == {
            key: seen[0][key] for key in seen[0] if key not in own
        }


def test_unfreezing_after_the_wrap_and_the_silent_divergence_are_found(seen: Seen) -> None:
    errors = [one for one in seen[0]["unfrozen_after_the_wrap"] if one[1] == "error"]
    assert [(code, path, tensor) for code, _, path, tensor, _ in errors] == [
        ("FI402", "", None),
        ("FI403", "0", "weight"),
    ]


def test_a_run_names_what_was_unfrozen_and_when(seen: Seen) -> None:
    message, step, fix = seen[0]["unfrozen_in_a_run"]
    assert message == "0.weight, 0.bias, unfrozen after the wrap: no rank learns of the others' gradient"
    assert step == 3
    assert fix == "model = torch.nn.parallel.DistributedDataParallel(model.module)"


def test_as_many_unfrozen_as_frozen_are_told_by_a_run(seen: Seen) -> None:
    ((message, step),) = seen[0]["swapped_in_a_run"]
    assert message.startswith("0.weight, 0.bias, unfrozen after the wrap")
    assert step == 3
    assert seen[0]["unfrozen_in_a_run_before_the_wrap"] == []


def test_freezing_after_the_wrap_is_wrong_unless_it_looks_for_unused_parameters(seen: Seen) -> None:
    assert [one[0] for one in seen[0]["frozen_after_the_wrap"]] == ["FI402"]
    assert seen[0]["frozen_after_a_wrap_that_finds_unused"] == []


def test_a_watch_tells_the_step_at_which_one_rank_flipped_once(seen: Seen) -> None:
    ((path, step, ranks, message),) = seen[0]["a_run_in_which_one_flips"]
    assert (path, step, ranks) == ("1", 3, [1])
    assert "no on rank 1" in message
    assert "FI401" not in str(seen[0]["a_run_in_which_all_agree"])


def test_a_rank_that_skips_a_step_is_told_once(seen: Seen) -> None:
    ((step, message),) = seen[0]["a_run_in_which_one_skips_a_step"]
    assert step == 2
    assert message.startswith("steps: at step 2 on rank")
    assert "at step 3 on rank 1" in message


def test_a_watch_leaves_no_connection_open(seen: Seen) -> None:
    first, *later = seen[0]["watches_one_after_another"]
    assert later == [first] * 3


@pytest.mark.parametrize("scenario", ["under_ddp", "under_fsdp2", "under_fsdp1", "under_fsdp1_flat"])
def test_names_flags_and_evidence_are_those_of_the_model_that_was_wrapped(seen: Seen, scenario: str) -> None:
    told = [one[scenario] for one in seen]
    moved = [one["moved"] for one in told]
    assert list(moved[0]) == ["", "0", "1", "2", "3"]
    assert told[0]["types"] == ["Sequential", "Linear", "BatchNorm1d", "ReLU", "Linear"]
    assert {one["0"][1] for one in moved} == {"no"}
    assert {one["0"][0] for one in moved} <= {"no", "unknown"}
    assert {one["3"][0] for one in moved} <= {"yes", "unknown"}
    assert "yes" in {one["3"][0] for one in moved}
    assert told[0]["stats"][2] == "yes"
    assert not [one for one in told[0]["findings"] if one[1] == "error"]


def test_a_replicated_dtensor_is_compared_and_a_sharded_one_is_not(seen: Seen) -> None:
    assert seen[0]["a_replicated_dtensor_that_drifts"] == [["FI403", "error", "", "weight", [1]]]


def test_a_group_is_compared_among_its_own_and_its_ranks_keep_their_numbers(seen: Seen) -> None:
    last = len(seen) - 1
    for is_second, found in (one["half_of_the_ranks"] for one in seen):
        expected = [["FI401", "error", "1", None, [last]]] if is_second and len(seen) > 2 else []
        assert found == expected


def test_a_freeze_that_a_flat_parameter_swallowed_is_found(seen: Seen) -> None:
    assert seen[0]["freeze_lost_in_a_flat_parameter"] == [["FI404", "error", "0", None, []]]


LOST = """
import os, signal, sys
import torch
from torch import distributed, nn
import freezeinspect as fi
from freezeinspect.cli import main
from freezeinspect.distributed import RankLost

distributed.init_process_group("gloo")
model = nn.Linear(2, 2)
fi.compare_ranks(model)
if distributed.get_rank() == 1:
    os.kill(os.getpid(), signal.SIGKILL)
try:
    fi.compare_ranks(model)
except RankLost as error:
    print(error)
os._exit(0)
"""


STALLED = """
import os, sys, time
from datetime import timedelta
import torch
from torch import distributed, nn
import freezeinspect as fi
from freezeinspect.distributed import RankLost

distributed.init_process_group("gloo", timeout=timedelta(seconds=3))
model = nn.Linear(2, 2)
optimizer = torch.optim.SGD(model.parameters(), 0.1)
start = time.monotonic()
try:
    with fi.watch(model, optimizer, ranks=True):
        for step in range(4):
            if step == 2 and distributed.get_rank() == 1:
                time.sleep(20)
            model(torch.ones(1, 2)).sum().backward()
            optimizer.step()
except RankLost as error:
    assert time.monotonic() - start < 15
    print(error)
os._exit(0)
"""


def on_two_ranks(code: str, folder: Path) -> tuple[str, str, list[int]]:
    """Run a program without a launcher; give what rank 0 said, what it complained of, and the exit codes."""
    (folder / "program.py").write_text(code, encoding="utf-8")
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = str(one.getsockname()[1])
    processes = [
        subprocess.Popen(
            [sys.executable, "program.py"],
            cwd=folder,
            env={**os.environ, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": "2", "RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    (said, complaint), _ = (process.communicate(timeout=120) for process in processes)
    return said, complaint, [process.returncode for process in processes]


VAIN = "rank 0 waited for the others in vain: every rank of the group must make this call"


def test_a_rank_that_was_killed_is_a_clear_error_on_the_others(tmp_path: Path) -> None:
    said, complaint, codes = on_two_ranks(LOST, tmp_path)
    assert codes == [0, -signal.SIGKILL]
    assert said.startswith(VAIN), complaint


def test_a_watch_waits_for_a_rank_as_long_as_the_training_does(tmp_path: Path) -> None:
    said, complaint, _ = on_two_ranks(STALLED, tmp_path)
    assert said.startswith(VAIN), complaint


def test_without_ranks_the_way_out_is_told() -> None:
    model = nn.Linear(2, 2)
    for call in (lambda: fi.compare_ranks(model), lambda: fi.watch(model, ranks=True)):
        with pytest.raises(NotDistributed, match=r"init_process_group\(\), in a program that torchrun started"):
            call()


PAGE = (Path(__file__).parents[1] / "docs/how-to/train-on-several-ranks.md").read_text(encoding="utf-8")


def test_the_logs_of_the_ranks_of_an_unchanged_script_are_read_as_one(tmp_path: Path) -> None:
    program, *_ = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    train, report = re.findall(r"^\$ (.*)$", PAGE, re.MULTILINE)
    (shown,) = re.findall(r"```text\n(.*?)```", PAGE, re.DOTALL)
    (tmp_path / "train.py").write_text(program, encoding="utf-8")
    launch = [sys.executable, "-m", "torch.distributed.run", *train.split()[1:]]
    subprocess.run(launch, cwd=tmp_path, capture_output=True, check=True, timeout=240, env=ENVIRONMENT)
    call = [sys.executable, "-m", *report.split()]
    done = subprocess.run(call, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout == shown


def test_a_rank_whose_log_ends_sooner_is_named(tmp_path: Path) -> None:
    for rank, steps in enumerate((3, 5)):
        model = nn.Linear(2, 2)
        optimizer = torch.optim.SGD(model.parameters(), 0.1)
        with mock.patch.dict(os.environ, {"RANK": str(rank), "WORLD_SIZE": "2"}):
            watch = fi.watch(model, optimizer, log=tmp_path / "run.fi.jsonl")
        with watch:
            for _ in range(steps):
                model(torch.ones(1, 2)).sum().backward()
                optimizer.step()
    files = sorted(map(str, tmp_path.glob("*.jsonl")))
    done = CliRunner().invoke(main, ["report", *files])
    assert "steps: 3 steps on rank 0, 5 steps on rank 1" in " ".join(done.output.split())
    held = CliRunner().invoke(main, ["check", *files, "--select", "FI401"])
    assert held.exit_code == 1
    assert "FI401 ranks-disagree error: (root): steps: 3 steps on rank 0, 5 steps on" in held.output
    twice = CliRunner().invoke(main, ["check", files[0], files[0]])
    assert twice.exit_code == 2
    assert "several files: expected the logs of the ranks of one run" in twice.output
    both = CliRunner().invoke(main, ["report", files[0], files[0]])
    assert both.output.count("3 steps of SGD") == 2
