"""torch's format from before 1.6, as torch still writes and loads it."""

from __future__ import annotations

import io
import os
import pickle
import tarfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import freezeinspect as fi
from freezeinspect.readers.limits import Unreadable
from zoo import ZOO, Residual, quiet

UNSAVED = {"weight_norm_parametrized", "spectral_norm_parametrized", "scripted", "quantised_dynamic"}
UNSAID = {"meta", "lazy", "sparse", "sparse_compressed", "quantised_norm", "complex_valued"}  # some tensor has no row


def saved(value: Any, path: Path, **options: Any) -> Path:
    with quiet():
        torch.save(value, path, _use_new_zipfile_serialization=False, **options)
    return path


@pytest.mark.parametrize("name", sorted(ZOO.keys() - UNSAVED))
def test_a_module_of_the_zoo_is_read_as_it_is_loaded(name: str, tmp_path: Path) -> None:
    path = saved(ZOO[name]().model, tmp_path / "model.pth")
    with quiet():
        live = fi.inspect(torch.load(path, weights_only=False), values=True)
    report = fi.inspect(path, values=True)
    assert replace(report.snapshot, fingerprints=()) == replace(live.snapshot, fingerprints=())
    pairs = zip(report.snapshot.fingerprints, live.snapshot.fingerprints, strict=True)
    assert all(one in (None, other) for one, other in pairs)
    assert name in UNSAID or report == live


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_in_every_protocol(protocol: int, tmp_path: Path) -> None:
    model = Residual()
    checkpoint = {"model": model.state_dict(), "optimizer": torch.optim.Adam(model.parameters()).state_dict()}
    report = fi.inspect(saved(checkpoint, tmp_path / "model.pth", pickle_protocol=protocol))
    assert (report.source.format, report.source.content) == ("torch's old format", "a state_dict under 'model'")
    assert report.snapshot.optimizers[0].groups[0].parameters == 15


def test_beside_a_zip_the_values_are_compared(tmp_path: Path) -> None:
    model = Residual()
    old = saved(model, tmp_path / "old.pth")
    model.layer1.bn.running_mean += 1
    torch.save(model.state_dict(), tmp_path / "new.pt")
    found = fi.diff(old, tmp_path / "new.pt")
    assert (found.weights, found.stats) == ((), ("layer1.bn.running_mean",))


def test_views_of_one_storage_are_read_where_they_lie(tmp_path: Path) -> None:
    whole = torch.arange(12.0)
    value = {"part": whole[2:5], "slanted": whole.reshape(3, 4).t(), "other": torch.ones(3, dtype=torch.int64)}
    old, new = saved(value, tmp_path / "old.pth"), tmp_path / "new.pt"
    torch.save(value, new)
    assert fi.inspect(old, values=True) == fi.inspect(new, values=True)
    assert None not in fi.inspect(old, values=True).snapshot.fingerprints


class Command:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("exit",)


def pickles(model: nn.Module) -> list[bytes]:
    """Cut a file into its five pickles and what follows."""
    stream = io.BytesIO()
    torch.save(model, stream, _use_new_zipfile_serialization=False)
    content, parts, at = stream.getvalue(), [], 0
    from freezeinspect.readers.unpickle import unpickle

    for _ in range(5):
        length = unpickle(content[at:]).length
        parts.append(content[at : at + length])
        at += length
    return [*parts, content[at:]]


@pytest.mark.parametrize("which", range(1, 5))
def test_each_pickle_after_the_first_would_run_and_is_told(which: int, tmp_path: Path) -> None:
    parts = pickles(nn.Linear(1, 1))
    payload = pickle.dumps(Command(), 2)[:-1] + b"0"  # run it, drop what it gives
    parts[which] = payload + parts[which][2:]
    (tmp_path / "model.pth").write_bytes(b"".join(parts))
    assert fi.inspect(tmp_path / "model.pth").observed.imports == ("posix.system",)


def test_the_first_pickle_is_the_number_alone_or_the_format_is_none(tmp_path: Path) -> None:
    parts = pickles(nn.Linear(1, 1))
    parts[0] = pickle.dumps(Command(), 2)[:-1] + b"0" + parts[0][2:]
    (tmp_path / "model.pth").write_bytes(b"".join(parts))
    with pytest.raises(Unreadable, match="a plain pickle"):
        fi.inspect(tmp_path / "model.pth")


def test_a_tar_at_the_same_time_is_refused(tmp_path: Path) -> None:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        head = pickle.dumps(0x1950A86A20F9469CFC6C, 2).decode("latin-1")
        archive.addfile(tarfile.TarInfo("x"), io.BytesIO())
    content = bytearray(stream.getvalue())
    content[: len(head)] = head.encode("latin-1")
    content[148:156] = b"        "
    content[148:156] = f"{sum(content[:512]):06o}\0 ".encode()
    (tmp_path / "model.pth").write_bytes(content)
    assert tarfile.is_tarfile(tmp_path / "model.pth")
    with pytest.raises(Unreadable, match="a tar archive at the same time, and torch would read that"):
        fi.inspect(tmp_path / "model.pth")


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_one_that_was_cut_off_is_an_error_or_lacks_values(share: float, tmp_path: Path) -> None:
    content = b"".join(pickles(Residual()))
    (tmp_path / "model.pth").write_bytes(content[: int(len(content) * share)])
    try:
        report = fi.inspect(tmp_path / "model.pth", values=True)
    except Unreadable:
        return
    assert None in report.snapshot.fingerprints


def test_another_version_is_refused(tmp_path: Path) -> None:
    parts = pickles(nn.Linear(1, 1))
    parts[1] = pickle.dumps(1002, 2)
    (tmp_path / "model.pth").write_bytes(b"".join(parts))
    with pytest.raises(Unreadable, match="torch's old format in a version other than 1001"):
        fi.inspect(tmp_path / "model.pth")
