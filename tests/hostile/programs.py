"""Files of torch.export, whole and changed, for the fuzzer."""

from __future__ import annotations

import io
import json
import random
from typing import Any

import torch

from hostile.archives import members, mutated_zip, zipped
from zoo import ZOO, quiet


def corpus() -> list[bytes]:
    """Save programs of torch.export: what it calls weights, with a buffer in each list, and ties."""
    files = []
    for name in ("residual", "nested", "tied"):
        specimen, stream = ZOO[name](), io.BytesIO()
        with quiet():
            torch.export.save(torch.export.export(specimen.model, specimen.args, specimen.kwargs), stream)
        files.append(stream.getvalue())
    return files


ODD = (None, -1, 2**63, 7, 0.5, True, "\x1b[2J", "a..b", "weight_0", [], {}, [{"as_int": 2}], "\ud800")
NAMES = ("", "a..b", "a." * 300 + "b", "\x1b[2J", "x.y")
PIECES = (b'"', b"\\", b"{" * 5000, b",", b";", b"\xff", b"1")


def mutated(content: bytes, dice: random.Random) -> bytes:
    """Change a value or a name in a list, or a few bytes of a list or of the graph, or the zip."""
    if dice.random() < 0.2:
        return mutated_zip(content, dice)
    parts = members(content)
    at = dice.choice([i for i, (name, _) in enumerate(parts) if name.endswith(".json")])
    name, text = parts[at]
    start, end = sorted(dice.randrange(len(text)) for _ in range(2))
    change = dice.random()
    if change < 0.6 and "config" in name:
        text = json.dumps(with_other_value(json.loads(text), dice)).encode()
    elif change < 0.8:
        text = text[:start] + text[min(end, start + 40) :]
    else:
        text = text[:start] + dice.choice(PIECES) + text[start + 1 :]
    parts[at] = (name, text)
    return zipped(parts)


def with_other_value(tree: Any, dice: random.Random) -> Any:
    """Walk down to a value, at random, and give another, or another name, or none."""
    if type(tree) not in (dict, list) or not tree or dice.random() < 0.15:
        return dice.choice(ODD)
    key = dice.choice(list(tree)) if type(tree) is dict else dice.randrange(len(tree))
    if dice.random() < 0.9:
        tree[key] = with_other_value(tree[key], dice)
        return tree
    value = tree.pop(key)
    return {**tree, dice.choice(NAMES): value} if type(tree) is dict else tree
