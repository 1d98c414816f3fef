"""A trainable parameter is in a group whose learning rate is 0.

## What it does

Finds parameters that require a gradient and are only in groups with lr 0, under an optimizer that moves nothing then.

## Why it is bad

It may be meant, or be the first step of a warm-up. But a group that was parked at 0 and forgotten looks like training:
gradients are computed, and momentum is kept, while no step moves the weights.

## Example

```python
import torch
from torch import nn

model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2))
groups = [{"params": model[0].parameters(), "lr": 0.0}, {"params": model[2].parameters()}]
optimizer = torch.optim.AdamW(groups, lr=1e-3)
```

## Use instead

```python
import torch
from torch import nn

model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2))
model[0].requires_grad_(False)
optimizer = torch.optim.AdamW(model[2].parameters(), lr=1e-3)
```

## When to allow it

In a warm-up, or where a schedule raises the learning rate later.

## References

- https://github.com/facebookresearch/madgrad/issues/16
- https://github.com/open-mmlab/mmdetection/issues/6599
"""

from __future__ import annotations

from collections.abc import Iterator

from freezeinspect.rules.facts import Facts, Hit
from freezeinspect.state import NO, YES

CODE = "FI205"
SEVERITY = "info"


def check(facts: Facts) -> Iterator[Hit]:
    """Find trainable parameters in groups of which none moves them: that is lr 0."""
    required, moves = facts.snapshot.requires_grad, facts.verdicts.weights
    still = [i for i in facts.grouped if required[i] is YES and moves[i] is NO]
    for module, tensors in facts.by_module(still).items():
        number = (facts.snapshot.groups[tensors[0]] or (0,))[0]
        message = f"trainable, but in group {number}, whose lr is 0: no step moves it"
        yield Hit(facts.structure.paths[module], message, f'{_in_code(facts, number)}["lr"] = {_lr(facts):g}')


def _lr(facts: Facts) -> float:
    """Give the largest learning rate of the other groups."""
    return max((group.lr for group in facts.groups if group.lr), default=1e-3)


def _in_code(facts: Facts, number: int) -> str:
    """Write a group as the user would, by its optimizer."""
    sizes = [len(one.groups) for one in facts.snapshot.optimizers]
    at = 0
    while number >= sizes[at]:
        number, at = number - sizes[at], at + 1
    return f"optimizer{f's[{at}]' if len(sizes) > 1 else ''}.param_groups[{number}]"
