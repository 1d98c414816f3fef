"""What one file may cost, and the one error of a file that cannot be shown."""

from __future__ import annotations

from dataclasses import dataclass

MIB = 2**20


@dataclass(frozen=True)
class Limits:
    """What one file may cost; past any of these it is refused. `docs/explanation/safety.md` says why these."""

    pickle_bytes: int = 64 * MIB  # of one pickle, inflated
    operations: int = 4_000_000  # of one pickle: each makes at most one object; and of entries that BUILD copies
    depth: int = 10_000  # of marks open at once
    directory_bytes: int = 64 * MIB  # of a zip's list of members
    members: int = 400_000  # of a zip
    name_length: int = 1_000  # characters of a member's name, and of a module's or tensor's whole path
    tree_depth: int = 200  # modules within modules
    modules: int = 100_000
    entries: int = 200_000  # names of modules, parameters and buffers, counted under each module that holds them
    piped_bytes: int = 64 * 1024 * MIB  # that standard input may write to a temporary file


LIMITS = Limits()


class Unreadable(ValueError):
    """The file cannot be shown: what was seen, where, and the way out."""


def past(limit: str, seen: str) -> Unreadable:
    """Make the error of a file past one of LIMITS."""
    return Unreadable(
        f"{seen}, and the limit is {getattr(LIMITS, limit):,}: larger than any model known to this version"
    )
