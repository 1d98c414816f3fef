"""Digests for a device, which on the CPU are the same: no bit changes without them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from freezeinspect.recorder import device
from freezeinspect.recorder.device import Reader, digests

DTYPES = [
    torch.float32,
    torch.float64,
    torch.float16,
    torch.bfloat16,
    torch.float8_e4m3fn,
    torch.complex64,
    torch.int64,
    torch.int8,
    torch.bool,
]


def digest(tensor: torch.Tensor) -> torch.Tensor:
    return digests([tensor])[0]


def filled(dtype: torch.dtype, count: int) -> torch.Tensor:
    size = torch.empty((), dtype=dtype).element_size()
    high = 2 if dtype is torch.bool else 256
    return torch.randint(0, high, (count * size,), dtype=torch.uint8).view(dtype)


@settings(deadline=None)
@given(st.sampled_from(DTYPES), st.integers(1, 40), st.data())
def test_any_changed_bit_is_found(dtype: torch.dtype, count: int, data: st.DataObject) -> None:
    tensor = filled(dtype, count)
    before = int(digest(tensor))
    memory = tensor.view(torch.uint8)
    byte = data.draw(st.integers(0, len(memory) - 1))
    memory[byte] ^= 1 << (0 if dtype is torch.bool else data.draw(st.integers(0, 7)))
    assert int(digest(tensor)) != before


@settings(deadline=None)
@given(st.lists(st.integers(-128, 127), min_size=2, max_size=20), st.randoms(use_true_random=False))
def test_elements_in_another_order_are_found(values: list[int], random: object) -> None:
    other = values.copy()
    random.shuffle(other)  # type: ignore[attr-defined]
    same = int(digest(torch.tensor(values))) == int(digest(torch.tensor(other)))
    assert same == (values == other)


@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 3, 4, 5)])
def test_any_shape_and_memory_format_will_do(shape: tuple[int, ...]) -> None:
    tensor = torch.ones(shape)
    assert digest(tensor).shape == ()
    if len(shape) == 4:
        tensor = tensor.to(memory_format=torch.channels_last)
        before = int(digest(tensor))
        tensor[1, 2, 3, 4] = 2
        assert int(digest(tensor)) != before


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Make batches of seven words."""
    device._odd.cache_clear()
    monkeypatch.setattr(device, "CHUNK", 7)
    yield
    device._odd.cache_clear()


@pytest.mark.usefixtures("small")
def test_in_whatever_company_a_tensor_s_digest_is_the_same() -> None:
    tensors = [torch.randn(100), torch.randn(3).bfloat16(), torch.empty(0), torch.randn(5), torch.tensor(True)]
    alone = [int(digest(tensor)) for tensor in tensors]
    assert digests(tensors).tolist() == alone
    assert digests(tensors[::-1]).tolist() == alone[::-1]


@pytest.mark.usefixtures("small")
def test_pieces_in_another_order_are_found() -> None:
    tensor = torch.randn(21)
    assert int(digest(tensor)) != int(digest(torch.cat([tensor[7:14], tensor[:7], tensor[14:]])))


def test_nothing_is_read_before_it_is_asked_for() -> None:
    """On meta nothing could be: every operation but the read-back runs there."""
    assert digest(torch.ones(5, device="meta")).is_meta


def test_a_read_back_gives_the_digests_in_order() -> None:
    tensors = [torch.zeros(3), torch.ones(3)]
    late = Reader(torch.device("cpu")).read([4, 7], tensors)
    assert (late.places, late.is_ready) == ([4, 7], True)
    assert late.values() == [int(digest(tensor)) for tensor in tensors]
