"""The mode of a layer changed between two steps.

## What it does

Finds frozen layers that were in eval mode at one step and in train mode at the next. As information, trainable
normalisation layers that left train mode. An evaluation that ends in the modes it began with is no change.

## Why it is bad

`model.train()` sets every module to train mode, also those that were put in eval to keep them as they are: from
then on a frozen BatchNorm's statistics move again, and a frozen dropout drops.

## Example

```python
import torch
from torch import nn

import freezeinspect as fi

model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
model[:2].requires_grad_(False)
model[:2].eval()
optimizer = torch.optim.SGD(model[2].parameters(), lr=0.1)
with fi.watch(model, optimizer) as watch:
    for epoch in range(2):
        model(torch.randn(8, 4)).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
        model.train()
```

## Use instead

```python
import torch
from torch import nn

import freezeinspect as fi

model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
model[:2].requires_grad_(False)
optimizer = torch.optim.SGD(model[2].parameters(), lr=0.1)
with fi.watch(model, optimizer) as watch:
    for epoch in range(2):
        model.train()
        model[:2].eval()  # after every model.train()
        model(torch.randn(8, 4)).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
```

## When to allow it

Where a layer is meant to adapt from some epoch on.

## References

- https://github.com/pgniewko/gt-pyg/issues/112
- https://github.com/poppinace/indexnet_matting/issues/35
"""

from __future__ import annotations

from collections.abc import Iterator

from freezeinspect.observed import Turn
from freezeinspect.rules.facts import Facts, Hit, in_code
from freezeinspect.state import ABSENT, NO, YES

CODE = "FI304"
SEVERITY = "warning"
COMPANIONS = ("FI101", "FI302")


def check(facts: Facts) -> Iterator[Hit]:
    """Find layers whose mode matters and turned between two steps, frozen or trainable at both."""
    for turn in facts.observed.turns:
        module = facts.structure.index.get(turn.path)
        if module is None or not facts.depends_on_mode(module):
            continue
        has_stats = facts.verdicts.stats[module] is not ABSENT
        if turn.required is NO and turn.training is YES:
            yield _left_eval(turn, facts.type_of(module), has_stats)
        elif turn.required is YES and turn.training is NO and has_stats:
            message = f"{facts.type_of(module)} left train mode: its running statistics stand still from here on"
            yield Hit(turn.path, message, severity="info", step=turn.step, call=turn.call)


def _left_eval(turn: Turn, kind: str, has_stats: bool) -> Hit:
    what = "its running statistics move from here on" if has_stats else "it drops from here on"
    fix = f"{in_code(turn.path)}.eval()  # after every model.train()"
    return Hit(turn.path, f"{kind} is frozen, but left eval mode: {what}", fix, step=turn.step, call=turn.call)
