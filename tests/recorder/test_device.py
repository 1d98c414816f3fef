"""Digests for a device, which on the CPU are the same: no bit changes without them."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from freezeinspect.recorder.device import digest, read

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


def filled(dtype: torch.dtype, count: int) -> torch.Tensor:
    size = torch.empty((), dtype=dtype).element_size()
    high = 2 if dtype is torch.bool else 256
    return torch.randint(0, high, (count * size,), dtype=torch.uint8).view(dtype)


@given(st.sampled_from(DTYPES), st.integers(1, 40), st.data())
def test_any_changed_bit_is_found(dtype: torch.dtype, count: int, data: st.DataObject) -> None:
    tensor = filled(dtype, count)
    before = int(digest(tensor))
    memory = tensor.view(torch.uint8)
    byte = data.draw(st.integers(0, len(memory) - 1))
    memory[byte] ^= 1 << (0 if dtype is torch.bool else data.draw(st.integers(0, 7)))
    assert int(digest(tensor)) != before


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


def test_chunks_are_one_after_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    tensor = torch.randn(100)
    whole = int(digest(tensor))
    monkeypatch.setattr("freezeinspect.recorder.device._CHUNK", 7)
    assert int(digest(tensor)) == whole


def test_nothing_is_read_before_it_is_asked_for() -> None:
    """On meta nothing could be: every operation but the read-back runs there."""
    assert digest(torch.ones(5, device="meta")).is_meta


def test_a_read_back_gives_the_digests_in_order() -> None:
    tensors = [torch.zeros(3), torch.ones(3)]
    late = read([4, 7], tensors)
    assert (late.places, late.is_ready) == ([4, 7], True)
    assert late.values() == [int(digest(tensor)) for tensor in tensors]
