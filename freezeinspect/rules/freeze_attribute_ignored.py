"""A module's `trainable` or `bn_freeze` says one thing, and the module does another.

## What it does

Finds modules whose attributes `trainable` and `bn_freeze`, as fastai 0.7 sets them, do not agree with their mode or
with their parameters' `requires_grad`, while the model is in train mode.

## Why it is bad

PyTorch knows neither attribute. Only `set_train_mode` reads them, and a plain `model.train()` after it puts every layer
in train mode, whatever they say. The attribute is decoration.

## Example

```python
import freezeinspect as fi
from torch import nn

model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Conv2d(8, 2, 1))
fi.freeze(model)
model.train()
```

## Use instead

```python
import freezeinspect as fi
from torch import nn

model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Conv2d(8, 2, 1))
fi.freeze(model)
fi.set_train_mode(model)  # in place of model.train()
```

## When to allow it

Where another library uses an attribute of this name for something else.

## References

- https://forums.fast.ai/t/bn-unfreeze-true/8738
- https://forums.fast.ai/t/why-is-it-the-batchnorm2d-layers-in-a-frozen-model-trainable/38944/4
"""

from __future__ import annotations

from collections.abc import Iterator

from freezeinspect.rules.facts import Facts, Hit, in_code
from freezeinspect.state import ABSENT, MIXED, NO, YES

CODE = "FI103"
SEVERITY = "warning"
COMPANIONS = ("FI101",)


def check(facts: Facts) -> Iterator[Hit]:
    """Compare what the attributes say with the mode and with requires_grad; worse where a step ran so."""
    if facts.snapshot.training[0] is not YES:
        return
    severity = "error" if facts.observed.steps else None
    for module, said in enumerate(zip(facts.snapshot.trainable, facts.snapshot.bn_freeze, strict=True)):
        if said == (ABSENT, ABSENT):
            continue
        for message, fix in (*_mode(facts, module), *_gradients(facts, module)):
            yield Hit(facts.structure.paths[module], message, fix, severity)


def _mode(facts: Facts, module: int) -> Iterator[tuple[str, str]]:
    """Compare a layer's mode with the one that set_train_mode would set."""
    trainable, frozen = facts.snapshot.trainable[module], facts.snapshot.bn_freeze[module]
    training, kind = facts.snapshot.training[module], facts.type_of(module)
    if facts.verdicts.stats[module] is ABSENT:
        return
    if training is YES and (frozen is YES or trainable is NO):
        said = "bn_freeze is true" if frozen is YES else "trainable is false"
        yield f"{kind}: {said}, but it is in train mode: nothing has read the attribute", "fi.set_train_mode(model)"
    elif training is NO and trainable is YES and frozen in (NO, ABSENT):
        yield f"{kind}: trainable is true, but it is in eval mode: its statistics stay", "fi.set_train_mode(model)"


def _gradients(facts: Facts, module: int) -> Iterator[tuple[str, str]]:
    """Compare a module's `trainable` with its own parameters."""
    trainable, required, kind = facts.snapshot.trainable[module], facts.required[module], facts.type_of(module)
    fix = f"fi.set_trainable({in_code(facts.structure.paths[module])}, {trainable is YES})"
    if trainable is NO and required in (YES, MIXED):
        yield f"{kind}: trainable is false, but its parameters require a gradient: they train", fix
    elif trainable is YES and required is NO:
        yield f"{kind}: trainable is true, but its parameters require no gradient: they stay", fix
