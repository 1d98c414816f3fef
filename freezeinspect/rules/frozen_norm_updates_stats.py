"""A frozen normalisation layer still updates its running statistics.

## What it does

Finds layers whose weights are frozen and whose running statistics the next forward moves: they are in train mode.

## Why it is bad

`requires_grad` speaks about weights. Running statistics are buffers: they move in `forward()`, in train mode, whatever
`requires_grad` says, and the layer normalises with the batch meanwhile. The frozen features drift with the new data.

## Example

```python
from torch import nn

model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Conv2d(8, 2, 1))
model[:2].requires_grad_(False)
model.train()
```

## Use instead

```python
from torch import nn

model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Conv2d(8, 2, 1))
model[:2].requires_grad_(False)
model.train()
model[1].eval()  # after every model.train(), which would undo it
```

## When to allow it

Where the statistics are meant to adapt to new data while the weights stay, as in test-time adaptation.

## References

- https://github.com/pytorch/pytorch/issues/86590
- https://discuss.pytorch.org/t/what-does-requires-grad-false-on-batchnorm2d-perform/137904
"""

from __future__ import annotations

from collections.abc import Iterator

from freezeinspect.rules.facts import Facts, Hit, in_code
from freezeinspect.state import YES

CODE = "FI101"
SEVERITY = "error"


def check(facts: Facts) -> Iterator[Hit]:
    """Find layers whose own weights are frozen, or those of their branch where they have none."""
    for module, moves in enumerate(facts.verdicts.stats):
        if moves is YES and facts.is_frozen(module) and module not in facts.adapting:
            path = facts.structure.paths[module]
            kind = facts.type_of(module)
            yield Hit(
                path,
                f"{kind} is frozen, but in train mode: each forward moves its running statistics",
                f"{in_code(path)}.eval()",
                severity="info" if facts.is_moved_by_hand(module) else None,
            )
