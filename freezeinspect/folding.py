"""Fold equal siblings into one line: nothing that differs is ever folded together."""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterator, Sequence
from typing import NamedTuple

from freezeinspect.patterns import escape
from freezeinspect.state import Structure

_NUMBERED = re.compile(r"(.*\D|)(0|[1-9]\d*)")


class Line(NamedTuple):
    """One line of a folded tree: sibling modules that agree, named by one pattern."""

    depth: int
    name: str  # a pattern for the names within the parent
    pattern: str  # a pattern for the paths, of all parents that were folded too
    modules: tuple[int, ...]


def folded(
    structure: Structure, facts: Sequence[Hashable], depth: int | None = None, fold: bool = True
) -> Iterator[Line]:
    """Give the lines of the tree in pre-order, down to a depth; the root is depth 0.

    Siblings share a line when their whole subtrees agree in structure and in `facts`, one entry a module.
    """
    kinds = classes(structure, facts) if fold else range(len(structure))
    stack = [Line(0, "", "", (0,))]
    while stack:
        line = stack.pop()
        yield line
        if depth is None or line.depth < depth:
            groups: dict[int, list[int]] = {}
            for child in structure.children[line.modules[0]]:
                groups.setdefault(kinds[child], []).append(child)
            stack += [_line(structure, line, members) for members in reversed(groups.values())]


def _line(structure: Structure, above: Line, members: list[int]) -> Line:
    name = joined([structure.names[member] for member in members])
    return Line(above.depth + 1, name, f"{above.pattern}.{name}" if above.pattern else name, tuple(members))


def classes(structure: Structure, facts: Sequence[Hashable]) -> list[int]:
    """Give each module a number: two have the same exactly when their subtrees agree."""
    known: dict[Hashable, int] = {}
    numbers = [0] * len(structure)
    for i in range(len(structure) - 1, -1, -1):  # children come after their parent
        below = tuple((structure.names[child], numbers[child]) for child in structure.children[i])
        key = (structure.types[i], facts[i], below, tuple(structure.further.get(i, ())))
        numbers[i] = known.setdefault(key, len(known))
    return numbers


def joined(names: Sequence[str]) -> str:
    """Write names as one pattern that matches them and no other.

    >>> joined(["0", "1", "2"]), joined(["k_proj", "v_proj"]), joined(["bn1", "bn2", "conv"])
    ('[0-2]', '{k_proj,v_proj}', '{bn[1-2],conv}')
    """
    pieces: list[list[str]] = []  # runs of names that differ in a number, or one name alone
    for name in names:
        if pieces and _follows(pieces[-1][-1], name):
            pieces[-1].append(name)
        else:
            pieces.append([name])
    written = [_run(piece) for piece in pieces]
    return written[0] if len(written) == 1 else "{" + ",".join(written) + "}"


def _follows(before: str, name: str) -> bool:
    first, second = _NUMBERED.fullmatch(before), _NUMBERED.fullmatch(name)
    if first is None or second is None:
        return False
    return first[1] == second[1] and int(second[2]) == int(first[2]) + 1


def _run(names: list[str]) -> str:
    if len(names) == 1:
        return escape(names[0])
    prefix = names[0].rstrip("0123456789")
    first, last = (name.removeprefix(prefix) for name in (names[0], names[-1]))
    return f"{escape(prefix)}[{first}-{last}]"
