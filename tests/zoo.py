"""Models of every kind that freezeinspect must read, each small, each built the same every time."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, spectral_norm, weight_norm


@dataclass(frozen=True)
class Specimen:
    """Hold a model and a batch for it; `args` is None where the model cannot run."""

    model: nn.Module
    args: tuple[Any, ...] | None
    kwargs: dict[str, Any] = field(default_factory=dict)

    @property
    def runs(self) -> bool:
        """Say whether there is a batch."""
        return self.args is not None

    def forward(self) -> Any:
        """Run the model on its batch."""
        return self.model(*self.args, **self.kwargs)

    def loss(self) -> Tensor:
        """Run the model and make a scalar of its first output."""
        output = self.forward()
        return (output if isinstance(output, Tensor) else output[0]).square().mean()


class Block(nn.Module):
    """Add a convolution and a BatchNorm to what came in."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.bn(self.conv(x)).relu()


class Residual(nn.Sequential):
    """Stack a stem, three blocks and a head."""

    def __init__(self, width: int = 4) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, width, 3), nn.BatchNorm2d(width), nn.ReLU())
        self.layer1 = Block(width)
        self.layer2 = Block(width)
        self.layer3 = Block(width)
        self.head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.5), nn.Linear(width, 2))


class Lstm(nn.Module):
    """Classify a sequence by its last state."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(10, 4)
        self.lstm = nn.LSTM(4, 4, num_layers=2, batch_first=True, bidirectional=True)
        self.head = nn.Linear(8, 2)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.head(self.lstm(self.embedding(tokens))[0][:, -1])


class Tied(nn.Module):
    """Share one weight between the embedding and the decoder."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(10, 4)
        self.decoder = nn.Linear(4, 10, bias=False)
        self.decoder.weight = self.embedding.weight

    def forward(self, tokens: Tensor) -> Tensor:
        return self.decoder(self.embedding(tokens))


class Shared(nn.Module):
    """Hold one norm under two parents, and one linear layer twice under one."""

    def __init__(self) -> None:
        super().__init__()
        norm, linear = nn.BatchNorm1d(4), nn.Linear(4, 4)
        self.left = nn.Sequential(nn.Linear(4, 4), norm)
        self.right = nn.Sequential(nn.Linear(4, 4), norm)
        self.twice = nn.Sequential(linear, nn.ReLU(), linear)

    def forward(self, x: Tensor) -> Tensor:
        return self.twice(self.left(x) + self.right(x))


class Nested(nn.Module):
    """Nest every container, with a registered None and names that look like globs and indices."""

    def __init__(self) -> None:
        super().__init__()
        self.towers = nn.ModuleList([self.tower(), self.tower()])
        self.scales = nn.ParameterList([torch.ones(4), torch.ones(4)])
        self.shifts = nn.ParameterDict({"a": torch.zeros(4), "b": torch.zeros(4)})
        self.missing = None
        self.register_module("unset", None)
        self.register_parameter("bias", None)
        self.register_buffer("mask", torch.ones(4), persistent=False)

    @staticmethod
    def tower() -> nn.ModuleDict:
        """Name children as nobody should."""
        return nn.ModuleDict({"10": nn.Linear(4, 4), "1*": nn.BatchNorm1d(4)})

    def forward(self, x: Tensor) -> Tensor:
        for tower, scale, shift in zip(self.towers, self.scales, self.shifts.values(), strict=True):
            x = tower["1*"](tower["10"](x)) * scale + shift
        return x * self.mask


