"""Pickled modules: which are passed over, and which are refused rather than told wrong."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import nn

import freezeinspect as fi
from freezeinspect.readers.limits import Unreadable


class Holder(nn.Module):
    """Hold a module as a wrapper does, but for itself."""

    def __init__(self, inner: nn.Module, own: bool = False, buffer: bool = False) -> None:
        super().__init__()
        self.module = inner
        self.device_ids = [0]
        self.trainable = False
        if own:
            self.extra = nn.Parameter(torch.ones(3))
        if buffer:
            self.register_buffer("n_averaged", torch.tensor(0))


class Parallel(nn.parallel.DistributedDataParallel):
    """Be a user's own kind of a wrapper."""


class Average(torch.optim.swa_utils.AveragedModel):
    """Be another."""


@pytest.fixture(scope="module", autouse=True)
def _alone() -> Iterator[None]:
    """Let this process be a group of one."""
    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


def read(model: nn.Module, path: Path) -> fi.Report:
    torch.save(model, path / "model.pt")
    return fi.inspect(path / "model.pt")


@pytest.mark.parametrize("own", [True, False])
@pytest.mark.parametrize("buffer", [True, False])
def test_a_module_of_the_user_s_is_no_wrapper(own: bool, buffer: bool, tmp_path: Path) -> None:
    model = Holder(nn.Linear(2, 2), own, buffer)
    report = read(model, tmp_path)
    assert report == fi.inspect(model)
    assert report[""].trainable is fi.Answer.NO


@pytest.mark.parametrize("wrapper", [Parallel, Average])
def test_a_subclass_of_a_wrapper_is_one(wrapper: type[nn.Module], tmp_path: Path) -> None:
    model = wrapper(nn.Sequential(nn.Linear(2, 2)))
    assert read(model, tmp_path) == fi.inspect(model)
    assert read(model, tmp_path)[""].type == "torch.nn.modules.container.Sequential"


def test_two_modules_with_one_path_are_refused(tmp_path: Path) -> None:
    model = nn.Sequential()
    model._modules = {"a": nn.Sequential(nn.Linear(2, 2)), "a.0": nn.Linear(4, 4)}
    with pytest.raises(Unreadable, match=r"two modules have the path 'a\.0', so no name tells them apart"):
        read(model, tmp_path)


def test_a_name_with_a_dot_is_read_as_it_is(tmp_path: Path) -> None:
    """Files of torchvision's first DenseNets have such names."""
    model = nn.Sequential()
    setattr(model, "norm.1", nn.BatchNorm1d(2))
    assert read(model, tmp_path) == fi.inspect(model)


def test_a_name_that_cannot_be_written_is_said() -> None:
    with pytest.raises(Unreadable, match="its name cannot be written as this system writes names"):
        fi.inspect("\ud800.pt")
