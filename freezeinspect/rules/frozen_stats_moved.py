"""The running statistics of a frozen layer moved.

## What it does

Finds layers that were frozen at every watched step, and whose running statistics a forward pass moved.

## Why it is bad

The layer's weights stayed, but what they were trained with did not: in eval mode it normalises with statistics of other
data now. Freezing weights does not freeze buffers.

## Example

```python
import torch
from torch import nn

import freezeinspect as fi

model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
model[:2].requires_grad_(False)
optimizer = torch.optim.SGD(model[2].parameters(), lr=0.1)
model.train()
with fi.watch(model, optimizer) as watch:
    for batch in range(3):
        optimizer.zero_grad()
        model(torch.randn(8, 4)).square().mean().backward()
        optimizer.step()
```

## Use instead

```python
import torch
from torch import nn

import freezeinspect as fi

model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
model[:2].requires_grad_(False)
optimizer = torch.optim.SGD(model[2].parameters(), lr=0.1)
model.train()
model[1].eval()
with fi.watch(model, optimizer) as watch:
    for batch in range(3):
        optimizer.zero_grad()
        model(torch.randn(8, 4)).square().mean().backward()
        optimizer.step()
```

## When to allow it

Where the statistics are meant to adapt to new data while the weights stay.

## References

- https://github.com/pytorch/pytorch/issues/86590
- https://github.com/open-mmlab/mmcv/issues/964
"""

from __future__ import annotations

from collections.abc import Iterator

from freezeinspect.rules.facts import Facts, Hit, in_code
from freezeinspect.state import ABSENT
from freezeinspect.verdicts import STATISTICS

CODE = "FI302"
SEVERITY = "error"
COMPANIONS = ("FI101",)


def check(facts: Facts) -> Iterator[Hit]:
    """Find layers with statistics that moved, among those that were frozen throughout."""
    for module, is_frozen in enumerate(facts.stayed_frozen):
        first = _first_move(facts, module) if is_frozen and module not in facts.adapting else None
        if first is not None:
            path = facts.structure.paths[module]
            yield Hit(
                path,
                f"{facts.type_of(module)} is frozen, yet its running statistics moved: it no longer does what it did",
                f"{in_code(path)}.eval()  # after every model.train()",
                severity="info" if facts.is_moved_by_hand(module) else None,
                step=first,
            )


def _first_move(facts: Facts, module: int) -> int | None:
    if facts.verdicts.stats[module] is ABSENT:
        return None
    tensors = facts.structure.tensors
    own = [i for i in facts.structure.own[module] if tensors[i].name in STATISTICS and tensors[i].kind == "buffer"]
    steps = [first for i in own if (first := facts.lived(i).forward.first) is not None]
    return min(steps, default=None)
