"""Hugging Face's folders: written by transformers, in one file or in shards, and PEFT's with an adapter."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, ClassVar

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
        ("[" * 100_000, "an index of shards whose text is no JSON"),
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


class TestAnAdapter:
    """A folder as PEFT's `save_pretrained` writes it: adapter_config.json beside adapter_model."""

    LORA: ClassVar[dict[str, Any]] = {
        "base_model_name_or_path": "meta-llama/Llama-3.2-1B",
        "bias": "none",
        "fan_in_fan_out": False,
        "inference_mode": True,
        "lora_alpha": 16,
        "lora_dropout": 0.0,
        "modules_to_save": None,
        "peft_type": "LORA",
        "r": 8,
        "target_modules": ["q_proj", "v_proj"],
        "task_type": "CAUSAL_LM",
    }
    WEIGHTS: ClassVar[dict[str, Any]] = {
        f"base_model.model.encoder.layer.0.attention.self.query.lora_{name}.weight": torch.ones(2, 2) for name in "AB"
    }

    def content(self, folder: Path, config: str) -> str | None:
        save_file(self.WEIGHTS, folder / "adapter_model.safetensors")
        (folder / "adapter_config.json").write_text(config, encoding="utf-8")
        return fi.inspect(folder).source.content

    @pytest.mark.parametrize(
        ("changed", "said"),
        [
            ({}, "of type 'LORA' and rank 8 for 'q_proj', 'v_proj' on 'meta-llama/Llama-3.2-1B'"),
            ({"peft_type": "IA3", "r": None, "base_model_name_or_path": None}, "of type 'IA3' for 'q_proj', 'v_proj'"),
            (
                {"base_model_name_or_path": None, "bias": "lora_only", "modules_to_save": ["score"]},
                "of type 'LORA' and rank 8 for 'q_proj', 'v_proj', with bias 'lora_only', with the whole of 'score'",
            ),
            (
                {"target_modules": list("abcdefg"), "base_model_name_or_path": ""},
                "of type 'LORA' and rank 8 for 'a', 'b', 'c', 'd', 'e', …",
            ),
            ({"target_modules": r".*_proj", "r": True}, "of type 'LORA' for '.*_proj' on 'meta-llama/Llama-3.2-1B'"),
            ({"peft_type": "a\x1b[2J", "target_modules": [3]}, r"of type 'a\x1b[2J' and rank 8 on 'meta-llama/Ll"),
        ],
    )
    def test_is_said_by_what_its_config_says(self, changed: dict[str, Any], said: str, tmp_path: Path) -> None:
        content = self.content(tmp_path, json.dumps(self.LORA | changed))
        assert (content or "").startswith(f"a state_dict of an adapter {said}")

    @pytest.mark.parametrize("config", ["", "[" * 100_000, "[]", "3", "{", "{" + " " * 2**20 + "}", '{"r": 1e999}'])
    def test_whose_config_says_nothing_is_told_all_the_same(self, config: str, tmp_path: Path) -> None:
        assert self.content(tmp_path, config) in ("a state_dict", "a state_dict of an adapter")

    @pytest.mark.parametrize("value", [None, {}, [], "", 10**4000, -1, [[]], {"a": 1}, ["x" * 10**5]])
    def test_whose_config_has_odd_values_is_said_in_few_words(self, value: Any, tmp_path: Path) -> None:
        content = self.content(tmp_path, json.dumps(dict.fromkeys(self.LORA, value)))
        assert len(content or "") < 600

    def test_of_torchs_zip_is_said_too(self, tmp_path: Path) -> None:
        torch.save(self.WEIGHTS, tmp_path / "adapter_model.bin")
        (tmp_path / "adapter_config.json").write_text(json.dumps(self.LORA), encoding="utf-8")
        source = fi.inspect(tmp_path).source
        assert source.format == "torch zip"
        assert (source.content or "").startswith("a state_dict of an adapter of type 'LORA' and rank 8")

    def test_whose_config_is_a_pipe_is_told_without_it(self, tmp_path: Path) -> None:
        save_file(self.WEIGHTS, tmp_path / "adapter_model.safetensors")
        os.mkfifo(tmp_path / "adapter_config.json")
        assert fi.inspect(tmp_path).source.content == "a state_dict"
