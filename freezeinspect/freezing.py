"""The verbs of fastai 0.7, exactly: what freezes weights, what freezes statistics, what applies both."""

from __future__ import annotations

import warnings
from typing import Any

from torch import nn

from freezeinspect.walk import Modules, NotAModule, apply_leaf, children, held, walk


def set_trainable(m: Modules, b: bool) -> None:
    """Set `.trainable` on every module of m and `requires_grad` on every parameter. Raises NotAModule.

    >>> model = nn.Sequential(nn.Linear(2, 2))
    >>> set_trainable(model, False)
    >>> model[0].trainable, model[0].weight.requires_grad
    (False, False)
    """
    _checked(m)
    apply_leaf(m, lambda module: _set_trainable(module, b))


def _set_trainable(module: nn.Module, b: bool) -> None:
    module.trainable = b  # type: ignore[assignment]
    for parameter in held(module, "_parameters").values():
        if parameter is not None:
            parameter.requires_grad = b  # requires_grad_() raises on a lazy parameter


def freeze_to(m: Modules, n: int) -> None:
    """Freeze all groups, then set those from n on trainable: `groups[n:]`, as a slice, so n may be any number.

    The groups are a model's children, or the list or tuple given. Parameters that belong to the model itself are in
    no group and stay as they are: a UserWarning names them. Raises NotAModule and ValueError before anything is
    touched.

    >>> model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1))
    >>> freeze_to(model, 1)
    >>> [layer.weight.requires_grad for layer in model]
    [False, True]
    """
    groups = _groups(m)
    _set_groups(m, groups, groups[n:])


def freeze(m: Modules) -> None:
    """Freeze all groups but the last: `freeze_to(-1)`. Raises NotAModule and ValueError."""
    groups = _groups(m)
    _set_groups(m, groups, groups[-1:])


def unfreeze(m: Modules) -> None:
    """Set every group trainable: `freeze_to(0)`. Raises NotAModule and ValueError.

    It speaks about weights. Running statistics follow only at the next `set_train_mode`.
    """
    groups = _groups(m)
    _set_groups(m, groups, groups)


def freeze_all_but(m: Modules, n: int) -> None:
    """Freeze all groups but the n-th; n may be negative. Raises NotAModule, ValueError and IndexError.

    >>> model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1))
    >>> freeze_all_but(model, 0)
    >>> [layer.weight.requires_grad for layer in model]
    [True, False]
    """
    groups = _groups(m)
    if not -len(groups) <= n < len(groups):
        raise IndexError(
            f"freeze_all_but: there is no group {n}: expected {-len(groups)} to {len(groups) - 1}, "
            f"for there are {len(groups)} groups; nothing was changed"
        )
    _set_groups(m, groups, [groups[n]])


def bn_freeze(m: Modules, flag: bool) -> None:
    """Set `.bn_freeze` on every module that has a `running_mean`, even one that is None. Raises NotAModule.

    It touches no parameter and no mode: it acts at the next `set_train_mode`, and `model.train()` never looks at it.

    >>> norm = nn.BatchNorm1d(2)
    >>> bn_freeze(norm, True)
    >>> norm.bn_freeze, norm.training, norm.weight.requires_grad
    (True, True, True)
    """
    _checked(m)
    apply_leaf(m, lambda module: _set_bn_freeze(module, flag))


def _set_bn_freeze(module: nn.Module, flag: bool) -> None:
    if hasattr(module, "running_mean"):
        module.bn_freeze = flag  # type: ignore[assignment]


def set_train_mode(m: Modules) -> None:
    """Apply fastai's rule to every module of m, as its training loop does at the start of each epoch.

    A module with `running_mean` goes to eval if `bn_freeze` is true or `trainable` is missing or false; a dropout
    (its class name contains "drop" and it has `p`) goes to eval if `drop_freeze` is true; all else goes to train.
    Raises NotAModule.

    >>> model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    >>> set_train_mode(model)
    >>> [layer.training for layer in model]
    [True, False]
    """
    _checked(m)
    apply_leaf(m, lambda module: module.train(_trains(module)) if _has_own_train(module) else None)
    apply_leaf(m, lambda module: None if _has_own_train(module) else _set_mode(module, _trains(module)))


def _trains(module: nn.Module) -> bool:
    if hasattr(module, "running_mean") and (
        getattr(module, "bn_freeze", False) or not getattr(module, "trainable", False)
    ):
        return False
    drops = "drop" in type(module).__name__.lower() and hasattr(module, "p")
    return not (drops and getattr(module, "drop_freeze", False))


def _has_own_train(module: nn.Module) -> bool:
    return type(module).train is not nn.Module.train or "train" in module.__dict__


def _set_mode(module: nn.Module, trains: bool) -> None:
    """Set one mode without recursing: each module is visited, and deep models would overflow the stack."""
    module.training = trains


def _checked(m: Modules) -> None:
    """Walk once before anything is touched: what is no module raises here."""
    if not isinstance(m, (nn.Module, list, tuple)):
        raise NotAModule(m)
    for _ in walk(m):
        pass


def _groups(m: Modules) -> list[Any]:
    _checked(m)
    groups = children(m)
    if not groups:
        kind = "an empty list" if isinstance(m, (list, tuple)) else f"{type(m).__name__} without children"
        raise ValueError(
            f"expected a model with children, or a list of groups of modules, but got {kind}; "
            "nothing was changed; for a single layer use set_trainable(layer, False)"
        )
    return groups


def _set_groups(m: Modules, groups: list[Any], trainable: list[Any]) -> None:
    apply_leaf(groups, lambda module: _set_trainable(module, False))
    apply_leaf(trainable, lambda module: _set_trainable(module, True))
    own = [name for name, p in held(m, "_parameters").items() if p is not None] if isinstance(m, nn.Module) else []
    if own:
        warnings.warn(
            f"{', '.join(own)}: parameters of {type(m).__name__} itself are in no child group and stay as they are; "
            "set their requires_grad yourself",
            stacklevel=3,
        )
