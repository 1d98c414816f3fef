"""A frozen parameter has a gradient left, and the optimizer would step it.

## What it does

Finds parameters that require no gradient, have one all the same from before, and are in a group whose step would move
them. In a watched run it is an error where a step of their own optimizer began so.

## Why it is bad

An optimizer looks at `.grad`, not at `requires_grad`. Unless `zero_grad()` comes first and sets it to None, the next
step moves the frozen weight; with `set_to_none=False`, momentum and weight decay move it after that too.

## Example

```python
import torch
from torch import nn

model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
model(torch.ones(1, 4)).sum().backward()
model[0].requires_grad_(False)
```

## Use instead

```python
import torch
from torch import nn

model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
model(torch.ones(1, 4)).sum().backward()
model[0].requires_grad_(False)
model[0].zero_grad()
optimizer = torch.optim.SGD(model[2].parameters(), lr=0.1)
```

## When to allow it

Where `zero_grad()` comes before the next step.

## References

- https://discuss.pytorch.org/t/why-there-is-still-a-small-change-in-frozen-layer-parameters/153740
- https://github.com/facebookresearch/fairseq/issues/4702
"""

from __future__ import annotations

from collections.abc import Iterator

from freezeinspect.rules.facts import Facts, Hit, listed
from freezeinspect.state import YES

CODE = "FI202"
SEVERITY = "warning"


def check(facts: Facts) -> Iterator[Hit]:
    """Find frozen parameters that a step began with, or the next can move: only a gradient makes that so."""
    stepped = [i for i, one in enumerate(facts.observed.lived) if one.stale.number and not facts.is_toggled(i)]
    for module, tensors in facts.by_module(stepped).items():
        names = listed([facts.structure.tensors[i].name for i in tensors])
        yield Hit(
            facts.structure.paths[module],
            f"{names} frozen with a gradient left as their optimizer stepped: the step moves it",
            _cleared(facts, tensors),
            severity="error",
            step=min(facts.lived(i).stale.first or 0 for i in tensors),
        )
    known = set(stepped)
    moved = (i for i in facts.frozen_in_groups if facts.verdicts.weights[i] is YES and i not in known)
    for module, tensors in facts.by_module(moved).items():
        names = listed([facts.structure.tensors[i].name for i in tensors])
        yield Hit(
            facts.structure.paths[module],
            f"{names} frozen with a gradient left: a step before zero_grad() moves it",
            _cleared(facts, tensors),
        )


def _cleared(facts: Facts, tensors: list[int]) -> str:
    return "".join(f"{name}.grad = " for name in facts.names_of(tensors)) + "None"
