"""What ranks do, each scenario by its name: run by torchrun, which leaves what every rank saw as JSON.

`torchrun ranked.py FOLDER`.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch import distributed, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FullyShardedDataParallel, fully_shard
from torch.distributed.tensor import Replicate, Shard, distribute_tensor
from torch.nn.parallel import DistributedDataParallel
from torch.optim import SGD

import freezeinspect as fi

CPU = torch.device("cpu")
Said = list[tuple[str, str, str, str | None, tuple[int, ...]]]  # code, severity, path, tensor, ranks


def body() -> nn.Sequential:
    """A network whose first layer is frozen."""
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 2))
    model[0].requires_grad_(False)
    return model


def sharded() -> nn.Sequential:
    """The same under FSDP2, layer by layer."""
    model = body()
    mesh = init_device_mesh("cpu", (distributed.get_world_size(),))
    for part in (model[0], model[3], model):
        fully_shard(part, mesh=mesh)
    return model


def train(model: nn.Module, optimizer: torch.optim.Optimizer, steps: int = 3, at: Callable[[int], Any] = id) -> None:
    """Train on data of this rank's own; `at` is called before each step with its number."""
    for step in range(1, steps + 1):
        at(step)
        optimizer.zero_grad()
        model(torch.randn(8, 4) + distributed.get_rank()).square().mean().backward()
        optimizer.step()


def said(report: fi.Report) -> Said:
    return [(one.code, one.severity, one.path, one.tensor, one.ranks) for one in report.findings if one.code > "FI4"]


def rank() -> int:
    return distributed.get_rank()


def agreeing() -> Said:
    model = DistributedDataParallel(body(), broadcast_buffers=False)
    optimizer = SGD(model.parameters(), 0.1)
    before = said(fi.compare_ranks(model, optimizer))
    train(model, optimizer)
    return before + said(fi.compare_ranks(model, optimizer))


def one_unfrozen() -> Said:
    model = body()
    model[0].requires_grad_(rank() == 1)
    return said(fi.compare_ranks(model))


def one_in_train() -> Said:
    model = body().eval()
    model[1].train(rank() == 0)
    return said(fi.compare_ranks(model))


def one_with_another_rate() -> Said:
    model = body()
    return said(fi.compare_ranks(model, SGD(model.parameters(), 0.1 * (1 + rank()))))


def more_states_than_are_compared() -> list[Any]:
    model = body()
    model[1].train(rank() == 0)
    with mock.patch("freezeinspect.distributed.KINDS_OF_FLAGS", 1):
        found = fi.compare_ranks(model).findings
    return [[one.message, one.ranks] for one in found if one.code == "FI401"]


def one_with_a_layer_more() -> Said:
    model = body()
    if rank() == 0:
        model.append(nn.ReLU())
    return said(fi.compare_ranks(model))


def unfrozen_after_the_wrap() -> Said:
    model = DistributedDataParallel(body())
    model.module[0].requires_grad_(True)
    optimizer = SGD(model.parameters(), 0.1)
    train(model, optimizer)
    return said(fi.compare_ranks(model, optimizer))


def frozen_after_the_wrap() -> Said:
    model = DistributedDataParallel(body())
    model.module[3].requires_grad_(False)
    return said(fi.compare_ranks(model))


def frozen_after_a_wrap_that_finds_unused() -> Said:
    model = DistributedDataParallel(body(), find_unused_parameters=True)
    model.module[3].requires_grad_(False)
    return said(fi.compare_ranks(model))


def unfrozen_in_a_run() -> list[Any]:
    model = DistributedDataParallel(body())
    optimizer = SGD(model.parameters(), 0.1)
    with fi.watch(model, optimizer) as watch:
        train(model, optimizer, 4, lambda step: model.module[0].requires_grad_(step > 2))
    (one,) = (one for one in watch.report().findings if one.code == "FI402")
    return [one.message, one.step, one.fix]


def swapped_in_a_run() -> list[Any]:
    """Unfreeze as many as are frozen."""
    model = body()
    model[1].requires_grad_(False)
    model = DistributedDataParallel(model, find_unused_parameters=True)
    optimizer = SGD(model.parameters(), 0.1)
    with fi.watch(model, optimizer) as watch:
        train(
            model,
            optimizer,
            4,
            lambda step: (
                model.module[0 if step > 2 else 3].requires_grad_(True),
                model.module[3 if step > 2 else 0].requires_grad_(False),
            ),
        )
    return [[one.message, one.step] for one in watch.report().findings if one.code == "FI402"]


def unfrozen_in_a_run_before_the_wrap() -> Said:
    model = nn.ModuleList([body()])
    with fi.watch(model, SGD(model.parameters(), 0.1)) as watch:
        model[0][0].requires_grad_(True)
        model[0] = DistributedDataParallel(model[0])
        train(model[0], watch.optimizers[0], 2)
    return said(watch.report())


def a_run_in_which_one_flips() -> list[Any]:
    model = DistributedDataParallel(body())
    optimizer = SGD(model.parameters(), 0.1)
    with fi.watch(model, optimizer, ranks=True) as watch:
        train(model, optimizer, 6, lambda step: model.module[1].train(not (step == 3 and rank() == 1)))
    found = [one for one in watch.report().findings if one.code == "FI401"]
    return [[one.path, one.step, one.ranks, one.message] for one in found]


