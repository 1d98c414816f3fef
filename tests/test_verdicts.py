"""Section 2.2 of docs/design.md, row by row, against what torch does in a real forward."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from copy import deepcopy
from typing import Any, NamedTuple

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from freezeinspect.freezing import set_train_mode, set_trainable, unfreeze
from freezeinspect.readers.live import read
from freezeinspect.state import ABSENT, NO, UNKNOWN, YES, Answer
from freezeinspect.verdicts import judge
from witness import bits
from zoo import ZOO, FrozenBatchNorm2d, Quantised, quiet

STATISTICS = ("running_mean", "running_var", "running_mu", "running_sigma")
CONTEXTS = {"grad": nullcontext, "no_grad": torch.no_grad, "inference_mode": torch.inference_mode}
SHAPES = {1: (6, 4, 9), 2: (6, 4, 5, 5), 3: (6, 4, 3, 3, 3)}

Verdict = tuple[Answer, str]  # do the statistics move, and what normalises

BATCH: Verdict = (YES, "batch")
BATCH_STILL: Verdict = (NO, "batch")
BATCH_ONLY: Verdict = (ABSENT, "batch")
SAMPLE: Verdict = (YES, "sample")
SAMPLE_STILL: Verdict = (NO, "sample")
SAMPLE_ONLY: Verdict = (ABSENT, "sample")
RUNNING: Verdict = (NO, "running")
NOTHING: Verdict = (ABSENT, "none")
NOBODY_KNOWS: Verdict = (UNKNOWN, "unknown")


class Renamed(nn.Module):
    """Keep running statistics under names that torch does not use."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("running_mu", torch.zeros(4))
        self.register_buffer("running_sigma", torch.ones(4))

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.batch_norm(x, self.running_mu, self.running_sigma, training=self.training)


