"""Each way that torch rebuilds a tensor, against the tensor itself."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from freezeinspect.readers.standins import Global, Made, Persistent
from freezeinspect.readers.tensors import REBUILDS, Rebuilt, rebuilt
from freezeinspect.readers.unpickle import Pickled, unpickle
from freezeinspect.state import NO, UNKNOWN, YES
from zoo import quiet


def can_be_saved(dtype: torch.dtype) -> bool:
    try:
        torch.save(torch.empty(2, 3, dtype=dtype), io.BytesIO())
    except (RuntimeError, TypeError, KeyError, NotImplementedError):
        return False
    return True


with quiet():
    DTYPES = sorted(
        filter(can_be_saved, {value for value in vars(torch).values() if isinstance(value, torch.dtype)}), key=str
    )


def pickled(value: Any) -> Pickled:
    stream = io.BytesIO()
    with quiet():
        torch.save(value, stream)
    with zipfile.ZipFile(stream) as archive:
        return unpickle(archive.read(next(name for name in archive.namelist() if name.endswith("/data.pkl"))))


def read(value: Any) -> Rebuilt:
    found = rebuilt(pickled(value).value)
    assert found is not None
    return found


class Subclass(torch.Tensor):
    """Be a tensor with an attribute of its own."""


def subclass() -> torch.Tensor:
    tensor = torch.ones(2, 3).as_subclass(Subclass)
    tensor.note = "kept"
    return tensor


def noted() -> nn.Parameter:
    parameter = nn.Parameter(torch.ones(2), requires_grad=False)
    parameter.trainable = False
    return parameter


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_of_every_dtype(dtype: torch.dtype) -> None:
    found = read(torch.empty(2, 3, dtype=dtype))
    assert (found.shape, found.dtype) == ((2, 3), str(dtype).removeprefix("torch."))


@pytest.mark.parametrize(
    "make",
    [
        lambda: torch.ones(()),
        lambda: torch.ones(0, 3),
        lambda: torch.ones(3, 2).t(),
        lambda: torch.ones(2, device="meta"),
        lambda: torch.eye(3).to_sparse(),
        lambda: torch.eye(3).to_sparse_csr(),
        lambda: torch.eye(4).to_sparse_bsr((2, 2)),
        lambda: torch.ones(2, dtype=torch.complex64).conj(),
        lambda: torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.qint8),
        subclass,
        lambda: nn.Parameter(torch.ones(2)),
        lambda: nn.Parameter(torch.ones(2), requires_grad=False),
        noted,
        lambda: nn.Buffer(torch.ones(2)),
        lambda: nn.Parameter(torch.ones(2, device="meta")),
    ],
)
def test_in_every_form(make: Callable[[], torch.Tensor]) -> None:
    with quiet():
        tensor = make()
    found = read(tensor)
    assert found.shape == tuple(tensor.shape)
    assert found.dtype == str(tensor.dtype).removeprefix("torch.")
    assert found.requires_grad is (YES if tensor.requires_grad else NO)
    assert found.is_parameter == isinstance(tensor, nn.Parameter)


def test_that_are_nested_have_no_shape() -> None:
    with quiet():
        nested = torch.nested.nested_tensor([torch.ones(2), torch.ones(3)])
    assert (read(nested).shape, read(nested).dtype) == (None, "float32")


def test_that_are_lazy_have_no_shape_and_the_default_dtype() -> None:
    found = read(nn.LazyLinear(2).weight)
    assert (found.shape, found.dtype, found.requires_grad, found.is_parameter) == (None, "float32", YES, True)
    assert read(nn.LazyBatchNorm1d().running_mean).is_parameter is False


def test_misspelled_attributes_are_kept() -> None:
    assert read(noted()).stray == {"trainable"}
    assert read(subclass()).stray == frozenset()


def test_over_the_same_memory_have_the_same_place() -> None:
    whole = torch.ones(4)
    first, second, part = map(rebuilt, pickled([whole, whole.detach(), whole[:2]]).value)
    assert first is not None
    assert second is not None
    assert part is not None
    assert first.place == second.place != part.place


def test_every_rebuild_of_torch_is_known() -> None:
    """The others of this name rebuild no tensor, or only their inside."""
    ours = {name.rpartition(".")[2] for name in REBUILDS}
    assert {name for name in dir(torch._utils) if name.startswith("_rebuild")} - ours == set()
    assert {name for name in dir(torch._tensor) if name.startswith("_rebuild")} - ours == set()


STORAGE = Persistent(("storage", Global("torch", "FloatStorage"), "0", "cpu", 6))
V2, PARAMETER = Global("torch._utils", "_rebuild_tensor_v2"), Global("torch._utils", "_rebuild_parameter")


class TestOddArguments:
    @pytest.mark.parametrize(
        "size", [None, (2.0,), (-1,), (2**63,), (2**32, 2**32), ("2",), (True,), (1,) * 65, Global("a", "b")]
    )
    def test_no_size_is_no_shape(self, size: Any) -> None:
        found = rebuilt(Made(V2, (STORAGE, 0, size, (1,), False, None), allocated=False))
        assert found is not None
        assert found.shape is None

    @pytest.mark.parametrize("storage", [None, STORAGE.id, Persistent(None), Persistent(("other",) * 5)])
    def test_no_storage_is_no_dtype_and_no_place(self, storage: Any) -> None:
        found = rebuilt(Made(V2, (storage, 0, (2,), (1,), False, None), allocated=False))
        assert found is not None
        assert (found.shape, found.dtype, found.place) == ((2,), None, None)

    @pytest.mark.parametrize("stride", [(), (1, 1), None, ("1",), (-1,)])
    def test_strides_that_do_not_fit_are_no_place(self, stride: Any) -> None:
        found = rebuilt(Made(V2, (STORAGE, 0, (2,), stride, False, None), allocated=False))
        assert found is not None
        assert (found.shape, found.place) == ((2,), None)

    @pytest.mark.parametrize("flag", [Global("a", "b"), "yes", Made(None, (), allocated=False)])
    def test_a_flag_that_is_none_is_unknown(self, flag: Any) -> None:
        found = rebuilt(Made(V2, (STORAGE, 0, (2,), (1,), flag, None), allocated=False))
        assert found is not None
        assert found.requires_grad is UNKNOWN

    @pytest.mark.parametrize("args", [(), (STORAGE,), None, [], tuple(range(40))])
    def test_too_few_or_too_many_are_no_tensor_or_no_shape(self, args: Any) -> None:
        found = rebuilt(Made(V2, args, allocated=False))
        assert found is None or found.shape is None

    def test_rebuilds_within_rebuilds_without_end_are_cut(self) -> None:
        value: Any = None
        for _ in range(100_000):
            value = Made(PARAMETER, (value, True, None), allocated=False)
        found = rebuilt(value)
        assert found is not None
        assert found.shape is None
