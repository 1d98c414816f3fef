"""Scalars for TensorBoard and its like: how much trains, how many statistics layers move, how many flags flipped."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol

from freezeinspect.chapters import Calls, State, flips_between
from freezeinspect.history import Looks
from freezeinspect.observed import Disagreement
from freezeinspect.recorder.watch import Watch
from freezeinspect.report.model import Report
from freezeinspect.state import Snapshot, Structure

TAG = "freezeinspect/"


class Writer(Protocol):
    """What takes scalars, as torch.utils.tensorboard's SummaryWriter does."""

    def add_scalar(self, tag: str, scalar_value: float, global_step: int, /) -> Any:
        """Take the value of a scalar after a step."""


class Scalars:
    """A record of a watch that is open, which goes to a writer: at once, at each change, and at the end.

    `trainable_share` is the part of the parameters' elements that require a gradient, `moving_statistics` counts the
    layers whose running statistics the next forward moves, `flips` the flags that changed so far. `step` is the number
    of the last step before the watch opened.
    """

    def __init__(self, watch: Watch, writer: Writer, step: int = 0) -> None:
        self._writer = writer
        self._step = step
        self._flips = 0
        self._written: dict[str, tuple[float, int]] = {}  # with the step
        self._last = watch.history.last.states[-1].snapshot
        self._write(step)
        watch.records.append(self)

    def _values(self) -> dict[str, float]:
        told = Report(self._last).summary
        share = told.trainable_parameters / told.parameters if told.parameters and told.trainable_parameters else 0.0
        return {"trainable_share": share, "moving_statistics": told.stats_layers_moving or 0, "flips": self._flips}

    def _write(self, now: int, at_the_end: bool = False) -> None:
        for name, value in self._values().items():
            before, step = self._written.get(name, (None, -1))
            if value != before or (at_the_end and step != now):
                self._writer.add_scalar(TAG + name, value, now)
                self._written[name] = value, now

    def flagged(self, snapshot: Snapshot, within: bool, calls: Calls) -> None:
        """Write what a new state changes, after the last step or within the next."""
        if snapshot.structure is self._last.structure:
            self._flips += sum(1 for _ in flips_between(self._last, State(0, within, snapshot, calls)))
        self._last = snapshot
        self._write(self._step + within)

    def stepped(self, optimizer: int, outcome: int, forwards: int) -> None:
        """Count a step."""
        self._step += 1

    def close(self) -> None:
        """Write how it ended."""
        self._write(self._step, at_the_end=True)

    def restructured(self, structure: Structure) -> None:
        """Await the state of another model, in which nothing has flipped yet."""

    def looked(self, step: int, looks: Looks) -> None:
        """Pass over what moved."""

    def skipped(self, step: int) -> None:
        """Pass over what a scaler skipped."""

    def recomputed(self, path: str) -> None:
        """Pass over what ran twice."""

    def ranked(self, found: Iterable[Disagreement]) -> None:
        """Pass over where ranks differ."""
