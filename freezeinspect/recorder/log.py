"""The log of a run as a file, to which each step is written as it ends: a run that is killed keeps what it wrote."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable
from errno import EEXIST
from pathlib import Path
from stat import S_ISREG

import torch

from freezeinspect.chapters import Calls
from freezeinspect.history import Looks
from freezeinspect.journal import SCHEMA, Writer
from freezeinspect.observed import Disagreement
from freezeinspect.state import Snapshot, Structure

_START = b'{"schema":"' + SCHEMA.partition("/")[0].encode()
_LONGEST = 2**20  # bytes of a line


class Log:
    """A file of lines, in step with a History. In a run of several processes each has its own, named by its rank.

    A process that is forked from the one that opened it writes nothing. Raises OSError where it cannot be written.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        rank, ranks = _rank()
        self.path = Path(path) if ranks == 1 else _of_rank(Path(path), rank)
        self._file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        _mend(self._file, self.path)
        self._process = os.getpid()
        self._is_full = False
        self._lines: list[str] = []
        self._writer = Writer(self._lines.append, {"rank": rank, "ranks": ranks, "torch": str(torch.__version__)})

    def flush(self) -> None:
        """Write the lines so far, at once: from here on the system keeps them, whatever becomes of the process."""
        text = "".join(self._lines).encode()
        self._lines.clear()
        try:
            while text and os.getpid() == self._process and not self._is_full:
                text = text[os.write(self._file, text) :]
        except OSError as error:  # of a full disk, say: training goes on without its log
            self._is_full = True
            warnings.warn(f"the log {self.path} ends here: {error.strerror}", stacklevel=2)

    def restructured(self, structure: Structure) -> None:
        """Write a structure."""
        self._writer.restructured(structure)

    def flagged(self, snapshot: Snapshot, within: bool, calls: Calls) -> None:
        """Write a state."""
        self._writer.flagged(snapshot, within, calls)
        self.flush()

    def stepped(self, optimizer: int, outcome: int, forwards: int) -> None:
        """Write a step."""
        self._writer.stepped(optimizer, outcome, forwards)
        self.flush()

    def skipped(self, step: int) -> None:
        """Write that a step was skipped."""
        self._writer.skipped(step)

    def recomputed(self, path: str) -> None:
        """Write that a module ran forward in a backward."""
        self._writer.recomputed(path)

    def ranked(self, found: Iterable[Disagreement]) -> None:
        """Write where the ranks differed."""
        self._writer.ranked(found)
        self.flush()

    def looked(self, step: int, looks: Looks) -> None:
        """Write what was seen of a step."""
        self._writer.looked(step, looks)

    def close(self) -> None:
        """Write the end."""
        self._writer.close()
        self.flush()
        os.close(self._file)


def _mend(file: int, path: Path) -> None:
    """Take off what a killed run left of a last line. Raises FileExistsError where the file is no log."""
    about = os.fstat(file)
    size = about.st_size
    if not S_ISREG(about.st_mode):
        return
    if not os.pread(file, len(_START), 0).startswith(_START[:size]):
        raise FileExistsError(EEXIST, "is there, and is not the log of a run; name another", str(path))
    tail = os.pread(file, _LONGEST, max(size - _LONGEST, 0))
    if not tail.endswith(b"\n") and size:
        os.ftruncate(file, size - len(tail) + tail.rfind(b"\n") + 1)


def _rank() -> tuple[int, int]:
    """Give this process's rank and how many there are, as torch.distributed or its launcher says."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_rank(), torch.distributed.get_world_size()
    try:
        return int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    except (KeyError, ValueError):
        return 0, 1


def _of_rank(path: Path, rank: int) -> Path:
    """Put the rank before the suffixes: run.fi.jsonl is run.rank3.fi.jsonl."""
    stem, dot, suffixes = path.name.partition(".")
    return path.with_name(f"{stem}.rank{rank}{dot}{suffixes}")
