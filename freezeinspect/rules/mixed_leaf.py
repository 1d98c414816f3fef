"""A layer has some of its own parameters frozen and others not.

## What it does

Finds modules without children that own both frozen and trainable parameters.

## Why it is bad

It may be meant. But a loop over parameters that stops in the middle of a layer, or matches names too widely, leaves
this behind: the weight is frozen and the bias trains.

## Example

```python
from torch import nn

model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2))
model[0].weight.requires_grad = False
```

## Use instead

```python
from torch import nn

model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2))
model[0].requires_grad_(False)
```

## When to allow it

Where one kind of parameter is trained on purpose, as only the biases, or low-rank factors within a layer.

## References

- https://github.com/RAIVNLab/supsup/issues/22
"""

from __future__ import annotations

from collections.abc import Iterator

from freezeinspect.rules.facts import Facts, Hit, in_code, listed
from freezeinspect.state import MIXED, NO

CODE = "FI107"
SEVERITY = "info"


def check(facts: Facts) -> Iterator[Hit]:
    """Find leaf modules whose own parameters differ."""
    for module, required in enumerate(facts.required):
        if required is MIXED and facts.is_leaf(module):
            path = facts.structure.paths[module]
            required_of, tensors = facts.snapshot.requires_grad, facts.structure.tensors
            frozen = [tensors[i].name for i in facts.parameters[module] if required_of[i] is NO]
            yield Hit(
                path,
                f"{facts.type_of(module)}: {listed(frozen)} frozen, while the rest of it trains",
                f"{in_code(path)}.requires_grad_(False)",
            )
