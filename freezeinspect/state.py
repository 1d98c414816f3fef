"""The record: what is known of a model, as data that needs no torch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from enum import Enum
from functools import cached_property
from typing import Any, NamedTuple, NoReturn, TypeAlias

ALIAS_LIMIT = 32  # paths kept for one shared module, beyond the edges themselves
ALIAS_TEXT = 2**22  # characters of such paths in all
UNSEEN = "?"  # the name that stands for all the tensors of a module that its source cannot list


class Answer(Enum):
    """One vocabulary for every flag and every verdict."""

    YES = "yes"
    NO = "no"
    MIXED = "mixed"
    ABSENT = "absent"  # there is nothing to say it of
    UNKNOWN = "unknown"  # the source cannot tell

    def __bool__(self) -> NoReturn:
        """Refuse to be a truth value: `mixed` and `unknown` are neither."""
        raise TypeError(f"Answer.{self.name} is not true or false: compare it, e.g. `answer is Answer.YES`")

    def __str__(self) -> str:
        return self.value


YES, NO, MIXED, ABSENT, UNKNOWN = Answer


def combine(answers: Iterable[Answer]) -> Answer:
    """Give the one answer that many give together.

    Absent ones do not count. A yes beside a no is mixed, whatever else is unknown; one unknown otherwise
    leaves the whole unknown.

    >>> combine([Answer.YES, Answer.ABSENT, Answer.NO])
    <Answer.MIXED: 'mixed'>
    """
    found = set(answers)
    if MIXED in found or {YES, NO} <= found:
        return MIXED
    return next((answer for answer in (UNKNOWN, YES, NO) if answer in found), ABSENT)


class Tensor(NamedTuple):
    """One parameter or buffer of the structure; `tie` groups the names that share one tensor."""

    owner: int
    name: str
    kind: str  # "parameter", "buffer" or "unknown"
    shape: tuple[int, ...] | None  # None while a lazy tensor has none
    dtype: str | None
    tie: int | None = None

    @property
    def is_unseen(self) -> bool:
        """Tell the entry that stands for tensors which the source could not list."""
        return self.name == UNSEEN and self.dtype is None

    @property
    def elements(self) -> int | None:
        """Count the elements; None where the shape is not known."""
        if self.shape is None:
            return None
        count = 1
        for size in self.shape:
            count *= size
        return count


Columns: TypeAlias = tuple[tuple[Any, ...], ...]  # one for each field of Tensor, all of one length


@dataclass(frozen=True)
class Structure:
    """What does not change when flags do: modules in pre-order and their tensors.

    `columns` has the fields of Tensor: parameters first, then buffers, each module by module. `shared` keeps each
    further edge to a module that was already met: (path, index of the module).
    """

    paths: tuple[str, ...]
    types: tuple[str | None, ...]
    columns: Columns = ((),) * 6
    shared: tuple[tuple[str, int], ...] = ()

    def __len__(self) -> int:
        return len(self.paths)

    @cached_property
    def digest(self) -> str:
        """Name the structure by 16 bytes in hexadecimal, the same for equal structures."""
        import hashlib
        import json

        text = json.dumps((self.paths, self.types, self.columns, self.shared))
        return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()

    @cached_property
    def tensors(self) -> tuple[Tensor, ...]:
        """Give the columns as Tensors: made on first use, for a walk must cost next to nothing."""
        return tuple(map(Tensor, *self.columns))

    @cached_property
    def _at(self) -> dict[str, int]:
        return {path: i for i, path in reversed(list(enumerate(self.paths)))}  # of equal paths, the first

    @cached_property
    def index(self) -> dict[str, int]:
        """Map each path, and each alias that is kept, to its module."""
        return {alias: i for i, aliases in enumerate(self.aliases) for alias in aliases} | self._at

    @cached_property
    def parents(self) -> tuple[int, ...]:
        """Give each module's parent; the root's is -1."""
        return (-1, *map(self._parent, self.paths[1:]))

    def _parent(self, path: str) -> int:
        """Find the module that holds this path: the longest that ends at a dot, for names may have dots."""
        while True:
            path = path.rpartition(".")[0]
            if path in self._at:
                return self._at[path]

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Give each module's name within its parent; the root's is empty."""
        tops = ("", *(self.paths[parent] for parent in self.parents[1:]))
        return tuple(path[len(top) + 1 :] if top else path for path, top in zip(self.paths, tops, strict=True))

    @cached_property
    def children(self) -> tuple[tuple[int, ...], ...]:
        """Give each module's children in order, without the further edges to shared ones."""
        table: list[list[int]] = [[] for _ in self.paths]
        for child, parent in enumerate(self.parents[1:], 1):
            table[parent].append(child)
        return tuple(map(tuple, table))

    @cached_property
    def ends(self) -> tuple[int, ...]:
        """Give the number after the last module below each one: in pre-order a subtree is a span."""
        ends = list(range(1, len(self) + 1))
        for child in range(len(self) - 1, 0, -1):
            parent = self.parents[child]
            ends[parent] = max(ends[parent], ends[child])
        return tuple(ends)

    @cached_property
    def own(self) -> tuple[tuple[int, ...], ...]:
        """Give the indexes of each module's own tensors."""
        table: list[list[int]] = [[] for _ in self.paths]
        for i, tensor in enumerate(self.tensors):
            table[tensor.owner].append(i)
        return tuple(map(tuple, table))

    @cached_property
    def further(self) -> dict[int, list[tuple[str, int]]]:
        """Map a module to its edges to shared modules: name and module."""
        table: dict[int, list[tuple[str, int]]] = {}
        for path, module in self.shared:
            parent = self._parent(path)
            name = path[len(self.paths[parent]) :].lstrip(".")
            table.setdefault(parent, []).append((name, module))
        return table

    @cached_property
    def aliases(self) -> tuple[tuple[str, ...], ...]:
        """Give the further paths of each module, shortest detours first.

        Every edge is kept; paths that only follow from an edge higher up are kept to ALIAS_LIMIT a module.
        """
        table: list[dict[str, None]] = [{} for _ in self.paths]
        queue: list[tuple[str, int, frozenset[int], tuple[int, ...]]] = []
        room = ALIAS_TEXT
        above: dict[int, frozenset[int]] = {}  # of a holder, shared by its edges
        for path, module in self.shared:
            table[module][path] = None
            holder = self._parent(path)
            if holder not in above:
                above[holder] = frozenset(self.ancestors(holder))
            if module not in above[holder]:
                queue.append((path, module, above[holder], (module,)))
        for path, module, higher, passed in queue:
            for name, child in self._edges(module):
                alias = f"{path}.{name}"
                known = child in higher or child in passed or alias in table[child]
                if not known and len(table[child]) < ALIAS_LIMIT and room > 0:
                    table[child][alias] = None
                    room -= len(alias)
                    queue.append((alias, child, higher, (*passed, child)))
        return tuple(map(tuple, table))

    def _edges(self, module: int) -> list[tuple[str, int]]:
        held = [(self.names[child], child) for child in self.children[module]]
        return held + self.further.get(module, [])

    def ancestors(self, module: int) -> Iterator[int]:
        """Give a module and those above it, up to the root."""
        while module >= 0:
            yield module
            module = self.parents[module]

    def subtree(self, module: int) -> Iterator[int]:
        """Give a module and all below it, each once, through shared edges too."""
        seen, stack = {module}, [module]
        while stack:
            here = stack.pop()
            yield here
            for _, child in self._edges(here):
                if child not in seen:
                    seen.add(child)
                    stack.append(child)

    def over_subtrees(self, own: list[int]) -> list[int]:
        """Join each module's own bits with those of everything below it, through shared edges too."""
        total = list(own)
        for i in range(len(total) - 1, 0, -1):
            total[self.parents[i]] |= total[i]
        holders: dict[int, list[int]] = {}
        for parent, edges in self.further.items():
            for _, child in edges:
                holders.setdefault(child, []).append(parent)
        changed = list(holders)
        while changed:
            child = changed.pop()
            for parent in (self.parents[child], *holders.get(child, ())):
                if parent >= 0 and total[child] & ~total[parent]:
                    total[parent] |= total[child]
                    changed.append(parent)
        return total

    @cached_property
    def tie_groups(self) -> dict[int, list[int]]:
        """Map each tie group to the indexes of its tensors."""
        groups: dict[int, list[int]] = {}
        for i, tensor in enumerate(self.tensors):
            if tensor.tie is not None:
                groups.setdefault(tensor.tie, []).append(i)
        return groups

    @cached_property
    def unique(self) -> tuple[int, ...]:
        """Give the indexes of the tensors, each tied one once."""
        again = {i for group in self.tie_groups.values() for i in group[1:]}
        return tuple(i for i in range(len(self.tensors)) if i not in again)

    def full_name(self, tensor: int) -> str:
        """Name a tensor as a state_dict does."""
        owner, name = self.paths[self.tensors[tensor].owner], self.tensors[tensor].name
        return f"{owner}.{name}" if owner else name


