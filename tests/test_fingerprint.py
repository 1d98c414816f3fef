"""Digests of live tensors: any bit that changes shows, and nothing else does."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import freezeinspect as fi
from freezeinspect.fingerprint import of_bytes, of_tensor
from witness import unchanged
from zoo import ZOO, quiet

UNSAVED = {"weight_norm_parametrized", "spectral_norm_parametrized", "scripted"}  # torch.save refuses them
UNSAID = {"meta", "lazy", "sparse", "sparse_compressed", "quantised_norm", "complex_valued"}  # some tensor has no row


def can_be_digested(dtype: torch.dtype) -> bool:
    try:
        return of_tensor(torch.zeros(2, dtype=torch.uint8).view(torch.uint8).to(torch.float32).to(dtype)) is not None
    except (RuntimeError, TypeError, NotImplementedError):
        return False


with quiet():
    DTYPES = sorted(
        filter(can_be_digested, {value for value in vars(torch).values() if isinstance(value, torch.dtype)}), key=str
    )


@given(data=st.data())
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_any_one_bit_that_changes_shows(dtype: torch.dtype, data: st.DataObject) -> None:
    shape = data.draw(st.lists(st.integers(1, 4), max_size=3))
    count = torch.Size(shape).numel() * dtype.itemsize
    raw = torch.tensor(list(data.draw(st.binary(min_size=count, max_size=count))), dtype=torch.uint8)
    raw = raw & 1 if dtype is torch.bool else raw  # one bit is all that a truth value has
    other = raw.clone()
    other[data.draw(st.integers(0, count - 1))] ^= 1 << (0 if dtype is torch.bool else data.draw(st.integers(0, 7)))
    assert of_tensor(raw.view(dtype).reshape(shape)) != of_tensor(other.view(dtype).reshape(shape))


def test_a_change_that_keeps_sums_and_norms_shows() -> None:
    assert of_tensor(torch.tensor([1.0, 2.0])) != of_tensor(torch.tensor([2.0, 1.0]))
    assert of_tensor(torch.tensor([1.0, -1.0])) != of_tensor(torch.tensor([-1.0, 1.0]))
    assert of_tensor(torch.tensor([0.0])) != of_tensor(torch.tensor([-0.0]))


def test_shape_and_dtype_count() -> None:
    ones = torch.zeros(4)
    assert len({of_tensor(one) for one in (ones, ones.reshape(2, 2), ones.to(torch.int32), ones.reshape(1, 4))}) == 4


@pytest.mark.parametrize(
    ("form", "plain"),
    [
        (torch.ones(3, 2).t(), torch.ones(2, 3)),
        (
            torch.arange(16.0).reshape(2, 2, 2, 2).to(memory_format=torch.channels_last),
            torch.arange(16.0).reshape(2, 2, 2, 2),
        ),
        (torch.ones(1).expand(3), torch.ones(3)),
        (torch.arange(6.0)[::2], torch.tensor([0.0, 2.0, 4.0])),
        (torch.tensor([1 + 2j]).conj(), torch.tensor([1 - 2j])),
        (torch.tensor(1.0).requires_grad_(), torch.tensor(1.0)),
    ],
)
def test_how_the_elements_lie_in_memory_does_not(form: torch.Tensor, plain: torch.Tensor) -> None:
    assert of_tensor(form) == of_tensor(plain)


def test_nan_equals_itself() -> None:
    assert of_tensor(torch.tensor(torch.nan)) == of_tensor(torch.tensor(torch.nan))


@pytest.mark.parametrize(
    "tensor",
    [torch.ones(2, device="meta"), nn.LazyLinear(1).weight, torch.eye(2).to_sparse()],
    ids=["meta", "lazy", "sparse"],
)
def test_what_has_no_row_of_bytes_has_none(tensor: torch.Tensor) -> None:
    assert of_tensor(tensor) is None


def test_blocks_may_be_of_any_size() -> None:
    assert of_bytes("uint8", (4,), [b"ab", b"", b"cd"]) == of_bytes("uint8", (4,), [b"abcd"])
    assert of_bytes("uint8", (4,), [b"abcd"]) == of_tensor(torch.tensor(list(b"abcd"), dtype=torch.uint8))


@pytest.mark.parametrize("name", ZOO)
def test_a_report_has_them_for_every_tensor_and_leaves_no_trace(name: str) -> None:
    model = ZOO[name]().model
    with unchanged(model):
        snapshot = fi.inspect(model, values=True).snapshot
    assert fi.inspect(model).snapshot.fingerprints == ()
    assert len(snapshot.fingerprints) == len(snapshot.structure.tensors)
    tied = {
        group: {snapshot.fingerprints[i] for i in numbers} for group, numbers in snapshot.structure.tie_groups.items()
    }
    assert all(len(digests) == 1 for digests in tied.values())


@pytest.mark.parametrize("name", sorted(ZOO.keys() - UNSAVED))
def test_a_file_s_are_those_of_what_is_loaded(name: str, tmp_path) -> None:
    with quiet():
        torch.save(ZOO[name]().model, tmp_path / "model.pt")
        live = fi.inspect(torch.load(tmp_path / "model.pt", weights_only=False), values=True).snapshot.fingerprints
    stored = fi.inspect(tmp_path / "model.pt", values=True).snapshot.fingerprints
    assert all(one in (None, other) for one, other in zip(stored, live, strict=True))
    assert name in UNSAID or stored == live


def test_a_state_dict_s_views_are_read_where_they_lie(tmp_path) -> None:
    whole = torch.arange(10.0)
    value = {"part": whole[2:6], "slanted": whole[:6].reshape(2, 3).t(), "constant": torch.ones(1).expand(4)}
    torch.save(value, tmp_path / "views.pt")
    fingerprints = fi.inspect(tmp_path / "views.pt", values=True).snapshot.fingerprints
    assert fingerprints == tuple(of_tensor(tensor) for tensor in value.values())


def test_a_large_tensor_is_read_in_blocks(tmp_path) -> None:
    value = {"large": torch.randn(3 * 2**18 + 5), "slanted": torch.randn(600, 700).t()}
    torch.save(value, tmp_path / "large.pt")
    fingerprints = fi.inspect(tmp_path / "large.pt", values=True).snapshot.fingerprints
    assert fingerprints == tuple(of_tensor(tensor) for tensor in value.values())


def test_a_report_with_them_comes_back_from_json() -> None:
    report = fi.inspect(ZOO["residual"]().model, values=True)
    assert fi.Report.from_json(report.to_json()) == report
    assert '"fingerprint": null' not in report.to_json()


def test_a_storage_whose_place_is_damaged_has_none_and_the_model_is_told(tmp_path) -> None:
    torch.save(nn.Linear(2, 2), tmp_path / "model.pt")
    content = (tmp_path / "model.pt").read_bytes()
    at = content.index(b"/data/1")
    header = content.rindex(b"PK\3\4", 0, at)
    (tmp_path / "model.pt").write_bytes(content[:header] + b"XX\3\4" + content[header + 4 :])
    report = fi.inspect(tmp_path / "model.pt", values=True)
    assert [digest is None for digest in report.snapshot.fingerprints] == [False, True]
    assert report.summary.parameters == 6
