"""A script's optimizers, found as they first step, and a watch for each model that they step.

Nothing here imports torch before the script does: what it sets in the environment first must count.
"""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from weakref import WeakSet

from freezeinspect.walk import unwrapped

if TYPE_CHECKING:
    from importlib.machinery import ModuleSpec

    import torch

    from freezeinspect.recorder.guarded import Guarded
    from freezeinspect.report.run import Run

MOST = 8  # models that are watched at a time, and told of
_OPTIMIZERS = "torch.optim.optimizer"
_LOG = ".fi.jsonl"


class _Ended(NamedTuple):
    """A model that was watched: its class, what was seen, and the log."""

    name: str
    run: Run
    path: Path


class Follower:
    """All that is watched of a script. `say` takes a line, or several, for the user."""

    def __init__(self, log: Path, say: Callable[[str], None], **options: Any) -> None:
        self._log, self._say, self._options = log.absolute(), say, options
        self._process = os.getpid()
        self._known: WeakSet[torch.optim.Optimizer] = WeakSet()
        self._has_failed = False
        self._opened = 0
        self.watches: list[Guarded] = []
        self._ended: list[_Ended] = []
        gc.callbacks.append(self._forget)
        sys.meta_path.insert(0, _Finder(self._hook))
        os.register_at_fork(after_in_child=self._leave)

    def _hook(self, module: Any) -> None:
        """Ask torch to tell of each optimizer's steps."""
        try:
            module.register_optimizer_step_pre_hook(self._steps)
        except Exception as error:
            self._failed(error)

    def _steps(self, optimizer: torch.optim.Optimizer, *_: Any) -> None:
        """Take note of an optimizer that steps for the first time; its own hooks then see this step too."""
        import torch

        if torch.compiler.is_compiling() or optimizer in self._known or os.getpid() != self._process:
            return
        self._known.add(optimizer)
        try:
            self._meet(optimizer)
        except Exception as error:
            self._failed(error)

    def _meet(self, optimizer: torch.optim.Optimizer) -> None:
        from freezeinspect.recorder.roots import roots_of

        self._forget()
        watch = next((one for one in self.watches if one.holds(optimizer)), None)
        if watch is not None:
            watch.join(optimizer)
            return
        roots = roots_of(optimizer)
        if not roots:
            self._tell(f"no live module holds what {type(optimizer).__name__} steps, so it is not watched")
        for root in roots:
            self._open(root, optimizer)

    def _open(self, root: Any, optimizer: torch.optim.Optimizer) -> None:
        from freezeinspect.recorder.guarded import Guarded, Options

        watch = next((one for one in self.watches if one.model is root), None)
        if watch is not None:
            watch.join(optimizer)
        elif len(self.watches) < MOST:
            self._opened += 1
            log = _numbered(self._log, self._opened)
            self.watches.append(Guarded(root, optimizer, Options(log, **self._options), self._failed))
        else:
            self._failed(RuntimeError(f"more than {MOST} models are in training; the others are not watched"))

    def _forget(self, phase: str = "stop", _: object = None) -> None:
        """Close the watches of models that only they still hold, so that their memory is free for the next ones."""
        if phase != "stop" or not self.watches or os.getpid() != self._process:
            return
        try:
            from freezeinspect.recorder.device import is_capturing

            for watch in [one for one in self.watches if one.is_forgotten() and not is_capturing()]:
                self._close(watch)
        except Exception as error:
            self._failed(error)

    def _close(self, watch: Guarded) -> None:
        watch.close()
        self.watches.remove(watch)
        self._ended.append(_Ended(type(unwrapped(watch.model)).__name__, watch.run, watch.path))

    def _failed(self, error: Exception) -> None:
        """Say once what went wrong."""
        if not self._has_failed:
            self._has_failed = True
            why = " ".join(str(error).split())[:200]
            self._tell(f"the watch failed and the script goes on without it: {type(error).__name__}: {why}")

    def _tell(self, line: str) -> None:
        with suppress(Exception):  # standard error may be closed
            self._say(f"freezeinspect: {line}")

    def _leave(self) -> None:
        """Let a forked child go its way unwatched."""
        for watch in self.watches:
            with suppress(Exception):
                watch.detach()
        self.watches.clear()
        self._ended.clear()

    def end(self) -> None:
        """Close every watch, and tell what was seen, after all that the script itself has said."""
        if os.getpid() != self._process:
            return
        for stream in (sys.stdout, sys.stderr):
            with suppress(Exception):
                stream.flush()
        for watch in list(self.watches):
            self._close(watch)
        if not self._ended and not self._has_failed:
            self._tell("no optimizer's step was seen, so there is nothing to tell")
        for name, run, path in self._ended[:MOST]:
            try:
                self._tell("\n".join([f"of {name}", *run.told(), f"Log: {path}"]))
            except Exception as error:
                self._failed(error)
        if len(self._ended) > MOST:
            self._tell(f"{len(self._ended) - MOST} more models were trained; the last log is {self._ended[-1].path}")


def log_of(program: str) -> Path:
    """Name the log of a script, or of a module, after it."""
    name = os.path.basename(os.path.normpath(program))
    return Path(f"{name.removesuffix('.py')}{_LOG}")


def _numbered(log: Path, number: int) -> Path:
    """Name the log of each further model: train.fi.jsonl, train.2.fi.jsonl."""
    ending = _LOG if log.name.endswith(_LOG) else log.suffix
    return log if number == 1 else log.with_name(f"{log.name.removesuffix(ending)}.{number}{ending}")


class _Finder:
    """A finder of torch's optimizers that finds them as the others do, and calls back once they are loaded."""

    def __init__(self, then: Callable[[Any], None]) -> None:
        self._then = then

    def find_spec(self, name: str, *_: Any) -> ModuleSpec | None:
        """Find the module for which it is here, once."""
        if name != _OPTIMIZERS or self not in sys.meta_path:
            return None
        sys.meta_path.remove(self)
        spec = find_spec(name)
        if spec is not None and spec.loader is not None:
            self._call_after(spec.loader)
        return spec

    def _call_after(self, loader: Any) -> None:
        """Call back when the loader has run the module."""

        def exec_module(module: Any) -> None:
            del loader.exec_module  # and the class's own is there again
            loader.exec_module(module)
            self._then(module)

        loader.exec_module = exec_module
