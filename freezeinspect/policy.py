"""What is expected, as a file: a policy read from TOML and written as it, and the one that says exactly a state."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from freezeinspect.expected import KEYS, NORMS, OF_PARAMETERS, Expectation, Expected, Table, Word, seen
from freezeinspect.folding import Line, folded
from freezeinspect.patterns import BadPattern, Pattern, nearest
from freezeinspect.rules import RULES, name_of
from freezeinspect.state import ABSENT, NO, UNKNOWN, YES, Answer, Snapshot
from freezeinspect.verdicts import judge

HEAD = "# The last line that matches wins, key by key: docs/reference/policy.md"
_FORM = '{pattern = "backbone", requires_grad = false}'
_WORDS = {one.value: one for one in Answer}
_BARE = re.compile(r"[A-Za-z0-9_-]+")


class BadPolicy(ValueError):
    """The policy cannot be used: in which file, at which key or line, what was seen, and what was expected."""


@dataclass(frozen=True)
class Policy:
    """What is expected of a model: lines of which the last that matches wins, and findings that are allowed.

    Prints as the TOML that it is read from.
    """

    expect: tuple[Expectation, ...] = ()
    allow: tuple[str, ...] = ()
    complete: bool = False

    @property
    def expected(self) -> Expected:
        """Give what the rules compare with."""
        return Expected(self.expect, self.complete)

    def to_toml(self) -> str:
        """Write it as TOML, one line a pattern."""
        lines = [HEAD]
        if self.complete:
            lines.append("complete = true")
        if self.allow:
            lines.append(f"allow = [{', '.join(map(_string, self.allow))}]")
        lines += (
            ["expect = [", *(f"    {_written(one)}," for one in self.expect), "]"] if self.expect else ["expect = []"]
        )
        return "\n".join(lines) + "\n"

    def __str__(self) -> str:
        return self.to_toml().rstrip()


def load(path: str | os.PathLike[str]) -> Policy:
    """Read a policy from a file of TOML; of a pyproject.toml, its table tool.freezeinspect.policy. Raises BadPolicy."""
    shown, found = os.fspath(path), tables(path)
    if Path(path).name != "pyproject.toml":
        return of_table(found, shown)
    for at, key in enumerate(_TABLE):
        if not isinstance(found, dict) or key not in found:
            raise BadPolicy(
                f"{shown}: no table {'.'.join(_TABLE[: at + 1])}; a policy stands in tool.freezeinspect.policy"
            )
        found = found[key]
    return of_table(found, shown, ".".join(_TABLE))


_TABLE = ("tool", "freezeinspect", "policy")


def tables(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read a file of TOML. Raises BadPolicy."""
    shown = os.fspath(path)
    try:
        return tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise BadPolicy(f"{shown}: {(error.strerror or str(error)).lower()}; name a policy that can be read") from None
    except ValueError as error:  # of TOML, with the line, or of UTF-8
        raise BadPolicy(f"{shown}: not TOML: {error}") from None
    except RecursionError:
        raise BadPolicy(f"{shown}: not TOML that can be read: it is nested too deep") from None


def of_table(found: Any, file: str, at: str = "") -> Policy:
    """Make a policy of what TOML holds. Raises BadPolicy with the path of the key that is wrong."""
    where = f"{file}: {at}." if at else f"{file}: "
    if not isinstance(found, dict):
        raise BadPolicy(f"{where.rstrip('.: ')} = {_shown(found)}: expected a table with expect, allow, complete")
    kinds: dict[str, tuple[type, str]] = {
        "expect": (list, f"a list of lines such as {_FORM}"),
        "allow": (list, 'a list of rules, as ["FI102", "FI106:backbone"]'),
        "complete": (bool, "true or false"),
    }
    for key, value in found.items():
        if key not in kinds:
            raise BadPolicy(f"{where}{_key(key)}: no such key{_hint(key, kinds)}; expected {', '.join(kinds)}")
        if type(value) is not kinds[key][0]:
            raise BadPolicy(f"{where}{key} = {_shown(value)}: expected {kinds[key][1]}")
    for i, one in enumerate(found.get("allow", ())):
        _check_allowed(one, f"{where}allow[{i}]")
    lines = (_expectation(line, f"{where}expect[{i}]") for i, line in enumerate(found.get("expect", ())))
    return Policy(tuple(lines), tuple(found.get("allow", ())), found.get("complete", False))


