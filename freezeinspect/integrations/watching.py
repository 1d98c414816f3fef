"""What the callbacks of all frameworks are: a watch that is opened, asked after steps what is wrong, and closed."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

from torch import nn

from freezeinspect.integrations.scalars import Scalars, Writer
from freezeinspect.recorder.opening import watch
from freezeinspect.recorder.watch import Watch
from freezeinspect.report import check
from freezeinspect.report.findings import asked


class Watching:
    """A callback that watches what is frozen, what moves and what flips in a training.

    `fail_on` has rules by code or name, or a severity, which means that and worse: what they find ends the training
    with FindingsError. It is asked after steps 1, 2, 4, 8 and so on, after each epoch and at the end. `report`
    tells the story at the end, on rank 0, where the framework tells its own. `writer` is what takes scalars, such as a
    SummaryWriter. `evidence`, `every`, `blame`, `ranks` and `log` are those of `fi.watch`; `watch` is the Watch of the
    last training, None before. Raises NoSuchRule.
    """

    def __init__(
        self,
        *,
        fail_on: str | Sequence[str] = (),
        log: str | os.PathLike[str] | None = None,
        report: bool = True,
        writer: Writer | None = None,
        evidence: str = "auto",
        every: int | None = None,
        blame: bool = False,
        ranks: bool = False,
    ) -> None:
        super().__init__()
        self._asks_for = asked(fail_on) if fail_on else None
        self._tells, self._writer = report, writer
        self._options: dict[str, Any] = {
            "evidence": evidence,
            "every": every,
            "blame": blame,
            "ranks": ranks,
            "log": log,
        }
        self.watch: Watch | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "watch": None}  # which is of a run, not of the callback

    def _opens(self, model: nn.Module, optimizers: Any, step: int = 0) -> None:
        """Watch a training from here on; `step` is the number of the framework's last one."""
        self._closes()
        self._asked = 0
        self.watch = watch(model, optimizers, **self._options)
        if self._writer is not None:
            Scalars(self.watch, self._writer, step)

    def _stepped(self) -> None:
        """Take note that a step may have been taken."""
        steps = len(self.watch.history.taken) if self.watch else 0
        if steps & (steps - 1) == 0:
            self._asks()

    def _asks(self) -> None:
        """Ask what is wrong, once after a step. Raises FindingsError."""
        if self.watch is not None and self.watch.is_open and len(self.watch.history.taken) > self._asked:
            self._asked = len(self.watch.history.taken)
            self._fails(self.watch)

    def _fails(self, watch: Watch) -> None:
        if self._asks_for and (wrong := check(watch.report()).asked_for(self._asks_for)):
            self._closes()
            wrong.raise_for("info")

    def _closes(self) -> None:
        """Close the watch of a training that came to no end: its other ranks may be in another place."""
        if self.watch is not None:
            self.watch.__exit__(Exception)

    def _ends(self, tell: Callable[[str], object] | None) -> None:
        """Close the watch, tell its story, and ask a last time. Raises FindingsError."""
        if self.watch is not None and self.watch.is_open:
            self.watch.close()
            if self._tells and tell is not None:
                tell("\n".join(self.watch.run.told()))
            self._fails(self.watch)
