"""A trainable weight never moved.

## What it does

Finds parameters that require a gradient and are in the optimizer at a learning rate above 0, and that not one of at
least three steps moved.

## Why it is bad

The weight is meant to learn, and does not. Its gradient is None where the loss does not depend on it: a layer that
`forward()` does not use, or that is behind a `detach()` or `no_grad()`. Else the gradient is zero, or too
small to change a bit.

## Example

```python
import torch
from torch import nn

import freezeinspect as fi


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Linear(4, 4)
        self.gate = nn.Linear(4, 4)
        self.head = nn.Linear(4, 2)

    def forward(self, x):
        return self.head(self.body(x))


model = Net()
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
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


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Linear(4, 4)
        self.gate = nn.Linear(4, 4)
        self.head = nn.Linear(4, 2)

    def forward(self, x):
        return self.head(self.body(x) * self.gate(x).sigmoid())


model = Net()
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
with fi.watch(model, optimizer) as watch:
    for batch in range(3):
        optimizer.zero_grad()
        model(torch.randn(8, 4)).square().mean().backward()
        optimizer.step()
```

## When to allow it

Where only some of the data reaches the layer: a branch for another task, or an expert that is not chosen yet.

## References

- https://github.com/pytorch/pytorch/issues/40983
- https://github.com/SeanNaren/deepspeech.pytorch/issues/75
"""

from __future__ import annotations

from collections.abc import Iterator

from freezeinspect.rules.facts import Facts, Hit, in_code
from freezeinspect.state import MIXED, NO, YES, combine

CODE = "FI303"
SEVERITY = "warning"
ENOUGH = 3  # looks: LoRA's A matrix stands still in the first step, for B is zero
WHY = {
    NO: "its gradient is None: the loss does not depend on it",
    YES: "its gradient is zero, or too small to change a bit",
}


def check(facts: Facts) -> Iterator[Hit]:
    """Find parameters that no step moved though it should have."""
    still = [i for i, one in enumerate(facts.observed.lived) if one.stood.number >= ENOUGH]
    for module, name, some in facts.owners(still):
        path, grad = facts.structure.paths[module], combine(facts.lived(i).grad for i in some)
        yield Hit(
            path,
            f"trainable and in the optimizer, but no step moved it: {WHY.get(grad, 'it had a gradient only at times')}",
            f"{in_code(path, name)}.requires_grad_(False)  # unless it should learn" if grad is NO else None,
            severity="info" if _is_lone(facts, module, some) else None,
            tensor=name,
            step=min(facts.lived(i).stood.first or 0 for i in some),
        )


def _is_lone(facts: Facts, module: int, some: list[int]) -> bool:
    """Tell a lone parameter in a module that trains: a mask token, or a bias that a normalisation takes out again."""
    moved = facts.observed.movement[module]
    return len(some) == 1 and moved is not None and moved.weights.step in (YES, MIXED)
