"""A Diff as text: the totals of each part, the modules that differ, folded, and a sentence."""

from __future__ import annotations

from typing import NamedTuple

from tabulate import tabulate

from freezeinspect.compare import Change, Differences, Values
from freezeinspect.state import NO, UNKNOWN, YES, Answer, Source, Structure
from freezeinspect.views.text import ROOT, table, visible, wrapped

LINES = 40  # of one table
WIDTH = 80
_MODULES = ["module", "count", "weights", "running\nstats", "flags"]
UNRECORDED = "values were not recorded: inspect(values=True) records them, a run's log has none"


class Count(NamedTuple):
    """How many tensors have other values, are the same, and of how many nobody can tell."""

    moved: int = 0
    still: int = 0
    unknown: int = 0

    def __str__(self) -> str:
        said = [f"{self.moved} moved"] * bool(self.moved) + [f"{self.still} still"] * bool(self.still)
        return ", ".join([*said, *[f"{self.unknown} ?"] * bool(self.unknown)]) or "–"


def text(sources: tuple[Source, Source], after: Structure, differences: Differences, style: str = "plain") -> str:
    """Lay a Diff out: what is compared, each part's totals, the modules that differ, the structure, the sentence."""
    before, now = map(_named, sources)
    parts = [
        f"before  {before}\nafter   {now}",
        _table(["part", "weights", "running\nstats", "other\nbuffers"], _totals(after, differences), style),
        _table(_MODULES[: 5 if differences.flags else 4], _modules(after, differences), style),
        _table(["structure", "", "before", "after"], [_told(one) for one in differences.structure], style),
        wrapped(sentence(differences), WIDTH),
    ]
    return "\n\n".join(filter(None, parts))


def _named(source: Source) -> str:
    return visible(f"{source.path}: {source.content}") if source.path is not None else "a live model"


def _table(headers: list[str], rows: list[list[str]], style: str) -> str:
    if not rows:
        return ""
    shown = rows[:LINES]
    if len(rows) > LINES:
        shown.append([f"… and {len(rows) - LINES} more", *[""] * (len(headers) - 1)])
    if style == "plain":
        return table(headers, shown)
    return tabulate(shown, [name.replace("\n", " ") for name in headers], style, disable_numparse=True)


def _totals(structure: Structure, differences: Differences) -> list[list[str]]:
    """Count for each child of the root, and for the root's own tensors."""
    tops = {0: ROOT, **{child: structure.names[child] for child in structure.children[0]}}
    parts: dict[int, list[Values]] = {top: [] for top in tops}
    for one in differences.values:
        chain = list(structure.ancestors(one.owner))
        parts[chain[-2] if len(chain) > 1 else 0].append(one)
    return [[visible(tops[top]), *map(str, _counts(values))] for top, values in parts.items() if values]


def _counts(values: list[Values]) -> tuple[Count, ...]:
    """Count tensors, and of running statistics the layers that have them."""
    return _count(values, "weights"), _count(values, "stats"), _count(values, "buffers")


def _count(values: list[Values], kind: str) -> Count:
    if kind != "stats":
        found = [one.changed for one in values if one.kind == kind]
    else:
        layers: dict[int, set[Answer]] = {}
        for one in values:
            if one.kind == kind:
                layers.setdefault(one.owner, set()).add(one.changed)
        found = [next(answer for answer in (YES, UNKNOWN, NO) if answer in seen) for seen in layers.values()]
    return Count(found.count(YES), found.count(NO), found.count(UNKNOWN))


def _modules(structure: Structure, differences: Differences) -> list[list[str]]:
    """Give the modules of which something moved or flipped; those of one name of which the same is told, together."""
    own: dict[int, list[Values]] = {}
    for one in differences.values:
        own.setdefault(one.owner, []).append(one)
    flags = _flags_by_module(structure, differences)
    lines: dict[tuple[str, ...], list[int]] = {}
    for i in range(len(structure)):
        counts = _counts(own.get(i, []))
        if flags.get(i) or any(count.moved for count in counts):
            told = (*map(str, counts[:2]), "; ".join(flags.get(i, ())))
            lines.setdefault((structure.names[i], *told), []).append(i)
    columns = 3 if differences.flags else 2
    return [[_pattern(structure, modules), str(len(modules)), *told[:columns]] for (_, *told), modules in lines.items()]


def _pattern(structure: Structure, modules: list[int]) -> str:
    """Name modules that have one name: what their paths begin with, what they end with, and `**` between."""
    if len(modules) == 1:
        return visible(structure.paths[modules[0]] or ROOT)
    paths = [structure.paths[i].split(".")[:-1] for i in modules]
    first, last = min(paths), max(paths)
    shared = next(
        (n for n, pair in enumerate(zip(first, last, strict=False)) if pair[0] != pair[1]), min(len(first), len(last))
    )
    return visible(".".join([*first[:shared], "**", structure.names[modules[0]]]))


def _flags_by_module(structure: Structure, differences: Differences) -> dict[int, list[str]]:
    """Tell each module's flips; that of its parameters once, where it is the same of all."""
    owners = {structure.full_name(i): tensor.owner for i, tensor in enumerate(structure.tensors)}
    flips: dict[int, dict[str, list[str]]] = {}
    for change in differences.flags:
        owner = owners.get(change.path, structure.index.get(change.path, 0))
        flip = f"{change.what} {change.before}→{change.after}"
        name = change.path.removeprefix(structure.paths[owner]).lstrip(".") if change.path in owners else ""
        flips.setdefault(owner, {}).setdefault(flip, []).append(name)
    return {owner: [_flip(structure, owner, *pair) for pair in found.items()] for owner, found in flips.items()}


def _flip(structure: Structure, owner: int, flip: str, names: list[str]) -> str:
    parameters = [i for i in structure.own[owner] if structure.tensors[i].kind == "parameter"]
    return flip if names == [""] or len(names) == len(parameters) else f"{', '.join(names)}: {flip}"


def _told(change: Change) -> list[str]:
    """Tell a change of structure; classes by their short names, unless these are the same."""
    before, after = change.before, change.after
    if change.what == "tensor":
        before, after = ("there" if there else None for there in (before, after))
    words = ["–" if one is None else str(one) for one in (before, after)]
    if change.what in ("module", "type"):
        short = [word.rpartition(".")[2] for word in words]
        words = short if short[0] != short[1] else words
    return [visible(change.path or ROOT), change.what, *map(visible, words)]


def sentence(differences: Differences) -> str:
    """Say in one sentence what moved, flipped, and is otherwise."""
    parts = [
        _about("weights", "weights", differences),
        _about("stats", "layers with running statistics", differences),
        _about("buffers", "other buffers", differences),
    ]
    if differences.flags:
        count = len({change.path for change in differences.flags})
        parts.append(f"flags: {count} {'modules or parameters differ' if count > 1 else 'module or parameter differs'}")
    if differences.structure:
        count = len(differences.structure)
        parts.append(f"structure: {count} difference{'s' * (count > 1)}")
    unknown = [one for one in differences.values if one.changed is UNKNOWN]
    if unknown and len(unknown) == len(differences.values):
        parts = [*parts[3:], UNRECORDED]
    said = "; ".join(filter(None, parts)) or "nothing to compare"
    return said[:1].upper() + said[1:] + "."


def _about(kind: str, name: str, differences: Differences) -> str:
    count = _count(list(differences.values), kind)
    return f"{name}: {count}" if any(count) else ""
