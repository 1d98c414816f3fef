"""An unchanged training script under `freezeinspect run` on this device: prints what is told, and checks it."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import click

import freezeinspect as fi
from benchmarks.machine import describe
from benchmarks.training import DEVICE

SCRIPT = """
import torch
from torch import nn

device = "cuda" if torch.cuda.is_available() else "cpu"
torch.manual_seed(0)
body = nn.Sequential(nn.Conv2d(3, 16, 3), nn.BatchNorm2d(16), nn.ReLU())
model = nn.Sequential(body, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 10)).to(device)
body.requires_grad_(False)
body.eval()
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)
for epoch in range(3):
    model.train()
    for _ in range(5):
        images, labels = torch.randn(32, 3, 32, 32, device=device), torch.randint(10, (32,), device=device)
        optimizer.zero_grad()
        with torch.autocast(device, torch.bfloat16):
            loss = nn.functional.cross_entropy(model(images), labels)
        loss.backward()
        optimizer.step()
print("trained")
"""


@click.command(help=__doc__)
def main() -> None:
    click.echo(f"on {DEVICE}: {describe()}")
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "train.py").write_text(SCRIPT, encoding="utf-8")
        program = [sys.executable, "-m", "freezeinspect", "run", "--every", "1", "train.py"]
        done = subprocess.run(program, cwd=folder, capture_output=True, text=True, check=True)
        found = fi.check(Path(folder, "train.fi.jsonl"))
    click.echo(done.stderr)
    assert done.stdout == "trained\n", done.stdout
    assert "FI302" in {one.code for one in found}, found  # the frozen body's statistics move after model.train()
    click.echo(f"found, as it should be: {found}")


if __name__ == "__main__":
    main()
