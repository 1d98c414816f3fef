"""What a file stores as a record: the one place where stored modules and tensors become a Snapshot."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import NamedTuple

from freezeinspect.readers.flags import Flags, ties
from freezeinspect.readers.limits import LIMITS, cut, past
from freezeinspect.readers.tensors import Rebuilt
from freezeinspect.state import ABSENT, Snapshot, Structure

_ORDER = ("parameter", "buffer", "unknown")


class Stored(NamedTuple):
    """One tensor of a file: whose it is, and what is known of it; two with one identity are one tensor.

    An identity is ("object", …) for one that was pickled as itself, ("memory", …) for one that was detached.
    """

    owner: int
    name: str
    kind: str
    tensor: Rebuilt
    identity: tuple[str, Hashable]


class Modules(NamedTuple):
    """The modules of a file, in pre-order."""

    paths: list[str]
    rows: list[Flags]
    shared: list[tuple[str, int]]
    stray: dict[int, tuple[str, ...]]


def ordered(tensors: Sequence[Stored]) -> list[Stored]:
    """Sort tensors as a Structure has them: by kind, then by module, and there as they came."""
    return sorted(tensors, key=lambda one: (_ORDER.index(one.kind), one.owner))


def snapshot(modules: Modules, tensors: Sequence[Stored]) -> Snapshot:
    """Make the record of ordered tensors; stray names of parameters come after those of their module."""
    stray = dict(modules.stray)
    for one in tensors:
        if one.kind != "buffer" and one.tensor.stray:
            names = tuple(f"{one.name}.{name}" for name in sorted(one.tensor.stray))
            stray[one.owner] = stray.get(one.owner, ()) + names
    columns = (
        tuple(one.owner for one in tensors),
        tuple(one.name for one in tensors),
        tuple(one.kind for one in tensors),
        tuple(one.tensor.shape for one in tensors),
        tuple(one.tensor.dtype for one in tensors),
        ties([one.identity for one in tensors]),
    )
    types, training, trainable, bn_freeze, drop_freeze, tracking, momentum, dropout = zip(*modules.rows, strict=True)
    return Snapshot(
        structure=Structure(tuple(modules.paths), types, columns, tuple(sorted(modules.shared, key=lambda e: e[1]))),
        training=training,
        trainable=trainable,
        bn_freeze=bn_freeze,
        drop_freeze=drop_freeze,
        track_running_stats=tracking,
        momentum=momentum,
        dropout=dropout,
        stray=stray,
        requires_grad=tuple(ABSENT if one.kind == "buffer" else one.tensor.requires_grad for one in tensors),
    )


class Budget:
    """What a tree may still have, module by module."""

    def __init__(self) -> None:
        self.modules = self.text = self.entries = 0

    def spend(self, path: str, depth: int, entries: int) -> None:
        """Count one more module, or one more edge to one, with the names that it holds. Raises Unreadable."""
        self.modules += 1
        self.text += len(path)
        self.entries += entries
        check_path(path, depth)
        for limit, seen, of in (("modules", self.modules, "modules"), ("text", self.text, "characters in its paths")):
            if seen > getattr(LIMITS, limit):
                raise past(limit, f"it has at least {seen:,} {of}")
        if self.entries > LIMITS.entries:
            raise past("entries", f"its modules hold at least {self.entries:,} names")


def check_path(path: str, depth: int = 0) -> None:
    """Refuse a path that is too long or too deep. Raises Unreadable."""
    if max(depth, path.count(".")) > LIMITS.tree_depth:
        raise past("tree_depth", f"modules are nested at least {LIMITS.tree_depth + 1} deep")
    if len(path) > LIMITS.name_length:
        raise past("name_length", f"the path {cut(path)} has {len(path):,} characters")
