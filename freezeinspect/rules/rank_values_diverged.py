"""A tensor that should be the same on every rank is not.

## What it does

Finds parameters that DistributedDataParallel keeps equal, and DTensors that are replicated everywhere, with other
values on some rank, as `fi.compare_ranks` reads them. Buffers that differ are information: running statistics stay with
their rank until they are broadcast.

## Why it is bad

DistributedDataParallel makes the weights equal once, and then only averages gradients. What no reduction reaches drifts
apart, silently: each rank trains a model of its own, and rank 0's is the one that is saved.

## Example

```python
import torch
from torch import distributed, nn

import freezeinspect as fi

distributed.init_process_group("gloo")
body = nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 2))
body[0].requires_grad_(False)
model = nn.parallel.DistributedDataParallel(body)
body[0].requires_grad_(True)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
model(torch.full((8, 4), 1.0 + distributed.get_rank())).square().mean().backward()
optimizer.step()
report = fi.compare_ranks(model, optimizer)
```

## Use instead

```python
import torch
from torch import distributed, nn

import freezeinspect as fi

distributed.init_process_group("gloo")
body = nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 2))
model = nn.parallel.DistributedDataParallel(body)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
model(torch.full((8, 4), 1.0 + distributed.get_rank())).square().mean().backward()
optimizer.step()
report = fi.compare_ranks(model, optimizer)
```

## When to allow it

Where ranks average their weights themselves, now and then, as local SGD does.

## References

- https://github.com/pytorch/pytorch/issues/128949
- https://github.com/pytorch/pytorch/issues/12603
"""

from __future__ import annotations

from collections.abc import Iterator

from freezeinspect.rules.facts import Facts, Hit, in_code
from freezeinspect.rules.ranks_disagree import fewest

CODE = "FI403"
SEVERITY = "error"
COMPANIONS = ("FI402",)


def check(facts: Facts) -> Iterator[Hit]:
    """Find replicated tensors whose values are not the same on all ranks."""
    for one in facts.observed.ranks:
        if one.what.startswith("values"):
            name = in_code(one.path, one.tensor)
            many = f"{len(one.seen)} different values on {sum(len(ranks) for _, ranks in one.seen)} ranks"
            is_buffer = one.what != "values"
            yield Hit(
                one.path,
                f"{many}: " + ("each rank has its own" if is_buffer else "what should be equal has drifted apart"),
                None if is_buffer else f"torch.distributed.broadcast({name}.data, 0)  # once its gradient is reduced",
                severity="info" if is_buffer else None,
                tensor=one.tensor,
                ranks=fewest(one),
            )
