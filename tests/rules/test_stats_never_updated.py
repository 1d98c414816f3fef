"""FI503: statistics as they were made, frozen."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import freezeinspect as fi
from watching import network

CODE = "FI503"


def frozen(dtype: torch.dtype = torch.float32, **options: Any) -> nn.Sequential:
    model = network().to(dtype)
    model[1] = nn.BatchNorm1d(4, dtype=dtype, **options)
    model[:2].requires_grad_(False).eval()
    return model


def hits(model: nn.Module, tmp_path: Path) -> list[str]:
    torch.save(model, tmp_path / "model.pt")
    return [one.path for one in fi.check(tmp_path / "model.pt", select=[CODE])]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_a_frozen_layer_that_no_batch_went_through(dtype: torch.dtype, tmp_path: Path) -> None:
    assert hits(frozen(dtype), tmp_path) == ["1"]


def test_one_batch_is_enough_to_be_silent(tmp_path: Path) -> None:
    model = frozen().train()
    model(torch.randn(8, 4))
    assert not hits(model.eval(), tmp_path)


def test_a_trainable_layer_and_one_that_will_move_are_silent(tmp_path: Path) -> None:
    assert not hits(network().eval(), tmp_path)
    assert not hits(frozen().train(), tmp_path)


def test_a_live_model_is_told_where_its_values_were_asked_for() -> None:
    assert not list(fi.check(frozen(), select=[CODE]))
    assert [one.path for one in fi.check(fi.inspect(frozen(), values=True), select=[CODE])] == ["1"]


def test_a_state_dict_does_not_tell_what_is_frozen(tmp_path: Path) -> None:
    torch.save(frozen().state_dict(), tmp_path / "model.pt")
    assert not list(fi.check(tmp_path / "model.pt", select=[CODE]))
