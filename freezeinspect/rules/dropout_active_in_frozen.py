"""A dropout still drops inside a branch that is wholly frozen.

## What it does

Finds dropouts in train mode, with p above 0, where every parameter of the nearest branch that has some is frozen.

## Why it is bad

Nothing there learns to bear the noise. The frozen features are noisier in training than at inference, and features that
were computed once, to be reused, differ from one pass to the next.

## Example

```python
from torch import nn

backbone = nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5))
model = nn.Sequential(backbone, nn.Linear(4, 2))
model[0].requires_grad_(False)
```

## Use instead

```python
from torch import nn

backbone = nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5))
model = nn.Sequential(backbone, nn.Linear(4, 2))
model[0].requires_grad_(False).eval()
```

## When to allow it

Where the noise is meant to regularise what follows.

## References

- https://github.com/NVIDIA-NeMo/Speech/pull/3540
- https://discuss.pytorch.org/t/proper-way-to-configure-a-backbone-for-transfer-learning/192463
"""

from __future__ import annotations

from collections.abc import Iterator

from freezeinspect.rules.facts import Facts, Hit, in_code
from freezeinspect.state import YES

CODE = "FI106"
SEVERITY = "info"


def check(facts: Facts) -> Iterator[Hit]:
    """Find dropouts in train mode whose branch is frozen."""
    for module, p in enumerate(facts.snapshot.dropout):
        if p and facts.snapshot.training[module] is YES and facts.is_wholly_frozen(facts.branches[module]):
            path = facts.structure.paths[module]
            yield Hit(
                path,
                f"{facts.type_of(module)} drops with p = {p:g} in a frozen branch, where nothing learns to bear it",
                f"{in_code(path)}.eval()",
            )
