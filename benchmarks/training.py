"""The trainings that the benchmarks for a GPU watch: on the device that is there, and small where that is the CPU."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain, repeat
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, interpolate
from torch.utils.data import DataLoader, TensorDataset

from benchmarks.resnet import ResNet
from freezeinspect.demo.data import load

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
IS_SMALL = DEVICE.type == "cpu"
BATCH = 2 if IS_SMALL else 64

Batches = Iterator[tuple[Tensor, Tensor]]


@dataclass
class Training:
    """One loop. `model` is called in it, and watched: compiled, where it is to be."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    batches: Batches
    dtype: torch.dtype
    scaler: torch.amp.GradScaler | None = None
    accumulation: int = 1

    def step(self) -> None:
        """Take a step, as training scripts do."""
        self.optimizer.zero_grad()
        for images, labels in (next(self.batches) for _ in range(self.accumulation)):
            with torch.autocast(DEVICE.type, self.dtype):
                loss = cross_entropy(self.model(images), labels) / self.accumulation
            (self.scaler.scale(loss) if self.scaler else loss).backward()
        if self.scaler:
            self.scaler.step(self.optimizer)
            self.scaler.update()
        else:
            self.optimizer.step()


class LowRank(nn.Module):
    """A linear layer, and an adapter beside it that is still zero."""

    def __init__(self, base: nn.Linear, rank: int = 8) -> None:
        super().__init__()
        self.base = base.requires_grad_(False)
        self.down = nn.Linear(base.in_features, rank, bias=False)
        self.up = nn.Linear(rank, base.out_features, bias=False)
        nn.init.zeros_(self.up.weight)

    def forward(self, x: Tensor) -> Tensor:
        return self.base(x) + self.up(self.down(x))


class Classifier(nn.Module):
    """A vision transformer of `transformers` with adapters in its attention, over which a head is trained."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        from transformers import ViTConfig, ViTModel

        size = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
        config = ViTConfig(image_size=32, patch_size=8 if IS_SMALL else 4, num_channels=1, **size if IS_SMALL else {})
        self.body = ViTModel(config, add_pooling_layer=False).requires_grad_(False)
        for module in list(self.body.modules()):
            for name, child in list(module.named_children()):
                if isinstance(child, nn.Linear) and any(
                    part in name for part in ("query", "value", "q_proj", "v_proj")
                ):
                    setattr(module, name, LowRank(child))
        self.head = nn.Linear(config.hidden_size, classes)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.body(images).last_hidden_state[:, 0])


def resnet() -> nn.Module:
    """Make torchvision's ResNet-50, or where it is not installed one of the same modules, partly frozen.

    The stem and the first stage are frozen whole; the second stage only its weights, so its statistics move. On the CPU
    its last two stages are a block each.
    """
    make = ResNet
    if not IS_SMALL:
        with suppress(ImportError):
            from torchvision.models import resnet50 as make
    model = make()
    if IS_SMALL:
        model.layer3, model.layer4 = model.stage(512, 64, 1, 2), model.stage(256, 64, 1, 2)
        model.fc = nn.Linear(256, 1000)
    model.to(DEVICE, memory_format=torch.channels_last)
    for part in (model.conv1, model.bn1, model.layer1):
        part.requires_grad_(False).eval()
    model.layer2.requires_grad_(False)
    return model


def synthetic() -> Batches:
    """Give one batch of noise without end, on the device."""
    size = 32 if IS_SMALL else 224
    images = torch.randn(BATCH, 3, size, size, device=DEVICE).to(memory_format=torch.channels_last)
    return repeat((images, torch.randint(1000, (BATCH,), device=DEVICE)))


def digits() -> Batches:
    """Give batches of the handwritten digits without end, from worker processes."""
    images, labels = load(range(10), train=True)
    data = TensorDataset(interpolate(images, (32, 32)), labels)
    loader = DataLoader(
        data, BATCH, shuffle=True, drop_last=True, num_workers=2, persistent_workers=True, pin_memory=not IS_SMALL
    )
    for pair in chain.from_iterable(repeat(loader)):
        yield pair[0].to(DEVICE, non_blocking=True), pair[1].to(DEVICE, non_blocking=True)


def one_of(batches: Callable[[], Batches]) -> Batches:
    """Give the first batch again and again, so that only the device is timed."""
    return repeat(next(batches()))


def with_scaler() -> Training:
    """ResNet-50: half precision with a GradScaler, channels_last, SGD."""
    model = resnet()
    optimizer = torch.optim.SGD([one for one in model.parameters() if one.requires_grad], 0.01, momentum=0.9)
    return Training(model, optimizer, synthetic(), half(torch.float16), torch.amp.GradScaler(DEVICE.type))


def fused() -> Training:
    """ResNet-50: bfloat16 without a scaler, channels_last, fused AdamW over two accumulated batches."""
    model = resnet()
    optimizer = torch.optim.AdamW([one for one in model.parameters() if one.requires_grad], 1e-3, fused=True)
    return Training(model, optimizer, synthetic(), torch.bfloat16, accumulation=2)


def compiled(made: Callable[[], Training]) -> Training:
    """Compile the model of a training; on the CPU without code of its own, which takes a minute to make."""
    training = made()
    backend = "eager" if IS_SMALL else "inductor"
    return replace(training, model=torch.compile(training.model, backend=backend))


def adapters(batches: Callable[[], Batches] = digits) -> Training:
    """A transformer with adapters: bfloat16, fused AdamW, digits from a DataLoader with workers."""
    model = Classifier(10).to(DEVICE)
    optimizer = torch.optim.AdamW([one for one in model.parameters() if one.requires_grad], 1e-3, fused=True)
    return Training(model, optimizer, batches(), torch.bfloat16)


def half(dtype: torch.dtype) -> torch.dtype:
    """Give a dtype that the device's autocast is quick in."""
    return torch.bfloat16 if IS_SMALL else dtype


TRAININGS: dict[str, Callable[[], Training]] = {
    "ResNet-50, fp16 with GradScaler": with_scaler,
    "ResNet-50, bf16, fused AdamW": fused,
    "ResNet-50, bf16, fused AdamW, compiled": partial(compiled, fused),
    "transformer with adapters, bf16, fused AdamW": adapters,
}


STEADY = TRAININGS | {"transformer with adapters, bf16, fused AdamW": lambda: adapters(lambda: one_of(digits))}


def seeded(make: Callable[[], Any], seed: int = 0) -> Any:
    """Make something from one seed, always the same."""
    torch.manual_seed(seed)
    return make()
