"""The face of what is wrong: Findings, in a list that folds, filters and raises."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from types import ModuleType
from typing import TYPE_CHECKING, NamedTuple, overload

from freezeinspect.patterns import Pattern, nearest
from freezeinspect.rules import RULES, SEVERITIES, name_of
from freezeinspect.state import Finding, Structure

if TYPE_CHECKING:
    import pandas as pd

_COLUMNS = ("code", "name", "severity", "path", "tensor", "step", "call", "ranks", "message", "fix")


class NoSuchRule(ValueError):
    """A rule of this code or name does not exist; those that do are named."""

    def __init__(self, rule: str) -> None:
        if near := nearest(rule, map(name_of, RULES)):
            super().__init__(f"no rule {rule!r}; did you mean {' or '.join(map(repr, near))}?")
        else:
            known = ", ".join(f"{one.CODE} {name_of(one)}" for one in RULES)
            super().__init__(f"no rule {rule!r}; there are: {known}")


class FindingsError(AssertionError):
    """Something is wrong with the freeze state; the message has every finding at or above the severity asked for."""


class Asked(NamedTuple):
    """Which findings are asked for: those of some rules, and those of a severity or worse."""

    codes: frozenset[str]
    worst: int


def asked(which: str | Sequence[str]) -> Asked:
    """Read what is asked for: rules by code or name, and severities. Raises NoSuchRule."""
    words = [which] if isinstance(which, str) else which
    severities = [SEVERITIES.index(one) for one in words if one in SEVERITIES]
    return Asked(frozenset(_code(one) for one in words if one not in SEVERITIES), max(severities, default=-1))


@dataclass(frozen=True)
class Findings(Sequence[Finding]):
    """What is wrong, most severe first. Prints with equal findings as one line."""

    structure: Structure
    found: tuple[Finding, ...]

    @overload
    def __getitem__(self, i: int) -> Finding: ...
    @overload
    def __getitem__(self, i: slice) -> tuple[Finding, ...]: ...
    def __getitem__(self, i: int | slice) -> Finding | tuple[Finding, ...]:
        return self.found[i]

    def __len__(self) -> int:
        return len(self.found)

    def __iter__(self) -> Iterator[Finding]:
        return iter(self.found)

    def at_least(self, severity: str) -> Findings:
        """Keep those of a severity or worse: "error", "warning" or "info". Raises ValueError for another word."""
        if severity not in SEVERITIES:
            raise ValueError(f"severity {severity!r}: expected one of {', '.join(SEVERITIES)}")
        kept = SEVERITIES[: SEVERITIES.index(severity) + 1]
        return Findings(self.structure, tuple(one for one in self.found if one.severity in kept))

    def asked_for(self, asked: Asked) -> Findings:
        """Keep those that are asked for."""
        kept = (one for one in self.found if one.code in asked.codes or SEVERITIES.index(one.severity) <= asked.worst)
        return Findings(self.structure, tuple(kept))

    def raise_for(self, severity: str = "error") -> None:
        """Raise FindingsError where there are findings of a severity or worse."""
        if some := self.at_least(severity):
            raise FindingsError(f"{len(some)} finding{'s' * (len(some) > 1)}:\n{some}")

    def to_frame(self) -> pd.DataFrame:
        """Give a pandas frame with one row a finding."""
        import pandas as pd

        return pd.DataFrame([asdict(one) for one in self.found], columns=list(_COLUMNS))

    def to_json(self) -> str:
        """Write them as a JSON list."""
        return json.dumps([asdict(one) for one in self.found], indent=1)

    def __str__(self) -> str:
        from freezeinspect.views import findings

        return findings.text(self.structure, self.found)

    __repr__ = __str__


def selected(
    structure: Structure,
    found: Sequence[Finding],
    select: Sequence[str] = (),
    ignore: Sequence[str] = (),
    allow: Sequence[str] = (),
) -> Findings:
    """Keep the findings that are asked for: of some rules, not of others, and not where they are allowed.

    A rule is named by its code or name; `allow` may add a pattern, as "FI106:backbone". Raises NoSuchRule, BadPattern.
    """
    kept = set(map(_code, select)) if select else {rule.CODE for rule in RULES}
    kept -= set(map(_code, ignore))
    allowed = [
        (_code(rule), Pattern(pattern) if pattern else None)
        for rule, _, pattern in (one.partition(":") for one in allow)
    ]
    rest = [
        one
        for one in found
        if one.code in kept and not any(code == one.code and _covers(pattern, one) for code, pattern in allowed)
    ]
    return Findings(structure, tuple(sorted(rest, key=lambda one: SEVERITIES.index(one.severity))))


def _covers(pattern: Pattern | None, one: Finding) -> bool:
    if pattern is None or pattern.matches(one.path):
        return True
    return one.tensor is not None and pattern.matches(f"{one.path}.{one.tensor}".lstrip("."))


def rule_of(rule: str) -> ModuleType:
    """Give a rule by its code or name. Raises NoSuchRule."""
    found = next((one for one in RULES if rule in (one.CODE, name_of(one))), None)
    if found is None:
        raise NoSuchRule(rule)
    return found


def _code(rule: str) -> str:
    return str(rule_of(rule).CODE)