class Shape(NamedTuple):
    """What a forward pass of a twin showed of one module: its output's shape, and its multiply-adds."""

    output: tuple[int, ...] | None
    mult_adds: int


class Group(NamedTuple):
    """One parameter group of an optimizer: how many tensors it has, with a state, and owned by no module.

    A count is None where the source cannot tell; `orphan_shapes` has the shapes that are known, each once.
    """

    lr: float | None  # None where it is a device tensor: never read
    weight_decay: float | None
    orphans: int | None
    parameters: int | None = None
    with_state: int | None = None
    orphan_shapes: tuple[tuple[int, ...], ...] = ()


class Optimizer(NamedTuple):
    """An optimizer's type and its groups."""

    type: str | None
    groups: tuple[Group, ...]


class Reduction(NamedTuple):
    """What DistributedDataParallel settled when it wrapped the module at a path, and does not change any more."""

    path: str
    parameters: int  # whose gradients it averages over the ranks: those that required one, each tied one once
    ignored: tuple[str, ...]  # names below the path
    finds_unused: bool


@dataclass(frozen=True)
class Snapshot:
    """The flags of one moment, in columns beside one Structure.

    The first columns have one entry a module. Those after `stray` have one entry a tensor; the ones that an
    optimizer fills, and fingerprints, are empty where nobody looked. `groups` is None for a tensor of which the source
    cannot tell them.
    """

    structure: Structure
    training: tuple[Answer, ...]
    trainable: tuple[Answer, ...]
    bn_freeze: tuple[Answer, ...]
    drop_freeze: tuple[Answer, ...]
    track_running_stats: tuple[Answer, ...]
    momentum: tuple[float | None, ...]
    dropout: tuple[float | None, ...]
    stray: dict[int, tuple[str, ...]]
    requires_grad: tuple[Answer, ...]
    optimizers: tuple[Optimizer, ...] = ()
    groups: tuple[tuple[int, ...] | None, ...] = ()
    has_grad: tuple[Answer, ...] = ()
    has_state: tuple[Answer, ...] = ()
    fingerprints: tuple[str | None, ...] = ()
    reductions: tuple[Reduction, ...] = field(default=(), compare=False)  # of what is wrapped around the model


@dataclass(frozen=True)
class Source:
    """Where a record comes from."""

    kind: str = "module"  # "module", "file" or "watch"
    path: str | None = None
    format: str | None = None
    content: str | None = None


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong: what, where, and the line that mends it."""

    code: str
    name: str
    severity: str  # "error", "warning" or "info"
    path: str
    message: str
    tensor: str | None = None
    step: int | None = None
    call: str | None = None
    ranks: tuple[int, ...] = field(default=())
    fix: str | None = None
