"""A pattern of a policy matches no module and no parameter.

## What it does

Finds lines of a policy that speak of nothing: no path matches; what matches is parameters while the line speaks of
what only modules have, such as `training`; it has no parameter while the line expects that one trains; or none of the
name in a line's table.

## Why it is bad

A part that was renamed is no longer held by its line, and the policy would go on passing.

## Example

```python
from collections import OrderedDict
from pathlib import Path

from torch import nn

policy = "freeze.toml"
Path(policy).write_text('expect = [{pattern = "backbone.layer1", requires_grad = false}]')
encoder = nn.Sequential(OrderedDict(layer1=nn.Linear(4, 4), layer2=nn.Linear(4, 4)))
model = nn.Sequential(OrderedDict(encoder=encoder, head=nn.Linear(4, 2)))
model.encoder.layer1.requires_grad_(False)
```

## Use instead

```python
from collections import OrderedDict
from pathlib import Path

from torch import nn

policy = "freeze.toml"
Path(policy).write_text('expect = [{pattern = "encoder.layer1", requires_grad = false}]')
encoder = nn.Sequential(OrderedDict(layer1=nn.Linear(4, 4), layer2=nn.Linear(4, 4)))
model = nn.Sequential(OrderedDict(encoder=encoder, head=nn.Linear(4, 2)))
model.encoder.layer1.requires_grad_(False)
```

## When to allow it

Where one policy is for several models: `allow = ["FI602"]` in it.

## References

- https://github.com/nvidia-cosmos/cosmos-rl/pull/462
- https://github.com/Project-MONAI/MONAI/pull/6970
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping

from freezeinspect.expected import OF_MODULES, OF_PARAMETERS, Expectation, Places
from freezeinspect.rules.facts import Facts, Hit, listed
from freezeinspect.state import ABSENT, YES

CODE = "FI602"
SEVERITY = "error"


def check(facts: Facts) -> Iterator[Hit]:
    """Find lines that match nothing, or nothing that could answer them."""
    if not facts.expected.lines:
        return
    for nothing in facts.comparison.unmatched():
        meant = nothing.nearest or _unmatched_tops(facts)
        yield Hit("", str(nothing), f"pattern = {json.dumps(meant[0])}  # in the policy" if meant else None)
    for line, places in zip(facts.expected.lines, facts.comparison.places, strict=True):
        keys = [key for key in line.answers if key in OF_MODULES]
        if keys and any(places) and not places.modules | places.shared_modules:
            yield Hit("", f"pattern {line.pattern!r} matches parameters alone, and {listed(keys)} is of modules")
        if any(places):
            yield from _of_parameters(facts, line, places)


def _of_parameters(facts: Facts, line: Expectation, places: Places) -> Iterator[Hit]:
    """Find what is expected of parameters that are not there."""
    required, tensors = facts.snapshot.requires_grad, facts.structure.tensors
    names = {tensors[i].name for i in places.tensors | places.shared_tensors if required[i] is not ABSENT}
    said = {key: line.answers[key] for key in OF_PARAMETERS if key in line.answers}
    idle = [key for key, word in said.items() if word is YES and not names]
    if idle:
        yield Hit("", f"pattern {line.pattern!r} matches no parameter, but {listed(idle)} expects one")
    named = dict.fromkeys(name for word in said.values() if isinstance(word, Mapping) for name in word)
    if others := [name for name in named if name not in names]:
        yield Hit("", f"pattern {line.pattern!r} matches no parameter of the name {listed(others)}")


def _unmatched_tops(facts: Facts) -> list[str]:
    """Give the child of the root of which no line speaks, but one of the whole: alone it is what was renamed."""
    structure = facts.structure
    matched = [places.modules | places.shared_modules for places in facts.comparison.places if 0 not in places.modules]
    spans = {child: range(child, structure.ends[child]) for child in structure.children[0]}
    found = [structure.paths[i] for i, span in spans.items() if all(one.isdisjoint(span) for one in matched)]
    return found if len(found) == 1 else []
