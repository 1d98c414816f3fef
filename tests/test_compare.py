"""What differs between two snapshots, and never what one side does not know."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import freezeinspect as fi
from freezeinspect.compare import Change, compare
from freezeinspect.patterns import MatchesNothing
from freezeinspect.state import NO, UNKNOWN, YES
from zoo import ZOO, Residual


def values(model: nn.Module) -> Any:
    return fi.inspect(model, values=True).snapshot


@pytest.mark.parametrize("name", ZOO)
def test_two_that_are_built_alike_differ_in_nothing(name: str) -> None:
    one, other = ZOO[name]().model, ZOO[name]().model
    found = compare(values(one), values(other))
    assert (found.structure, found.flags) == ((), ())
    assert {each.changed for each in found.values} <= {NO, UNKNOWN}
    assert not fi.diff(one, other)


@settings(max_examples=40, deadline=None)
@given(data=st.data())
@pytest.mark.parametrize("name", ["residual", "nested", "layouts", "bfloat16", "tied"])
def test_any_one_element_that_changes_is_found_and_no_other(name: str, data: st.DataObject) -> None:
    model = ZOO[name]().model
    before = values(model)
    tensors = [
        tensor for tensor in (*model.parameters(), *model.buffers()) if tensor.numel() and tensor.is_contiguous()
    ]
    one = data.draw(st.sampled_from(range(len(tensors))))
    raw = tensors[one].detach().reshape(-1).view(torch.uint8)
    at = data.draw(st.integers(0, raw.numel() - 1))
    raw[at] = raw[at] ^ (1 if tensors[one].dtype is torch.bool else data.draw(st.integers(1, 255)))
    named = dict(model.named_parameters(remove_duplicate=False)) | dict(model.named_buffers(remove_duplicate=False))
    changed = {name for name, tensor in named.items() if tensor is tensors[one]}
    found = compare(before, values(model))
    assert {one.name for one in found.values if one.changed is YES} == changed
    assert {one.changed for one in found.values if one.name not in changed} <= {NO}


def test_without_fingerprints_nobody_can_tell() -> None:
    found = fi.diff(fi.inspect(Residual()), fi.inspect(Residual()))
    assert {one.changed for one in found.differences.values} == {UNKNOWN}
    assert found.sentence == "Values were not recorded: inspect(values=True) records them, a run's log has none."
    assert not found


def test_one_difference_is_told_as_one() -> None:
    before, after = nn.Sequential(nn.ReLU()), nn.Sequential(nn.Tanh())
    assert fi.diff(before, after).sentence == "Structure: 1 difference."
    assert fi.diff(before, nn.Sequential(nn.ReLU().eval())).sentence == "Flags: 1 module or parameter differs."


def test_weights_statistics_and_other_buffers_are_told_apart() -> None:
    model = Residual().train()
    before = fi.inspect(model, values=True)
    model.requires_grad_(False)(torch.randn(2, 3, 8, 8))
    found = fi.diff(before, model)
    assert found.weights == ()
    assert set(found.stats) == {name for name, _ in model.named_buffers() if "running_" in name}
    assert {one.name for one in found.differences.changed("buffers")} == {
        name for name, _ in model.named_buffers() if name.endswith("num_batches_tracked")
    }
    assert (found.has("weights"), found.has("stats"), found.has("flags")) == (False, True, True)


def test_flags_are_told_where_both_sides_know_them() -> None:
    before, after = Residual(), Residual()
    after.layer1.bn.eval()
    after.layer2.conv.weight.requires_grad = False
    after.layer3.bn.momentum = 0.5
    after.head.trainable = False
    assert set(compare(values(before), values(after)).flags) == {
        Change("layer1.bn", "training", YES, NO),
        Change("layer2.conv.weight", "requires_grad", YES, NO),
        Change("layer3.bn", "momentum", 0.1, 0.5),
        Change("head", "trainable", fi.Answer.ABSENT, NO),
    }


def test_what_a_state_dict_has_lost_is_no_difference(tmp_path: Any) -> None:
    model = Residual()
    model.layer1.requires_grad_(False).eval()
    torch.save(model.state_dict(), tmp_path / "weights.pt")
    found = fi.diff(model, tmp_path / "weights.pt")
    assert not found
    assert {one.changed for one in found.differences.values} == {NO}


def test_structure_tells_the_topmost_of_what_is_on_one_side() -> None:
    before = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Sequential(nn.Linear(2, 2), nn.ReLU()))
    after = nn.Sequential(nn.Linear(2, 3, bias=False), nn.GELU())
    after[0].weight = nn.Parameter(torch.ones(3, 2, dtype=torch.float64))
    assert compare(values(before), values(after)).structure == (
        Change("1", "type", "torch.nn.modules.activation.ReLU", "torch.nn.modules.activation.GELU"),
        Change("2", "module", "torch.nn.modules.container.Sequential", None),
        Change("0.weight", "shape", (2, 2), (3, 2)),
        Change("0.weight", "dtype", "float32", "float64"),
        Change("0.bias", "tensor", True, False),
    )


def test_a_wrapper_s_part_of_the_names_is_no_difference(tmp_path: Any) -> None:
    model = Residual()
    torch.save(model.state_dict(), tmp_path / "plain.pt")
    torch.save(nn.DataParallel(model).state_dict(), tmp_path / "wrapped.pt")
    for pair in (("plain.pt", "wrapped.pt"), ("wrapped.pt", "plain.pt")):
        found = fi.diff(*(tmp_path / name for name in pair))
        assert not found
        assert len(found.differences.values) == len(model.state_dict())


def test_only_keeps_what_matches() -> None:
    before, after = Residual(), Residual()
    found = fi.diff(before, after)
    assert all(name.startswith("layer1.") for name in found.only("layer1").weights)
    assert found.only("head").weights == ("head.3.weight", "head.3.bias")
    with pytest.raises(MatchesNothing):
        found.only("layer9")


def test_a_frame_has_a_row_for_each_difference() -> None:
    before = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    after = nn.Sequential(nn.Linear(2, 2), nn.ReLU()).requires_grad_(False)
    after.load_state_dict(before.state_dict(), strict=False)
    frame = fi.diff(before, after).to_frame()
    assert list(frame.columns) == ["name", "kind", "before", "after"]
    rows = [tuple(row) for row in frame.itertuples(index=False)]
    assert ("1", "type", "torch.nn.modules.linear.Linear", "torch.nn.modules.activation.ReLU") in rows
    assert ("0.weight", "requires_grad", YES, NO) in rows


def test_a_module_of_another_class_is_told_by_its_short_name() -> None:
    told = str(fi.diff(nn.Sequential(nn.Linear(2, 2)), nn.Sequential(nn.ReLU())))
    assert "Linear" in told
    assert "ReLU" in told
    assert "torch.nn.modules" not in told
