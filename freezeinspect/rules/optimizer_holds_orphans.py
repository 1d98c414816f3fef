"""An optimizer holds tensors that the model does not.

## What it does

Finds groups with tensors that no module of the model owns. It is an error where a parameter of the same shape is in the
model, requires a gradient and is in no group, and where a watched run saw the tensors in the model before.

## Why it is bad

The optimizer keeps the tensors that it was built with. After a layer is replaced, or after
`load_state_dict(assign=True)`, it goes on stepping the old ones, and the new ones never train.

## Example

```python
import torch
from torch import nn

model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
model.load_state_dict(nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2)).state_dict(), assign=True)
```

## Use instead

```python
import torch
from torch import nn

model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2))
model.load_state_dict(nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2)).state_dict(), assign=True)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
```

## When to allow it

Where one optimizer steps several models, or a criterion with parameters of its own.

## References

- https://github.com/pytorch/tutorials/pull/2522
- https://github.com/pytorch/pytorch/pull/102212
"""

from __future__ import annotations

from collections.abc import Iterator

from freezeinspect.rules.facts import Facts, Hit

CODE = "FI203"
SEVERITY = "error"
COMPANIONS = ("FI201",)
REBUILT = "optimizer = type(optimizer)(model.parameters(), **optimizer.defaults)"


def check(facts: Facts) -> Iterator[Hit]:
    """Find groups with orphans; worse where the model has what they were replaced by."""
    if not facts.is_predictable:
        return
    since = dict(facts.observed.orphaned)
    waiting = {facts.structure.tensors[i].shape for i in facts.left_out}
    for number, group in enumerate(facts.groups):
        if group.orphans:
            has = f"group {number} holds {group.orphans} tensor{'s' * (group.orphans > 1)} that the model does not"
            if number in since:
                yield Hit(
                    "", f"{has} any more: they were replaced, and it goes on stepping them", REBUILT, step=since[number]
                )
            elif waiting.isdisjoint(group.orphan_shapes):
                yield Hit("", f"{has}: of another model or a criterion, or replaced here", severity="info")
            else:
                yield Hit("", f"{has}, and the model has others of their shape, which no step moves", REBUILT)
