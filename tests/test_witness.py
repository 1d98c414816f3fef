"""The witness notices each kind of change, names its place, and sees none where there is none."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import Any

import numpy
import pytest
import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook
from torch.optim import SGD

from witness import unchanged
from zoo import ZOO, Specimen, quiet

Change = Callable[[nn.Module, SGD], Any]

CHANGES: dict[str, tuple[Change, str]] = {
    "mode": (lambda m, o: m.layer1.bn.eval(), "layer1.bn.training: True -> False"),
    "mode of the root": (lambda m, o: setattr(m, "training", False), "training: True -> False"),
    "requires_grad": (
        lambda m, o: m.layer1.conv.weight.requires_grad_(False),
        "layer1.conv.weight.requires_grad: True -> False",
    ),
    "set attribute": (lambda m, o: setattr(m.layer1, "trainable", True), "layer1.trainable: absent -> True"),
    "reset attribute": (lambda m, o: setattr(m.layer2, "trainable", True), "layer2.trainable: False -> True"),
    "delete attribute": (lambda m, o: delattr(m.layer2, "trainable"), "layer2.trainable: False -> absent"),
    "append to a list": (lambda m, o: m.settings["depths"].append(3), "settings['depths'][1]: absent -> 3"),
    "write into a list": (
        lambda m, o: m.settings["depths"].__setitem__(0, 3),
        "settings['depths'][0]: 2 -> 3",
    ),
    "insert into a dict": (lambda m, o: m.settings.update(new=1), "settings['new']: absent -> 1"),
    "add to a set": (
        lambda m, o: m.layer1.bn._non_persistent_buffers_set.add("running_var"),
        "layer1.bn._non_persistent_buffers_set['running_var']: absent -> 'running_var'",
    ),
    "write into an array": (lambda m, o: m.settings["mean"].fill(1), "settings['mean'].values: "),
    "write": (lambda m, o: m.layer1.bn.running_mean.add_(1), "layer1.bn.running_mean.values: "),
    "write through data": (lambda m, o: m.head[3].weight.data.add_(1), "head.3.weight.values: "),
    "write through numpy": (
        lambda m, o: m.head[3].weight.detach().numpy().fill(2),
        "head.3.weight.values: ",
    ),
    "negative zero": (lambda m, o: m.head[3].bias.data[0].fill_(0.0), "head.3.bias.values: "),
    "version": (lambda m, o: m.layer1.bn.running_var.mul_(1), "layer1.bn.running_var._version: "),
    "swap memory": (
        lambda m, o: setattr(m.layer1.bn.weight, "data", m.layer1.bn.weight.data.clone()),
        "layer1.bn.weight.memory: ",
    ),
    "dtype": (lambda m, o: m.layer1.bn.half(), "layer1.bn.running_mean: <Tensor "),
    "dtype in place": (lambda m, o: m.layer1.bn.half(), "layer1.bn.weight.form: [torch.float32, "),
    "replace parameter": (
        lambda m, o: setattr(m.layer1.bn, "weight", nn.Parameter(m.layer1.bn.weight.detach())),
        "layer1.bn.weight: <Parameter ",
    ),
    "replace buffer": (
        lambda m, o: m.layer1.bn._buffers.update(running_mean=m.layer1.bn.running_mean.clone()),
        "layer1.bn.running_mean: <Tensor ",
    ),
    "remove buffer": (
        lambda m, o: m.layer1.bn._buffers.pop("running_mean"),
        "layer1.bn.running_mean: <Tensor ",
    ),
    "attribute of a parameter": (
        lambda m, o: setattr(m.layer1.conv.weight, "tag", 1),
        "layer1.conv.weight.tag: absent -> 1",
    ),
    "set grad": (
        lambda m, o: setattr(m.stem[0].weight, "grad", torch.zeros_like(m.stem[0].weight)),
        "stem.0.weight.grad: None -> <Tensor ",
    ),
    "drop grad": (lambda m, o: o.zero_grad(), "head.3.bias.grad: <Tensor "),
    "replace grad": (
        lambda m, o: setattr(m.head[3].bias, "grad", m.head[3].bias.grad.clone()),
        "head.3.bias.grad: <Tensor ",
    ),
    "write into grad": (lambda m, o: m.head[3].bias.grad.data.add_(1), "head.3.bias.grad.values: "),
    "forward hook": (lambda m, o: m.layer1.register_forward_hook(print), "layer1._forward_hooks["),
    "forward pre-hook": (lambda m, o: m.register_forward_pre_hook(print), "_forward_pre_hooks["),
    "backward hook": (lambda m, o: m.layer1.register_full_backward_hook(print), "layer1._backward_hooks["),
    "state dict hook": (
        lambda m, o: m.layer1.register_state_dict_pre_hook(print),
        "layer1._state_dict_pre_hooks[",
    ),
    "tensor hook": (
        lambda m, o: m.head[3].weight.register_hook(print),
        "head.3.weight._backward_hooks: None -> <OrderedDict ",
    ),
    "second tensor hook": (
        lambda m, o: m.head[3].bias.register_hook(print),
        "head.3.bias._backward_hooks[",
    ),
    "accumulate hook": (
        lambda m, o: m.head[3].weight.register_post_accumulate_grad_hook(print),
        "head.3.weight._post_accumulate_grad_hooks: None -> <OrderedDict ",
    ),
    "add child": (lambda m, o: m.add_module("extra", nn.ReLU()), "extra: absent -> <ReLU "),
    "remove child": (lambda m, o: m._modules.pop("layer3"), "layer3: <Block "),
    "rename child": (
        lambda m, o: m.add_module("layer9", m._modules.pop("layer3")),
        "layer9: absent -> <Block ",
    ),
    "replace child": (lambda m, o: setattr(m.head, "2", nn.Dropout()), "head.2: <Dropout "),
    "reorder children": (
        lambda m, o: m.add_module("layer1", m._modules.pop("layer1")),
        "_modules: order ['stem']",
    ),
    "class": (lambda m, o: setattr(m.layer1, "__class__", nn.Module), "layer1.__class__: <type "),
    "torch generator": (lambda m, o: torch.rand(1), "process.torch_rng: "),
    "python generator": (lambda m, o: random.random(), "process.python_rng: "),
    "numpy generator": (lambda m, o: numpy.random.rand(), "process.numpy_rng: "),
    "optimizer state": (
        lambda m, o: o.state[m.stem[0].weight],
        "optimizer.state[stem.0.weight]: absent -> <dict ",
    ),
    "momentum": (
        lambda m, o: o.state[m.head[3].bias]["momentum_buffer"].add_(1),
        "optimizer.state[head.3.bias]['momentum_buffer'].values: ",
    ),
    "lr": (lambda m, o: o.param_groups[0].update(lr=0.2), "optimizer.param_groups[0]['lr']: 0.1 -> 0.2"),
    "parameter group": (
        lambda m, o: o.add_param_group({"params": list(m.stem.parameters())}),
        "optimizer.param_groups[1]: absent -> <dict ",
    ),
    "parameter in a group": (
        lambda m, o: o.param_groups[0]["params"].pop(),
        "optimizer.param_groups[0]['params'][7]: <Parameter ",
    ),
    "step hook": (
        lambda m, o: o.register_step_post_hook(print),
        "optimizer._optimizer_step_post_hooks[",
    ),
}

ODD: dict[str, tuple[Callable[[nn.Module], Any], str]] = {
    "lazy": (lambda m: m[0](torch.randn(2, 4)), "0.weight.__class__: <_ParameterMeta "),
    "scripted": (lambda m: getattr(m, "1").eval(), "1.training: True -> False"),
    "spectral_norm_parametrized": (lambda m: m[0].weight, "0.parametrizations.weight.0._u.values: "),
    "spectral_norm_hook": (lambda m: m(torch.randn(2, 4)), "0.weight_u.values: "),
    "weight_norm_hook": (lambda m: m[0].weight.detach_(), "0.weight.grad_fn: <"),
    "sparse": (lambda m: m.mixing._values().mul_(2), "mixing.values: "),
    "meta": (lambda m: m[1].running_mean.add_(1), "1.running_mean._version: 1 -> 2"),
    "sparse_compressed": (lambda m: m.table.values().mul_(2), "table.values: "),
    "quantised_norm": (lambda m: coarsen(m), "table.quantizer: (0.1, 0) -> (0.2, 0)"),
    "llama": (lambda m: m.lm_head.weight.data.add_(1), "model.embed_tokens.weight.values: "),
    "resnet": (lambda m: setattr(m.config, "num_channels", 4), "resnet.config.num_channels: 3 -> 4"),
}


@pytest.fixture
def model() -> nn.Module:
    """Build a model with something to take away."""
    model = ZOO["residual"]().model
    model.settings = {"depths": [2], "mean": numpy.zeros(3)}
    model.layer2.trainable = False
    model.head[3].bias.register_hook(torch.clone)
    return model


@pytest.fixture
def optimizer(model: nn.Module) -> SGD:
    """Take a step with an optimizer that does not own the stem."""
    owned = nn.ModuleList([model.layer1, model.layer2, model.head])
    optimizer = SGD(owned.parameters(), lr=0.1, momentum=0.9)
    model(torch.ones(2, 3, 8, 8)).sum().backward()
    optimizer.step()
    model.stem.zero_grad()
    model.head[3].bias.data[0] = -0.0
    return optimizer


@pytest.fixture(params=ZOO)
def specimen(request: pytest.FixtureRequest) -> Specimen:
    """Build each specimen of the zoo."""
    return ZOO[request.param]()


def lines(error: pytest.ExceptionInfo[AssertionError]) -> list[str]:
    """List the changes that an error names."""
    title, *changes = str(error.value).split("\n  ")
    assert title == "changed:"
    return changes


@pytest.mark.parametrize("name", CHANGES)
def test_notices(name: str, model: nn.Module, optimizer: SGD) -> None:
    change, place = CHANGES[name]
    with pytest.raises(AssertionError) as error, unchanged(model, optimizer):
        change(model, optimizer)
    assert any(line.startswith(place) for line in lines(error)), lines(error)


@pytest.mark.parametrize("name", ODD)
def test_notices_in_the_zoo(name: str) -> None:
    model, (change, place) = ZOO[name]().model, ODD[name]
    with pytest.raises(AssertionError) as error, unchanged(model):
        change(model)
    assert any(line.startswith(place) for line in lines(error)), lines(error)


def test_names_one_place_for_one_change(model: nn.Module, optimizer: SGD) -> None:
    with pytest.raises(AssertionError) as error, unchanged(model, optimizer):
        model.layer1.bn.eval()
    assert lines(error) == ["layer1.bn.training: True -> False"]


def test_names_an_equal_object_that_is_another(model: nn.Module) -> None:
    model.settings = [0.5]
    with pytest.raises(AssertionError) as error, unchanged(model):
        model.settings[0] = float("0.5")
    assert lines(error) == ["settings[0]: 0.5 -> 0.5 (another object)"]


def test_notices_a_global_hook() -> None:
    with pytest.raises(AssertionError) as error, unchanged(nn.Sequential()):
        handle = register_module_forward_hook(print)
    handle.remove()
    assert lines(error)[0].startswith("torch['_global_forward_hooks'][")


def test_notices_the_modes_of_autograd() -> None:
    with torch.enable_grad(), pytest.raises(AssertionError) as error, unchanged(nn.Sequential()):
        torch.set_grad_enabled(False)
    assert lines(error) == ["process.grad_mode: (True, False) -> (False, False)"]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_notices_the_cuda_generator() -> None:
    with pytest.raises(AssertionError) as error, unchanged(nn.Sequential()):
        torch.rand(1, device="cuda")
    assert lines(error)[0].startswith("process.cuda_rng: ")


def test_notices_a_flipped_bit_in_any_tensor(specimen: Specimen) -> None:
    tensors = dict(flippable(specimen.model))
    changes = []
    try:
        with unchanged(specimen.model):
            for tensor in tensors.values():
                flip(tensor)
    except AssertionError as error:
        changes = str(error).split("\n  ")
    assert {f"{name}.values" for name in tensors} <= {change.partition(": ")[0] for change in changes}


def coarsen(model: nn.Module) -> None:
    """Change what a quantised buffer's integers mean."""
    with quiet():
        model.table.data = torch.quantize_per_tensor(model.table.dequantize(), 0.2, 0, torch.quint8)


