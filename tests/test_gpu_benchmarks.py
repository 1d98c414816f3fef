"""What `make gpu` runs on a device runs here too, small and on the CPU: the same loops, the same demands on them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[1]
MODULES = sorted(path.stem for path in (ROOT / "benchmarks/gpu").glob("*.py"))
TOLD = {
    "correctness": "its log survives a kill",
    "cost": "look over floor",
    "script": "FI302 frozen-stats-moved error: 0.1",
    "waiting": "every=1",
}


@pytest.mark.skipif(torch.cuda.is_available(), reason="make gpu runs them whole")
@pytest.mark.parametrize("module", MODULES)
def test_it_runs_and_says_so(module: str, tmp_path: Path) -> None:
    environment = {**os.environ, "OUT": str(tmp_path), "OMP_NUM_THREADS": "1"}
    program = [sys.executable, "-W", "ignore", "-m", f"benchmarks.gpu.{module}"]
    done = subprocess.run(program, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.startswith("on cpu: ")
    assert TOLD[module] in done.stdout
