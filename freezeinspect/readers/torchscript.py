"""TorchScript archives: their objects as the modules that they stand for; their code is parsed, never compiled."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from freezeinspect.readers.archive import Archive
from freezeinspect.readers.limits import Unreadable, cut
from freezeinspect.readers.modules import HOLDS
from freezeinspect.readers.standins import Global, Made, name_of

MARK = "constants.pkl"  # the member by which torch.load tells a TorchScript archive
_TOP = "__torch__"
_MANGLED = re.compile(r"___torch_mangle_\d+")
_CUSTOM = "__torch__.torch.classes."  # objects of C++, which are no modules
_CLASS = re.compile(r"class (\w+)(?:\((\w+)\))?:")
_LIST = re.compile(r'  __(parameters|buffers)__ = \[((?:"[^"\\]+", )*)\]')
_LOST = Made(Global(_TOP, "lost"), (), allocated=False)  # what a tracer drops, and a compiler makes part of the code
_NOT_KEPT = dict.fromkeys(("trainable", "bn_freeze", "drop_freeze"), _LOST)


class _Class(NamedTuple):
    """What the code says of a class: whether it is a module, and what its tensors are."""

    is_module: bool
    tensors: dict[str, str]  # `_parameters` or `_buffers`, by name


def as_pickled(archive: Archive, root: Any) -> Made:
    """Give the root of an archive as torch.save would have pickled the module that it stands for.

    Of the attributes that scripting may drop, and of momentum and tracking, which are in the code alone, nothing is
    known. Raises Unreadable.
    """
    translation = _Translation(archive)
    if not translation.is_module(root):
        raise Unreadable("a TorchScript archive whose root is no module; torch.jit.save the module again")
    made = translation.stand_in(root)
    while translation.todo:
        translation.fill(translation.todo.pop())
    return made


class _Translation:
    """The modules met so far, each with what stands for it, and the classes of the code read so far."""

    def __init__(self, archive: Archive) -> None:
        self.archive = archive
        self.todo: list[Made] = []
        self._made: dict[int, Made] = {}
        self._classes: dict[str, dict[str, _Class]] = {}

    def is_module(self, value: Any) -> bool:
        return type(value) is Made and value.allocated and self._class_of(value).is_module

    def stand_in(self, value: Made) -> Made:
        """Give what stands for a module, filled later: many may hold one."""
        if id(value) not in self._made:
            self._made[id(value)] = Made(_as_written(value.of), (), allocated=True)
            self.todo.append(value)
        return self._made[id(value)]

    def fill(self, value: Made) -> None:
        """Give a module's attributes, parted as a module's are; one that keeps a state of another form has none."""
        state = (value.states or [None])[-1]
        if type(state) is not dict:
            return
        held: dict[str, dict[Any, Any]] = {kind: {} for kind in HOLDS}
        kinds = self._class_of(value).tensors
        for name, one in state.items():
            if self.is_module(one):
                held["_modules"][name] = self.stand_in(one)
            elif name in kinds:
                held[kinds[name]][name] = one
        made = self._made[id(value)]
        flags = {name: state[name] for name in ("training", *_NOT_KEPT) if name in state}
        tracking = {"track_running_stats": _LOST} if _may_be_a_norm(made.of) else {}
        made.states = [_NOT_KEPT | tracking | flags | held]

    def _class_of(self, value: Made) -> _Class:
        """Find a class in the code. Raises Unreadable where it is missing, as torch does."""
        name = name_of(value.of)
        if not name.startswith(f"{_TOP}.") or name.startswith(_CUSTOM):
            return _Class(is_module=False, tensors={})
        if value.of.module not in self._classes:
            self._classes[value.of.module] = self._read(value.of.module)
        found = self._classes[value.of.module].get(value.of.name)
        if found is None:
            raise Unreadable(f"a TorchScript archive without the code of {cut(name)}; get the file again")
        return found

    def _read(self, module: str) -> dict[str, _Class]:
        name = f"code/{module.replace('.', '/')}.py"
        text = self.archive.read(name).decode(errors="replace") if self.archive.has(name) else ""
        return _classes(text)


def _classes(code: str) -> dict[str, _Class]:
    """Read the classes of one file of code: the lines that torch writes first in each."""
    found: dict[str, _Class] = {}
    for line in code.split("\n"):
        if start := _CLASS.fullmatch(line):
            last = found[start[1]] = _Class(start[2] == "Module", {})
        elif found and (listed := _LIST.fullmatch(line)):
            last.tensors.update(dict.fromkeys(listed[2].split('"')[1::2], f"_{listed[1]}"))
    return found


def _may_be_a_norm(of: Global) -> bool:
    return "Norm" in of.name or not of.module.startswith("torch.nn.")


def _as_written(of: Global) -> Global:
    """Name a class as the user wrote it; one of the script itself has no module in the archive."""
    parts = [part for part in of.module.split(".")[1:] if not _MANGLED.fullmatch(part)]
    return Global(".".join(parts) or "__main__", of.name)
