"""The digests by Triton are those of device.py: on a CUDA device, or here in Triton's interpreter."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec

import pytest
import torch

WHERE = "cuda" if torch.cuda.is_available() else "cpu"
pytestmark = pytest.mark.skipif(find_spec("triton") is None, reason="needs Triton: make test-kernel installs it")

PROGRAM = """
import sys
import torch
from freezeinspect.recorder import device, kernel

where = sys.argv[1]
torch.manual_seed(0)
made = [
    torch.randn(()), torch.randn(0), torch.randn(70_001), torch.randn(7, 9),
    torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last), torch.randn(33).bfloat16()[1:],
    torch.randn(5).half(), torch.randn(9).to(torch.float8_e4m3fn), torch.arange(5), torch.tensor([True, False]),
    torch.randn(3, dtype=torch.complex64), torch.randn(2, dtype=torch.float64), torch.randn(9)[1:].view(2, 4).t(),
]
made = [one.to(where) for one in made]
assert kernel.Table(made).digests().tolist() == device.digests(made).tolist()

reader = device.Reader(torch.device(where))
mixed = [made[0], torch.randn(6, 4, device=where)[:, ::2], made[2], made[10].conj()]
assert reader.read([0, 1, 2, 3], mixed).values() == device.digests(mixed).tolist()
before = reader.read([0, 1, 2, 3], mixed).values()
mixed[1][3, 1] += 1
mixed[2][70_000] = -0.0 if mixed[2][70_000] == 0 else 0.0
after = reader.read([0, 1, 2, 3], mixed).values()
assert [one != other for one, other in zip(before, after)] == [False, True, True, False]

kernel.SPAN, kernel.BLOCK, kernel.CHUNK, device.CHUNK = 8, 4, 16, 16
device._odd.cache_clear()
small = [torch.randn(100, device=where), torch.randn(3, device=where)]
assert kernel.Table(small).digests().tolist() == device.digests(small).tolist()
print("alike")
"""


def test_they_are_alike_for_every_dtype_layout_and_length() -> None:
    environment = {**os.environ, "TRITON_INTERPRET": "0" if WHERE == "cuda" else "1"}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, WHERE], capture_output=True, text=True, env=environment, check=False
    )
    assert done.stdout == "alike\n", done.stderr[-3000:]


BROKEN = """
import torch
from freezeinspect.recorder import device, kernel
kernel.Table.digests = lambda self: 1 / 0
tensors = [torch.randn(3), torch.randn(5)]
reader = device.Reader(torch.device("cpu"))
for _ in range(2):
    assert reader.read([0, 1], tensors).values() == device.digests(tensors).tolist()
"""


def test_where_triton_does_not_work_the_digests_are_made_without_it_and_it_is_said_once() -> None:
    environment = {**os.environ, "TRITON_INTERPRET": "1"}
    done = subprocess.run([sys.executable, "-c", BROKEN], capture_output=True, text=True, env=environment, check=True)
    assert done.stderr.count("Triton does not work here, so digests take longer: division by zero") == 1
