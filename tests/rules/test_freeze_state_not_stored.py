"""FI501: a file of values alone."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import freezeinspect as fi
from watching import network

CODE = "FI501"


@pytest.mark.parametrize("kind", ["state_dict", "kept", "module"])
def test_it_is_told_of_files_that_store_no_requires_grad(kind: str, tmp_path: Path) -> None:
    model, path = network(), tmp_path / "model.pt"
    saved = {"state_dict": model.state_dict(), "kept": model.state_dict(keep_vars=True), "module": model}
    torch.save(saved[kind], path)
    hits = list(fi.check(path, select=[CODE]))
    assert [(one.severity, one.path) for one in hits] == [("info", "")] * (kind == "state_dict")


def test_a_live_model_is_no_file() -> None:
    assert not list(fi.check(network(), select=[CODE]))
