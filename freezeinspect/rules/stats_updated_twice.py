"""Running statistics updated twice a step.

## What it does

Finds layers with moving statistics that ran forward during backward, as activation checkpointing runs a block again.

## Why it is bad

Each batch counts twice in the running mean and variance, so that they forget faster than `momentum` says, and differ
from those of the same run without checkpointing. Neither the loss nor a gradient shows it.

## Example

```python
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

import freezeinspect as fi

body = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.ReLU())
model = nn.Sequential(body, nn.Linear(4, 2))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
with fi.watch(model, optimizer) as watch:
    for batch in range(2):
        optimizer.zero_grad()
        hidden = checkpoint(body, torch.randn(8, 4), use_reentrant=False)
        model[1](hidden).square().mean().backward()
        optimizer.step()
```

## Use instead

```python
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

import freezeinspect as fi

body = nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4), nn.ReLU())
model = nn.Sequential(body, nn.Linear(4, 2))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
with fi.watch(model, optimizer) as watch:
    for batch in range(2):
        optimizer.zero_grad()
        hidden = checkpoint(body, torch.randn(8, 4), use_reentrant=False)
        model[1](hidden).square().mean().backward()
        optimizer.step()
```

## When to allow it

Where the momentum makes up for it, as the fix does: two updates with it weigh as much as one did.

## References

- https://github.com/pytorch/pytorch/issues/96136
- https://github.com/deepinsight/insightface/issues/2053
"""

from __future__ import annotations

from collections.abc import Iterator

from freezeinspect.rules.facts import Facts, Hit, in_code
from freezeinspect.state import YES

CODE = "FI306"
SEVERITY = "warning"


def check(facts: Facts) -> Iterator[Hit]:
    """Find layers whose statistics move, among those that ran forward during backward."""
    for path, step in facts.observed.recomputed:
        module = facts.structure.index.get(path)
        if module is not None and facts.verdicts.stats[module] is YES:
            momentum = facts.snapshot.momentum[module]
            once = None if momentum is None else 1 - max(1 - momentum, 0) ** 0.5
            yield Hit(
                path,
                f"{facts.type_of(module)} ran forward again during backward: each batch updates its statistics twice",
                f"{in_code(path)}.momentum = {once:.6g}" if once is not None else None,
                step=step,
            )
