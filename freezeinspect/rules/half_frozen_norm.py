"""A normalisation layer keeps its running statistics and trains its weights.

## What it does

Finds layers whose running statistics stay still, as in eval mode, while their weight and bias require a gradient.

## Why it is bad

It may be just what you want. But `eval()` stops only the statistics: weight and bias, the γ and β of the layer, go on
training, and a layer that was meant to be frozen is frozen by half.

## Example

```python
from torch import nn

model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Conv2d(8, 2, 1))
model[1].eval()
```

## Use instead

```python
from torch import nn

model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Conv2d(8, 2, 1))
model[1].eval().requires_grad_(False)
```

## When to allow it

Where it is meant: metric learning and detection often train γ and β over the statistics of the pretraining.

## References

- https://discuss.pytorch.org/t/affine-and-momentum-of-batchnorm-layer/104698
- https://discuss.pytorch.org/t/train-batchnorm2d-with-training-and-evaluation-modes/109213
"""

from __future__ import annotations

from collections.abc import Iterator

from freezeinspect.rules.facts import Facts, Hit, in_code
from freezeinspect.state import NO, YES

CODE = "FI102"
SEVERITY = "info"


def check(facts: Facts) -> Iterator[Hit]:
    """Find layers with still statistics and trainable weights, in a model that trains."""
    if not facts.is_training:
        return
    for module, moves in enumerate(facts.verdicts.stats):
        if moves is NO and facts.required[module] is YES:
            path = facts.structure.paths[module]
            yield Hit(
                path,
                f"{facts.type_of(module)} keeps its running statistics, but its weights train: it is frozen by half",
                f"{in_code(path)}.eval().requires_grad_(False)",
            )
