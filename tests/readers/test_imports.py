"""What loading a file would import: all of it beyond torch's own, the worst first."""

from __future__ import annotations

import argparse
import functools
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import freezeinspect as fi
from freezeinspect.readers.imports import EXPECTED, beyond
from freezeinspect.readers.standins import Global
from freezeinspect.readers.unpickle import Pickled, unpickle
from zoo import ZOO, Block


class Calls:
    """Be rebuilt by a call."""

    def __init__(self, *call: Any) -> None:
        self.call = call

    def __reduce__(self) -> tuple[Any, ...]:
        function, *args = self.call
        return function, tuple(args)


def imports(value: Any, path: Path) -> tuple[str, ...]:
    torch.save(value, path / "model.pt")
    return fi.inspect(path / "model.pt").observed.imports


@pytest.mark.parametrize("name", ["plain_cnn", "residual", "shared", "meta", "sparse", "quantised_norm", "bfloat16"])
def test_of_a_plain_model_there_are_none(name: str, tmp_path: Path) -> None:
    assert imports(ZOO[name]().model, tmp_path) == ()


@pytest.mark.parametrize(
    ("extra", "named"),
    [
        (subprocess.run, ("subprocess.run",)),
        (functools.partial(print), ("builtins.print", "functools.partial")),
        (argparse.Namespace(a=1), ("argparse.Namespace",)),
        ({1, 2}, ()),
        (torch.float8_e4m3fn, ()),
        (torch.hub.list, ("torch.hub.list",)),
        (Calls(eval, "1"), ("builtins.eval",)),
    ],
    ids=["function", "partial", "namespace", "set", "dtype", "function of torch", "call"],
)
def test_each_global_is_named(extra: Any, named: tuple[str, ...], tmp_path: Path) -> None:
    assert imports({"model": Block(2), "extra": extra}, tmp_path) == named


def test_the_worst_come_first(tmp_path: Path) -> None:
    extra = [argparse.Namespace(), Calls(torch.hub.list, "x"), Calls(eval, "1"), nn.ReLU()]
    assert imports({"model": Block(2), "extra": extra}, tmp_path) == (
        "builtins.eval",
        "argparse.Namespace",
        "torch.hub.list",
    )


@pytest.mark.parametrize(
    ("pickled", "classes", "named"),
    [
        (b"cmine\nNet\n)\x81.", {"mine.Net"}, ()),
        (b"cmine\nNet\n)R.", {"mine.Net"}, ("mine.Net",)),
        (b"cmine\nNet\n)\x81(imine\nNet\n0.", {"mine.Net"}, ("mine.Net",)),
        (b"cargparse\nFileType\n)\x81.", {"argparse.FileType"}, ("argparse.FileType",)),
    ],
)
def test_a_class_that_is_called_or_of_the_standard_library_is_never_taken_for_a_module_s(
    pickled: bytes, classes: set[str], named: tuple[str, ...]
) -> None:
    assert beyond(unpickle(pickled), classes) == named


def test_torch_s_own_layers_and_optimizers_are_of_no_concern_unless_they_are_called(tmp_path: Path) -> None:
    optimizer = torch.optim.SGD(nn.Linear(1, 1).parameters())
    assert imports({"model": Block(2), "other": nn.ReLU(), "optimizer": optimizer}, tmp_path) == ()
    assert imports({"model": Block(2), "other": Calls(nn.ReLU)}, tmp_path) == ("torch.nn.modules.activation.ReLU",)


def test_the_function_that_a_layer_of_torch_holds_is_of_no_concern_unless_it_is_called(tmp_path: Path) -> None:
    for activation in ("relu", "gelu"):
        assert imports(nn.TransformerEncoderLayer(4, 1, 4, activation=activation), tmp_path) == ()
    called = {"model": Block(2), "other": Calls(nn.functional.relu, 1)}
    assert imports(called, tmp_path) == ("torch.nn.functional.relu",)


def test_a_storage_of_another_module_is_no_storage() -> None:
    pickled = Pickled(None, (Global("evil", "FloatStorage"), Global("torch", "FloatStorage")), frozenset())
    assert beyond(pickled, set()) == ("evil.FloatStorage",)


def test_nothing_that_is_expected_runs_what_it_is_given() -> None:
    """Each is a class that holds data, a rebuild of torch, or a wrapper that only holds its module."""
    risky = ("eval", "exec", "getattr", "import", "open", "load", "compile", "call", "run", "system", "partial")
    assert [name for name in EXPECTED if any(name.lower().endswith(word) for word in risky)] == []
