"""A frozen normalisation layer has the statistics that it was made with.

## What it does

Finds frozen layers, their statistics still, whose running mean is all 0, whose variance is all 1 and which counted no
batch. It looks at files, and at reports with `values=True`.

## Why it is bad

With these statistics the layer normalises nothing: no data ever went through it, or the checkpoint that was loaded had
none. Frozen, it stays so.

## Example

```python
import torch
from torch import nn

model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Conv2d(8, 2, 1))
model[:2].requires_grad_(False).eval()
path = "model.pt"
torch.save(model, path)
```

## Use instead

```python
import torch
from torch import nn

model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Conv2d(8, 2, 1))
model(torch.randn(8, 3, 9, 9))  # trained, or loaded with its statistics, and then frozen
model[:2].requires_grad_(False).eval()
path = "model.pt"
torch.save(model, path)
```

## When to allow it

Where the statistics were folded into the weights, so that 0 and 1 are meant.

## References

- https://github.com/cleinc/bts/issues/90
- https://github.com/MVIG-SJTU/AlphAction/issues/55
"""

from __future__ import annotations

from collections.abc import Iterator

from freezeinspect.fingerprint import of_bytes
from freezeinspect.rules.facts import Facts, Hit
from freezeinspect.state import ABSENT, NO

CODE = "FI503"
SEVERITY = "info"
ZERO = {"float64": bytes(8), "float32": bytes(4), "float16": bytes(2), "bfloat16": bytes(2), "int64": bytes(8)}
ONE = {"float64": b"\0\0\0\0\0\0\xf0\x3f", "float32": b"\0\0\x80\x3f", "float16": b"\0\x3c", "bfloat16": b"\x80\x3f"}
MADE = {"running_mean": ZERO, "running_var": ONE, "num_batches_tracked": ZERO}
MOST = 2**20  # elements


def check(facts: Facts) -> Iterator[Hit]:
    """Find frozen layers with statistics as they were made; what has no fingerprint is not known."""
    if not facts.snapshot.fingerprints:
        return
    for module, moves in enumerate(facts.verdicts.stats):
        if moves is NO and _is_frozen(facts, module) and _is_as_made(facts, module):
            message = f"{facts.type_of(module)} is frozen with mean 0 and variance 1: its statistics never saw a batch"
            yield Hit(facts.structure.paths[module], message)


def _is_frozen(facts: Facts, module: int) -> bool:
    own = facts.required[module]
    return (own if own is not ABSENT else facts.verdicts.requires_grad[facts.branches[module]]) is NO


def _is_as_made(facts: Facts, module: int) -> bool:
    tensors = facts.structure.tensors
    found = {tensors[i].name: i for i in facts.structure.own[module] if tensors[i].name in MADE}
    return found.keys() == MADE.keys() and all(_has(facts, i, MADE[name]) for name, i in found.items())


def _has(facts: Facts, tensor: int, element: dict[str, bytes]) -> bool:
    """Tell by its fingerprint whether all the elements of a tensor are this one."""
    one = facts.structure.tensors[tensor]
    if one.dtype not in element or one.shape is None or (one.elements or 0) > MOST:
        return False
    expected = of_bytes(one.dtype, one.shape, [element[one.dtype] * (one.elements or 0)])
    return facts.snapshot.fingerprints[tensor] == expected
