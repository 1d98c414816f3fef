"""TorchScript archives: their objects as the modules that they stand for; their code is parsed, never compiled."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from freezeinspect.readers.archive import Archive
from freezeinspect.readers.limits import LIMITS, Unreadable, cut, past
from freezeinspect.readers.modules import HOLDS
from freezeinspect.readers.standins import Global, Made, name_of

_TOP = "__torch__"
_MANGLED = re.compile(r"___torch_mangle_\d+")
_CUSTOM = "__torch__.torch.classes."  # objects of C++, which are no modules
_NAMES = rb'((?:"[^"\\\n]++", )*+)'
_CLASS = re.compile(  # the lines that torch writes first, after the word itself
    rb"(\w+)(?:\((\w+)\))?:\n(?:  __parameters__ = \[%b\]\n)?(?:  __buffers__ = \[%b\]\n)?" % (_NAMES, _NAMES)
)
_STARTS = b"\nclass "
_KINDS = ("_parameters", "_buffers")
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
        self._written: dict[Global, Global] = {}
        self._read: dict[str, dict[str, _Class]] = {}
        self._classes = self._entries = 0

    def is_module(self, value: Any) -> bool:
        return type(value) is Made and value.allocated and self._class_of(value).is_module

    def stand_in(self, value: Made) -> Made:
        """Give what stands for a module, filled later: many may hold one."""
        if id(value) not in self._made:
            if len(self._made) == LIMITS.modules:
                raise past("modules", f"it has at least {LIMITS.modules + 1:,} modules")
            if value.of not in self._written:
                self._written[value.of] = _as_written(value.of)
            self._made[id(value)] = Made(self._written[value.of], (), allocated=True)
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
        self._entries += sum(map(len, held.values()))
        if self._entries > LIMITS.entries:
            raise past("entries", f"its modules hold at least {self._entries:,} names")
        made = self._made[id(value)]
        flags = {name: state[name] for name in ("training", *_NOT_KEPT) if name in state}
        tracking = {"track_running_stats": _LOST} if _may_be_a_norm(made.of) else {}
        made.states = [_NOT_KEPT | tracking | flags | held]

    def _class_of(self, value: Made) -> _Class:
        """Find a class in the code. Raises Unreadable where it is missing, as torch does."""
        name = name_of(value.of)
        if not name.startswith(f"{_TOP}.") or name.startswith(_CUSTOM):
            return _Class(is_module=False, tensors={})
        if value.of.module not in self._read:
            self._read[value.of.module] = self._classes_in(value.of.module)
        found = self._read[value.of.module].get(value.of.name)
        if found is None:
            raise Unreadable(f"a TorchScript archive without the code of {cut(name)}; get the file again")
        return found

    def _classes_in(self, module: str) -> dict[str, _Class]:
        """Read the classes of one file of code; a file may have more of them than any pickle names."""
        name = f"code/{module.replace('.', '/')}.py"
        code = b"\n%b\n" % self.archive.read(name) if self.archive.has(name) else b""
        self._classes += code.count(_STARTS)
        if self._classes > LIMITS.classes:
            raise past("classes", f"its code has at least {self._classes:,} classes")
        return dict(_class(start) for part in code.split(_STARTS)[1:] if (start := _CLASS.match(part)))


def _class(start: re.Match[bytes]) -> tuple[str, _Class]:
    """Read the lines that a class starts with: its name, and the names of its tensors."""
    name, above, *lists = start.groups(default=b"")
    if (seen := sum(listed.count(b",") for listed in lists)) > LIMITS.entries:
        raise past("entries", f"a class in its code has {seen:,} names")
    tensors = {name: kind for kind, listed in zip(_KINDS, lists, strict=True) for name in _quoted(listed)}
    return name.decode(), _Class(above == b"Module", tensors)


def _quoted(listed: bytes) -> list[str]:
    return listed.decode(errors="replace").split('"')[1::2]


def _may_be_a_norm(of: Global) -> bool:
    return "Norm" in of.name or not of.module.startswith("torch.nn.")


def _as_written(of: Global) -> Global:
    """Name a class as the user wrote it; one of the script itself has no module in the archive."""
    parts = [part for part in of.module.split(".")[1:] if not _MANGLED.fullmatch(part)]
    return Global(".".join(parts) or "__main__", of.name)
