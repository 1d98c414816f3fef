"""A step moved a weight that was frozen.

## What it does

Finds parameters that changed in an optimizer's step although `requires_grad` was false as the step began.

## Why it is bad

An optimizer steps every parameter in its groups that has a gradient, and never asks `requires_grad`. After a freeze in
the middle of a run the last gradient is still there, or one of zeros, with which momentum, weight decay and Adam's
history go on.

## Example

```python
import torch
from torch import nn

import freezeinspect as fi

model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
with fi.watch(model, optimizer) as watch:
    for batch in range(4):
        if batch == 2:
            model[0].requires_grad_(False)
        model(torch.randn(8, 4)).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=False)
```

## Use instead

```python
import torch
from torch import nn

import freezeinspect as fi

model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2))
model[0].requires_grad_(False)
optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1, momentum=0.9)
with fi.watch(model, optimizer) as watch:
    for batch in range(4):
        optimizer.zero_grad()
        model(torch.randn(8, 4)).square().mean().backward()
        optimizer.step()
```

## When to allow it

Never: what should move is not frozen.

## References

- https://discuss.pytorch.org/t/why-there-is-still-a-small-change-in-frozen-layer-parameters/153740
- https://github.com/facebookresearch/fairseq/issues/4702
"""

from __future__ import annotations

from collections.abc import Iterator

from freezeinspect.rules.facts import Facts, Hit, in_code

CODE = "FI301"
SEVERITY = "error"
COMPANIONS = ("FI202", "FI204", "FI305")


def check(facts: Facts) -> Iterator[Hit]:
    """Find parameters that a step moved while they were frozen."""
    moved = [i for i, one in enumerate(facts.observed.lived) if one.though_frozen.number]
    for module, name, some in facts.owners(moved):
        path = facts.structure.paths[module]
        yield Hit(
            path,
            "a step moved it though it is frozen: the optimizer holds it, and steps what has a gradient left",
            f"{in_code(path, name)}.grad = None" if name else f"{in_code(path)}.zero_grad()",
            tensor=name,
            step=min(facts.lived(i).though_frozen.first or 0 for i in some),
        )