class WithoutMomentum(nn.Module):
    """Keep running statistics at a pace of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("running_mean", torch.zeros(4))
        self.register_buffer("running_var", torch.ones(4))

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.batch_norm(x, self.running_mean, self.running_var, training=self.training)


class ConstantAffine(WithoutMomentum):
    """Look like a FrozenBatchNorm2d, but for a momentum that is put to use."""

    def __init__(self) -> None:
        super().__init__()
        self.momentum = 0.1
        self.register_buffer("weight", torch.ones(4))
        self.register_buffer("bias", torch.zeros(4))


class Named(nn.BatchNorm2d):
    """Be a BatchNorm of another name."""


class Style(nn.InstanceNorm2d):
    """Be an InstanceNorm of another name."""


def later(layer: nn.Module, **attributes: Any) -> nn.Module:
    """Set attributes after construction."""
    for name, value in attributes.items():
        setattr(layer, name, value)
    return layer


class Row(NamedTuple):
    """One row of the table: a layer, its verdicts in train and in eval mode, and its input."""

    build: Callable[[], nn.Module]
    train: Verdict
    eval: Verdict
    shape: tuple[int, ...] = SHAPES[2]


def bn(**setting: Any) -> nn.Module:
    return nn.BatchNorm2d(4, **setting)


def instance(**setting: Any) -> nn.Module:
    return nn.InstanceNorm2d(4, **{"track_running_stats": True} | setting)


UNTRACKED = {"track_running_stats": False}
ROWS: dict[str, Row] = {
    "BatchNorm1d of rows": Row(lambda: nn.BatchNorm1d(4), BATCH, RUNNING, (8, 4)),
    "BatchNorm1d": Row(lambda: nn.BatchNorm1d(4), BATCH, RUNNING, SHAPES[1]),
    "BatchNorm2d": Row(bn, BATCH, RUNNING),
    "BatchNorm3d": Row(lambda: nn.BatchNorm3d(4), BATCH, RUNNING, SHAPES[3]),
    "SyncBatchNorm": Row(lambda: nn.SyncBatchNorm(4), BATCH, RUNNING),
    "SyncBatchNorm set later": Row(lambda: later(nn.SyncBatchNorm(4), **UNTRACKED), BATCH_STILL, RUNNING),
    "a subclass of BatchNorm": Row(lambda: Named(4), BATCH, RUNNING),
    "affine off": Row(lambda: bn(affine=False), BATCH, RUNNING),
    "no bias": Row(lambda: bn(bias=False), BATCH, RUNNING),
    "set later": Row(lambda: later(bn(), **UNTRACKED), BATCH_STILL, RUNNING),
    "at construction": Row(lambda: bn(**UNTRACKED), BATCH_ONLY, BATCH_ONLY),
    "at construction, on later": Row(lambda: later(bn(**UNTRACKED), track_running_stats=True), BATCH_ONLY, BATCH_ONLY),
    "momentum 0": Row(lambda: bn(momentum=0), BATCH_STILL, RUNNING),
    "momentum 1": Row(lambda: bn(momentum=1.0), BATCH, RUNNING),
    "momentum None": Row(lambda: bn(momentum=None), BATCH, RUNNING),
    "momentum None, set later": Row(lambda: later(bn(momentum=None), **UNTRACKED), BATCH_STILL, RUNNING),
    "momentum None, uncounted": Row(lambda: later(bn(momentum=None), num_batches_tracked=None), BATCH_STILL, RUNNING),
    "uncounted": Row(lambda: later(bn(), num_batches_tracked=None), BATCH, RUNNING),
    "InstanceNorm1d": Row(lambda: nn.InstanceNorm1d(4), SAMPLE_ONLY, SAMPLE_ONLY, SHAPES[1]),
    "InstanceNorm2d": Row(lambda: nn.InstanceNorm2d(4), SAMPLE_ONLY, SAMPLE_ONLY),
    "InstanceNorm3d": Row(lambda: nn.InstanceNorm3d(4), SAMPLE_ONLY, SAMPLE_ONLY, SHAPES[3]),
    "InstanceNorm1d, tracking": Row(lambda: nn.InstanceNorm1d(4, track_running_stats=True), SAMPLE, RUNNING, SHAPES[1]),
    "InstanceNorm2d, tracking": Row(instance, SAMPLE, RUNNING),
    "InstanceNorm3d, tracking": Row(lambda: nn.InstanceNorm3d(4, track_running_stats=True), SAMPLE, RUNNING, SHAPES[3]),
    "InstanceNorm, affine": Row(lambda: instance(affine=True), SAMPLE, RUNNING),
    "InstanceNorm, set later": Row(lambda: later(instance(), **UNTRACKED), SAMPLE, SAMPLE),
    "InstanceNorm, momentum None": Row(lambda: instance(momentum=None), SAMPLE_STILL, RUNNING),
    "InstanceNorm, momentum None, set later": Row(
        lambda: later(instance(momentum=None), **UNTRACKED), SAMPLE_STILL, SAMPLE_STILL
    ),
    "InstanceNorm, momentum 0": Row(lambda: instance(momentum=0.0), SAMPLE_STILL, RUNNING),
    "InstanceNorm, momentum 1": Row(lambda: instance(momentum=1), SAMPLE, RUNNING),
    "FrozenBatchNorm2d": Row(lambda: FrozenBatchNorm2d(4), RUNNING, RUNNING),
    "quantised BatchNorm": Row(Quantised, RUNNING, RUNNING, (6, 3, 5, 5)),
    "LayerNorm": Row(lambda: nn.LayerNorm(5), SAMPLE_ONLY, SAMPLE_ONLY),
    "GroupNorm": Row(lambda: nn.GroupNorm(2, 4), SAMPLE_ONLY, SAMPLE_ONLY),
    "RMSNorm": Row(lambda: nn.RMSNorm(5), SAMPLE_ONLY, SAMPLE_ONLY),
    "LocalResponseNorm": Row(lambda: nn.LocalResponseNorm(2), NOTHING, NOTHING),
    "Linear": Row(lambda: nn.Linear(5, 5), NOTHING, NOTHING),
}
UNKNOWABLE: dict[str, Callable[[], nn.Module]] = {
    "statistics of other names": Renamed,
    "no momentum": WithoutMomentum,
    "no momentum, but tracking": lambda: later(WithoutMomentum(), track_running_stats=True),
    "momentum, but no tracking": lambda: later(WithoutMomentum(), momentum=0.1),
    "momentum, and a constant weight and bias": ConstantAffine,
    "a momentum that is not a number": lambda: later(instance(), momentum=float("nan")),
    "a momentum that is a tensor": lambda: later(bn(), momentum=torch.tensor(0.1)),
}


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Run on one thread: for layers this small more cost time."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def batch(shape: tuple[int, ...]) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1)) * 2 + 1


def statistics(layer: nn.Module) -> dict[str, Tensor]:
    """Give the running statistics that a model holds, whatever they are called."""
    return {name: one for name, one in layer.named_buffers() if name.rpartition(".")[2] in STATISTICS}


def shift(layer: nn.Module, by: float) -> None:
    """Set running statistics to values that no batch has."""
    for one in statistics(layer).values():
        one.copy_(torch.arange(len(one)) + by)


def moved(layer: nn.Module, x: Tensor) -> Answer:
    """Run a forward and tell whether a bit of the running statistics changed."""
    before = {name: bits(one) for name, one in statistics(layer).items()}
    layer(x)
    after = {name: bits(one) for name, one in statistics(layer).items()}
    return ABSENT if not before else YES if before != after else NO


def normaliser(layer: nn.Module, x: Tensor, context: Callable[[], AbstractContextManager[Any]]) -> str:
    """Find what normalises the first sample from its output alone.

    It hangs on the running statistics, or on the other samples, or on neither; and where it is normalised,
    a larger input makes no difference.
    """

    def first(x: Tensor, by: float = 3) -> Tensor:
        with quiet():  # quantised tensors deepcopy through a deprecated storage
            twin = deepcopy(layer)
        shift(twin, by)
        with context():
            return twin(x)[:1]

    def same(other: Tensor) -> bool:
        return torch.allclose(first(x), other, atol=1e-3)

    if not same(first(x, by=30)):
        return "running"
    if not same(first(torch.cat([x[:1], -5 * x[1:]]))):
        return "batch"
    return "sample" if same(first(2 * x)) else "none"


def own_statistics(module: nn.Module) -> list[str | None]:
    """Digest a module's own running statistics."""
    return [bits(one) for name, one in module.named_buffers(recurse=False) if name in STATISTICS]


