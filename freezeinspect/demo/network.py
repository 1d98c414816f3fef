"""A small residual network, trained on a first task."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from itertools import islice

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from freezeinspect.demo.data import SOURCE, TARGET, batches, load

WIDTHS = (16, 16, 32, 64)  # channels after the stem, then after each block
STEPS, BATCH, LR, MOMENTUM = 100, 64, 0.05, 0.9


class Block(nn.Module):
    """Add two convolutions to what came in, at half the resolution where the width changes."""

    def __init__(self, before: int, width: int) -> None:
        super().__init__()
        stride = 1 if before == width else 2
        self.conv1 = nn.Conv2d(before, width, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.downsample: nn.Module = nn.Identity()
        if before != width:
            self.downsample = nn.Sequential(nn.Conv2d(before, width, 1, stride, bias=False), nn.BatchNorm2d(width))

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, before, H, W) to (N, width, H / stride, W / stride)."""
        y = self.bn1(self.conv1(x)).relu()
        return torch.relu(self.bn2(self.conv2(y)) + self.downsample(x))


class Network(nn.Module):
    """Classify images by three children: stem and blocks are the body, with every BatchNorm; the head is linear."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        first, last = WIDTHS[0], WIDTHS[-1]
        self.stem = nn.Sequential(nn.Conv2d(1, first, 3, padding=1, bias=False), nn.BatchNorm2d(first), nn.ReLU())
        blocks = map(Block, WIDTHS, WIDTHS[1:])
        self.blocks = nn.Sequential(*blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.head = nn.Linear(last, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, 1, 8, 8) to logits (N, classes)."""
        logits: Tensor = self.head(self.blocks(self.stem(x)))
        return logits


def pretrained(device: torch.device | str = "cpu", seed: int = 0) -> Network:
    """Train a network on the source digits, in about a second; on a CPU the same for the same seed.

    It comes in train mode, without gradients, and leaves the global random state as it was.
    """
    with _seeded(seed):
        network = Network(len(SOURCE)).to(device)
    images, labels = (tensor.to(device) for tensor in load(SOURCE, train=True))
    optimizer = torch.optim.SGD(network.parameters(), LR, MOMENTUM)
    generator = torch.Generator().manual_seed(seed)
    for x, y in islice(batches(images, labels, BATCH, generator), STEPS):
        cross_entropy(network(x), y).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        optimizer.zero_grad()
    return network


def with_fresh_head(network: Network, seed: int = 0) -> Network:
    """Copy a network and give the copy an untrained head for the target digits."""
    twin = deepcopy(network)
    with _seeded(seed):
        twin.head = nn.Linear(WIDTHS[-1], len(TARGET)).to(network.head.weight.device)
    return twin


@torch.no_grad()
def accuracy(network: nn.Module, images: Tensor, labels: Tensor) -> float:
    """Measure the share of images classified right, from 0 to 1; leaves the network in eval mode."""
    network.eval()
    return float((network(images).argmax(1) == labels).float().mean())


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Seed the CPU's generator for a block, and put it back."""
    with torch.random.fork_rng([]):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would seed the GPUs too
        yield
