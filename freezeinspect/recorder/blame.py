"""Who flips a flag: the file, line and function of each call, for as long as a watch asks."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from freezeinspect.chapters import FLAGS, Calls

if TYPE_CHECKING:
    from freezeinspect.recorder.roster import Roster

_OURS = tuple(
    os.path.dirname(os.path.abspath(module.__file__ or "")) + os.sep for module in (torch, sys.modules["freezeinspect"])
)
_WATCHED = frozenset(flag if flag != "dropout" else "p" for flag in FLAGS)
_SLOT = torch.Tensor.requires_grad


class _Patches:
    """What is patched while any watch blames: nn.Module's setattr, and requires_grad on nn.Parameter."""

    def __init__(self) -> None:
        self.users: list[Blame] = []

    def add(self, blame: Blame) -> None:
        if not self.users:
            self._setattr = nn.Module.__setattr__
            nn.Module.__setattr__ = _set_attribute  # type: ignore[method-assign,assignment]
            nn.Parameter.requires_grad = property(_get_required, _set_required)  # type: ignore[assignment]
            nn.Parameter.requires_grad_ = _require_grad  # type: ignore[method-assign,assignment]
        self.users.append(blame)

    def remove(self, blame: Blame) -> None:
        self.users.remove(blame)
        if not self.users:
            nn.Module.__setattr__ = self._setattr  # type: ignore[method-assign]
            del nn.Parameter.requires_grad, nn.Parameter.requires_grad_


_PATCHES = _Patches()


class Blame:
    """The last call that set each flag of a model, until it is closed."""

    def __init__(self) -> None:
        self._of: dict[tuple[int, str], str] = {}
        _PATCHES.add(self)

    def note(self, owner: Any, flag: str, call: str) -> None:
        """Keep a call; the last one counts."""
        self._of[id(owner), flag] = call

    def calls(self, roster: Roster) -> Calls:
        """Give the calls since the last time, by the names of what they set."""
        structure = roster.snapshot.structure
        found: Calls = {}
        for path, module in zip(structure.paths, roster.modules, strict=True):
            for flag in FLAGS:
                if call := self._of.get((id(module), "p" if flag == "dropout" else flag)):
                    found[path, flag] = call
        for i, parameter in enumerate(roster.parameters):
            if call := self._of.get((id(parameter), "requires_grad")):
                found[structure.full_name(i), "requires_grad"] = call
        self.forget()
        return found

    def forget(self) -> None:
        """Forget the calls so far: nothing is otherwise for them."""
        self._of.clear()

    def close(self) -> None:
        """Take the patches off."""
        _PATCHES.remove(self)


def _set_attribute(module: nn.Module, name: str, value: Any) -> None:
    if name in _WATCHED and module.__dict__.get(name, _PATCHES) is not value and not torch.compiler.is_compiling():
        _note(module, name)
    _PATCHES._setattr(module, name, value)


def _get_required(parameter: nn.Parameter) -> bool:
    return bool(_SLOT.__get__(parameter))  # type: ignore[attr-defined]


def _set_required(parameter: nn.Parameter, required: bool) -> None:
    if not torch.compiler.is_compiling() and bool(_SLOT.__get__(parameter)) is not required:  # type: ignore[attr-defined]
        _note(parameter, "requires_grad")
    _SLOT.__set__(parameter, required)  # type: ignore[attr-defined]


def _require_grad(parameter: nn.Parameter, requires_grad: bool = True) -> nn.Parameter:
    if not torch.compiler.is_compiling() and bool(_SLOT.__get__(parameter)) is not requires_grad:  # type: ignore[attr-defined]
        _note(parameter, "requires_grad")
    torch.Tensor.requires_grad_(parameter, requires_grad)
    return parameter


def _note(owner: Any, flag: str) -> None:
    call = _call()
    for blame in _PATCHES.users:
        blame.note(owner, flag, call)


def _call() -> str:
    """Name the nearest frame that is neither torch's nor ours."""
    frame = sys._getframe(2)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_OURS):
        frame = frame.f_back
    code = frame.f_code
    path = os.path.relpath(code.co_filename) if os.path.isabs(code.co_filename) else code.co_filename
    path = min(path, code.co_filename, key=len)
    return f"{path}:{frame.f_lineno} in {code.co_name}"
