"""Parameters unfrozen or frozen after DistributedDataParallel was built.

## What it does

Finds a DistributedDataParallel that averages the gradients of more or fewer parameters than require one now. In a run
it names those that were unfrozen since.

## Why it is bad

It settles at construction whose gradients it reduces. One that is unfrozen later gets a gradient, which stays on its
own rank: the ranks train apart, and nothing says so. One that is frozen later keeps the reduction waiting, which fails
loudly unless `find_unused_parameters=True`.

## Example

```python
from torch import distributed, nn

distributed.init_process_group("gloo")
body = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2))
body[0].requires_grad_(False)
model = nn.parallel.DistributedDataParallel(body)
body[0].requires_grad_(True)
```

## Use instead

```python
from torch import distributed, nn

distributed.init_process_group("gloo")
body = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2))
body[0].requires_grad_(False)
model = nn.parallel.DistributedDataParallel(body)
body[0].requires_grad_(True)
model = nn.parallel.DistributedDataParallel(body)
```

## When to allow it

Where the gradients of what was unfrozen are reduced by hand.

## References

-
https://discuss.pytorch.org/t/how-does-distributeddataparallel-handle-parameters-whose-requires-grad-flag-is-false/90736
- https://github.com/facebookresearch/detectron2/issues/2486
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from freezeinspect.observed import Flip
from freezeinspect.rules.facts import Facts, Hit, in_code, listed
from freezeinspect.state import NO, YES, Answer, Reduction

CODE = "FI402"
SEVERITY = "error"


def check(facts: Facts) -> Iterator[Hit]:
    """Find reductions over other parameters than those that require a gradient."""
    for one in facts.snapshot.reductions:
        now, frozen = (_below(facts, one, answer) for answer in (YES, NO))
        unfrozen = _flipped(facts, now, NO)
        is_swapped = unfrozen and len(unfrozen) == len(_flipped(facts, frozen, YES))  # so the numbers tell nothing
        name = in_code(one.path)
        fix = f"{name} = torch.nn.parallel.DistributedDataParallel({name}.module)"
        if len(now) > one.parameters or (len(now) == one.parameters and is_swapped):
            some = f"{len(now) - one.parameters} of {len(now)} trainable parameters"
            who, step = listed(list(unfrozen)) or some, min(unfrozen.values(), default=None)
            why = "unfrozen after the wrap: no rank learns of the others' gradient"
            yield Hit(one.path, f"{who}, {why}", fix, step=step)
        elif len(now) < one.parameters and not one.finds_unused:
            who = f"{one.parameters - len(now)} of the {one.parameters} parameters that are reduced"
            yield Hit(one.path, f"{who} were frozen after the wrap: the reduction waits for their gradients", fix)


def _below(facts: Facts, one: Reduction, answer: Answer) -> list[str]:
    """Name the parameters below a wrapper that answer so and are not ignored, each tied one once."""
    structure, prefix = facts.structure, f"{one.path}." if one.path else ""
    below = {i for module in structure.subtree(structure.index[one.path]) for i in structure.own[module]}
    ignored = {prefix + name for name in one.ignored}
    found = (i for i in structure.unique if i in below and facts.snapshot.requires_grad[i] is answer)
    return [name for name in map(structure.full_name, found) if name not in ignored]


def _flipped(facts: Facts, names: Iterable[str], before: Answer) -> dict[str, int]:
    """Give those that a run saw otherwise first, with the step at which they were flipped first."""
    first: dict[str, Flip] = {}
    for flip in facts.observed.flips:
        if flip.flag == "requires_grad":
            first.setdefault(flip.path, flip)
    return {name: first[name].step for name in names if name in first and first[name].before is before}