def predicted(layer: nn.Module) -> Verdict:
    """Give the verdicts of a model whose only norm is itself or its only child."""
    verdicts = judge(read(layer))
    return verdicts.stats_move[0], verdicts.normalises_with[-1]


@pytest.mark.parametrize("context", CONTEXTS)
@pytest.mark.parametrize("required", [True, False], ids=["trainable", "frozen"])
@pytest.mark.parametrize("mode", ["train", "eval"])
@pytest.mark.parametrize("name", ROWS)
def test_each_row_of_the_table_is_what_torch_does(name: str, mode: str, required: bool, context: str) -> None:
    row = ROWS[name]
    layer, x, expected = row.build().train(mode == "train"), batch(row.shape), getattr(row, mode)
    for parameter in layer.parameters():
        parameter.requires_grad = required
    shift(layer, 3)
    seen = predicted(layer)
    normalised = normaliser(layer, x, CONTEXTS[context])
    with CONTEXTS[context]():
        happened = (moved(layer, x), normalised)
    assert happened == expected
    assert seen == expected


@pytest.mark.parametrize("name", ROWS)
def test_a_row_holds_below_a_parent_too(name: str) -> None:
    row = ROWS[name]
    verdicts = judge(read(nn.Sequential(nn.Flatten(), nn.Sequential(row.build()))))
    assert (verdicts.stats_move[0], verdicts.normalises_with[-1]) == row.train


def test_a_lazy_batchnorm_moves_in_its_first_forward() -> None:
    layer = nn.LazyBatchNorm2d()
    assert predicted(layer) == BATCH
    layer(batch(SHAPES[2]))
    assert layer.running_mean.any()
    assert predicted(layer.eval()) == RUNNING


@pytest.mark.parametrize("mode", ["train", "eval"])
@pytest.mark.parametrize("tracks", [True, False])
def test_a_subclass_of_instancenorm_is_judged_as_one_or_not_at_all(tracks: bool, mode: str) -> None:
    layer = later(Style(4, track_running_stats=True), track_running_stats=tracks).train(mode == "train")
    happened = (moved(layer, batch(SHAPES[2])), normaliser(layer, batch(SHAPES[2]), nullcontext))
    assert predicted(layer) in (happened, NOBODY_KNOWS)


@pytest.mark.parametrize("mode", ["train", "eval"])
@pytest.mark.parametrize("name", [name for name in ZOO if name not in ("lazy", "meta")])  # these hold no values
def test_the_verdicts_on_every_model_of_the_zoo_are_what_its_forward_does(name: str, mode: str) -> None:
    specimen = ZOO[name]()
    model = specimen.model.train(mode == "train")
    norms = [module for module in model.modules() if own_statistics(module)]
    before = [own_statistics(norm) for norm in norms]
    verdicts = judge(read(model))
    specimen.forward()
    happened = [YES if was != own_statistics(norm) else NO for was, norm in zip(before, norms, strict=True)]
    said = [answer for answer in verdicts.stats if answer is not ABSENT]
    assert [UNKNOWN] * len(norms) == said if name == "scripted" else happened == said


@pytest.mark.parametrize("mode", ["train", "eval"])
@pytest.mark.parametrize("name", UNKNOWABLE)
def test_what_the_flags_cannot_tell_is_unknown(name: str, mode: str) -> None:
    assert predicted(UNKNOWABLE[name]().train(mode == "train")) == NOBODY_KNOWS


@pytest.mark.parametrize("name", UNKNOWABLE)
def test_what_is_unknown_may_move(name: str) -> None:
    assert moved(UNKNOWABLE[name](), batch(SHAPES[2])) is YES


