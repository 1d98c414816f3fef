"""The network of the experiment: its children, and what it has learned."""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy

import pytest
import torch
from torch import nn

from freezeinspect.demo import network as demo
from freezeinspect.demo.data import SOURCE, TARGET, load
from freezeinspect.demo.network import Block, Network, accuracy, pretrained, with_fresh_head


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def trained() -> Network:
    return pretrained()


@pytest.fixture
def brief(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "STEPS", 2)


def norms(model: nn.Module) -> list[nn.BatchNorm2d]:
    return [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]


def same(a: nn.Module, b: nn.Module) -> bool:
    return all(map(torch.equal, a.state_dict().values(), b.state_dict().values()))


def test_there_are_three_children_and_the_head_is_the_last() -> None:
    assert [(name, type(child)) for name, child in Network(5).named_children()] == [
        ("stem", nn.Sequential),
        ("blocks", nn.Sequential),
        ("head", nn.Linear),
    ]


def test_every_norm_is_in_the_body() -> None:
    network = Network(5)
    assert norms(network) == norms(network.stem) + norms(network.blocks)
    assert all(norm.track_running_stats and norm.affine and norm.momentum == 0.1 for norm in norms(network))


def test_nothing_in_it_drops_so_that_a_run_is_its_batches() -> None:
    assert not [name for name, module in Network(5).named_modules() if "drop" in type(module).__name__.lower()]


@pytest.mark.parametrize(("before", "width", "resolution"), [(16, 16, 8), (16, 32, 4)])
def test_a_block_halves_the_resolution_where_the_width_changes(before: int, width: int, resolution: int) -> None:
    block = Block(before, width)
    assert block(torch.zeros(2, before, 8, 8)).shape == (2, width, resolution, resolution)
    assert len(norms(block.downsample)) == (before != width)


@pytest.mark.parametrize(("before", "width"), [(16, 16), (16, 32)])
def test_a_block_adds_to_what_came_in(before: int, width: int) -> None:
    block, x = Block(before, width).eval(), torch.rand(2, before, 8, 8)
    nn.init.zeros_(block.bn2.weight)
    assert torch.equal(block(x), block.downsample(x).relu())


def test_it_gives_a_logit_for_each_class() -> None:
    assert Network(7)(torch.zeros(3, 1, 8, 8)).shape == (3, 7)


def test_it_knows_the_source_digits(trained: Network) -> None:
    assert accuracy(deepcopy(trained), *load(SOURCE, train=False)) > 0.97


def test_it_comes_in_train_mode_with_every_parameter_free_and_no_gradient_left(trained: Network) -> None:
    assert all(module.training for module in trained.modules())
    assert all(parameter.requires_grad and parameter.grad is None for parameter in trained.parameters())


def test_its_running_statistics_are_those_of_its_training(trained: Network) -> None:
    counts = {value.item() for name, value in trained.named_buffers() if name.endswith("num_batches_tracked")}
    assert counts == {demo.STEPS}


def test_a_fresh_head_leaves_body_and_original_alone(trained: Network) -> None:
    before = deepcopy(trained)
    with torch.no_grad():
        for parameter in with_fresh_head(trained).parameters():
            parameter.zero_()
    assert same(trained, before)
    twin = with_fresh_head(trained)
    assert same(twin.stem, trained.stem)
    assert same(twin.blocks, trained.blocks)
    assert twin.head.out_features == len(TARGET)
    assert not torch.equal(twin.head.weight, trained.head.weight)
    assert list(dict(twin.named_children())) == ["stem", "blocks", "head"]


def test_a_fresh_head_knows_nothing_yet(trained: Network) -> None:
    assert accuracy(with_fresh_head(trained), *load(TARGET, train=False)) < 0.5


@pytest.mark.usefixtures("brief")
def test_the_seed_decides_the_weights_and_the_global_generator_neither_counts_nor_moves() -> None:
    once = with_fresh_head(pretrained(seed=3), seed=3)
    torch.rand(1)
    before = torch.get_rng_state()
    again, other = (with_fresh_head(pretrained(seed=seed), seed) for seed in (3, 4))
    assert torch.equal(before, torch.get_rng_state())
    assert same(once, again)
    assert not same(once, other)


def test_accuracy_is_a_share_measured_in_eval_mode_and_moves_nothing() -> None:
    network = Network(2)
    nn.init.zeros_(network.head.weight)
    network.head.bias.data = torch.tensor([1.0, 0.0])
    before = deepcopy(network)
    images, labels = torch.rand(4, 1, 8, 8), torch.tensor([0, 0, 0, 1])
    assert accuracy(network, images, labels) == 0.75
    assert not any(module.training for module in network.modules())
    assert same(network, before)