class Lora(nn.Module):
    """Add a trainable low-rank path to a frozen linear layer."""

    def __init__(self, width: int = 4, rank: int = 2) -> None:
        super().__init__()
        self.base_layer = nn.Linear(width, width).requires_grad_(False)
        self.lora_A = nn.Linear(width, rank, bias=False)
        self.lora_B = nn.Linear(rank, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.base_layer(x) + self.lora_B(self.lora_A(x))


class FrozenBatchNorm2d(nn.Module):
    """Normalise with constants: weight and bias too are buffers, as in torchvision and detectron2."""

    def __init__(self, width: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = eps
        self.register_buffer("weight", torch.ones(width))
        self.register_buffer("bias", torch.zeros(width))
        self.register_buffer("running_mean", torch.zeros(width))
        self.register_buffer("running_var", torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        scale = self.weight * (self.running_var + self.eps).rsqrt()
        return (x - self.running_mean[:, None, None]) * scale[:, None, None] + self.bias[:, None, None]


class Token(nn.Module):
    """Own a parameter beside a child, as a vision transformer's root does."""

    def __init__(self) -> None:
        super().__init__()
        self.cls_token = nn.Parameter(torch.zeros(1, 4))
        self.body = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x + self.cls_token)


class Complex(nn.Module):
    """Multiply by a complex weight."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(4, 4, dtype=torch.complex64))
        self.register_buffer("conjugate", torch.randn(4, dtype=torch.complex64).conj())

    def forward(self, x: Tensor) -> Tensor:
        return (x.to(torch.complex64) @ self.weight + self.conjugate).abs()


class Layouts(nn.Module):
    """Own tensors of odd shape, stride and value."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(2.0))
        self.kernel = nn.Parameter(torch.randn(2, 2, 2, 2).to(memory_format=torch.channels_last))
        self.register_buffer("nan", torch.tensor([torch.nan, torch.inf, -0.0]))
        self.register_buffer("none", torch.empty(0))
        self.register_buffer("slanted", torch.randn(3, 2).t())
        self.register_buffer("constant", torch.ones(1).expand(3))
        self.register_buffer("flags", torch.tensor([True, False]))

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.conv2d(x, self.kernel) * self.scale


class Sparse(nn.Module):
    """Mix rows by a sparse buffer; the embedding's gradient is sparse too."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(4, 4, sparse=True)
        self.register_buffer("mixing", torch.eye(4).to_sparse())

    def forward(self, tokens: Tensor) -> Tensor:
        return torch.sparse.mm(self.mixing, self.embedding(tokens))


class Quantised(nn.Module):
    """Normalise integers, beside integers of its own."""

    def __init__(self) -> None:
        super().__init__()
        with quiet():
            self.bn = torch.ao.nn.quantized.BatchNorm2d(3)
            self.register_buffer("table", quantised(torch.randn(2, 3)))
            self.register_buffer("rows", torch.quantize_per_channel(*by_row(torch.randn(2, 3)), torch.qint8))

    def forward(self, x: Tensor) -> Tensor:
        with quiet():
            return self.bn(quantised(x)).dequantize()


def quiet() -> warnings.catch_warnings:
    """Let torch call something deprecated for as long as it still has it."""
    return warnings.catch_warnings(action="ignore")


def quantised(x: Tensor) -> Tensor:
    """Round to eight bits."""
    return torch.quantize_per_tensor(x, 0.1, 0, torch.quint8)


def by_row(x: Tensor) -> tuple[Tensor, Tensor, Tensor, int]:
    """Give each row a scale and a zero point."""
    return x, torch.ones(len(x)), torch.zeros(len(x), dtype=torch.long), 0


def plain_cnn() -> Specimen:
    body = [nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(), nn.AdaptiveAvgPool2d(1)]
    return Specimen(nn.Sequential(*body, nn.Flatten(), nn.Linear(4, 2)), images())


def transformer() -> Specimen:
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    return Specimen(nn.TransformerEncoder(layer, 2), (torch.randn(2, 3, 8),))


def norms() -> Specimen:
    settings = ({"affine": False}, {"track_running_stats": False}, {"momentum": None}, {"momentum": 0.0})
    batch = [nn.BatchNorm2d(4, **setting) for setting in settings]
    sample = [nn.InstanceNorm2d(4), nn.GroupNorm(2, 4), nn.LayerNorm(8), nn.RMSNorm(8)]
    return Specimen(nn.Sequential(*batch, *sample), (torch.randn(2, 4, 8, 8),))


def wrapped(norm: Callable[[nn.Linear], nn.Module]) -> Specimen:
    return Specimen(nn.Sequential(norm(nn.Linear(4, 4)), nn.Linear(4, 2)), rows())


def weight_norm_hook() -> Specimen:
    with quiet():
        return wrapped(weight_norm)


def instance_norm() -> Specimen:
    norm = nn.InstanceNorm2d(4, affine=True, track_running_stats=True)
    return Specimen(nn.Sequential(nn.Conv2d(3, 4, 3), norm), images())


def meta() -> Specimen:
    with torch.device("meta"):
        return Specimen(nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4)), rows())


def bfloat16() -> Specimen:
    model = nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4)).to(torch.bfloat16)
    return Specimen(model, (torch.randn(2, 4, dtype=torch.bfloat16),))


def sparse_compressed() -> Specimen:
    model = nn.Sequential(nn.Linear(4, 4))
    with quiet():
        model.register_buffer("table", torch.eye(4).to_sparse_csr())
    return Specimen(model, rows())


def quantised_dynamic() -> Specimen:
    model = nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4))
    with quiet():
        return Specimen(torch.ao.quantization.quantize_dynamic(model, {nn.Linear}), rows())


def scripted() -> Specimen:
    model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Dropout())
    with quiet():
        return Specimen(torch.jit.script(model), rows())


def resnet() -> Specimen:
    from transformers import ResNetConfig, ResNetForImageClassification

    sizes = {"embedding_size": 4, "hidden_sizes": [4, 8], "depths": [1, 1]}
    config = ResNetConfig(layer_type="basic", num_labels=2, **sizes)
    return Specimen(ResNetForImageClassification(config), images(32))


def mobilenet() -> Specimen:
    from transformers import MobileNetV2Config, MobileNetV2Model

    config = MobileNetV2Config(depth_multiplier=0.1, min_depth=4, depth_divisible_by=4, image_size=32)
    return Specimen(MobileNetV2Model(config), images(32))


def segformer() -> Specimen:
    from transformers import SegformerConfig, SegformerForSemanticSegmentation

    sizes = {"depths": [1, 1], "sr_ratios": [2, 1], "hidden_sizes": [4, 8], "num_attention_heads": [1, 2]}
    patches = {"patch_sizes": [3, 3], "strides": [2, 2], "mlp_ratios": [2, 2], "decoder_hidden_size": 4}
    config = SegformerConfig(num_encoder_blocks=2, num_labels=2, **sizes, **patches)
    return Specimen(SegformerForSemanticSegmentation(config), images(32))


def llama() -> Specimen:
    from transformers import LlamaConfig, LlamaForCausalLM

    heads = {"num_attention_heads": 2, "num_key_value_heads": 1, "num_hidden_layers": 2}
    sizes = {"vocab_size": 16, "hidden_size": 8, "intermediate_size": 16, "max_position_embeddings": 16}
    config = LlamaConfig(tie_word_embeddings=True, bos_token_id=0, eos_token_id=1, **heads, **sizes)
    return Specimen(LlamaForCausalLM(config), (), {"input_ids": tokens()[0]})


def rows() -> tuple[Tensor]:
    """Make a batch of four rows."""
    return (torch.randn(4, 4),)


def images(side: int = 8) -> tuple[Tensor]:
    """Make a batch of two images."""
    return (torch.randn(2, 3, side, side),)


def tokens() -> tuple[Tensor]:
    """Make a batch of two sentences."""
    return (torch.randint(0, 10, (2, 5)),)


def seeded(build: Callable[[], Specimen]) -> Callable[[], Specimen]:
    """Build the same specimen every time, without a trace in the global generator."""

    def builder() -> Specimen:
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(0)
            return build()

    return builder


BUILDERS: dict[str, Callable[[], Specimen]] = {
    "plain_cnn": plain_cnn,
    "residual": lambda: Specimen(Residual(), images()),
    "transformer": transformer,
    "lstm": lambda: Specimen(Lstm(), tokens()),
    "tied": lambda: Specimen(Tied(), tokens()),
    "shared": lambda: Specimen(Shared(), rows()),
    "nested": lambda: Specimen(Nested(), rows()),
    "norms": norms,
    "weight_norm_hook": weight_norm_hook,
    "weight_norm_parametrized": lambda: wrapped(parametrizations.weight_norm),
    "spectral_norm_hook": lambda: wrapped(spectral_norm),
    "spectral_norm_parametrized": lambda: wrapped(parametrizations.spectral_norm),
    "lora": lambda: Specimen(nn.Sequential(Lora(), nn.ReLU(), Lora()), rows()),
    "batchnorm_root": lambda: Specimen(nn.BatchNorm2d(3), images()),
    "sync_batchnorm": lambda: Specimen(nn.Sequential(nn.Conv2d(3, 4, 3), nn.SyncBatchNorm(4)), images()),
    "instance_norm": instance_norm,
    "frozen_batchnorm": lambda: Specimen(nn.Sequential(nn.Conv2d(3, 4, 3), FrozenBatchNorm2d(4)), images()),
    "empty": lambda: Specimen(nn.Sequential(), rows()),
    "lazy": lambda: Specimen(nn.Sequential(nn.LazyLinear(4), nn.LazyBatchNorm1d(), nn.Linear(4, 2)), None),
    "root_parameter": lambda: Specimen(Token(), rows()),
    "meta": meta,
    "complex_valued": lambda: Specimen(Complex(), rows()),
    "bfloat16": bfloat16,
    "layouts": lambda: Specimen(Layouts(), (torch.randn(2, 2, 4, 4),)),
    "sparse": lambda: Specimen(Sparse(), (torch.tensor([0, 1, 1, 3]),)),
    "sparse_compressed": sparse_compressed,
    "quantised_norm": lambda: Specimen(Quantised(), images()),
    "quantised_dynamic": quantised_dynamic,
    "scripted": scripted,
    "resnet": resnet,
    "mobilenet": mobilenet,
    "segformer": segformer,
    "llama": llama,
}
ZOO = {name: seeded(build) for name, build in BUILDERS.items()}
