"""A training script as it is, under `freezeinspect run`, and with a callback."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import freezeinspect as fi


def under_run(script: str, folder: Path) -> Path:
    """Run a script, in which CALLBACKS is None, and give the log of it."""
    (folder / "train.py").write_text(script.replace("CALLBACKS", "None"), encoding="utf-8")
    program = [sys.executable, "-m", "freezeinspect", "run", "--every", "1", "train.py"]
    env = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(program, cwd=folder, env=env, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return folder / "train.fi.jsonl"


def findings(source: Any) -> set[tuple[str, str, str | None, str]]:
    """Give what is wrong, but for the steps: those under run are a forward behind."""
    return {(one.code, one.path, one.tensor, one.severity) for one in fi.check(source)}


def by_code(source: Any) -> dict[str, set[str]]:
    """Give the paths of errors and warnings."""
    paths: dict[str, set[str]] = {}
    for one in fi.check(source).at_least("warning"):
        paths.setdefault(one.code, set()).add(one.path)
    return paths