def _check_allowed(one: Any, where: str) -> None:
    rules = {name for rule in RULES for name in (rule.CODE, name_of(rule))}
    rule, _, pattern = one.partition(":") if isinstance(one, str) else ("", "", "")
    if rule not in rules:
        raise BadPolicy(f"{where} = {_shown(one)}: expected a rule, as 'FI102' or 'FI106:backbone'{_hint(rule, rules)}")
    _check_pattern(pattern, where)


def _check_pattern(pattern: str, where: str) -> None:
    try:
        Pattern(pattern)
    except BadPattern as error:
        raise BadPolicy(f"{where}: {error}") from None


def _expectation(line: Any, where: str) -> Expectation:
    if not isinstance(line, dict):
        raise BadPolicy(f"{where} = {_shown(line)}: expected a table such as {_FORM}")
    for key in line:
        if key not in ("pattern", *KEYS):
            raise BadPolicy(f"{where}.{_key(key)}: no such key{_hint(key, KEYS)}; expected pattern, {', '.join(KEYS)}")
    pattern = line.get("pattern")
    if not isinstance(pattern, str):
        seen_here = f".pattern = {_shown(pattern)}" if "pattern" in line else ": no pattern"
        raise BadPolicy(f'{where}{seen_here}: expected a text, as "backbone", or "" for the whole model')
    _check_pattern(pattern, f"{where}.pattern")
    answers = {key: _answer(key, value, f"{where}.{key}") for key, value in line.items() if key != "pattern"}
    if not answers:
        raise BadPolicy(f"{where}: pattern {pattern!r} expects nothing; add one of {', '.join(KEYS)}")
    return Expectation(pattern, answers)


def _answer(key: str, value: Any, where: str) -> Word | Table:
    if key == "normalises_with":
        words: dict[str, Word] = {"none": ABSENT, "unknown": UNKNOWN, **{word: word for word in NORMS}}
        if isinstance(value, str) and value in words:
            return words[value]
        raise BadPolicy(f"{where} = {_shown(value)}: expected one of {', '.join(sorted(words))}")
    if isinstance(value, dict) and value and key in OF_PARAMETERS:
        return {name: _flag(one, f"{where}.{_key(name)}") for name, one in value.items()}
    tables = ", or a table by parameters, as {weight = false, bias = true}" if key in OF_PARAMETERS else ""
    return _flag(value, where, tables)


def _flag(value: Any, where: str, more: str = "") -> Answer:
    if isinstance(value, bool):
        return YES if value else NO
    if isinstance(value, str) and value in _WORDS:
        return _WORDS[value]
    words = ", ".join(map(repr, _WORDS))
    raise BadPolicy(f"{where} = {_shown(value)}: expected true, false or one of {words}{more}")


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:60] + "…"


def _hint(key: str, known: Iterable[str]) -> str:
    near = nearest(key, list(known))
    return f"; did you mean {near[0]}?" if near else ""


# Writing


def _written(line: Expectation) -> str:
    parts = [
        f"pattern = {_string(line.pattern)}",
        *(f"{key} = {_value(key, line.answers[key])}" for key in line.answers),
    ]
    return "{" + ", ".join(parts) + "}"


def _value(key: str, said: Word | Table) -> str:
    if isinstance(said, Mapping):
        return "{" + ", ".join(f"{_key(name)} = {_value(key, one)}" for name, one in said.items()) + "}"
    if key == "normalises_with":
        return _string("none" if said is ABSENT else str(said))
    return "true" if said is YES else "false" if said is NO else _string(str(said))


def _key(name: str) -> str:
    return name if _BARE.fullmatch(name) else _string(name)


def _string(text: str) -> str:
    """Write a basic string of TOML; what cannot be printed is escaped."""
    return '"' + "".join(map(_character, text)) + '"'


