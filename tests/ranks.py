"""Programs on several ranks: real processes of torchrun, over gloo."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}


def torchrun(program: Path, ranks: int, *args: str, expect: int = 0) -> subprocess.CompletedProcess[str]:
    """Run a program on so many ranks of this machine, in its own folder."""
    launch = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}", str(program), *args]
    done = subprocess.run(
        [sys.executable, *launch],
        cwd=program.parent,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert (done.returncode != 0) == (expect != 0), done.stderr[-4000:]
    return done
