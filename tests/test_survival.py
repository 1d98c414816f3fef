"""What survives an operation: each row of docs/how-to/what-survives.md, as PyTorch does it."""

from __future__ import annotations

import copy
from pathlib import Path

import torch
import torchinfo
from torch import nn

import freezeinspect as fi

PAGE = (Path(__file__).parents[1] / "docs/how-to/what-survives.md").read_text(encoding="utf-8")


def frozen() -> nn.Sequential:
    model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
    model[0].requires_grad_(False)
    model[1].requires_grad_(False).eval()
    model[1].bn_freeze = True
    return model


def changes(found: fi.Diff) -> set[tuple[str, str]]:
    return {(change.path, change.what) for change in found.differences.flags}


def test_load_state_dict_keeps_every_flag_and_takes_the_values() -> None:
    for assign in (False, True):
        model, state = frozen(), nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Linear(4, 2)).state_dict()
        state["1.running_mean"] += 1
        found = fi.diff(fi.inspect(model, values=True), model)
        assert not found
        before = fi.inspect(model, values=True)
        model.load_state_dict(state, assign=assign)
        found = fi.diff(before, model)
        assert changes(found) == set()
        assert {"0.weight", "2.weight"} <= set(found.weights)
        assert found.stats == ("1.running_mean",)


def test_deepcopy_keeps_all_but_the_attributes_of_parameters() -> None:
    model = frozen()
    model[0].weight.trainable = False
    twin = copy.deepcopy(model)
    assert not fi.diff(model, twin)
    assert not hasattr(twin[0].weight, "trainable")
    assert fi.inspect(model)["0"].stray == ("weight.trainable",)
    assert fi.inspect(twin)["0"].stray == ()


def test_convert_sync_batchnorm_loses_the_attributes() -> None:
    before = fi.inspect(frozen(), values=True)
    found = fi.diff(before, nn.SyncBatchNorm.convert_sync_batchnorm(frozen()))
    assert changes(found) == {("1", "bn_freeze")}
    assert [(change.path, change.what) for change in found.differences.structure] == [("1", "type")]
    assert found.stats == ()


def test_another_dtype_is_another_value_and_no_flag() -> None:
    model = frozen()
    before = fi.inspect(model, values=True)
    found = fi.diff(before, model.to(torch.float64))
    assert changes(found) == set()
    assert {change.what for change in found.differences.structure} == {"dtype"}


def test_train_loses_the_modes() -> None:
    model = frozen()
    before = fi.inspect(model, values=True)
    assert changes(fi.diff(before, model.train())) == {("1", "training")}


def test_a_norm_that_is_replaced_loses_all() -> None:
    model = frozen()
    before = fi.inspect(model, values=True)
    model[1] = nn.BatchNorm1d(4)
    flags = {("1", "training"), ("1", "bn_freeze"), ("1.weight", "requires_grad"), ("1.bias", "requires_grad")}
    assert changes(fi.diff(before, model)) == flags


def unfrozen(module: nn.Module) -> nn.Module:
    """Do what timm's unfreeze does to norms: it needs torchvision, and is not here."""
    for name, child in module.named_children():
        if isinstance(child, FrozenNorm):
            norm = nn.BatchNorm2d(len(child.weight))
            norm.weight.data, norm.bias.data = child.weight.data.clone(), child.bias.data.clone()
            norm.running_mean.data, norm.running_var.data = child.running_mean.data, child.running_var.data
            module.add_module(name, norm)
    return module.requires_grad_(True)


class FrozenNorm(nn.Module):
    """What timm's freeze makes of a norm: all that it has are buffers."""

    def __init__(self, norm: nn.BatchNorm2d) -> None:
        super().__init__()
        for name in ("weight", "bias", "running_mean", "running_var"):
            self.register_buffer(name, getattr(norm, name).detach().clone())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias)


def test_norms_that_timm_makes_anew_are_in_no_optimizer() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Conv2d(4, 2, 1))
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    before = fi.inspect(model, optimizer, values=True)
    model[1] = FrozenNorm(model[1])
    model.requires_grad_(False)
    unfrozen(model)
    assert not fi.diff(before, model)
    assert {one.code for one in fi.check(model, optimizer)} == {"FI201", "FI203"}
    assert [one.path for one in fi.check(model, optimizer, select=["FI201"])] == ["1"]


def test_torchinfo_loses_the_modes_and_in_train_mode_moves_the_statistics() -> None:
    for options, moved in (({}, ()), ({"mode": "train"}, ("1.running_mean", "1.running_var"))):
        model = frozen()
        before = fi.inspect(model, values=True)
        torchinfo.summary(model, input_size=(2, 4), verbose=0, **options)
        found = fi.diff(before, model)
        assert changes(found) == {("1", "training")}
        assert found.stats == moved
        model[1].eval()
        before = fi.inspect(model, values=True)
        fi.inspect(model, input_size=(2, 4))
        assert not fi.diff(before, model)


def test_resize_token_embeddings_reshapes_the_same_parameter() -> None:
    from zoo import ZOO

    model = ZOO["llama"]().model
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    embedding = model.get_input_embeddings().weight.requires_grad_(False)
    old = embedding.detach().clone()
    before = fi.inspect(model, values=True)
    model.resize_token_embeddings(20)
    found = fi.diff(before, model)
    assert {change.path: change.what for change in found.differences.structure} == {
        "model.embed_tokens.weight": "shape",
        "lm_head.weight": "shape",
    }
    assert changes(found) == set()
    assert model.get_input_embeddings().weight is embedding
    assert torch.equal(embedding[:16], old)
    assert fi.inspect(model, optimizer).snapshot.optimizers[0].groups[0].orphans == 0
