"""A weight changed outside the optimizer's steps.

## What it does

Finds parameters whose values changed between one step and the next, in a run with an optimizer: a write to `.data`,
a copy, a load. What recurs is information: an average of weights, clipping, a schedule-free optimizer.

## Why it is bad

The optimizer does not know of it: its momentum and its averages belong to the weights that were there before. A load in
the middle of a run throws away what was learned, silently.

## Example

```python
import torch
from torch import nn

import freezeinspect as fi

model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
with fi.watch(model, optimizer) as watch:
    for batch in range(3):
        optimizer.zero_grad()
        model(torch.randn(8, 4)).square().mean().backward()
        optimizer.step()
        if batch == 0:
            model[0].weight.data.mul_(0.5)
```

## Use instead

```python
import torch
from torch import nn

import freezeinspect as fi

model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2))
model[0].weight.data.mul_(0.5)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
with fi.watch(model, optimizer) as watch:
    for batch in range(3):
        optimizer.zero_grad()
        model(torch.randn(8, 4)).square().mean().backward()
        optimizer.step()
```

## When to allow it

Where it is meant, as a reset of a layer; and for weights that an optimizer trains which is not watched.

## References

- https://discuss.pytorch.org/t/set-nn-parameter-during-training/178163/2
- https://github.com/facebookresearch/schedule_free/issues/22
"""

from __future__ import annotations

from collections.abc import Iterator

from freezeinspect.rules.facts import Facts, Hit

CODE = "FI307"
SEVERITY = "warning"
ONCE = "changed once outside a step: the optimizer's momentum and averages belong to what was there before"
OFTEN = "changes outside its steps time and again, as averages and clipped weights do"


def check(facts: Facts) -> Iterator[Hit]:
    """Find parameters that moved between steps; without an optimizer every move is one."""
    if not facts.snapshot.optimizers or not facts.observed.steps:
        return
    moved = [i for own in facts.parameters for i in own if facts.observed.lived and facts.lived(i).outside.number]
    for module, name, some in facts.owners(moved):
        recurs = any(facts.lived(i).outside.number > 1 for i in some)
        yield Hit(
            facts.structure.paths[module],
            OFTEN if recurs else ONCE,
            severity="info" if recurs else None,
            tensor=name,
            step=min(facts.lived(i).outside.first or 0 for i in some),
        )
