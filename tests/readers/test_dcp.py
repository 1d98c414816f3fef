"""A folder of torch.distributed.checkpoint: told as the checkpoint that was saved, and never at odds with its model."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed.checkpoint as dcp
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn
from torch.distributed._shard.sharded_tensor.metadata import TensorProperties
from torch.distributed.checkpoint.filesystem import _StorageInfo
from torch.distributed.checkpoint.format_utils import dcp_to_torch_save
from torch.distributed.checkpoint.metadata import MetadataIndex
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_state_dict

import freezeinspect as fi
from freezeinspect.readers.limits import Unreadable
from zoo import ZOO, quiet

RANK = """
import sys
import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import Replicate, Shard, distribute_tensor

folder, rank = sys.argv[1], int(sys.argv[2])
dist.init_process_group("gloo", init_method=f"file://{folder}.store", rank=rank, world_size=2)
mesh = init_device_mesh("cpu", (2,))
whole = torch.load(f"{folder}.pt")
ways = {"rows": Shard(0), "one": Shard(0), "columns": Shard(1), "both": Replicate()}
dcp.save({name: distribute_tensor(whole[name], mesh, [way]) for name, way in ways.items()}, checkpoint_id=folder)
dist.destroy_process_group()
"""


class Evil:
    """What runs a command when it is unpickled."""

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
        return os.system, ("true",)


def saved(value: dict[str, Any], folder: Path) -> Path:
    with quiet():
        dcp.save(value, checkpoint_id=folder)
    return folder


def with_metadata(folder: Path, change: Callable[[Any], Any]) -> Path:
    """Write a folder's .metadata anew, with something changed."""
    metadata = pickle.loads((folder / ".metadata").read_bytes())
    (folder / ".metadata").write_bytes(pickle.dumps(change(metadata) or metadata))
    return folder


def with_items(folder: Path, **changed: Any) -> Path:
    """Say another thing of each item."""

    def change(metadata: Any) -> None:
        metadata.storage_data = {
            index: _StorageInfo(**{**vars(info), **changed}) for index, info in metadata.storage_data.items()
        }

    return with_metadata(folder, change)


def trained() -> tuple[nn.Module, torch.optim.Optimizer]:
    """Give a model with two groups, after one step."""
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
    named = list(model.named_parameters())
    groups = [{"params": named[:4], "lr": 0.25}, {"params": named[4:], "lr": 0.5, "weight_decay": 0.125}]
    optimizer = torch.optim.AdamW(groups)
    model(torch.ones(5, 3)).sum().backward()
    optimizer.step()
    return model, optimizer


