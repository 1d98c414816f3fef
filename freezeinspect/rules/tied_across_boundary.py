"""One tensor stands on both sides of a freeze.

## What it does

Finds parameters that are one tensor under several names, where what surrounds one name is wholly frozen and what
surrounds another trains. A name's surrounding is the nearest module above it that has other parameters too.

## Why it is bad

A tensor has one `requires_grad`. Either the frozen part has a weight that moves, or the part that trains has one that
stays: freezing one side froze the other, or unfreezing undid it.

## Example

```python
from torch import nn

encoder = nn.Sequential(nn.Embedding(10, 4), nn.Linear(4, 4))
decoder = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 10, bias=False))
decoder[1].weight = encoder[0].weight
model = nn.Sequential(encoder, decoder)
model[0].requires_grad_(False)
```

## Use instead

```python
from torch import nn

encoder = nn.Sequential(nn.Embedding(10, 4), nn.Linear(4, 4))
decoder = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 10, bias=False))
decoder[1].weight = nn.Parameter(encoder[0].weight.detach().clone())
model = nn.Sequential(encoder, decoder)
model[0].requires_grad_(False)
```

## When to allow it

Where the tie is meant to hold, and it is clear which side rules.

## References

- https://github.com/huggingface/transformers/issues/11424
- https://discuss.huggingface.co/t/why-is-the-lm-head-layer-in-gpt2lmheadmodel-not-a-parameter/639
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator
from typing import TypeAlias

from freezeinspect.rules.facts import Facts, Hit, in_code
from freezeinspect.state import MIXED, NO, YES, Answer, combine

_Around: TypeAlias = tuple[int, Answer | None]

CODE = "FI108"
SEVERITY = "warning"


def check(facts: Facts) -> Iterator[Hit]:
    """Compare what surrounds each name of a tied parameter."""
    for tied in facts.structure.tie_groups.values():
        required = facts.snapshot.requires_grad[tied[0]]
        if required in (YES, NO):
            yield from _across(facts, tied, required)


def _across(facts: Facts, tied: list[int], required: Answer) -> Iterator[Hit]:
    owners = sorted(facts.structure.tensors[i].owner for i in tied)
    known: dict[int, _Around] = {}
    around = {i: _surrounding(facts, i, owners, known) for i in tied}
    frozen = [i for i in tied if around[i][1] is NO]
    inside = sorted(around[i][0] for i in frozen)
    training = [i for i in tied if around[i][1] in (YES, MIXED) and not _holds(facts, around[i][0], inside)]
    if not frozen or not training:
        return
    one, other = (frozen[0], training[0]) if required is YES else (training[0], frozen[0])
    tensor, name = facts.structure.tensors[one], in_code(facts.structure.full_name(one))
    does = "trains in a part that is frozen" if required is YES else "is frozen in a part that trains"
    yield Hit(
        facts.structure.paths[tensor.owner],
        f"{does}, for it is one tensor with {facts.structure.full_name(other)}",
        f"{name} = torch.nn.Parameter({name}.detach().clone(), requires_grad={required is NO})",
        tensor=tensor.name,
    )


def _surrounding(facts: Facts, tensor: int, owners: list[int], known: dict[int, _Around]) -> _Around:
    """Give the nearest module above that has parameters outside the tie, and whether those require a gradient."""
    structure, required = facts.structure, facts.snapshot.requires_grad[tensor]
    passed = []
    found: _Around = (0, None)
    for module in structure.ancestors(structure.tensors[tensor].owner):
        passed.append(module)
        if module in known:
            found = known[module]
            break
        within = bisect_left(owners, structure.ends[module]) - bisect_left(owners, module)
        rest = facts.counts[module] - Counter({required: within})
        if rest:
            found = module, combine(rest)
            break
    known |= dict.fromkeys(passed, found)
    return found


def _holds(facts: Facts, module: int, inside: list[int]) -> bool:
    """Tell whether a module holds one of others: then it is no other side."""
    at = bisect_left(inside, module)
    return at < len(inside) and inside[at] < facts.structure.ends[module]
