"""Loading the file without weights_only would run code that is not torch's.

## What it does

Names what the file's pickle imports and may call, beyond what torch's own files do and the classes of the model. It is
an error where it is of the standard library and does more than hold data, such as `os.system`. Nothing of it is run.

## Why it is bad

A pickle is a program: `torch.load(path, weights_only=False)` runs it, with your rights, before you see a weight.

## Example

```python
import argparse

import torch
from torch import nn

args = argparse.Namespace(lr=0.1)
path = "checkpoint.pt"
torch.save({"model": nn.Linear(4, 2).state_dict(keep_vars=True), "args": args}, path)
```

## Use instead

```python
import argparse

import torch
from torch import nn

args = argparse.Namespace(lr=0.1)
path = "checkpoint.pt"
torch.save({"model": nn.Linear(4, 2).state_dict(keep_vars=True), "args": vars(args)}, path)
```

## When to allow it

Where you know who wrote the file, and the names are those of your own code.

## References

- https://github.com/ecmwf/anemoi-core/issues/1416
- https://github.com/yashbhalgat/HashNeRF-pytorch/issues/49
"""

from __future__ import annotations

from collections.abc import Iterator

from freezeinspect.readers.imports import is_of_python
from freezeinspect.rules.facts import Facts, Hit

CODE = "FI502"
SEVERITY = "warning"
ORDINARY = frozenset(["_codecs.encode", "builtins.getattr", "builtins.set"])  # in lazy and compiled modules


def check(facts: Facts) -> Iterator[Hit]:
    """Find what a pickle imports; getattr is ordinary alone, but a part of an attack beside anything else."""
    found = facts.observed.imports
    for name in () if ORDINARY.issuperset(found) else found:
        if name not in ORDINARY - {"builtins.getattr"}:
            does_more = is_of_python(name)
            what = f"call {name}, a known weapon" if does_more else f"import {name}, which torch's own files do not"
            yield Hit(
                "",
                f"loading it without weights_only would {what}",
                f"torch.load({facts.source.path!r}, weights_only=True)",
                severity="error" if does_more else None,
            )
