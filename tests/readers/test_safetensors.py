"""safetensors files: what their header says, and what they have lost."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file, save_model

import freezeinspect as fi
from freezeinspect.fingerprint import of_tensor
from freezeinspect.readers.limits import Unreadable
from freezeinspect.readers.safetensors import DTYPES
from freezeinspect.state import UNKNOWN
from zoo import ZOO, Residual

SAVED = ["plain_cnn", "residual", "transformer", "lstm", "nested", "norms", "lora", "bfloat16", "resnet", "segformer"]


def written(header: Any, data: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


@pytest.mark.parametrize("name", SAVED)
def test_the_names_shapes_dtypes_and_values_are_those_of_the_model(name: str, tmp_path: Path) -> None:
    model = ZOO[name]().model
    save_file(model.state_dict(), tmp_path / "model.safetensors")
    report = fi.inspect(tmp_path / "model.safetensors", values=True)
    structure, prints = report.snapshot.structure, report.snapshot.fingerprints
    found = {structure.full_name(i): prints[i] for i in range(len(prints))}
    assert found == {name: of_tensor(tensor) for name, tensor in load_file(tmp_path / "model.safetensors").items()}
    assert not fi.diff(model, tmp_path / "model.safetensors")


def test_what_the_format_has_lost_is_unknown(tmp_path: Path) -> None:
    model = Residual()
    save_model(model, str(tmp_path / "model.safetensors"))
    report = fi.inspect(tmp_path / "model.safetensors")
    assert (report.source.format, report.source.content) == ("safetensors", "a state_dict")
    bn = report["layer1.bn"]
    assert (bn.training, bn.requires_grad, bn.stats_move, bn.type) == (UNKNOWN, UNKNOWN, UNKNOWN, None)
    assert report.observed.imports == ()


@pytest.mark.parametrize("dtype", sorted(DTYPES.values()))
def test_every_dtype_is_read(dtype: str, tmp_path: Path) -> None:
    tensor = torch.zeros(2, 3).to(getattr(torch, dtype))
    save_file({"w": tensor}, tmp_path / "one.safetensors")
    snapshot = fi.inspect(tmp_path / "one.safetensors", values=True).snapshot
    assert (snapshot.structure.tensors[0].dtype, snapshot.structure.tensors[0].shape) == (dtype, (2, 3))
    assert snapshot.fingerprints == (of_tensor(tensor),)


@settings(max_examples=30, deadline=None)
@given(at=st.integers(0, 10**6), bit=st.integers(0, 7))
def test_any_one_bit_that_changes_is_found(at: int, bit: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("bits")
    save_file(Residual().state_dict(), folder / "one.safetensors")
    content = bytearray((folder / "one.safetensors").read_bytes())
    data = 8 + int.from_bytes(content[:8], "little")
    content[data + at % (len(content) - data)] ^= 1 << bit
    (folder / "other.safetensors").write_bytes(content)
    found = fi.diff(folder / "one.safetensors", folder / "other.safetensors")
    assert sum(len(found.differences.changed(kind)) for kind in ("weights", "stats", "buffers")) == 1


def test_beside_a_file_of_torch_the_values_are_compared(tmp_path: Path) -> None:
    model = Residual()
    save_file(model.state_dict(), tmp_path / "one.safetensors")
    model.head[3].bias.data += 1
    torch.save(model, tmp_path / "other.pt")
    assert fi.diff(tmp_path / "one.safetensors", tmp_path / "other.pt").weights == ("head.3.bias",)


ONE = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (written({"w": ONE}, b"\0" * 3), "a safetensors file of 3 bytes where its tensors take 4"),
        (written({"w": ONE}, b"\0" * 5), "a safetensors file of 5 bytes where its tensors take 4"),
        (written({"w": ONE, "v": ONE}, b"\0" * 4), "a safetensors file whose tensors overlap or leave a gap"),
        (written({"w": {**ONE, "shape": [2]}}, b"\0" * 4), "its tensor 'w' has not as many bytes as its shape takes"),
        (written({"w": {**ONE, "shape": [-1]}}, b"\0" * 4), "its tensor 'w' has no shape and offsets"),
        (written({"w": {**ONE, "shape": "1"}}, b"\0" * 4), "its tensor 'w' has no shape and offsets"),
        (written({"w": {**ONE, "dtype": 4}}, b"\0" * 4), "its tensor 'w' has no dtype"),
        (written({"w": {"dtype": "F32"}}), "its tensor 'w' lacks a dtype, a shape or its offsets"),
        (written({"w": 1}), "its tensor 'w' lacks a dtype, a shape or its offsets"),
        (written({"": ONE}, b"\0" * 4), "the name of a tensor is empty"),
        (written(b'{"w": 1, "w": 2}'), "a safetensors file with one name twice in its header"),
        (written(b"{" * 100_000), "a safetensors file whose header is no JSON"),
        (written(b'{"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"), "a safetensors file whose header is no JSON"),
        (written({"w": ONE}, b"\0" * 4)[:20], "a safetensors file that was cut off in its header, after 20 bytes"),
        (struct.pack("<Q", 2**31) + b"{", "its header has 2,147,483,648 bytes, and the limit is"),
    ],
)
def test_what_is_damaged_or_made_up_is_one_error(content: bytes, said: str, tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(content)
    with pytest.raises(Unreadable) as error:
        fi.inspect(tmp_path / "model.safetensors", values=True)
    assert str(error.value).removeprefix(f"{tmp_path / 'model.safetensors'}: ").startswith(said)


def test_there_is_no_key_to_choose(tmp_path: Path) -> None:
    save_file({"w": torch.ones(1)}, tmp_path / "model.safetensors")
    with pytest.raises(Unreadable, match="one state_dict, with no key 'ema'; leave the key out"):
        fi.inspect(tmp_path / "model.safetensors", key="ema")


def test_an_empty_one_has_a_root(tmp_path: Path) -> None:
    save_file({}, tmp_path / "model.safetensors")
    assert len(fi.inspect(tmp_path / "model.safetensors")) == 1
