"""What values tensors have, as digests that change when any bit does."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import freezeinspect as fi
from freezeinspect.recorder.evidence import Digest, Values
from training import pair, train


def one(values: Values) -> Digest:
    return values.look([0]).digests()[0]


def test_of_a_tensor_without_elements_nothing_is_known_for_another_rank_may_have_them() -> None:
    assert one(Values([torch.ones(0, 3)])) is None


@given(st.integers(0, 47), st.integers(0, 7))
def test_any_changed_bit_is_found(byte: int, bit: int) -> None:
    tensor = torch.arange(12, dtype=torch.float32).reshape(3, 4)
    values = Values([tensor])
    before = one(values)
    tensor.view(-1).view(torch.uint8)[byte] ^= 1 << bit
    assert one(values) != before


@pytest.mark.parametrize(
    "tensor",
    [
        torch.ones(2, 3, 4, 5).to(memory_format=torch.channels_last),
        torch.ones(4, 6).t(),
        torch.ones(4, 6)[:, ::2],
        torch.ones(2, dtype=torch.complex64).conj(),
        torch.ones(3).to_sparse(),
        torch.ones(()),
    ],
)
def test_every_layout_has_a_digest_that_stays_where_the_values_do(tensor: torch.Tensor) -> None:
    values = Values([tensor])
    assert one(values) == one(values) is not None


@pytest.mark.parametrize("tensor", [torch.ones(3, device="meta"), nn.UninitializedParameter()])
def test_without_values_there_is_none(tensor: torch.Tensor) -> None:
    assert one(Values([tensor])) is None


def test_within_torch_func_there_is_none() -> None:
    values, found = Values([torch.ones(2)]), []
    torch.func.grad(lambda x: (found.append(one(values)), x.sum())[1])(torch.ones(2))
    assert found == [None]


def test_new_memory_is_compared_by_its_values() -> None:
    tensor = nn.Parameter(torch.ones(3))
    values = Values([tensor])
    before = one(values)
    tensor.data = torch.ones(3)
    assert one(values) == before
    tensor.data = torch.zeros(3)
    assert one(values) != before


def test_another_memory_order_compares_with_nothing_once() -> None:
    tensor = nn.Parameter(torch.randn(2, 3, 4, 5))
    values = Values([tensor])
    one(values)
    tensor.data = tensor.data.to(memory_format=torch.channels_last)
    assert one(values) is None
    assert one(values) == one(values) is not None


def test_a_storage_can_still_be_resized() -> None:
    """As FSDP does; a tensor's numpy() would forbid it."""
    model, optimizer = pair()
    with fi.watch(model, optimizer, every=1) as watch:
        train(model, optimizer)
        watch.report()
        fi.inspect(model, values=True)
        assert all(tensor.untyped_storage().resizable() for tensor in model.state_dict().values())
    assert all(tensor.untyped_storage().resizable() for tensor in model.state_dict().values())