def flippable(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Name every tensor that has memory of its own."""
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        lies_in_memory = tensor.layout == torch.strided and not tensor.is_meta
        if lies_in_memory and not nn.parameter.is_lazy(tensor) and tensor.untyped_storage().nbytes():
            yield name, tensor


def flip(tensor: Tensor) -> None:
    """Flip the last bit of a tensor's first byte behind its back."""
    torch.empty(0, dtype=torch.uint8).set_(tensor.untyped_storage())[0] ^= 1


def test_sees_nothing_where_nothing_is_done(specimen: Specimen) -> None:
    optimizer = stepped(specimen)
    with unchanged(specimen.model, optimizer), unchanged(specimen.model, optimizer):
        pass


def stepped(specimen: Specimen) -> SGD | None:
    """Take a step, so that there are gradients and optimizer state."""
    owned = [p for p in specimen.model.parameters() if not nn.parameter.is_lazy(p)]
    optimizer = SGD(owned, lr=0.1, momentum=0.9) if owned else None
    if optimizer and specimen.runs and (loss := specimen.loss()).requires_grad:
        loss.backward()
        optimizer.step()
    return optimizer


def test_notices_a_change_before_an_exception(model: nn.Module) -> None:
    with pytest.raises(AssertionError) as error, unchanged(model):  # noqa: PT012
        model.layer1.bn.eval()
        raise KeyError("body")
    assert lines(error) == ["layer1.bn.training: True -> False"]
    assert isinstance(error.value.__context__, KeyError)


def test_passes_an_exception_through(model: nn.Module) -> None:
    with pytest.raises(KeyError, match="body"), unchanged(model):
        raise KeyError("body")


def test_survives_a_cycle(model: nn.Module) -> None:
    model.layer1.parent = model
    with unchanged(model):
        pass
    with pytest.raises(AssertionError, match=r"layer2\.bn\.training"), unchanged(model):
        model.layer2.bn.eval()


def test_survives_deep_nesting() -> None:
    model = leaf = nn.Dropout()
    for _ in range(5000):
        model = nn.Sequential(model)
    with pytest.raises(AssertionError, match=r"0\.0\.0\.training: True -> False"), unchanged(model):
        leaf.eval()
