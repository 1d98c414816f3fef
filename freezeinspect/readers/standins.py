"""What stands for the things that a pickle names: data only, and nothing of theirs."""

from __future__ import annotations

from typing import Any


class Global:
    """Stand for a class or function that the pickle names; nothing was imported."""

    __slots__ = ("module", "name")

    def __init__(self, module: str, name: str) -> None:
        self.module, self.name = module, name

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


class Made:
    """Stand for an object: what would be called or allocated, with what, and what would be put into it.

    `allocated` tells `cls.__new__` from a call. `states` are those of BUILD, a dict copied as `__dict__.update` would;
    `items` were appended or added, `entries` set.
    """

    __slots__ = ("allocated", "args", "entries", "items", "of", "states")

    def __init__(self, of: Any, args: Any, allocated: bool) -> None:
        self.of, self.args, self.allocated = of, args, allocated
        self.states: list[Any] | None = None
        self.items: list[Any] | None = None
        self.entries: dict[Any, Any] | None = None


class Persistent:
    """Stand for what is kept outside the pickle: a storage, in torch's files."""

    __slots__ = ("id",)

    def __init__(self, id: Any) -> None:
        self.id = id


class Composite:
    """Stand for a dict's key that is no plain value: hashing it could take for ever, so it equals only itself."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value


def name_of(value: Any) -> str:
    """Name a class or function; nothing else has a name, and writing it out could take for ever."""
    return f"{value.module}.{value.name}" if type(value) is Global else ""
