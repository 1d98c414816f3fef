"""Findings as text: equal ones as one line, with the pattern of their modules and their number."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from types import ModuleType

from freezeinspect.folding import folded
from freezeinspect.rules import RULES, SEVERITIES, name_of
from freezeinspect.state import Finding, Structure
from freezeinspect.views.text import ROOT, table, visible, wrapped

WIDTH = 80
TOLD = 12  # beside a report
_NAMED = 3  # patterns of one line


def text(structure: Structure, found: Sequence[Finding]) -> str:
    """Write findings, most severe first; under each the line that mends it."""
    return "\n".join(_told(structure, group) for group in alike(found)) or "no findings"


def beside(structure: Structure, found: Sequence[Finding]) -> str:
    """Write the errors and warnings of a report, no more than TOLD, and count the rest; empty where there are none."""
    grave = [one for one in found if one.severity != "info"]
    groups = alike(sorted(grave, key=lambda one: SEVERITIES.index(one.severity)))
    told = [_told(structure, group) for group in groups[:TOLD]]
    left = {"more": sum(map(len, groups[TOLD:])), "for information": len(found) - len(grave) if grave else 0}
    rest = [f"{number} {what}" for what, number in left.items() if number]
    return "\n".join([*told, *([f"and {', '.join(rest)}; a check names them all"] if rest else [])])


def codes(structure: Structure, found: Sequence[Finding]) -> dict[int, str]:
    """Give for each module the code of what is worst in it, with a + where there is more; nothing for information."""
    graves: dict[int, list[Finding]] = {}
    for one in found:
        if one.severity != "info":
            graves.setdefault(structure.index.get(one.path, 0), []).append(one)
    worst = {i: min(some, key=lambda one: SEVERITIES.index(one.severity)).code for i, some in graves.items()}
    return {i: code + "+" * (len({one.code for one in graves[i]}) > 1) for i, code in worst.items()}


def alike(found: Sequence[Finding]) -> list[list[Finding]]:
    """Put findings together that differ in nothing but their place."""
    groups: dict[tuple[object, ...], list[Finding]] = {}
    for one in found:
        groups.setdefault((one.code, one.severity, one.message, one.step, one.call), []).append(one)
    return list(groups.values())


def _told(structure: Structure, group: Sequence[Finding]) -> str:
    first = group[0]
    place = visible(where(structure, group))
    times = f" ×{len(group)}" if len(group) > 1 else ""
    when = f" (step {first.step})" if first.step is not None else ""
    by = f", by {first.call}" if first.call else ""
    lines = [f"{first.code} {first.name} {first.severity}: {place}{times}: {first.message}{when}{by}"]
    if first.fix:
        lines.append(f"    {mend(group)}")
    return "\n".join([wrapped(visible(lines[0]), WIDTH), *map(visible, lines[1:])])


def mend(group: Sequence[Finding]) -> str | None:
    """Give the line that mends the first of equal findings, and say how many other lines the rest take."""
    others = len({one.fix for one in group}) - 1
    return f"{group[0].fix}  # and {others} more" if others else group[0].fix


def where(structure: Structure, group: Sequence[Finding]) -> str:
    """Name the places of equal findings: one by its path, several by patterns for just these modules."""
    if len(group) == 1:
        path, tensor = group[0].path, group[0].tensor
        return f"{path}.{tensor}".lstrip(".") if tensor else path or ROOT
    return places(structure, [structure.index.get(one.path, 0) for one in group])


def places(structure: Structure, modules: Iterable[int]) -> str:
    """Name modules by patterns for just these."""
    numbers = set(modules)
    facts = [i in numbers for i in range(len(structure))]
    patterns = [line.pattern or ROOT for line in folded(structure, facts) if line.modules[0] in numbers]
    return ", ".join(patterns[:_NAMED]) + (", …" if len(patterns) > _NAMED else "")


def github(found: Sequence[Finding], file: str) -> str:
    """Write findings as annotations of GitHub's workflows."""
    kinds = {"error": "error", "warning": "warning", "info": "notice"}
    return "\n".join(
        f"::{kinds[one.severity]} file={_escaped(file, ',:')},title={_escaped(f'{one.code} {one.name}', ',:')}"
        f"::{_escaped(f'{one.path or ROOT}: {one.message}')}{_escaped(f' Fix: {one.fix}' if one.fix else '')}"
        for one in found
    )


def _escaped(text: str, more: str = "") -> str:
    for one in "%\r\n" + more:
        text = text.replace(one, f"%{ord(one):02X}")
    return visible(text)


def catalogue() -> str:
    """List every rule with its severity and its first line."""
    rows = [[rule.CODE, name_of(rule), rule.SEVERITY, _title(rule)] for rule in RULES]
    return table(["code", "name", "severity", "what it finds"], rows)


def page(rule: ModuleType) -> str:
    """Give a rule's page, as Markdown."""
    body = (rule.__doc__ or "").partition("\n")[2].strip()
    return f"# {rule.CODE} {name_of(rule)}\n\n*{rule.SEVERITY}*: {_title(rule)}\n\n{body}"


def _title(rule: ModuleType) -> str:
    return (rule.__doc__ or "").partition("\n")[0]
