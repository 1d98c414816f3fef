"""A freeze that FSDP's flat parameter swallowed.

## What it does

Finds modules that are marked as frozen, by fastai's `trainable` or a misspelled attribute, whose weights lie in a flat
parameter that requires a gradient: FullyShardedDataParallel with `use_orig_params=False` has made one of all.

## Why it is bad

The module has no parameter of its own any more, so `requires_grad_(False)` and `set_trainable` reach none, without an
error, and its weights go on training. A plain `requires_grad_(False)` leaves no trace at all; only what moves tells of
it.

## Example

```python
import torch
from torch import distributed, nn
from torch.distributed.fsdp import FullyShardedDataParallel

import freezeinspect as fi

distributed.init_process_group("gloo")
body = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2))
model = FullyShardedDataParallel(body, use_orig_params=False, device_id=torch.device("cpu"))
fi.set_trainable(body[0], False)
```

## Use instead

```python
import torch
from torch import distributed, nn
from torch.distributed.fsdp import FullyShardedDataParallel

import freezeinspect as fi

distributed.init_process_group("gloo")
body = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2))
fi.set_trainable(body[0], False)
model = FullyShardedDataParallel(body, use_orig_params=True, device_id=torch.device("cpu"))
```

## When to allow it

Where the attribute stands for something else.

## References

- https://github.com/pytorch/pytorch/issues/104690
- https://github.com/facebookresearch/fairscale/pull/721
"""

from __future__ import annotations

from collections.abc import Iterator

from freezeinspect.rules.facts import Facts, Hit, in_code
from freezeinspect.state import NO, YES

CODE = "FI404"
SEVERITY = "error"
FLAT = "_flat_param"  # as FullyShardedDataParallel names it


def check(facts: Facts) -> Iterator[Hit]:
    """Find modules marked as frozen that have no parameter but in a flat one above them, which trains."""
    snapshot, structure = facts.snapshot, facts.structure
    for i, tensor in enumerate(structure.tensors):
        if tensor.name == FLAT and snapshot.requires_grad[i] is YES:
            flat = in_code(structure.paths[tensor.owner])
            for module in structure.subtree(tensor.owner):
                is_marked = snapshot.trainable[module] is NO or module in snapshot.stray
                if is_marked and not facts.parameters[module] and module != tensor.owner:
                    yield Hit(
                        structure.paths[module],
                        f"marked as frozen, but its weights lie in the flat parameter of {flat}, which trains",
                        "FullyShardedDataParallel(..., use_orig_params=True)  # and freeze before it",
                    )