class TestAStateDict:
    @pytest.mark.parametrize("name", ["residual", "norms", "nested", "llama"])
    def test_is_told_as_that_of_torch_save(self, name: str, tmp_path: Path) -> None:
        state = {key: one for key, one in ZOO[name]().model.state_dict().items() if isinstance(one, torch.Tensor)}
        state = {key: one.clone() for key, one in state.items()}  # what is tied is written twice
        with quiet():
            torch.save(state, tmp_path / "model.pt")
        folder = saved(state, tmp_path / "model")
        assert fi.inspect(folder, values=True) == fi.inspect(tmp_path / "model.pt", values=True)
        assert not fi.diff(tmp_path / "model.pt", folder)
        assert not fi.diff(folder, tmp_path / "model.pt", exact=True)

    def test_never_contradicts_the_model(self, tmp_path: Path) -> None:
        model = ZOO["residual"]().model
        model.requires_grad_(False)
        found = fi.diff(model, saved(model.state_dict(), tmp_path / "model"))
        assert not found
        assert {str(one.changed) for one in found.differences.values} == {"no"}

    def test_has_the_names_shapes_and_dtypes_that_torch_loads(self, tmp_path: Path) -> None:
        folder = saved({"model": ZOO["residual"]().model.state_dict()}, tmp_path / "model")
        with quiet():
            dcp_to_torch_save(folder, tmp_path / "model.pt")
        assert fi.inspect(folder, values=True) == fi.inspect(tmp_path / "model.pt", values=True)

    def test_requires_a_gradient_only_where_it_says_so(self, tmp_path: Path) -> None:
        """A no is what detaching makes of any tensor."""
        state = {"a.weight": torch.ones(2, requires_grad=True), "b.weight": torch.ones(2)}
        report = fi.inspect(saved(state, tmp_path / "model"))
        assert str(report["a"].requires_grad) == "yes"
        assert str(report["b"].requires_grad) == "unknown"

    def test_is_found_by_its_metadata_too(self, tmp_path: Path) -> None:
        folder = saved(nn.Linear(2, 2).state_dict(), tmp_path / "model")
        assert fi.inspect(folder / ".metadata", values=True) == fi.inspect(folder, values=True)

    def test_without_planner_data_has_its_dotted_names(self, tmp_path: Path) -> None:
        folder = saved({"model": nn.Linear(2, 2).state_dict()}, tmp_path / "model")
        with_metadata(folder, lambda metadata: setattr(metadata, "planner_data", None))
        report = fi.inspect(folder)
        assert report.source.content == "a state_dict"
        assert list(report.snapshot.structure.paths) == ["", "model"]

    def test_of_an_older_torch_is_told_alike(self, tmp_path: Path) -> None:
        """Before 2.3 a tensor's properties were of another class, pickled in the same way."""
        folder = saved({"w": torch.ones(2, dtype=torch.int16)}, tmp_path / "model")

        def older(metadata: Any) -> None:
            metadata.state_dict_metadata["w"].properties = TensorProperties(dtype=torch.int16)
            del metadata.storage_meta

        (tensor,) = fi.inspect(with_metadata(folder, older)).snapshot.structure.tensors
        assert (tensor.shape, tensor.dtype) == ((2,), "int16")
        assert fi.inspect(folder).observed.imports == ()

    @settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(data=st.data())
    def test_of_which_any_element_changes_is_found(self, data: st.DataObject, tmp_path: Path) -> None:
        model = ZOO["residual"]().model
        before = saved({"model": model.state_dict()}, tmp_path / "before")
        state = model.state_dict()
        name = data.draw(st.sampled_from(sorted(state)))
        at = data.draw(st.integers(0, state[name].numel() - 1))
        state[name].view(-1)[at] += 1
        found = fi.diff(before, saved({"model": state}, tmp_path / "after"))
        assert [one.name for one in found.differences.values if str(one.changed) == "yes"] == [name]


class TestATensor:
    @pytest.mark.parametrize(
        "tensor",
        [
            torch.arange(24.0).reshape(1, 2, 3, 4).contiguous(memory_format=torch.channels_last),
            torch.arange(6.0).reshape(2, 3).t(),
            torch.arange(6.0)[::2],
            torch.tensor(3),
            torch.ones(0, 3),
            torch.arange(4).to(torch.bfloat16),
            torch.tensor([1 + 2j]),
        ],
        ids=["channels_last", "transposed", "strided", "scalar", "empty", "bfloat16", "complex"],
    )
    def test_has_the_fingerprint_that_it_has_alive(self, tensor: torch.Tensor, tmp_path: Path) -> None:
        live = nn.Module()
        live.register_buffer("b", tensor)
        (found,) = fi.inspect(saved({"b": tensor}, tmp_path / "model"), values=True).snapshot.fingerprints
        (expected,) = fi.inspect(live, values=True).snapshot.fingerprints
        assert found == expected
        assert found is not None

    def test_of_two_ranks_is_one_where_it_was_cut_by_rows(self, tmp_path: Path) -> None:
        whole = {
            "rows": torch.arange(15.0).reshape(5, 3),
            "one": torch.ones(1, 2),
            "columns": torch.arange(12.0).reshape(3, 4),
            "both": torch.arange(4),
        }
        torch.save(whole, tmp_path / "model.pt")
        command = [sys.executable, "-W", "ignore", "-c", RANK, str(tmp_path / "model")]
        ranks = [subprocess.Popen([*command, str(rank)], env={**os.environ, "OMP_NUM_THREADS": "1"}) for rank in (0, 1)]
        assert [rank.wait(60) for rank in ranks] == [0, 0]
        assert len(list((tmp_path / "model").glob("*.distcp"))) == 2
        found = fi.diff(tmp_path / "model", tmp_path / "model.pt", exact=True).differences
        assert not found.structure
        assert {one.name: str(one.changed) for one in found.values} == {
            **dict.fromkeys(whole, "no"),
            "columns": "unknown",
        }

    @pytest.mark.parametrize(
        "changed",
        [{"offset": 64}, {"length": 100}, {"transform_descriptors": ["stream.zstd/1"]}],
        ids=["elsewhere", "shorter", "packed"],
    )
    def test_whose_item_is_not_as_said_has_no_fingerprint(self, changed: dict[str, Any], tmp_path: Path) -> None:
        folder = with_items(saved({"w": torch.ones(3), "v": torch.ones(400)}, tmp_path / "model"), **changed)
        report = fi.inspect(folder, values=True)
        assert report.snapshot.fingerprints == (None, None)
        assert [tensor.shape for tensor in report.snapshot.structure.tensors] == [(3,), (400,)]

    def test_with_another_tensors_item_has_no_fingerprint(self, tmp_path: Path) -> None:
        folder = saved({"w": torch.ones(3), "v": torch.ones(4)}, tmp_path / "model")

        def swapped(metadata: Any) -> None:
            one, other = metadata.storage_data
            items = metadata.storage_data
            items[one], items[other] = items[other], items[one]

        assert fi.inspect(with_metadata(folder, swapped), values=True).snapshot.fingerprints == (None, None)