def _character(one: str) -> str:
    if one in '"\\':
        return "\\" + one
    if one.isprintable():
        return one
    return f"\\u{ord(one):04x}" if ord(one) <= 0xFFFF else f"\\U{ord(one):08x}"


# The policy of a state

_Said: TypeAlias = dict[str, tuple[Word | None, dict[str, Word]]]  # key by key: of all, and by parameters' names
_INHERITED = ("stats_move", "normalises_with", *OF_PARAMETERS)  # nothing is said of where there is nothing to say


def of(snapshot: Snapshot) -> Policy:
    """Give the policy that says exactly this state, with at most a line for each of the folded tree's.

    What the source cannot tell is left out, or `unknown` where a line above would speak of it.
    """
    state = _State(snapshot)
    return Policy(tuple(state.lines()))


class _State:
    """The answers of a snapshot, module by module, and what the lines written so far say of them."""

    def __init__(self, snapshot: Snapshot) -> None:
        self.structure = snapshot.structure
        self.keys = [key for key in KEYS if snapshot.optimizers or key not in ("weights_move", "in_optimizer")]
        self.seen = seen(snapshot, judge(snapshot))
        self.own = [{key: self._own(key, i) for key in self.keys} for i in range(len(self.structure))]
        self.below = self._below()

    def _own(self, key: str, module: int) -> dict[str, Word]:
        """Give a module's answers: by its parameters' names, or one by the name ''."""
        if key not in OF_PARAMETERS:
            return {"": self.seen[key][module]}
        tensors = self.structure.tensors
        return {
            tensors[i].name: self.seen[key][i] for i in self.structure.own[module] if self.seen[key][i] is not ABSENT
        }

    def _below(self) -> list[dict[str, frozenset[Word]]]:
        """Give for each module every answer of its subtree that says something, for the keys that are inherited."""
        inherited = [key for key in self.keys if key in _INHERITED]
        found = [{key: frozenset(own[key].values()) - {ABSENT} for key in inherited} for own in self.own]
        for i in range(len(found) - 1, 0, -1):
            above = found[self.structure.parents[i]]
            above.update({key: above[key] | found[i][key] for key in inherited})
        return found

    def lines(self) -> Iterator[Expectation]:
        """Go down the folded tree, and say what was not said above."""
        facts = [tuple((key, tuple(own[key].items())) for key in self.keys) for own in self.own]
        said: list[_Said] = []
        for line in folded(self.structure, facts):
            del said[line.depth :]
            here = dict(said[-1]) if said else {}
            answers = {key: new for key in self.keys if (new := self._new(key, line, here)) is not None}
            said.append(here)
            if answers:
                yield Expectation(line.pattern, answers)

    def _new(self, key: str, line: Line, here: _Said) -> Word | Table | None:
        """Give what a line has to say, and keep it in `here`."""
        module = line.modules[0]
        word, named = here.get(key, (None, {}))
        below = self.below[module].get(key, frozenset())
        if len(below) == 1 and UNKNOWN not in below and not self._is_of_a_child(key, module):  # all below is so
            (uniform,) = below
            if word == uniform and set(named.values()) <= below:
                return None
            here[key] = uniform, {}
            return uniform
        own = {name: one for name, one in self.own[module][key].items() if not (key in _INHERITED and one is ABSENT)}
        wrong = {name: one for name, one in own.items() if not _says(named.get(name, word), one)}
        if not wrong:
            return None
        if len(set(own.values())) == 1:
            one = next(iter(own.values()))
            here[key] = one, {}
            return one
        here[key] = word, {**named, **wrong}
        return {name: one for name, one in wrong.items() if isinstance(one, Answer)}

    def _is_of_a_child(self, key: str, module: int) -> bool:
        """Tell what layers answer, and all of these are below one child: its line will say so."""
        holders = [child for child in self.structure.children[module] if self.below[child].get(key)]
        return key in ("stats_move", "normalises_with") and len(holders) == 1 and self.own[module][key] == {"": ABSENT}


def _says(expected: Word | None, answer: Word) -> bool:
    """Tell whether what was said already is what is to be said."""
    return expected == answer or (expected is None and answer is UNKNOWN)
