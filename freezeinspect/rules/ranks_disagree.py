"""Ranks that train one model with different flags.

## What it does

Finds modules in another mode, parameters frozen or trained, and optimizer settings that are not the same on every rank,
as `fi.compare_ranks` and a watch with `ranks=True` see them.

## Why it is bad

The ranks no longer train one model: a layer in eval on one of them normalises with other statistics, a parameter that
is frozen on one keeps the rest waiting for its gradient. What rank 0 prints and saves is not what the others do.

## Example

```python
from torch import distributed, nn

import freezeinspect as fi

distributed.init_process_group("gloo")
body = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
model = nn.parallel.DistributedDataParallel(body)
if distributed.get_rank() == 0:
    body[1].eval()
report = fi.compare_ranks(model)
```

## Use instead

```python
from torch import distributed, nn

import freezeinspect as fi

distributed.init_process_group("gloo")
body = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
model = nn.parallel.DistributedDataParallel(body)
report = fi.compare_ranks(model)
```

## When to allow it

Where ranks differ by design, as the stages of a pipeline do; better to compare only those that hold the same part, by
`group=`.

## References

- https://github.com/pytorch/pytorch/issues/41101
- https://github.com/yifan123/flow_grpo/issues/245
"""

from __future__ import annotations

from collections.abc import Iterator

from freezeinspect.observed import Disagreement
from freezeinspect.rules.facts import Facts, Hit, listed

CODE = "FI401"
SEVERITY = "error"
COMPANIONS = ("FI102",)


def check(facts: Facts) -> Iterator[Hit]:
    """Find flags that the ranks do not agree in; those of one module's tensors that do so alike are told at once."""
    alike: dict[tuple[object, ...], list[Disagreement]] = {}
    for one in facts.observed.ranks:
        if not one.what.startswith("values"):
            alike.setdefault((one.path, one.what, one.seen, one.step), []).append(one)
    for some in alike.values():
        names = [one.tensor for one in some if one.tensor]
        about = f"{some[0].what} of {listed(names)}" if names else some[0].what
        yield Hit(
            some[0].path,
            f"{about}: {told(some[0])}: the ranks no longer train one model",
            tensor=names[0] if len(names) == 1 else None,
            step=some[0].step,
            ranks=fewest(some[0]),
        )


def told(one: Disagreement) -> str:
    """Say which ranks have what."""
    return ", ".join(f"{word} on {_ranks(ranks)}" for word, ranks in one.seen)


def _ranks(ranks: tuple[int, ...]) -> str:
    return f"rank{'s' * (len(ranks) > 1)} {listed(list(map(str, ranks)))}"


def fewest(one: Disagreement) -> tuple[int, ...]:
    """Give the ranks that stand against the most."""
    most = max(one.seen, key=lambda each: len(each[1]))
    return tuple(sorted(rank for word, ranks in one.seen if word != most[0] for rank in ranks))