@pytest.mark.parametrize("layer", [nn.LayerNorm(4), nn.BatchNorm1d(4), nn.BatchNorm1d(4, **UNTRACKED)], ids=repr)
def test_what_a_scripted_layer_normalises_with_is_unknown(layer: nn.Module) -> None:
    with quiet():
        assert predicted(torch.jit.script(layer))[1] == "unknown"


def test_a_count_of_batches_alone_is_no_movement() -> None:
    layer = bn(momentum=0)
    assert moved(layer, batch(SHAPES[2])) is NO
    assert layer.num_batches_tracked == 1
    assert predicted(layer) == BATCH_STILL


def test_a_quantised_batchnorm_stays_still_though_it_says_that_it_trains() -> None:
    model = Quantised()
    assert read(model).training[1] is YES
    assert predicted(model) == RUNNING


def test_a_root_batchnorm_stays_in_eval_after_unfreeze_for_it_is_in_no_group() -> None:
    root = bn()
    root.add_module("head", nn.Linear(2, 2))
    with pytest.warns(UserWarning, match="in no child group"):
        unfreeze(root)
    set_train_mode(root)
    assert predicted(root)[0] is NO
    set_trainable(root, True)
    set_train_mode(root)
    assert predicted(root)[0] is YES


@pytest.mark.parametrize("reentrant", [True, False])
@pytest.mark.parametrize("block_requires", [True, False])
@pytest.mark.parametrize("input_requires", [True, False])
def test_checkpointing_updates_twice_unless_nothing_that_it_looks_at_needs_a_gradient(
    reentrant: bool, block_requires: bool, input_requires: bool
) -> None:
    block, head = nn.BatchNorm1d(4).requires_grad_(block_requires), nn.Linear(4, 1)
    x = batch((8, 4)).requires_grad_(input_requires)
    with quiet():  # the reentrant variant looks at the input alone, and warns that it needs none
        head(checkpoint(block, x, use_reentrant=reentrant)).sum().backward()
    recomputed = input_requires or (block_requires and not reentrant)
    assert block.num_batches_tracked == 1 + recomputed


# Random settings, held against the three formulas.


@st.composite
def norm_layers(draw: st.DrawFn) -> tuple[nn.Module, Tensor]:
    name = draw(st.sampled_from(["BatchNorm", "InstanceNorm", "SyncBatchNorm"]))
    dims = draw(st.integers(1, 3))
    momentum = draw(st.none() | st.sampled_from([0, 0.0, 1, 1.0]) | st.floats(0.01, 0.99))
    kind = nn.SyncBatchNorm if name == "SyncBatchNorm" else getattr(nn, f"{name}{dims}d")
    flags = {flag: draw(st.booleans()) for flag in ("affine", "track_running_stats")}
    layer = kind(4, momentum=momentum, **flags)
    if draw(st.booleans()):
        layer.track_running_stats = draw(st.sampled_from([True, False, None, 0, 1]))
    if draw(st.integers(0, 3)) == 0:
        layer.num_batches_tracked = None
    layer.requires_grad_(draw(st.booleans()))
    return layer.train(draw(st.booleans())), batch(SHAPES[dims])


def forwarded(layer: nn.Module, x: Tensor) -> Tensor:
    """Run a forward; discard the settings that torch refuses."""
    try:
        return deepcopy(layer)(x)
    except (RuntimeError, ValueError, AssertionError):
        assume(False)
        raise


def formulas(layer: nn.Module, x: Tensor) -> Iterator[tuple[str, Tensor]]:
    """Normalise by batch, by sample and by running statistics."""
    for name, dims in (("batch", [0, *range(2, x.dim())]), ("sample", list(range(2, x.dim())))):
        mean, variance = x.mean(dims, keepdim=True), x.var(dims, correction=0, keepdim=True)
        yield name, (x - mean) / (variance + layer.eps).sqrt()
    if statistics(layer):
        along = (1, 4, *[1] * (x.dim() - 2))
        mean, variance = layer.running_mean.reshape(along), layer.running_var.reshape(along)
        yield "running", (x - mean) / (variance + layer.eps).sqrt()


@given(norm_layers())
@settings(max_examples=200, deadline=None)
def test_any_setting_of_batchnorm_and_instancenorm_is_judged_rightly(drawn: tuple[nn.Module, Tensor]) -> None:
    layer, x = drawn
    shift(layer, 3)
    output = forwarded(layer, x)
    fits = [name for name, expected in formulas(layer, x) if torch.allclose(output, expected, atol=1e-4)]
    verdict = predicted(layer)
    assert [verdict[1]] == fits
    assert verdict[0] is moved(layer, x)
