"""The flight recorder of a training loop: every step, its flags at both ends, and what moved."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from freezeinspect.distributed import Exchange
from freezeinspect.history import FAILED, SKIPPED, TAKEN, History, Looks
from freezeinspect.observed import Disagreement
from freezeinspect.recorder.attention import Attention, ranges
from freezeinspect.recorder.blame import Blame
from freezeinspect.recorder.boundaries import OPEN, hook_forwards, hook_optimizers
from freezeinspect.recorder.device import Readback
from freezeinspect.recorder.ledger import BETWEEN, EVALUATING, STEPPING, TOLD, WHOLE, Begun, Ledger, Mark, Seen
from freezeinspect.recorder.log import Log
from freezeinspect.recorder.magnitudes import Magnitudes
from freezeinspect.recorder.recomputation import Recomputation
from freezeinspect.recorder.roster import Roster
from freezeinspect.report.run import Run
from freezeinspect.state import Source
from freezeinspect.walk import unwrapped

if TYPE_CHECKING:
    import pandas as pd

    from freezeinspect.report import Report
    from freezeinspect.state import Snapshot


class Watch:
    """A training loop as it is watched. Prints as what it saw so far; `run` is all of it."""

    def __init__(
        self,
        model: nn.Module,
        optimizers: list[torch.optim.Optimizer],
        attention: Attention,
        log: Log | None = None,
        blame: bool = False,
        magnitudes: bool = False,
        at_step: bool = False,  # it opens as a step begins: what the forward before that moved is not known
        exchange: Exchange | None = None,
    ) -> None:
        self.optimizers = optimizers
        self.history = History()
        self.is_open = True
        self.records: list[Any] = [self.history] if log is None else [self.history, log]
        self._attention = attention
        self._exchange = exchange
        self._blame: Blame | None = None
        self._magnitudes = Magnitudes(optimizers) if magnitudes else None
        self._measured: pd.DataFrame | None = None
        self._roster = Roster(model, optimizers)
        self._ledger = Ledger(attention, optimizers)
        self._begun: list[Begun] = []
        self._modes: set[Any] = set()  # that were seen so far, with who requires a gradient
        self._unsure: deque[tuple[int, list[Readback]]] = deque()  # steps that a scaler may have skipped
        self._counts = [0] * max(len(optimizers), 1)
        self._forwards = self._outer = self._inner = 0
        self._by_hand = False
        self._noted: Snapshot | None = None
        self._recomputation = Recomputation(self._recompute)
        self._restructure()
        if not at_step:
            self._ledger.start()
        self._ended = perf_counter()
        self._blame = Blame() if blame else None
        self._handles = hook_optimizers(self)
        if optimizers:
            self._handles += hook_forwards([model], self._forward)
            if unwrapped(model) is not model:
                self._handles += hook_forwards([unwrapped(model)], self._inner_forward)
        else:
            self._handles += hook_forwards([model], self._forward_begins, self._forward_ends)
        OPEN.add(self)

    # what the boundaries tell

    def begins(self, optimizer: int) -> None:
        """Take note that a step begins."""
        if not self._by_hand:
            self._abandon(optimizer)
            self._begin(optimizer)

    def evaluates(self, optimizer: int) -> None:
        """Take note that the step calls its closure."""
        self._mark(optimizer, STEPPING)

    def failed(self, optimizer: int) -> None:
        """Take note that the closure raised, and with it the step."""
        if not self._by_hand:
            self._mark(optimizer, EVALUATING)
            self._end(optimizer, FAILED)

    def evaluated(self, optimizer: int) -> None:
        """Take note that the closure is done: gradients are there now."""
        if any(one.optimizer == optimizer for one in self._begun):
            self._note(self._roster.look(at_start=True), within=False)
            self._mark(optimizer, EVALUATING)

    def ends(self, optimizer: int) -> None:
        """Take note that the step is done."""
        if not self._by_hand:
            self._mark(optimizer, STEPPING)
            self._end(optimizer, TAKEN)

    def count(self, optimizer: int) -> int:
        """Count the steps that ended."""
        return self._counts[optimizer]

    def join(self, optimizer: torch.optim.Optimizer) -> None:
        """Watch the steps of one more optimizer, beside those that the watch was opened with."""
        self._settle(wait=True)
        self.optimizers.append(optimizer)  # which is the roster's list too, and the ledger's
        self._counts.append(0)
        self._handles += hook_optimizers(self, len(self.optimizers) - 1)
        self._ledger.enrol(self._roster.snapshot.structure, self._roster.tensors)

    def scaled(self, optimizer: int, found_inf: list[torch.Tensor] | None) -> None:
        """Take note that a scaler skipped the step, or may have, if one of these is not zero."""
        if found_inf is None:
            self._abandon(optimizer)
            self._begin(optimizer)
            self._mark(optimizer, STEPPING)
            self._end(optimizer, SKIPPED)
        elif self.history.taken:
            self._unsure.append((len(self.history.taken), [Readback([], one.reshape(-1)) for one in found_inf]))
            self._settle()

    @contextmanager
    def step(self) -> Iterator[None]:
        """Mark a step that no hook sees, such as the replay of a CUDA graph: its forward, its backward and its step."""
        if not self.is_open:
            raise RuntimeError("the watch is closed: it takes no more steps")
        self._abandon(0)
        self._begin(0)
        self._by_hand = True
        outcome = FAILED
        try:
            yield
            outcome = TAKEN
        finally:
            self._by_hand = False
            self._forwards += 1
            self._mark(0, WHOLE)
            self._end(0, outcome)

    def _forward(self) -> None:
        self._outer += 1
        self._forwards = max(self._forwards, self._outer)

    def _inner_forward(self) -> None:
        """Count what is called within its wrapper, or alone; compiled, it does not call this."""
        self._inner += 1
        self._forwards = max(self._forwards, self._inner)

    def _forward_begins(self) -> None:
        if not self._by_hand:
            self._abandon(0)
            self._begin(0)
            self._forwards += 1

    def _forward_ends(self) -> None:
        if not self._by_hand:
            self._mark(0, EVALUATING)
            self._end(0, TAKEN)

    def _recompute(self, path: str) -> None:
        for record in self.records:
            record.recomputed(path)

    # one step

    def _abandon(self, optimizer: int) -> None:
        """Close a step that raised, so that it never ended."""
        for one in self._begun:
            if one.optimizer == optimizer:
                if one.marks and one.marks[0].ran == TOLD:  # what was seen since is newer
                    one.marks.clear()
                self._end(optimizer, FAILED)
                return

    def _begin(self, optimizer: int) -> None:
        self._note(self._roster.look(at_start=True), within=False)
        number = self._counts[optimizer] + 1
        plan = () if self._ledger.is_late else self._attention.plan(optimizer, number)
        marks = self._taken_over()
        marks.append(Mark(STEPPING if self._begun else BETWEEN, self._ledger.look(plan)))
        self._begun.append(Begun(optimizer, plan, marks))
        if self._magnitudes:
            self._magnitudes.begins(optimizer)

    def _taken_over(self) -> list[Mark]:
        """Take the looks of a step that calls this one, which ends before it and so tells first what they saw."""
        found = []
        for one in self._begun:
            if one.marks and one.marks[0].ran == BETWEEN:
                found += one.marks
                one.marks[0] = one.marks[0]._replace(ran=TOLD)
        return found

    def _mark(self, optimizer: int, ran: int) -> None:
        """Look once more within a step."""
        start = perf_counter()
        for one in self._begun:
            if one.optimizer == optimizer:
                one.marks.append(Mark(ran, self._ledger.look(one.plan)))
                self._attention.took(perf_counter() - start, one.plan)

    def _end(self, optimizer: int, outcome: int) -> None:
        at = next((n for n, one in enumerate(self._begun) if one.optimizer == optimizer), None)
        if at is None:  # watched from within a step
            return
        if self._magnitudes and outcome == TAKEN:
            self._magnitudes.ends(optimizer)
        self._note(self._roster.look(at_start=False), within=True)
        one, ran_forward = self._begun.pop(at), self._forwards > 0 or bool(self.optimizers)
        self._step(optimizer, outcome)
        if self._attention.evidence != "off":
            self._ledger.add(Seen(len(self.history.taken), optimizer, one.marks, ran_forward))
        self._settle()
        now = perf_counter()
        self._attention.earn(now - self._ended)
        self._ended = now

    def _step(self, optimizer: int, outcome: int) -> None:
        for record in self.records:
            record.stepped(optimizer, outcome, self._forwards)
        if self._exchange and outcome == TAKEN:
            self._ranked(self._exchange.stepped(len(self.history.taken), self._roster.snapshot))
        self._counts[optimizer] += 1
        self._forwards = self._outer = self._inner = 0

    def _ranked(self, found: list[Disagreement]) -> None:
        for record in self.records if found else ():
            record.ranked(found)

    def _note(self, is_other: bool, within: bool) -> None:
        """Note the structure, and the state, where they are others than the last."""
        if is_other or self._roster.tensors is not self._ledger.tensors:
            self._restructure(is_other)
        elif self._roster.snapshot is not self._noted:
            self._flag(within)
        elif self._blame:
            self._blame.forget()

    def _restructure(self, is_other: bool = True) -> None:
        """Begin again with other tensors; what was seen of steps that are under way was of the old ones."""
        self._settle(wait=True)
        self._begun = [Begun(one.optimizer, (), [Mark(BETWEEN, self._ledger.look(()))]) for one in self._begun]
        structure = self._roster.snapshot.structure
        self._ledger.enrol(structure, self._roster.tensors)
        for record in self.records if is_other else ():
            record.restructured(structure)
        if is_other or self._roster.snapshot is not self._noted:
            self._flag(within=False)
        self._recomputation.enrol(structure, self._roster.modules)

    def _flag(self, within: bool) -> None:
        now = self._roster.snapshot
        mode = (now.structure.digest, now.training, now.requires_grad)
        calls = self._blame.calls(self._roster) if self._blame else {}
        for record in self.records:
            record.flagged(now, within, calls)
        self._noted = now
        if mode not in self._modes:  # a GAN, say, goes to and fro in each step
            self._modes.add(mode)
            self._attention.flipped()

    def _settle(self, wait: bool = False) -> None:
        """Tell what is known by now of what moved, and of what a scaler skipped."""
        for step, looks in self._ledger.settled(wait):
            for record in self.records:
                record.looked(step, looks)
        while self._unsure and (wait or all(one.is_ready for one in self._unsure[0][1])):
            step, flags = self._unsure.popleft()
            if any(value for one in flags for value in one.values()):
                for record in self.records:
                    record.skipped(step)

    # the end, and what is shown

    def close(self) -> None:
        """Take every hook off, after a last look; what was seen stays."""
        if not self.is_open:
            return
        self.detach()
        for one in list(self._begun):
            self._mark(one.optimizer, WHOLE)
            self._end(one.optimizer, FAILED)
        self._note(self._roster.reread(), within=False)
        self._settle(wait=True)
        if self._exchange:
            self._ranked(self._exchange.close())
        moved = self._ledger.at_the_end(self._forwards > 0)
        for record in self.records:
            if moved:  # since the last step, so it is told as of that
                record.looked(len(self.history.taken), Looks(ranges(sorted(moved)), moved))
            record.close()
        if self._magnitudes:
            self._measured = self._magnitudes.frame(self._roster.names())
        self._magnitudes = None
        del self._roster, self._ledger, self._recomputation  # or they would keep the model
        self.optimizers = []

    def detach(self) -> None:
        """Take every hook off, and be told of nothing more."""
        if not self.is_open:
            return
        self.is_open = False
        for handle in self._handles:
            handle.remove()
        self._recomputation.close()
        OPEN.remove(self)
        if self._blame:
            self._blame.close()

    def __enter__(self) -> Watch:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is not None:  # the other ranks may be in another place by now
            self._exchange = None
        self.close()

    @property
    def run(self) -> Run:
        """Give what was seen until now; waits for digests that are on their way."""
        if self.is_open:
            self._settle(wait=True)
        return Run(self.history, Source("watch"))

    def report(self) -> Report:
        """Give the state of the model now, with what was seen to move."""
        if self.is_open:
            self._note(self._roster.reread(), within=False)
        return self.run.report()

    def changes(self) -> pd.DataFrame:
        """Give a frame of every flag that flipped: when, where, what, and by which call."""
        return self.run.changes()

    def steps(self) -> pd.DataFrame:
        """Give a frame with one row a step."""
        return self.run.steps()

    def magnitudes(self) -> pd.DataFrame:
        """Give a frame of how far each weight moved in a step, against its own size: last, mean and most.

        Raises ValueError where the watch was not opened with `magnitudes=True`.
        """
        if self._magnitudes:
            return self._magnitudes.frame(self._roster.names())
        if self._measured is None:
            raise ValueError("magnitudes were not measured: watch(..., magnitudes=True) does")
        return self._measured

    def table(self, step: int) -> str:
        """Lay one step out: the flags before → after, and what moved in it. Raises IndexError for none such."""
        return self.run.table(step)

    def to_json(self) -> str:
        """Write the run as JSON."""
        return self.run.to_json()

    def to_html(self, path: str | os.PathLike[str] | None = None) -> str:
        """Give the run as a page of HTML to go through step by step, and write it where a path is given."""
        return self.run.to_html(path)

    def _repr_html_(self) -> str:
        return self.run._repr_html_()

    def __str__(self) -> str:
        return str(self.run)

    __repr__ = __str__
