"""docs/how-to/a-freeze-that-sticks.md: each way is run, through each operation, and the table says what came of it."""

from __future__ import annotations

import copy
import io
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import freezeinspect as fi
from zoo import FrozenBatchNorm2d as Constants

PAGE = (Path(__file__).parents[1] / "docs/how-to/a-freeze-that-sticks.md").read_text(encoding="utf-8")


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
        self.head = nn.Linear(4, 2)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.head(self.body(images).mean((2, 3)))


class FrozenBatchNorm2d(Constants):
    @classmethod
    def of(cls, norm: nn.BatchNorm2d) -> FrozenBatchNorm2d:
        frozen = cls(norm.num_features, norm.eps)
        for name in ("weight", "bias", "running_mean", "running_var"):
            getattr(frozen, name).copy_(getattr(norm, name).detach())
        return frozen


exec("\n".join(re.findall(r"```python\n(.*?)```", PAGE.partition("## Which")[0], re.DOTALL)), globals())
WAYS = ["again", "override", "fastai", "hook", "replace", "momentum", "tracking", "patch"]
to_eval.__module__, Overriding.__module__ = __name__, __name__  # type: ignore[name-defined]  # noqa: F821


def of(way: str) -> Callable[[nn.Module], None]:
    return globals()[way]


def pretrained(way: str) -> Any:
    """Make a model whose statistics are not those of any batch, and freeze its body."""
    torch.manual_seed(0)
    model = Network()
    norm = model.body[1]
    norm.running_mean.uniform_(-1, 1)
    norm.running_var.uniform_(0.5, 2)
    of(way)(model)
    return model


def train(model: nn.Module, way: str) -> None:
    """Begin an epoch as a loop of this way does."""
    model.train()
    if way == "again":
        getattr(model, "module", model).body.eval()
    if way == "fastai":
        fi.set_train_mode(model)


def new_model(model: Any, way: str) -> Any:
    """Load the state into a model made anew, by code that says nothing of freezing but in its classes."""
    fresh = Overriding() if way == "override" else Network()  # type: ignore[name-defined]  # noqa: F821
    if way == "replace":
        fresh.body[1] = FrozenBatchNorm2d(4)
    fresh.load_state_dict(model.state_dict())
    return fresh


def saved_and_loaded(model: Any, way: str) -> Any:
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


@pytest.fixture(scope="module")
def world() -> Iterator[None]:
    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


OPERATIONS: list[Callable[[Any, str], Any]] = [
    lambda model, way: model,
    lambda model, way: copy.deepcopy(model),
    saved_and_loaded,
    new_model,
    lambda model, way: nn.parallel.DistributedDataParallel(model),
]


def outcome(way: str, operation: Callable[[Any, str], Any]) -> str:
    try:
        model = operation(pretrained(way), way)
    except Exception as error:
        return "fails" if "pickle" in str(error).lower() else repr(error)
    train(model, way)
    norm = getattr(model, "module", model).body[1]
    before = norm.running_mean.clone()
    model(torch.randn(4, 3, 8, 8) + 3)
    return "yes" if torch.equal(before, norm.running_mean) else "no"


def normalises_with(way: str) -> str:
    """See whether an image's output depends on the images beside it."""
    model = pretrained(way)
    train(model, way)
    images = torch.randn(4, 3, 8, 8)
    alone, beside = model.body(images[:2])[0], model.body(images)[0]
    return "running" if torch.allclose(alone, beside, atol=1e-6) else "batch"


def row(way: str) -> str:
    cells = [outcome(way, operation) for operation in OPERATIONS]
    return f"| {way} | {' | '.join(cells)} | {normalises_with(way)} |"


@pytest.mark.parametrize("way", WAYS)
def test_the_table_says_what_each_way_survives(way: str, world: None) -> None:
    assert row(way) in PAGE


def test_a_report_says_of_each_way_what_is_so(world: None) -> None:
    for way in set(WAYS) - {"hook"}:
        model = pretrained(way)
        train(model, way)
        norm = fi.inspect(model)["body.1"]
        assert (norm.stats_move, norm.normalises_with) == (fi.Answer.NO, normalises_with(way)), way


def test_with_a_hook_the_flag_says_train_mode_until_the_forward() -> None:
    model = pretrained("hook")
    model.train()
    assert fi.inspect(model)["body.1"].stats_move is fi.Answer.YES
    model(torch.randn(4, 3, 8, 8))
    fi.assert_frozen(model, "body")


def test_a_train_that_is_set_on_an_object_speaks_of_the_first_in_a_copy() -> None:
    model = pretrained("patch")
    assert copy.deepcopy(model).body.train() is model.body


def test_a_norm_that_is_replaced_has_the_same_names_but_for_the_batches() -> None:
    lost = Network().state_dict().keys() ^ pretrained("replace").state_dict().keys()
    assert lost == {"body.1.num_batches_tracked"}


def test_the_table_has_a_row_for_each_way() -> None:
    assert re.findall(r"^\| (\w+) \|", PAGE, re.MULTILINE)[1:] == WAYS
