"""An optimizer holds frozen parameters.

## What it does

Finds parameters that require no gradient, have none, and are in a group of an optimizer.

## Why it is bad

It does no harm: a step passes over a parameter whose gradient is None, weight decay and momentum included. It costs a
look at each step, and a gradient that is there when the parameter is frozen would still move it.

## Example

```python
import torch
from torch import nn

model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2))
model[0].requires_grad_(False)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
```

## Use instead

```python
import torch
from torch import nn

model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2))
model[0].requires_grad_(False)
optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
```

## When to allow it

Where the parameters are to be unfrozen later: they are in the optimizer already.

## References

- https://discuss.pytorch.org/t/freeze-weights-or-constraint-the-optimizer/175455
- https://discuss.pytorch.org/t/best-practice-for-freezing-layers/58156
"""

from __future__ import annotations

from collections.abc import Iterator

from freezeinspect.rules.facts import Facts, Hit
from freezeinspect.state import NO

CODE = "FI204"
SEVERITY = "info"
FILTERED = "optimizer = type(optimizer)([p for p in model.parameters() if p.requires_grad], **optimizer.defaults)"


def check(facts: Facts) -> Iterator[Hit]:
    """Find frozen parameters without a gradient in a group."""
    still = (i for i in facts.frozen_in_groups if facts.snapshot.has_grad[i] is NO)
    for module in facts.by_module(still):
        message = "frozen, but in an optimizer group: harmless while the gradient is None"
        yield Hit(facts.structure.paths[module], message, FILTERED)
