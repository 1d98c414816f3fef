"""A frozen module under spectral norm still updates the vectors that it estimates its norm with.

## What it does

Finds frozen modules with spectral norm, old or new style, in train mode.

## Why it is bad

In train mode each forward runs a power iteration and writes its vectors, which are buffers. The weight that the module
computes with is the frozen one divided by an estimate that moves: the frozen module does not stay the same function.

## Example

```python
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm

model = nn.Sequential(spectral_norm(nn.Linear(4, 4)), nn.ReLU(), nn.Linear(4, 2))
model[0].requires_grad_(False)
```

## Use instead

```python
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm

model = nn.Sequential(spectral_norm(nn.Linear(4, 4)), nn.ReLU(), nn.Linear(4, 2))
model[0].requires_grad_(False).eval()
```

## When to allow it

Where the estimate has long settled, so that what still moves is rounding.

## References

- https://github.com/pytorch/pytorch/issues/8208
"""

from __future__ import annotations

from collections.abc import Iterator

from freezeinspect.rules.facts import Facts, Hit, in_code
from freezeinspect.state import YES

CODE = "FI110"
SEVERITY = "warning"
PARAMETRIZATIONS = "parametrizations"


def check(facts: Facts) -> Iterator[Hit]:
    """Find frozen modules with the vectors of a power iteration, in train mode."""
    for owner in facts.by_module(i for i, one in enumerate(facts.structure.tensors) if one.name.endswith("_u")):
        module = _parametrized(facts, owner) if facts.snapshot.training[owner] is YES else None
        if module is not None and facts.is_wholly_frozen(module):
            path = facts.structure.paths[module]
            yield Hit(
                path,
                f"{facts.type_of(module)} is frozen, but in train mode: each forward moves its spectral norm",
                f"{in_code(path)}.eval()",
            )


def _parametrized(facts: Facts, owner: int) -> int | None:
    """Give the module whose weight is parametrized: the owner of the vectors, or, new style, that high above it."""
    held = {facts.structure.tensors[i].name: facts.structure.tensors[i].kind for i in facts.structure.own[owner]}
    if held.get("_u") == held.get("_v") == "buffer":
        above = (one for one in facts.structure.ancestors(owner) if facts.structure.names[one] == PARAMETRIZATIONS)
        found = next(above, None)
        return None if found is None else facts.structure.parents[found]
    names = (name.removesuffix("_u") for name, kind in held.items() if kind == "buffer")
    is_old_style = any(held.get(f"{name}_v") == "buffer" and f"{name}_orig" in held for name in names)
    return owner if is_old_style else None
