"""The model is not in the state that a policy expects.

## What it does

Compares a policy with what is so. A policy is a list of patterns, each with the answers that it expects of all that it
matches; the last line that matches wins. Where a policy is `complete`, every module must be matched by a line.

## Why it is bad

Whoever wrote the policy froze these parts on purpose. A `model.train()` after `bn.eval()`, a part that somebody
unfroze, a layer that the optimizer was not given: each alters what trains, and no error tells.

## Example

```python
from pathlib import Path

from torch import nn

policy = "freeze.toml"
Path(policy).write_text('''
expect = [
    {pattern = "0", requires_grad = false},
    {pattern = "1", training = false, stats_move = false},
    {pattern = "2", requires_grad = true},
]
''')
model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4, affine=False), nn.Linear(4, 2))
model[0].requires_grad_(False)
model[1].eval()
model.train()
```

## Use instead

```python
from pathlib import Path

from torch import nn

policy = "freeze.toml"
Path(policy).write_text('''
expect = [
    {pattern = "0", requires_grad = false},
    {pattern = "1", training = false, stats_move = false},
    {pattern = "2", requires_grad = true},
]
''')
model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4, affine=False), nn.Linear(4, 2))
model[0].requires_grad_(False)
model.train()
model[1].eval()
```

## When to allow it

Where the new state is meant: change the policy, so that the change is seen in review. `freezeinspect policy` writes the
one that says exactly the state of a file. What a source cannot tell is a warning, as the modes in a state_dict.

## References

- https://discuss.pytorch.org/t/frozen-batch-normalization-still-shows-different-performance-in-model-train-from-model-eval/25176
- https://github.com/pytorch/pytorch/issues/86590
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from freezeinspect.expected import KEYS, Violation, Word
from freezeinspect.rules.facts import Facts, Hit, in_code
from freezeinspect.state import ABSENT, NO, UNKNOWN, YES

CODE = "FI601"
SEVERITY = "error"


def check(facts: Facts) -> Iterator[Hit]:
    """Find what does not hold, and, of a complete policy, the modules that no line matches."""
    if not facts.expected.lines and not facts.expected.complete:
        return
    groups: dict[tuple[Any, ...], list[Violation]] = {}
    for one in (one for key in KEYS for one in facts.comparison.violations(key)):
        is_untold = _untold(facts, one.key) if one.answer is UNKNOWN else ""
        groups.setdefault((one.module, one.tensor, one.line, mend(facts, one), is_untold), []).append(one)
    yield from (_hit(facts, group) for group in groups.values())
    for module in facts.comparison.uncovered() if facts.expected.complete else ():
        message = "no line of the policy matches it, and the policy is complete: add one that does"
        yield Hit(facts.structure.paths[module], message)


def _hit(facts: Facts, group: Sequence[Violation]) -> Hit:
    """Tell of one place what one line of code mends."""
    first = group[0]
    line = f"the policy's line {facts.expected.lines[first.line].pattern!r} expects"
    if first.answer is UNKNOWN:
        expected = ", ".join(f"{one.key} {_word(one, one.expected)}" for one in group)
        told = f"{line} {expected}, but {_untold(facts, first.key)}"
    else:
        answers = ", ".join(f"{one.key} is {_word(one, one.answer)}" for one in group)
        told = f"{answers}, but {line} {', '.join(_word(one, one.expected) for one in group)}{_why(facts, group)}"
    return Hit(
        facts.structure.paths[first.module],
        told,
        mend(facts, first),
        severity="warning" if first.answer is UNKNOWN else None,
        tensor=None if first.tensor is None else facts.structure.tensors[first.tensor].name,
    )


def _word(one: Violation, word: Word) -> str:
    return "none" if one.key == "normalises_with" and word is ABSENT else str(word)


def _untold(facts: Facts, key: str) -> str:
    if key == "in_optimizer" and not facts.snapshot.optimizers:
        return "no optimizer was given: check it with its optimizer"
    return "this source does not tell"


def _why(facts: Facts, group: Sequence[Violation]) -> str:
    """Tell what comes of a flag, or what it comes of, where that is no secret."""
    answers = {one.key: one.answer for one in group}
    if answers.get("training") is YES and facts.snapshot.training[0] is YES and group[0].module:
        return ": a model.train() undoes every eval() before it"
    return ": it may get a gradient, but never a step" if answers.get("in_optimizer") is NO else ""


def mend(facts: Facts, one: Violation) -> str | None:
    """Write the line that makes it so."""
    if one.answer is UNKNOWN or one.expected not in (YES, NO, ABSENT, "batch", "running"):
        return None
    tensor = None if one.tensor is None else facts.structure.tensors[one.tensor].name
    code, is_yes = in_code(facts.structure.paths[one.module], tensor), one.expected is YES
    if one.key == "requires_grad":
        return None if one.expected is ABSENT else f"{code}.requires_grad_({is_yes})"
    if one.key in ("weights_move", "in_optimizer"):
        return _stepped(facts, one, code) if one.expected is not ABSENT else None
    if one.key in ("trainable", "bn_freeze"):
        return _attribute(facts, one, code)
    if one.key == "training":
        is_alone = not one.is_whole and not facts.is_leaf(one.module)
        return f"{code}.training = {is_yes}" if is_alone else f"{code}.{'train' if is_yes else 'eval'}()"
    return _moded(facts, one, code)


def _stepped(facts: Facts, one: Violation, code: str) -> str | None:
    """Write what makes an optimizer step it, or not."""
    numbers = [i for i in _tensors(facts, one) if facts.snapshot.requires_grad[i] is not ABSENT]
    required = {facts.snapshot.requires_grad[i] for i in numbers}
    if one.expected is NO:
        if one.key == "in_optimizer":
            return None
        return f"{code}.requires_grad_(False)" if required == {YES} else "optimizer.zero_grad()"
    if one.key == "weights_move" and required == {NO}:
        return f"{code}.requires_grad_(True)"
    if facts.snapshot.optimizers and all(facts.snapshot.groups[i] == () for i in numbers):
        which = code if one.tensor is not None else f"{code}.parameters()"
        name = "optimizer" if len(facts.snapshot.optimizers) == 1 else "optimizers[0]"
        return f'{name}.add_param_group({{"params": {which}}})'
    return None


def _tensors(facts: Facts, one: Violation) -> list[int]:
    if one.tensor is not None:
        return [one.tensor]
    return [i for module in facts.structure.subtree(one.module) for i in facts.structure.own[module]]


def _attribute(facts: Facts, one: Violation, code: str) -> str:
    if one.key == "bn_freeze" and one.expected is not ABSENT and one.is_whole:
        return f"fi.bn_freeze({code}, {one.expected is YES})"
    if one.is_whole and not facts.is_leaf(one.module):
        what = (
            f'delattr(m, "{one.key}")' if one.expected is ABSENT else f'setattr(m, "{one.key}", {one.expected is YES})'
        )
        return f"fi.apply_leaf({code}, lambda m: {what})"
    return f"del {code}.{one.key}" if one.expected is ABSENT else f"{code}.{one.key} = {one.expected is YES}"


def _moded(facts: Facts, one: Violation, code: str) -> str | None:
    """Write the mode in which a layer's statistics are as expected, where it is the mode that makes them otherwise."""
    training = facts.snapshot.training[one.module]
    if one.expected in (NO, "running") and training is YES:
        return f"{code}.eval()"
    return f"{code}.train()" if one.expected in (YES, "batch") and training is NO else None
