"""What one file may cost, and the one error of a file that cannot be shown."""

from __future__ import annotations

from dataclasses import dataclass

MIB = 2**20
SHOWN = 80  # characters of a name in a message


@dataclass(frozen=True)
class Limits:
    """What one file may cost; past any of these it is refused. `docs/explanation/safety.md` says why these."""

    pickle_bytes: int = 64 * MIB  # of one pickle, inflated
    operations: int = 3_000_000  # of one pickle: each makes at most one object; and of entries that BUILD copies
    depth: int = 10_000  # of marks open at once
    classes: int = 10_000  # that one pickle names, or that the code of a TorchScript archive has
    states: int = 100  # that one object is given
    directory_bytes: int = 24 * MIB  # of a zip's list of members
    members: int = 150_000  # of a zip
    name_length: int = 1_000  # characters of a member's, a class's or a key's name, and of a module's whole path
    tree_depth: int = 200  # modules within modules, and dots in a path
    modules: int = 70_000
    text: int = 16 * MIB  # characters of all their paths
    entries: int = 120_000  # names of modules, parameters and buffers, counted under each module that holds them
    groups: int = 10_000  # of all optimizers together
    item_bytes: int = 4 * MIB  # of values that are no tensors, in a folder of torch.distributed.checkpoint
    line_bytes: int = MIB  # of one line of a run's log
    states_of_a_run: int = 1_000_000  # changes of a flag, each told in a run's log
    piped_bytes: int = 64 * 1024 * MIB  # that standard input may write to a temporary file


LIMITS = Limits()


class Unreadable(ValueError):
    """The file cannot be shown: what was seen, where, and the way out."""


def past(limit: str, seen: str) -> Unreadable:
    """Make the error of a file past one of LIMITS."""
    return Unreadable(
        f"{seen}, and the limit is {getattr(LIMITS, limit):,}: larger than any model known to this version"
    )


def cut(name: object) -> str:
    """Shorten a name for a message, in quotes and with what cannot be printed escaped."""
    text = str(name)
    return repr(text if len(text) <= SHOWN else text[:SHOWN] + "…")
