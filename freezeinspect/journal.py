"""A run's history as lines of JSON, both ways: version 1, documented in docs/reference/log.md.

Each line stands for itself and has at most so many entries, so a run that is killed loses at most what it was writing.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain, groupby
from typing import Any

from freezeinspect.chapters import Calls
from freezeinspect.history import OUTCOMES, TAKEN, History, Looks, Ranges
from freezeinspect.observed import Disagreement
from freezeinspect.serial import NotARecord, answer_of, disagreement_of, group_of, reduction_of
from freezeinspect.state import Optimizer, Snapshot, Structure

SCHEMA = "freezeinspect-log/1"
ENTRIES = 1000  # of one line
_NUMBERS = ("momentum", "dropout")
_OF_MODULES = ("training", "trainable", "bn_freeze", "drop_freeze", "track_running_stats", *_NUMBERS)
_OF_TENSORS = ("requires_grad", "has_grad", "has_state", "groups")


class Writer:
    """Write what History is told, line by line."""

    def __init__(self, write: Callable[[str], None], about: Mapping[str, Any]) -> None:
        self._write_text = write
        self._last: Snapshot | None = None
        self._at: dict[int, Ranges] = {}
        self._taken: list[int] = []
        self._write({"schema": SCHEMA, **about})

    def _write(self, line: Mapping[str, Any]) -> None:
        self._write_text(json.dumps(line, default=str, allow_nan=False, separators=(",", ":")) + "\n")

    def _write_parts(self, key: str, entries: Sequence[Any], line: Mapping[str, Any]) -> None:
        """Write many entries as several lines, of which all but the last say that there are more."""
        starts = range(0, max(len(entries), 1), ENTRIES)
        for start in starts:
            more = {"more": True} if start + ENTRIES < len(entries) else {}
            self._write({**line, key: entries[start : start + ENTRIES], **more})

    def restructured(self, structure: Structure) -> None:
        """Write a structure, under its digest."""
        self._last = None
        self._at.clear()
        line = {"structure": structure.digest}
        self._write_parts("modules", list(zip(structure.paths, structure.types, strict=True)), line)
        self._write_parts("tensors", list(zip(*structure.columns, strict=True)), line)
        self._write_parts("shared", structure.shared, line)

    def flagged(self, snapshot: Snapshot, within: bool, calls: Calls) -> None:
        """Write the columns that differ from those of the last state, in runs of equal values."""
        line: dict[str, Any] = {"state": snapshot.structure.digest}
        for name in (*_OF_MODULES, *_OF_TENSORS):
            column = getattr(snapshot, name)
            if self._last is None or getattr(self._last, name) != column:
                self._write_parts("runs", _in_runs(column), {**line, "column": name})
        if snapshot.stray:
            self._write_parts("stray", list(snapshot.stray.items()), line)
        if calls:
            self._write_parts("calls", [[*key, call] for key, call in calls.items()], line)
        if self._last is None or self._last.optimizers != snapshot.optimizers:
            for kind, groups in snapshot.optimizers:
                self._write_parts("groups", groups, {**line, "optimizer": kind})
        reductions = [one._asdict() for one in snapshot.reductions]
        self._write({**line, "within": within, **({"reductions": reductions} if reductions else {})})
        self._last = snapshot

    def stepped(self, optimizer: int, outcome: int, forwards: int) -> None:
        """Write a step."""
        self._taken.append(optimizer)
        said = {"optimizer": optimizer, "outcome": OUTCOMES[outcome], "forwards": forwards}
        usual = {"optimizer": 0, "outcome": OUTCOMES[TAKEN], "forwards": 1}
        self._write({"step": len(self._taken), **{key: said[key] for key in said if said[key] != usual[key]}})

    def skipped(self, step: int) -> None:
        """Write that a scaler skipped a step."""
        self._write({"skipped": step})

    def recomputed(self, path: str) -> None:
        """Write that a module ran forward in a backward before the next step."""
        self._write({"recomputed": path})

    def ranked(self, found: Iterable[Disagreement]) -> None:
        """Write where the ranks differed."""
        for one in found:
            self._write({"ranks": one._asdict()})

    def looked(self, step: int, looks: Looks) -> None:
        """Write what was seen of a step: of the tensors looked at, those that did otherwise than before."""
        optimizer = self._taken[step - 1] if step else 0
        line: dict[str, Any] = {"looked": step}
        if self._at.get(optimizer) != looks.at:
            self._at[optimizer] = looks.at
            self._write_parts("at", looks.at, line)
        if looks.changed:
            self._write_parts("changed", list(looks.changed.items()), line)
        self._write({**line, "done": True})

    def close(self) -> None:
        """Write that the run was watched to its end."""
        self._write({"end": len(self._taken)})


def _in_runs(column: Sequence[Any]) -> list[tuple[Any, int]]:
    return [(value, len(list(same))) for value, same in groupby(column)]


class Replay:
    """A history told again, line by line; `about` is what the first line says."""

    def __init__(self) -> None:
        self.history = History()
        self.about: dict[str, Any] = {}
        self._parts: dict[str, list[Any]] = {}
        self._columns: dict[str, tuple[Any, ...]] = {}
        self._structure = Structure(("",), (None,))
        self._optimizers: list[Optimizer] = []
        self._fresh = True
        self._at: dict[int, Ranges] = {}
        self._equal: dict[tuple[Any, ...], tuple[Any, ...]] = {}  # so that equal columns are one
        self._snapshots: dict[tuple[Any, ...], Snapshot] = {}  # and equal states

    def read(self, line: Mapping[str, Any]) -> None:
        """Take one line. Raises KeyError, TypeError, ValueError, IndexError where it is not as the schema says."""
        if not isinstance(line, dict):
            raise TypeError(f"expected an object, saw {type(line).__name__}")
        if "schema" in line:
            self.__init__()  # type: ignore[misc]  # another run in the same file
            self.about = dict(line)
            self.history.rank, self.history.ranks = _natural(line.get("rank", 0)), _natural(line.get("ranks", 1))
        elif "structure" in line:
            self._read_structure(line)
        elif "state" in line:
            self._read_state(line)
        elif "step" in line:
            outcome = OUTCOMES.index(line.get("outcome", OUTCOMES[TAKEN]))
            self.history.stepped(_natural(line.get("optimizer", 0)), outcome, _natural(line.get("forwards", 1)))
        elif "skipped" in line:
            self.history.skipped(self._step(line["skipped"]))
        elif "recomputed" in line:
            self.history.recomputed(line["recomputed"])
        elif "ranks" in line:
            self.history.ranked([disagreement_of(line["ranks"])])
        elif "looked" in line:
            self._read_looks(line)
        elif "end" in line:
            self.history.close()

    def _gather(self, key: str, line: Mapping[str, Any]) -> list[Any] | None:
        """Join the parts of what was written as several lines; None while there are more."""
        parts = self._parts.setdefault(key, [])
        parts += line[key]
        return None if line.get("more") else self._parts.pop(key)

    def _read_structure(self, line: Mapping[str, Any]) -> None:
        key = next(key for key in ("modules", "tensors", "shared") if key in line)
        found = self._gather(key, line)
        if found is None:
            return
        if key == "modules":
            paths, types = zip(*found, strict=True)
            self._structure = Structure(paths, types)
        elif key == "tensors":
            rows = [
                (owner, name, kind, None if shape is None else tuple(shape), *rest)
                for owner, name, kind, shape, *rest in found
            ]
            columns = tuple(zip(*rows, strict=True)) or ((),) * 6
            self._structure = Structure(self._structure.paths, self._structure.types, columns)
        else:
            shared = tuple((path, module) for path, module in found)
            self._structure = Structure(self._structure.paths, self._structure.types, self._structure.columns, shared)
            self._columns, self._optimizers = {}, []
            self._equal.clear()
            self._snapshots.clear()
            self.history.restructured(self._structure)

    def _read_state(self, line: Mapping[str, Any]) -> None:
        if "runs" in line:
            if (runs := self._gather("runs", line)) is not None:
                column = tuple(_expanded(line["column"], runs))
                self._columns[line["column"]] = self._equal.setdefault(column, column)
        elif "groups" in line:
            if self._fresh:
                self._optimizers, self._fresh = [], False
            if (groups := self._gather("groups", line)) is not None:
                self._optimizers.append(Optimizer(line["optimizer"], tuple(map(group_of, groups))))
        elif "within" in line:
            stray = {int(i): tuple(names) for i, names in self._parts.pop("stray", [])}
            calls = {(path, flag): call for path, flag, call in self._parts.pop("calls", [])}
            columns = {name: self._columns[name] for name in (*_OF_MODULES, *_OF_TENSORS)}
            reduced = tuple(map(reduction_of, line.get("reductions", [])))
            state = Snapshot(
                self._structure, stray=stray, optimizers=tuple(self._optimizers), reductions=reduced, **columns
            )
            same = (*map(id, columns.values()), tuple(stray.items()), state.optimizers, reduced)
            self.history.flagged(self._snapshots.setdefault(same, state), bool(line["within"]), calls)
            self._fresh = True
        else:
            key = "stray" if "stray" in line else "calls"
            self._parts[key] = [*self._parts.get(key, []), *line[key]]

    def _read_looks(self, line: Mapping[str, Any]) -> None:
        for key in ("at", "changed"):
            if key in line:
                self._parts[key] = [*self._parts.get(key, []), *line[key]]
        if "done" in line:
            step = self._step(line["looked"]) if line["looked"] else 0
            optimizer = self.history.taken[step - 1] if step else 0
            if "at" in self._parts:
                self._at[optimizer] = tuple((first, end) for first, end in self._parts.pop("at"))
            changed = dict(self._parts.pop("changed", []))
            self.history.looked(step, Looks(self._at.get(optimizer, ()), changed))

    def _step(self, step: int) -> int:
        if not 1 <= step <= len(self.history.taken):
            raise ValueError(f"step {step} of {len(self.history.taken)}")
        return step


def _expanded(name: str, runs: Iterable[tuple[Any, int]]) -> Iterator[Any]:
    return chain.from_iterable([_value(name, value)] * count for value, count in runs)


def _value(name: str, value: Any) -> Any:
    if name == "groups":
        return None if value is None else tuple(value)
    return value if name in _NUMBERS else answer_of(value)


def _natural(value: Any) -> int:
    if type(value) is not int or not 0 <= value < 2**16:
        raise ValueError(f"saw {value!r}, expected a number from 0 to 65,535")
    return value


def replayed(lines: Iterable[bytes], replay: Replay | None = None) -> Replay:
    """Tell a log again, to its last whole line. Raises NotARecord, which says which line is not as the schema says."""
    replay, number = replay or Replay(), 0
    for number, line in enumerate(lines, 1):
        if not line.endswith(b"\n"):
            break  # torn by whatever ended the run
        try:
            read: dict[str, Any] = json.loads(line)
            if number == 1 and read.get("schema") != SCHEMA:
                raise NotARecord(f"line 1: expected the schema {SCHEMA!r}, saw {read.get('schema')!r}")
            replay.read(read)
        except NotARecord:
            raise
        except (KeyError, TypeError, ValueError, IndexError, AttributeError, RecursionError) as error:
            seen = f"line {number}: not as {SCHEMA} says: {type(error).__name__}: {error}"
            raise NotARecord(f"{seen}; the lines before it can be saved as a log of their own") from None
    if len(replay.history.chapters) > 1 and not replay.history.last.states:
        replay.history.chapters.pop()  # of which no more than the structure was written
    if not replay.history.chapters or not replay.history.last.states:
        raise NotARecord(f"it ends after {number} lines, before the first state of the model is told; run it again")
    return replay
