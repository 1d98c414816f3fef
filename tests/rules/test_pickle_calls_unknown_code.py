"""FI502: what an unguarded torch.load would run."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import freezeinspect as fi
from watching import network

CODE = "FI502"


class Calls:
    """Pickles as a call of a function."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> Any:
        return self.call


def hits(tmp_path: Path, saved: Any) -> list[fi.Finding]:
    path = tmp_path / "model.pt"
    torch.save(saved, path)
    return list(fi.check(path, select=[CODE]))


@pytest.mark.parametrize(
    ("extra", "severity"),
    [
        (Calls(os.system, "true"), "error"),
        (Calls(eval, "1"), "error"),
        (argparse.Namespace(lr=0.1), "warning"),
        ({"lr": 0.1}, None),
        (Calls(getattr, 1, "real"), None),
    ],
    ids=["os.system", "eval", "args", "plain", "getattr"],
)
def test_a_known_weapon_is_an_error(extra: Any, severity: str | None, tmp_path: Path) -> None:
    found = hits(tmp_path, {"model": network().state_dict(), "extra": extra})
    assert [one.severity for one in found] == [severity] * (severity is not None)


def test_a_function_of_torch_is_not_said_to_be_another_s(tmp_path: Path) -> None:
    (one,) = hits(tmp_path, {"model": network().state_dict(), "extra": Calls(torch.hub.list, "x")})
    what = "would import torch.hub.list, which torch's own files do not"
    assert one.message == f"loading it without weights_only {what}"


def test_its_fix_refuses_the_file(tmp_path: Path) -> None:
    (one,) = hits(tmp_path, {"model": network().state_dict(), "extra": Calls(os.system, "true")})
    with pytest.raises(Exception, match="weights_only"):
        exec(one.fix or "", {"torch": torch})


def test_getattr_beside_a_weapon_is_a_part_of_it(tmp_path: Path) -> None:
    found = hits(
        tmp_path, {"model": network().state_dict(), "extra": [Calls(getattr, 1, "real"), Calls(os.system, "true")]}
    )
    assert [one.severity for one in found] == ["error", "error"]


def test_a_whole_model_of_torch_s_layers_and_a_lazy_one_are_silent(tmp_path: Path) -> None:
    assert not hits(tmp_path, network())
    assert not hits(tmp_path, nn.Sequential(nn.LazyLinear(3)))
