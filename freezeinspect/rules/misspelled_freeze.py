"""A freeze was written to an attribute that does not exist.

## What it does

Finds `requires_grad = False` set on a module, and misspellings such as `require_grad` or `trainable` set to false on a
parameter, where a parameter there still requires a gradient.

## Why it is bad

Python makes a new attribute of any name without a word. A module has no `requires_grad`, a parameter no `require_grad`:
nothing is frozen, and the weights train.

## Example

```python
from torch import nn

model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2))
model[0].requires_grad = False
```

## Use instead

```python
from torch import nn

model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2))
model[0].requires_grad_(False)
```

## When to allow it

Where an attribute of this name is your own and means something else.

## References

- https://github.com/CSCYQJ/MICCAI23-ProtoContra-SFDA/issues/18
- https://github.com/sanghyun-son/EDSR-PyTorch/issues/80
"""

from __future__ import annotations

from collections.abc import Iterator

from freezeinspect.rules.facts import Facts, Hit, in_code
from freezeinspect.state import MIXED, YES

CODE = "FI104"
SEVERITY = "error"


def check(facts: Facts) -> Iterator[Hit]:
    """Find stray attributes that were set to false on modules and parameters that still train."""
    for module, names in facts.snapshot.stray.items():
        for stray in names:
            parameter, _, attribute = stray.rpartition(".")
            if parameter:
                yield from _of_parameter(facts, module, parameter, attribute)
            else:
                yield from _of_module(facts, module, attribute)


def _of_module(facts: Facts, module: int, attribute: str) -> Iterator[Hit]:
    if facts.verdicts.requires_grad[module] in (YES, MIXED):
        path = facts.structure.paths[module]
        message = f"{attribute} = False on a module only makes a new attribute: its parameters still train"
        yield Hit(path, message, f"{in_code(path)}.requires_grad_(False)")


def _of_parameter(facts: Facts, module: int, parameter: str, attribute: str) -> Iterator[Hit]:
    for i in facts.parameters[module]:
        if facts.structure.tensors[i].name == parameter and facts.snapshot.requires_grad[i] is YES:
            message = f"{attribute} = False on a parameter only makes a new attribute: it still trains"
            fix = f"{in_code(facts.structure.full_name(i))}.requires_grad = False"
            yield Hit(facts.structure.paths[module], message, fix, tensor=parameter)