class TestATrainingCheckpoint:
    def test_is_told_as_that_of_torch_save(self, tmp_path: Path) -> None:
        model, optimizer = trained()
        state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "epoch": 3}
        with quiet():
            torch.save(state, tmp_path / "model.pt")
        report = fi.inspect(saved(state, tmp_path / "model"))
        assert report == fi.inspect(tmp_path / "model.pt")
        assert [group.lr for group in report.snapshot.optimizers[0].groups] == [0.25, 0.5]
        assert report.source.content == "a state_dict under 'model'"

    @pytest.mark.parametrize("flat", [False, True])
    def test_names_an_optimizers_tensors_as_get_state_dict_does(self, flat: bool, tmp_path: Path) -> None:
        """A flat one does not say which parameters were in one group, so that it is named and not told."""
        model, optimizer = trained()
        options = StateDictOptions(flatten_optimizer_state_dict=flat)
        weights, state = get_state_dict(model, optimizer, options=options)
        report = fi.inspect(saved({"model": weights, "optim": state}, tmp_path / "model"))
        told = "; not told: 1 optimizer's state" if flat else ""
        assert report.source.content == f"a state_dict under 'model'{told}"
        assert [group.parameters for one in report.snapshot.optimizers for group in one.groups] == [4, 2] * (not flat)
        assert report.snapshot.groups[-1:] == ((None,) if flat else ((1,),))[: len(report.snapshot.groups)]

    def test_with_its_model_at_the_top_is_found(self, tmp_path: Path) -> None:
        """So torchtitan saves: the model's own names beside one that has the optimizer."""
        model, optimizer = trained()
        options = StateDictOptions(flatten_optimizer_state_dict=True)
        weights, state = get_state_dict(model, optimizer, options=options)
        report = fi.inspect(saved({**weights, "optimizer": state, "step": 3}, tmp_path / "model"))
        assert report.source.content == "a state_dict; not told: 1 optimizer's state"
        assert list(report.snapshot.structure.paths) == ["", "0", "1", "2"]

    def test_has_others_that_a_key_chooses(self, tmp_path: Path) -> None:
        state = {"model": nn.Linear(2, 2).state_dict(), "ema": nn.Linear(3, 3).state_dict()}
        folder = saved(state, tmp_path / "model")
        assert fi.inspect(folder).source.content == "a state_dict under 'model' (also there: 'ema'; --key chooses)"
        assert fi.inspect(folder, key="ema").snapshot.structure.tensors[0].shape == (3, 3)
        with pytest.raises(Unreadable, match="has no model under key 'x'; it has one under 'model', 'ema'"):
            fi.inspect(folder, key="x")

    def test_of_an_optimizer_alone_has_no_model(self, tmp_path: Path) -> None:
        folder = saved(trained()[1].state_dict(), tmp_path / "model")
        with pytest.raises(Unreadable, match="it holds an optimizer's state and no model"):
            fi.inspect(folder)


class TestWhatLoadingWouldImport:
    def test_is_nothing_beyond_torchs_own(self, tmp_path: Path) -> None:
        model, optimizer = trained()
        state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "epoch": 3}
        assert fi.inspect(saved(state, tmp_path / "model")).observed.imports == ()

    def test_is_told_of_the_metadata(self, tmp_path: Path) -> None:
        folder = saved({"w": torch.ones(2)}, tmp_path / "model")
        with_metadata(folder, lambda metadata: setattr(metadata, "storage_meta", Evil()))
        assert fi.inspect(folder).observed.imports == (f"{os.system.__module__}.system",)

    def test_is_told_of_the_values_in_its_files(self, tmp_path: Path) -> None:
        """torch loads each of them with weights_only=False."""
        folder = saved({"model": {"w": torch.ones(2)}, "extra": Evil()}, tmp_path / "model")
        assert fi.inspect(folder).observed.imports == (f"{os.system.__module__}.system",)


