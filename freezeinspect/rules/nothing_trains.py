"""Every parameter is frozen, and yet the model is set up to train.

## What it does

Finds models that have parameters, none of which requires a gradient, where an optimizer was given, a loop is watched,
or the model is in train mode.

## Why it is bad

No step can change anything. `loss.backward()` fails with "element 0 of tensors does not require grad", or, where
something else in the loss requires a gradient, the loop runs and learns nothing.

## Example

```python
from torch import nn

model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2))
model[2] = nn.Linear(4, 3)
model.requires_grad_(False)
```

## Use instead

```python
from torch import nn

model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2))
model.requires_grad_(False)
model[2] = nn.Linear(4, 3)  # new parameters require a gradient
```

## When to allow it

Where the model only runs forward inside a loop that trains something else; `model.eval()` says so too.

## References

- https://github.com/jina-ai/finetuner/issues/435
- https://github.com/mazurowski-lab/finetune-SAM/issues/26
"""

from __future__ import annotations

from collections.abc import Iterator

from freezeinspect.rules.facts import Facts, Hit, in_code
from freezeinspect.state import ABSENT, NO

CODE = "FI109"
SEVERITY = "warning"


def check(facts: Facts) -> Iterator[Hit]:
    """Look at the whole model; what a run saw unfrozen does train."""
    if facts.verdicts.requires_grad[0] is NO and facts.is_training and not facts.has_flipped_gradients:
        yield Hit("", _message(facts), f"{in_code(_last(facts))}.requires_grad_(True)")


def _message(facts: Facts) -> str:
    if facts.is_watched:
        return "no parameter requires a gradient, but a training loop is watched: no step can change it"
    if facts.snapshot.optimizers:
        return "no parameter requires a gradient, but there is an optimizer: no step can change the model"
    return "no parameter requires a gradient, but the model is in train mode: nothing can train"


def _last(facts: Facts) -> str:
    """Give the last child that has parameters: most often the head."""
    has = facts.verdicts.requires_grad
    heads = [child for child in facts.structure.children[0] if has[child] is not ABSENT]
    return facts.structure.paths[heads[-1] if heads else 0]
