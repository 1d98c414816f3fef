"""A slice of the fuzzing that `make fuzz` does: nothing but a Report or the one documented error."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

INPUTS = 800


@pytest.fixture(scope="module")
def fuzz() -> ModuleType:
    spec = importlib.util.spec_from_file_location("fuzz", Path(__file__).with_name("fuzz.py"))
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules["fuzz"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_input_ends_as_a_report_or_the_one_error_and_half_reach_the_machine(fuzz: ModuleType) -> None:
    done = fuzz.run(seed=2026, count=INPUTS)
    assert done.others == []
    assert done.inputs == INPUTS
    assert done.reached > INPUTS / 2
    assert min(done.kinds["Report"], done.kinds["Unreadable"]) > INPUTS / 10


def test_it_notices_what_is_run(fuzz: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """Were the machine Python's own, the first attack would be seen."""
    import pickle

    def run(pickled: bytes) -> None:
        try:
            pickle.loads(pickled)
        except Exception:
            raise fuzz.Unreadable("as if nothing had happened") from None

    monkeypatch.setattr(fuzz.file, "unpickle", run)
    assert any("pickle.find_class" in kind for _, kind in fuzz.run(seed=1, count=60).others)