class TestAFolderThatIsNotAsItShouldBe:
    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        return saved({"model": {"w": torch.ones(3)}, "epoch": 3}, tmp_path / "model")

    @staticmethod
    def refused(folder: Path, said: str) -> None:
        with pytest.raises(Unreadable) as error:
            fi.inspect(folder)
        assert str(error.value).startswith(f"{folder}: {said}")

    def test_is_refused_where_its_metadata_is_cut_off(self, folder: Path) -> None:
        metadata = folder / ".metadata"
        metadata.write_bytes(metadata.read_bytes()[:200])
        self.refused(folder, "after byte ")

    def test_is_refused_where_its_metadata_holds_something_else(self, folder: Path) -> None:
        (folder / ".metadata").write_bytes(pickle.dumps({"a": 1}))
        self.refused(folder, "a .metadata that holds a dict with 'a', and no Metadata of torch.distributed.checkpoint")

    def test_is_refused_where_an_entry_is_something_else(self, folder: Path) -> None:
        with_metadata(folder, lambda metadata: metadata.state_dict_metadata.update(epoch=3))
        self.refused(folder, "a .metadata in which 'epoch' is neither tensor nor bytes; get the folder again")

    def test_is_refused_where_a_file_is_missing(self, folder: Path) -> None:
        (folder / "__0_0.distcp").unlink()
        self.refused(folder, "its '__0_0.distcp': no such file or directory; name a file that can be read")

    @pytest.mark.parametrize("name", [".metadata", "__0_0.distcp"])
    def test_is_refused_where_a_file_is_a_pipe(self, name: str, folder: Path) -> None:
        (folder / name).unlink()
        os.mkfifo(folder / name)
        with pytest.raises(Unreadable, match="a pipe; name a regular file"):
            fi.inspect(folder)

    def test_is_refused_where_a_file_is_cut_off(self, folder: Path) -> None:
        os.truncate(folder / "__0_0.distcp", 1000)
        self.refused(folder, "its '__0_0.distcp' has 1,000 bytes, and an item of it ends after ")

    @pytest.mark.parametrize("path", ["../x", "/etc/passwd", "..", "", "a/b", 3, None])
    def test_is_refused_where_it_leads_elsewhere(self, path: Any, folder: Path) -> None:
        self.refused(with_items(folder, relative_path=path), f"a .metadata that names {str(path)!r}, which is no file")

    @pytest.mark.parametrize("changed", [{"offset": -1}, {"length": "3"}, {"length": -9}])
    def test_is_refused_where_an_item_has_no_place(self, changed: dict[str, Any], folder: Path) -> None:
        self.refused(with_items(folder, **changed), "a .metadata with an item of '__0_0.distcp' that has no place")

    def test_is_refused_where_a_value_is_no_zip(self, folder: Path) -> None:
        def change(metadata: Any) -> None:
            metadata.storage_data[MetadataIndex("epoch")] = _StorageInfo("__0_0.distcp", 7, 100)

        self.refused(with_metadata(folder, change), "its 'epoch' in '__0_0.distcp', byte 7: a zip that does not end")

    def test_is_refused_where_a_value_has_values_in_it(self, folder: Path) -> None:
        with_metadata(folder, lambda metadata: metadata.planner_data.update({"epoch": ("model", "w", "x")}))
        self.refused(folder, "a .metadata in which 'w' is a value and has values in it; get the folder again")

    def test_with_more_values_than_any_model_has_is_refused(self, tmp_path: Path) -> None:
        folder = saved({"w": torch.ones(3), "large": "x" * 5_000_000}, tmp_path / "model")
        self.refused(folder, "its values that are no tensors have at least 5,001,")

    def test_with_many_equal_values_is_none_such(self, tmp_path: Path) -> None:
        """An optimizer that was saved flat has each group's values once for each parameter."""
        flat = {f"param_groups.{i}.{name}": value for i in range(2000) for name, value in (("lr", 0.5), ("eps", 1e-8))}
        folder = saved({"model": {"w": torch.ones(3)}, "optimizer": flat}, tmp_path / "model")
        assert (folder / "__0_0.distcp").stat().st_size > 2**22
        assert fi.inspect(folder).source.content == "a state_dict under 'model'; not told: 1 optimizer's state"
