"""A frozen normalisation layer keeps its running statistics, but normalises with the batch.

## What it does

Finds frozen layers whose running statistics stay still because of `momentum = 0`, or of `track_running_stats = False`
set after construction, and which are in train mode.

## Why it is bad

The statistics stay, but they are not used: in train mode the layer normalises with those of the batch. What the frozen
layer computes depends on what else is in the batch, and in eval mode it computes something else.

## Example

```python
from torch import nn

model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Conv2d(8, 2, 1))
model[1].requires_grad_(False)
model[1].momentum = 0
```

## Use instead

```python
from torch import nn

model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Conv2d(8, 2, 1))
model[1].requires_grad_(False)
model[1].eval()
```

## When to allow it

Where normalising with the batch is meant, as in some kinds of domain adaptation.

## References

- https://discuss.pytorch.org/t/train-batchnorm2d-with-training-and-evaluation-modes/109213
- https://discuss.pytorch.org/t/frozen-batch-normalization-still-shows-different-performance-in-model-train-from-model-eval/25176
"""

from __future__ import annotations

from collections.abc import Iterator

from freezeinspect.rules.facts import Facts, Hit, in_code
from freezeinspect.state import NO

CODE = "FI105"
SEVERITY = "warning"


def check(facts: Facts) -> Iterator[Hit]:
    """Find frozen layers with still statistics that normalise with the batch."""
    for module, moves in enumerate(facts.verdicts.stats):
        if moves is NO and facts.verdicts.normalises_with[module] == "batch" and facts.is_frozen(module):
            path = facts.structure.paths[module]
            kind = facts.type_of(module)
            yield Hit(
                path,
                f"{kind} is frozen and keeps its running statistics, but in train mode it normalises with the batch",
                f"{in_code(path)}.eval()",
            )
