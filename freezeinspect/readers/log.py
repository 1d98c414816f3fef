"""The log of a watched run, read line by line. Nobody knows who wrote it, so all that it says is checked."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import pairwise
from math import isfinite
from typing import Any, BinaryIO

from freezeinspect.chapters import KNOWN
from freezeinspect.history import History, Ranges
from freezeinspect.journal import SCHEMA, Replay, replayed
from freezeinspect.readers.limits import LIMITS, Unreadable
from freezeinspect.serial import KINDS, NotARecord
from freezeinspect.state import Snapshot, Structure

FORMAT = SCHEMA
_LISTS = ("modules", "tensors", "shared", "runs", "groups", "stray", "calls", "at", "changed")
_OF_MODULES = ("training", "trainable", "bn_freeze", "drop_freeze", "track_running_stats", "momentum", "dropout")
_STEPPED = ("groups", "has_grad", "has_state")  # columns that are empty without an optimizer


def read(file: BinaryIO) -> History:
    """Tell a log again, to its last whole line. Raises Unreadable."""
    file.seek(0)
    try:
        history = replayed(_lines(file), Checked()).history
    except NotARecord as error:
        raise Unreadable(str(error)) from None
    history.settle()
    return history


def content(history: History) -> str:
    """Say how far a run got, by which optimizers."""
    optimizers = history.last.states[-1].snapshot.optimizers
    named = " and ".join(dict.fromkeys((kind or "an optimizer").rpartition(".")[2] for kind, _ in optimizers))
    count = len(history.taken)
    steps = f"{count:,} {'step' if optimizers else 'forward'}{'' if count == 1 else 's'}"
    return steps + f" of {named}" * bool(named) + ", not ended" * (not history.ended)


def _lines(file: BinaryIO) -> Iterator[bytes]:
    number = 0
    while line := file.readline(LIMITS.line_bytes + 1):
        number += 1
        if len(line) > LIMITS.line_bytes:
            raise Unreadable(f"line {number:,} is longer than {LIMITS.line_bytes:,} bytes, which no line of a log is")
        yield line


class Checked(Replay):
    """A log told again, of which no line is believed. Raises ValueError, TypeError, KeyError, IndexError."""

    def __init__(self) -> None:
        super().__init__()
        self._states = 0
        self._sound: dict[int, Ranges] = {}  # of each optimizer, what was looked at and is known to be there
        self._last: dict[int, int] = {}

    def read(self, line: Mapping[str, Any]) -> None:
        """Take one line, and check what it completes."""
        for key in _LISTS:
            if isinstance(line, dict) and key in line:
                self._check_list(key, line[key])
        if "recomputed" in line:
            path = line["recomputed"]
            _check(isinstance(path, str) and path in self._structure.index, "recomputed: a module that is not there")
        structure, flagged = self._structure, "within" in line
        super().read(line)
        if self._structure is not structure and "shared" in line:
            self._sound.clear()
            _check_structure(self._structure)
        if flagged:
            self._states += 1
            _check(self._states <= LIMITS.states_of_a_run, f"more than {LIMITS.states_of_a_run:,} states")
            _check_snapshot(self.history.last.states[-1].snapshot)
        if "step" in line:
            optimizers = self.history.last.states[-1].snapshot.optimizers
            _check(self.history.taken[-1] < max(len(optimizers), 1), "a step of an optimizer that is not there")

    def _check_list(self, key: str, entries: Any) -> None:
        _check(isinstance(entries, list), f"{key}: expected a list, saw {type(entries).__name__}")
        gathered = [*self._parts.get(key, ()), *entries] if key == "runs" else entries
        count = len(self._parts.get(key, ())) + len(entries)
        if key == "runs":
            count = sum(_number(times, LIMITS.entries) for _, times in gathered)
        _check(count <= LIMITS.entries, f"{key}: {count:,} entries, and the limit is {LIMITS.entries:,}")

    def _read_looks(self, line: Mapping[str, Any]) -> None:
        if "done" in line:
            step = _number(line["looked"], len(self.history.taken))
            optimizer = self.history.taken[step - 1] if step else 0
            _check(step >= self._last.get(optimizer, 0), f"a look at step {step} after one at a later step")
            self._last[optimizer] = step
            self._check_looks(optimizer)
        super()._read_looks(line)

    def _check_looks(self, optimizer: int) -> None:
        """Check that each tensor is there, and that something was said of each when it was first looked at."""
        tensors = len(self._structure.columns[0])
        changed = {_number(i, tensors - 1): _number(seen, 2 ** (2 * KNOWN) - 1) for i, seen in self._part("changed")}
        at = self._at.get(optimizer, ())
        if "at" in self._parts:
            at = tuple((_number(first, tensors), _number(end, tensors)) for first, end in self._part("at"))
            _check(all(one[1] <= other[0] for one, other in pairwise(at)), "at: ranges that overlap")
        elif self._sound.get(optimizer) is at:
            return
        known = self.history.last.spans
        told = all((optimizer, i) in known or i in changed for first, end in at for i in range(first, end))
        _check(told, "at: a tensor of which nothing was said")
        self._sound[optimizer] = at

    def _part(self, key: str) -> list[Any]:
        return self._parts.get(key, [])


def _check_structure(structure: Structure) -> None:
    paths = structure.paths
    _check(len(paths) <= LIMITS.modules, f"{len(paths):,} modules, and the limit is {LIMITS.modules:,}")
    _check(paths[0] == "" and len(set(paths)) == len(paths), "modules: expected the root first, and each path once")
    for path in (*paths, *(path for path, _ in structure.shared)):
        _check_name(path)
        _check(path.count(".") <= LIMITS.tree_depth, f"a path with more than {LIMITS.tree_depth} dots")
    _check(sum(map(len, paths)) <= LIMITS.text, "paths that are too long in all")
    for kind in structure.types:
        _check_name(kind or "")
    for _, module in structure.shared:
        _number(module, len(paths) - 1)
    order = [KINDS.index(_check_tensor(row, len(paths))) for row in zip(*structure.columns, strict=True)]
    _check(order == sorted(order), "tensors: expected parameters first")
    _check(all(parent < i for i, parent in enumerate(structure.parents)), "modules: expected each after its parent")


def _check_tensor(row: tuple[Any, ...], modules: int) -> str:
    owner, name, kind, shape, dtype, tie = row
    _number(owner, modules - 1)
    _check_name(name)
    _check_name(dtype or "")
    for size in (*(shape or ()), tie or 0):
        _number(size, 2**63)
    _check(len(shape or ()) <= 64, "a tensor of more than 64 dimensions")
    _check(kind in KINDS, f"saw {str(kind)[:80]!r}, expected one of {', '.join(KINDS)}")
    return str(kind)


def _check_snapshot(snapshot: Snapshot) -> None:
    modules, tensors = len(snapshot.structure), len(snapshot.structure.columns[0])
    groups = [group for _, some in snapshot.optimizers for group in some]
    _check(len(groups) <= LIMITS.groups, f"{len(groups):,} groups, and the limit is {LIMITS.groups:,}")
    for name in _OF_MODULES:
        _check(len(getattr(snapshot, name)) == modules, f"{name}: expected {modules} entries")
    for name in ("requires_grad", *_STEPPED):
        count = len(getattr(snapshot, name))
        is_empty = name in _STEPPED and not snapshot.optimizers
        _check(count == (0 if is_empty else tensors), f"{name}: expected an entry for each of {tensors} tensors")
    for number in (*set(snapshot.momentum), *set(snapshot.dropout), *(n for group in groups for n in group[:2])):
        _check(number is None or (type(number) in (int, float) and isfinite(number)), f"saw {number!r}, no number")
    for counts in (group[2:] for group in groups):
        for one in counts:
            _number(one or 0, 2**63)
    for numbers in set(snapshot.groups):
        for number in numbers or ():
            _number(number, len(groups) - 1)
    for module, names in snapshot.stray.items():
        _number(module, modules - 1)
        _check(all(isinstance(name, str) for name in names), "stray: expected names")


def _check_name(name: Any) -> None:
    _check(isinstance(name, str) and len(name) <= LIMITS.name_length, "a name that is none, or too long")


def _number(value: Any, most: int) -> int:
    _check(type(value) is int and 0 <= value <= most, f"saw {str(value)[:80]}, expected a number up to {most}")
    return int(value)


def _check(holds: bool, otherwise: str) -> None:
    if not holds:
        raise ValueError(otherwise)