def a_run_in_which_all_agree() -> list[Any]:
    model = DistributedDataParallel(body())
    optimizer = SGD(model.parameters(), 0.1)
    with fi.watch(model, optimizer, ranks=True) as watch:
        train(model, optimizer, 6, lambda step: model.module[1].train(step != 3))
    return said(watch.report())


def a_run_in_which_one_skips_a_step() -> list[Any]:
    """Take the same number of steps, of which one rank's second failed."""
    model = body()
    optimizer = SGD(model.parameters(), 0.1)
    with fi.watch(model, optimizer, ranks=True) as watch:
        train(model, optimizer, 1)
        if rank() == 1:
            with suppress(ZeroDivisionError):
                optimizer.step(lambda: 1 / 0)
        train(model, optimizer, 4)
    return [[one.step, one.message] for one in watch.report().findings if one.code == "FI401"]


def watches_one_after_another() -> list[int]:
    """Count the files that are open before and after."""
    counts = []
    for _ in range(4):
        counts.append(len(os.listdir("/proc/self/fd")) if os.path.exists("/proc/self/fd") else 0)
        model = body()
        optimizer = SGD(model.parameters(), 0.1)
        with fi.watch(model, optimizer, ranks=True):
            train(model, optimizer)
    return counts


def seen(model: nn.Module, name: str = "") -> dict[str, Any]:
    """Watch three steps of a model with every tensor looked at: its paths, what requires a gradient, and what moved."""
    optimizer = SGD([one for one in model.parameters() if one.requires_grad], 0.1)
    report = fi.inspect(model, optimizer)
    with fi.watch(model, optimizer, every=1) as watch:
        train(model, optimizer)
    moved = {
        module.path: [str(watch.report().observed.movement[module.number].weights.step), str(module.requires_grad)]
        for module in report
    }
    stats = [str(one.stats.forward) for one in watch.report().observed.movement]
    types = [module.type and module.type.rpartition(".")[2] for module in report]
    return {"moved": moved, "stats": stats, "types": types, "findings": said(fi.compare_ranks(model, optimizer))}


def under_ddp() -> dict[str, Any]:
    return seen(DistributedDataParallel(body()))


def under_fsdp2() -> dict[str, Any]:
    return seen(sharded())


def under_fsdp1() -> dict[str, Any]:
    return seen(FullyShardedDataParallel(body(), use_orig_params=True, device_id=CPU))


def under_fsdp1_flat() -> dict[str, Any]:
    model = body()
    for part in (0, 3):
        model[part] = FullyShardedDataParallel(model[part], use_orig_params=False, device_id=CPU)
    return seen(FullyShardedDataParallel(model, use_orig_params=False, device_id=CPU))


def one_unfrozen_under_fsdp2() -> Said:
    model = sharded()
    model[3].requires_grad_(rank() != 1)
    return said(fi.compare_ranks(model))


def a_replicated_dtensor_that_drifts() -> Said:
    mesh = init_device_mesh("cpu", (distributed.get_world_size(),))
    model = nn.Linear(2, 2)
    model.weight = nn.Parameter(distribute_tensor(torch.ones(2, 2), mesh, [Replicate()]))
    model.bias = nn.Parameter(distribute_tensor(torch.arange(8.0), mesh, [Shard(0)]))
    before = said(fi.compare_ranks(model))
    if rank() == 1:
        model.weight.data.to_local().add_(1)
    return before + said(fi.compare_ranks(model))


def half_of_the_ranks() -> list[Any]:
    """Compare within the first half and within the second, in which the last rank differs."""
    count = distributed.get_world_size()
    halves = [list(range(count // 2)), list(range(count // 2, count))]
    groups = [distributed.new_group(ranks) for ranks in halves]
    mine = rank() >= count // 2
    model = body()
    model[1].train(rank() < count - 1)
    return [mine, said(fi.compare_ranks(model, group=groups[mine]))]


def freeze_lost_in_a_flat_parameter() -> Said:
    inner = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2))
    model = FullyShardedDataParallel(inner, use_orig_params=False, device_id=CPU)
    fi.set_trainable(inner[0], False)
    return said(fi.inspect(model))


SCENARIOS = (
    agreeing,
    one_unfrozen,
    one_in_train,
    one_with_another_rate,
    more_states_than_are_compared,
    one_with_a_layer_more,
    unfrozen_after_the_wrap,
    frozen_after_the_wrap,
    frozen_after_a_wrap_that_finds_unused,
    unfrozen_in_a_run,
    swapped_in_a_run,
    unfrozen_in_a_run_before_the_wrap,
    a_run_in_which_one_flips,
    a_run_in_which_all_agree,
    a_run_in_which_one_skips_a_step,
    watches_one_after_another,
    under_ddp,
    under_fsdp2,
    under_fsdp1,
    under_fsdp1_flat,
    one_unfrozen_under_fsdp2,
    a_replicated_dtensor_that_drifts,
    half_of_the_ranks,
    freeze_lost_in_a_flat_parameter,
)


def main(folder: Path) -> None:
    """Go through the scenarios, on every rank in the same order."""
    distributed.init_process_group("gloo")
    found = {scenario.__name__: scenario() for scenario in SCENARIOS}
    (folder / f"{rank()}.json").write_text(json.dumps(found), encoding="utf-8")
    distributed.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
