"""requires_grad changed during the run.

## What it does

Tells which parameters were frozen or unfrozen between the first step and the last.

## Why it is bad

It is not, where it is meant: unfreezing in stages is ordinary. It goes wrong quietly when the optimizer does not hold
what is unfrozen, when a gradient is left behind by what is frozen, and when DistributedDataParallel was built before.

## Example

```python
import torch
from torch import nn

import freezeinspect as fi

model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2))
model[0].requires_grad_(False)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
with fi.watch(model, optimizer) as watch:
    for batch in range(4):
        if batch == 2:
            model[0].requires_grad_(True)
        optimizer.zero_grad()
        model(torch.randn(8, 4)).square().mean().backward()
        optimizer.step()
```

## Use instead

```python
import torch
from torch import nn

import freezeinspect as fi

model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2))
model[0].requires_grad_(False)
optimizer = torch.optim.SGD(model[1].parameters(), lr=0.1)
with fi.watch(model, optimizer) as watch:
    for batch in range(4):
        optimizer.zero_grad()
        model(torch.randn(8, 4)).square().mean().backward()
        optimizer.step()
```

## When to allow it

Where it is a schedule: gradual unfreezing, or networks that are trained in turn.

## References

- https://github.com/ultralytics/yolov5/issues/1213
- https://github.com/facebookresearch/detectron2/issues/2486
"""

from __future__ import annotations

from collections.abc import Iterator

from freezeinspect.observed import Flip
from freezeinspect.rules.facts import Facts, Hit
from freezeinspect.state import NO

CODE = "FI305"
SEVERITY = "info"


def check(facts: Facts) -> Iterator[Hit]:
    """Find parameters whose flag changed between the first step and the last, and tell of the first change."""
    flips = _of_parameters(facts)
    alike: dict[tuple[int, str, str | None], list[int]] = {}
    for parameter, some in flips.items():
        alike.setdefault((some[0].step, _told(some), some[0].call), []).append(parameter)
    for (step, message, call), parameters in alike.items():
        for module, name, _ in facts.owners(parameters):
            yield Hit(facts.structure.paths[module], message, tensor=name, step=step, call=call)


def _of_parameters(facts: Facts) -> dict[int, list[Flip]]:
    """Give the changes of each parameter, in order: those after the first step began and until the last ended."""
    numbers = {facts.structure.full_name(i): i for own in facts.parameters for i in own}
    found: dict[int, list[Flip]] = {}
    for flip in facts.observed.flips:
        in_run = (1, False) < (flip.step, flip.within) <= (facts.observed.steps or 0, True)
        if flip.flag == "requires_grad" and in_run and flip.path in numbers:
            found.setdefault(numbers[flip.path], []).append(flip)
    return found


def _told(flips: list[Flip]) -> str:
    if len(flips) > 1:
        return "frozen and unfrozen in turn during the run: it trains only in the steps at which it is not frozen"
    if flips[0].after is NO:
        return "frozen during the run: a gradient that is left from before would still move it"
    return "unfrozen during the run: it trains only if an optimizer holds it"
