"""Fold equal siblings into one line: nothing that differs is ever folded together."""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterator, Sequence
from typing import NamedTuple

from freezeinspect.patterns import escape
from freezeinspect.state import Structure

LINKS = 1_000_000
_NUMBERED = re.compile(r"(.*[^0-9]|)(0|[1-9][0-9]*)", re.DOTALL)


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


def classes(structure: Structure, facts: Sequence[Hashable]) -> Sequence[int]:
    """Give each module a number: two have the same exactly when their subtrees agree.

    What a module shares is what it holds that was met before it. Sharing within a subtree agrees when it is at the same
    place in both; sharing with the world outside, when it is with the same module. Where more than LINKS would be
    carried up the tree, none agree.
    """
    known: dict[Hashable, int] = {}
    numbers, trees = [0] * len(structure), [0] * len(structure)  # with and without what is shared with the outside
    links, left = _links(structure), LINKS
    for i in range(len(structure) - 1, -1, -1):  # children come after their parent
        children, inside = structure.children[i], range(i, structure.ends[i])
        carried = [*links[i], *(link for child in children for link in links[child])]
        left -= len(carried)
        if left < 0:
            return range(len(structure))
        closed = tuple((at - i, name, to - i) for at, name, to in carried if to in inside)
        below = tuple((structure.names[child], trees[child]) for child in children)
        trees[i] = known.setdefault((structure.types[i], facts[i], below, closed), len(known))
        links[i] = [link for link in carried if link[2] not in inside]
        outside = tuple((at - i, name, to) for at, name, to in links[i])
        numbers[i] = known.setdefault((trees[i], outside), len(known))
        for child in children:
            links[child] = []
    return numbers


def _links(structure: Structure) -> list[list[tuple[int, Hashable, int]]]:
    """Give what each module shares: edges to a module met before, and tensors tied to the first of their group."""
    links: list[list[tuple[int, Hashable, int]]] = [[] for _ in structure.paths]
    for holder, edges in structure.further.items():
        links[holder] += [(holder, name, to) for name, to in edges]
    for group in structure.tie_groups.values():
        first = structure.tensors[group[0]]
        for one in (structure.tensors[n] for n in group):
            links[one.owner].append((one.owner, (one.name, first.name), first.owner))
    return links


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
