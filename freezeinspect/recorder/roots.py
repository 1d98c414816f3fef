"""Which models an optimizer steps: one scan of the live modules, upward from its parameters."""

from __future__ import annotations

import gc
from collections.abc import Iterable
from itertools import compress
from typing import NamedTuple

import torch
from torch import nn

from freezeinspect.walk import held


class _Tree(NamedTuple):
    """A root, the parameters of an optimizer that it holds, and how large it is: of two alike, the scripted one."""

    root: nn.Module
    stepped: set[int]
    size: tuple[int, bool]


def roots_of(optimizer: torch.optim.Optimizer) -> list[nn.Module]:
    """Give the fewest modules that no other holds, and that together hold the optimizer's parameters.

    A parameter that no module holds is passed over.
    """
    wanted = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    trees = [_tree(root, wanted) for root in _tops(_live_modules(), wanted)]
    chosen: list[nn.Module] = []
    while trees and wanted:
        best = max(trees, key=lambda tree: (len(tree.stepped & wanted), tree.size))
        if not best.stepped & wanted:
            break
        wanted -= best.stepped
        chosen.append(best.root)
    return chosen


def _live_modules() -> list[nn.Module]:
    """Give every module that Python's garbage collector knows, asking no object what it is."""
    live = gc.get_objects()
    kinds = {kind for kind in set(map(type, live)) if nn.Module in type.mro(kind)}
    found = compress(live, map(kinds.__contains__, map(type, live)))
    return [one for one in found if hasattr(one, "_parameters")]  # else its __init__ is not done


def _tops(modules: Iterable[nn.Module], wanted: set[int]) -> list[nn.Module]:
    """Climb from the modules that own a wanted parameter to those that no module holds."""
    holders: dict[int, list[nn.Module]] = {}
    owners = []
    for module in modules:
        for child in held(module, "_modules").values():
            holders.setdefault(id(child), []).append(module)
        if any(id(parameter) in wanted for parameter in held(module, "_parameters").values()):
            owners.append(module)
    above = {id(module): module for module in owners}
    climbing = list(owners)
    while climbing:
        for holder in holders.get(id(climbing.pop()), ()):
            if id(holder) not in above:
                above[id(holder)] = holder
                climbing.append(holder)
    return [module for key, module in above.items() if key not in holders] or list(above.values())


def _tree(root: nn.Module, wanted: set[int]) -> _Tree:
    modules = list(root.modules())
    stepped = {id(parameter) for module in modules for parameter in held(module, "_parameters").values()}
    return _Tree(root, stepped & wanted, (len(modules), isinstance(root, torch.jit.ScriptModule)))
