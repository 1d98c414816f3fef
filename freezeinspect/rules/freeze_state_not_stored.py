"""The file does not say what was frozen.

## What it does

Tells that a file stores no `requires_grad`: a plain state_dict, safetensors, a distributed checkpoint.

## Why it is bad

It is not, where the code that loads the file freezes again. Else what was frozen trains after a restart: a state_dict
has values only, and a new model's parameters all require a gradient.

## Example

```python
import torch
from torch import nn

model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2))
model[0].requires_grad_(False)
path = "model.pt"
torch.save(model.state_dict(), path)
```

## Use instead

```python
import torch
from torch import nn

model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2))
model[0].requires_grad_(False)
path = "model.pt"
torch.save(model.state_dict(keep_vars=True), path)
```

## When to allow it

Nearly always: a file of values is the usual and the safe one, and the freeze is code that runs after loading.

## References

- https://github.com/huggingface/transformers/issues/11294
- https://github.com/sksq96/pytorch-summary/issues/156
"""

from __future__ import annotations

from collections.abc import Iterator

from freezeinspect.rules.facts import Facts, Hit
from freezeinspect.state import UNKNOWN

CODE = "FI501"
SEVERITY = "info"


def check(facts: Facts) -> Iterator[Hit]:
    """Find a file in which no tensor says whether it requires a gradient."""
    tensors = facts.structure.tensors
    said = {facts.snapshot.requires_grad[i] for i, one in enumerate(tensors) if one.kind != "buffer"}
    if facts.source.kind == "file" and said == {UNKNOWN}:
        knows_mode = any(mode is not UNKNOWN for mode in facts.snapshot.training)
        what = "requires_grad is" if knows_mode else "requires_grad and the modes are"
        yield Hit("", f"{what} not in this file: freeze again after loading it, or everything trains")
