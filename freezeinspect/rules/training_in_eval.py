"""Steps were taken with the model in eval mode.

## What it does

Finds steps of an optimizer that holds parameters of the model, begun with its root in eval mode: from the start, or
since an evaluation that `model.train()` never ended. Information where nothing in the model depends on the mode.

## Why it is bad

In eval mode dropout drops nothing, and normalisation layers normalise with running statistics, which stand still while
the weights move on. Loaders such as `from_pretrained` give a model in eval mode.

## Example

```python
import torch
from torch import nn

import freezeinspect as fi

model = nn.Sequential(nn.Linear(4, 4), nn.Dropout(), nn.Linear(4, 2))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
with fi.watch(model, optimizer) as watch:
    for epoch in range(2):
        optimizer.zero_grad()
        model(torch.randn(8, 4)).square().mean().backward()
        optimizer.step()
        model.eval()  # to validate
```

## Use instead

```python
import torch
from torch import nn

import freezeinspect as fi

model = nn.Sequential(nn.Linear(4, 4), nn.Dropout(), nn.Linear(4, 2))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
with fi.watch(model, optimizer) as watch:
    for epoch in range(2):
        model.train()
        optimizer.zero_grad()
        model(torch.randn(8, 4)).square().mean().backward()
        optimizer.step()
        model.eval()  # to validate
```

## When to allow it

Where it is meant, as in metric learning with small batches, whose statistics stay those of pretraining.

## References

- https://github.com/joeynmt/joeynmt/issues/184
- https://github.com/wkentaro/pytorch-fcn/pull/56
"""

from __future__ import annotations

from collections.abc import Iterator

from freezeinspect.rules.facts import Facts, Hit
from freezeinspect.state import NO

CODE = "FI308"
SEVERITY = "warning"
COMPANIONS = ("FI102", "FI304")


def check(facts: Facts) -> Iterator[Hit]:
    """Find steps that began with the root in eval mode."""
    steps = facts.observed.in_eval
    if steps.number:
        left = next((one for one in facts.observed.turns if one.path == "" and one.training is NO), None)
        since = "eval mode was not left after an evaluation" if left else "it was never put in train mode"
        matters = any(map(facts.depends_on_mode, range(len(facts.structure))))
        yield Hit(
            "",
            f"trains in eval mode: {since}, so dropout drops nothing and statistics stand still",
            "model.train()",
            severity=None if matters else "info",
            step=steps.first,
            call=left.call if left else None,
        )
