"""A parameter requires a gradient, but no optimizer holds it.

## What it does

Finds modules with parameters that require a gradient and are in no group of the optimizers. It is an error where an
optimizer holds a tensor of the same shape that no module owns, or holds another parameter of the same layer.

## Why it is bad

Each backward computes its gradient, no step uses it, and `optimizer.zero_grad()` does not know it, so that it piles up.
An optimizer keeps the tensors that it was built with: what was unfrozen, added or replaced later does not train.

## Example

```python
import torch
from torch import nn

model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
model[2] = nn.Linear(4, 2)
```

## Use instead

```python
import torch
from torch import nn

model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2))
model[2] = nn.Linear(4, 2)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
```

## When to allow it

Where a part is frozen by leaving it out of the optimizer; `requires_grad_(False)` saves its gradients too.

## References

- https://discuss.pytorch.org/t/best-practice-for-freezing-layers/58156
- https://discuss.pytorch.org/t/freezing-the-updates-without-freezing-the-gradients/7358
"""

from __future__ import annotations

from collections.abc import Iterator

from freezeinspect.rules.facts import Facts, Hit, listed

CODE = "FI201"
SEVERITY = "error"
COMPANIONS = ("FI203",)


def check(facts: Facts) -> Iterator[Hit]:
    """Find modules with trainable parameters in no group."""
    stepped = facts.by_module(facts.grouped)
    for module, tensors in facts.by_module(facts.left_out).items():
        names = listed([facts.structure.tensors[i].name for i in tensors])
        why = _mistaken(facts, tensors, facts.is_leaf(module) and module in stepped)
        yield Hit(
            facts.structure.paths[module],
            f"{names} in no optimizer group: gradients are computed, never stepped{why}",
            f'optimizer.add_param_group({{"params": [{", ".join(facts.names_of(tensors))}]}})',
            severity=None if why else "warning",
        )


def _mistaken(facts: Facts, tensors: list[int], is_in_part: bool) -> str:
    """Say why it can be no way to freeze, where something tells."""
    if any(facts.structure.tensors[i].shape in facts.orphan_shapes for i in tensors):
        return "; the optimizer holds a tensor of this shape that the model does not: was it replaced?"
    return "; the optimizer holds the rest of the layer" if is_in_part else ""
