"""Say on which machine numbers were taken: `python3 -m benchmarks.machine machine.json`."""

from __future__ import annotations

import json
import platform
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any


def describe() -> dict[str, Any]:
    import torch

    cuda = torch.cuda.is_available()
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "device": torch.cuda.get_device_name() if cuda else platform.processor() or platform.machine(),
        "driver": _driver(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "cuda": torch.version.cuda if cuda else None,
        "threads": torch.get_num_threads(),
    }


def _driver() -> str | None:
    query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        return subprocess.run(query, capture_output=True, text=True, check=True).stdout.split("\n")[0]
    except (OSError, subprocess.CalledProcessError):
        return None


def _why_not() -> str | None:
    try:
        import torch
    except ImportError as error:
        return f"{sys.executable} cannot import torch ({error}): run this with a python3 that has it"
    if torch.cuda.is_available():
        return None
    return f"torch {torch.__version__} sees no CUDA device: run this on a machine with a GPU and a CUDA build of torch"


def main() -> None:
    if why_not := _why_not():
        sys.exit(f"make gpu: {why_not}")
    text = json.dumps(describe(), indent=2)
    Path(sys.argv[1]).write_text(text + "\n")
    sys.stdout.write(text + "\n")


if __name__ == "__main__":
    main()
