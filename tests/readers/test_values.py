"""Values in files: whichever element of whichever tensor changes, in whichever format, it is found."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import nn

import freezeinspect as fi
from zoo import Residual, quiet


def a_module(model: nn.Module, path: Path) -> None:
    torch.save(model, path)


def a_state_dict(model: nn.Module, path: Path) -> None:
    torch.save(model.state_dict(), path)


def the_old_format(model: nn.Module, path: Path) -> None:
    torch.save(model.state_dict(), path, _use_new_zipfile_serialization=False)


def torchscript(model: nn.Module, path: Path) -> None:
    with quiet():
        torch.jit.script(model).save(path)


def safetensors(model: nn.Module, path: Path) -> None:
    save_file(model.state_dict(), path)


WRITERS = (a_module, a_state_dict, the_old_format, torchscript, safetensors)


@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("write", WRITERS)
@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_change_of_any_one_element_of_any_one_tensor_is_found_and_nothing_else(
    data: st.DataObject, write: Callable[[nn.Module, Path], Any], exact: bool, tmp_path: Path
) -> None:
    model = Residual()
    write(model, tmp_path / "before")
    name = data.draw(st.sampled_from(sorted(model.state_dict())))
    elements = model.state_dict()[name].view(-1)
    elements[data.draw(st.integers(0, len(elements) - 1))] += 1
    write(model, tmp_path / "after")
    found = fi.diff(tmp_path / "before", tmp_path / "after", exact=exact)
    assert [one.name for kind in ("weights", "stats", "buffers") for one in found.differences.changed(kind)] == [name]
    assert not found.differences.unknown()
    prints = [fi.inspect(tmp_path / side, values=True).snapshot.fingerprints for side in ("before", "after")]
    assert sum(one != other for one, other in zip(*prints, strict=True)) == 1
