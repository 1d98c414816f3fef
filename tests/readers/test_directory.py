"""Hugging Face's folders: written by transformers, in one file or in shards."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import freezeinspect as fi
from freezeinspect.readers.limits import Unreadable
from zoo import ZOO, quiet


@pytest.fixture(scope="module")
def model() -> nn.Module:
    return ZOO["llama"]().model


def saved(model: Any, folder: Path, **options: Any) -> Path:
    with quiet():
        model.save_pretrained(folder, **options)
    return folder


def agrees(model: nn.Module, path: Path) -> None:
    found = fi.diff(model, path)
    assert not found.weights
    assert {change.path for change in found.differences.structure} <= {"lm_head", "lm_head.weight"}  # tied, saved once
    assert {str(one.changed) for one in found.differences.values} == {"no"}


def test_one_file_is_found_in_its_folder(model: nn.Module, tmp_path: Path) -> None:
    agrees(model, saved(model, tmp_path / "model"))
    assert fi.inspect(tmp_path / "model").source.format == "safetensors"


def test_shards_are_one_model(model: nn.Module, tmp_path: Path) -> None:
    folder = saved(model, tmp_path / "model", max_shard_size="2KB")
    shards = sorted(folder.glob("*.safetensors"))
    assert len(shards) > 2
    agrees(model, folder)
    agrees(model, folder / "model.safetensors.index.json")
    source = fi.inspect(folder).source
    assert (source.path, source.format, source.content) == (
        str(folder),
        f"{len(shards)} shards of safetensors",
        "a state_dict",
    )


def test_shards_of_torch_s_zips_are_read_alike(tmp_path: Path) -> None:
    model = ZOO["residual"]().model
    state = model.state_dict()
    names = list(state)
    halves = {"a.bin": names[:9], "b.bin": names[9:]}
    for file, some in halves.items():
        torch.save({name: state[name] for name in some}, tmp_path / file)
    index = {"weight_map": {name: file for file, some in halves.items() for name in some}}
    (tmp_path / "pytorch_model.bin.index.json").write_text(json.dumps(index), encoding="utf-8")
    assert not fi.diff(model, tmp_path)
    assert not fi.diff(tmp_path, tmp_path)
    assert fi.inspect(tmp_path).source.format == "2 shards of torch zip"


def test_any_shard_that_changes_is_found(model: nn.Module, tmp_path: Path) -> None:
    one = saved(model, tmp_path / "one", max_shard_size="2KB")
    twin = ZOO["llama"]().model
    twin.model.layers[1].mlp.up_proj.weight.data[0, 0] += 1
    other = saved(twin, tmp_path / "other", max_shard_size="2KB")
    assert fi.diff(one, other).weights == ("model.layers.1.mlp.up_proj.weight",)


def test_a_missing_shard_is_said(model: nn.Module, tmp_path: Path) -> None:
    folder = saved(model, tmp_path / "model", max_shard_size="2KB")
    sorted(folder.glob("*.safetensors"))[1].unlink()
    with pytest.raises(Unreadable, match="no such file or directory"):
        fi.inspect(folder)


@pytest.mark.parametrize(
    ("index", "said"),
    [
        ('{"weight_map": {"w": "../model.safetensors"}}', "an index that names '../model.safetensors'"),
        ('{"weight_map": {"w": "/etc/passwd"}}', "an index that names '/etc/passwd'"),
        ('{"weight_map": {"w": ".."}}', "an index that names '..'"),
        ('{"weight_map": {"w": 3}}', "an index that names '3'"),
        ('{"weight_map": ["w"]}', "an index of shards without a weight_map"),
        ("[" * 100_000, "an index of shards without a weight_map"),
        ("{}", "an index of shards without a weight_map"),
        ('{"weight_map": {}}', "an index of shards that names none"),
    ],
)
def test_an_index_that_leads_elsewhere_is_refused(index: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "model.safetensors.index.json").write_text(index, encoding="utf-8")
    with pytest.raises(Unreadable) as error:
        fi.inspect(tmp_path)
    assert str(error.value).removeprefix(f"{tmp_path}: ").startswith(said)


def test_two_shards_with_one_name_are_refused(tmp_path: Path) -> None:
    for name in ("a.safetensors", "b.safetensors"):
        save_file({"w": torch.ones(1)}, tmp_path / name)
    index = {"weight_map": {"w": "a.safetensors", "v": "b.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
    with pytest.raises(Unreadable, match="two of its shards have the tensor 'w'"):
        fi.inspect(tmp_path)


def test_a_folder_without_weights_is_said(tmp_path: Path) -> None:
    with pytest.raises(
        Unreadable, match=r"a folder with none of model\.safetensors\.index\.json, .* name a file in it"
    ):
        fi.inspect(tmp_path)
