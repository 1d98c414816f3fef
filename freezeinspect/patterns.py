"""The glob grammar over dotted paths, the same everywhere.

`*` matches within one name, `**` any number of whole names, `?` one character, `[ab]` one of those, `{a,b}` either.
`[0-23]` is a range of whole numbers, which for single digits is what a shell does. A pattern that matches a module
means its whole subtree.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

_NUMBERS = re.compile(r"\[([0-9]+)-([0-9]+)\]")
_LONGEST = 18  # digits of a number
_DEEPEST = 50  # braces in braces


class BadPattern(ValueError):
    """The pattern is not in the grammar."""

    def __init__(self, pattern: str, why: str) -> None:
        super().__init__(f"pattern {pattern!r}: {why}")


class MatchesNothing(ValueError):
    """The pattern matches no path; the nearest ones are named, or else the topmost."""

    def __init__(self, pattern: str, paths: Iterable[str]) -> None:
        paths = list(dict.fromkeys(paths))
        self.nearest, tops = nearest(pattern, paths), [path for path in paths if path and "." not in path]
        hint = f"; there are {', '.join(map(repr, tops[:5]))}{', …' if len(tops) > 5 else ''}" if tops else ""
        hint = f"; did you mean {' or '.join(map(repr, self.nearest))}?" if self.nearest else hint
        super().__init__(f"pattern {pattern!r} matches nothing{hint}")


def nearest(path: str, paths: Iterable[str]) -> list[str]:
    """Name the paths that look most like this one, or else those that end as it does, at most three."""
    from difflib import get_close_matches  # a tenth of the time in which a file is read and shown

    known = [one for one in paths if one]
    last = path.rpartition(".")[2]
    return get_close_matches(path, known, n=3, cutoff=0.6) or [one for one in known if one.endswith(f".{last}")][:3]


@dataclass(frozen=True)
class Pattern:
    """One glob, compiled on first use. Raises BadPattern where it is made.

    >>> Pattern("layer.[0-11].{q,k}").matches("layer.10.k.weight")
    True
    >>> Pattern("layer.1").matches("layer.10")
    False
    """

    text: str

    def __post_init__(self) -> None:
        _ = self._compiled

    def matches(self, path: str) -> bool:
        """Tell whether the path, or a module that holds it, is matched; the root's is by "" and "**" alone."""
        return self._compiled.match(path) is not None

    @cached_property
    def _compiled(self) -> re.Pattern[str]:
        named = rf"(?=.)(?:{_translated(self.text)})(?:\..*)?\Z"
        return re.compile("" if self.text in ("", "**") else named, re.DOTALL)


def _translated(text: str) -> str:
    """Translate a glob into a regular expression."""
    out, i, depth = "", 0, 0
    while i < len(text):
        here = text[i]
        if text.startswith("**.", i) and _starts_name(text, i):
            out, i = out + r"(?:[^.]+\.)*", i + 3
        elif text.startswith(".**", i) and _ends_name(text, i + 3):
            out, i = out + r"\..+", i + 3
        elif text.startswith("**", i):
            if not (_starts_name(text, i) and _ends_name(text, i + 2)):
                raise BadPattern(text, "`**` stands for whole names: write it between dots, as in '**.bias'")
            out, i = out + ".*", i + 2
        elif here == "[":
            piece, i = _bracket(text, i)
            out += piece
        elif here == "{":
            out, i, depth = out + "(?:", i + 1, depth + 1
            if depth > _DEEPEST:
                raise BadPattern(text, f"braces stand more than {_DEEPEST} deep in each other")
        elif here in ",}" and depth:
            out, i, depth = out + ("|" if here == "," else ")"), i + 1, depth - (here == "}")
        else:
            out, i = out + {"*": "[^.]*", "?": "[^.]"}.get(here, re.escape(here)), i + 1
    if depth:
        raise BadPattern(text, "a '{' is not closed; write '[{]' for the character itself")
    return out


def _starts_name(text: str, i: int) -> bool:
    return i == 0 or text[i - 1] in ".{,"


def _ends_name(text: str, i: int) -> bool:
    return i == len(text) or text[i] in ",}"


def _bracket(text: str, i: int) -> tuple[str, int]:
    numbers = _NUMBERS.match(text, i)
    if numbers and max(map(len, numbers.groups())) > _LONGEST:
        raise BadPattern(text, f"a number has more than {_LONGEST} digits")
    if numbers and int(numbers[1]) > int(numbers[2]):
        raise BadPattern(text, f"{numbers[0]} runs backwards: write the lower end first")
    if numbers and max(map(len, numbers.groups())) > 1:
        return rf"(?<![0-9]){_between(int(numbers[1]), int(numbers[2]))}(?![0-9])", numbers.end()
    end = text.find("]", i + 2)
    if end < 0:
        raise BadPattern(text, "a '[' is not closed; write '[[]' for the character itself")
    inside = text[i + 1 : end]
    negated = inside[:1] == "!" and len(inside) > 1
    return f"[{'^.' if negated else ''}{_members(text, inside[negated:])}]", end + 1


def _members(text: str, members: str) -> str:
    """Translate what stands between brackets: characters, and ranges of them."""
    out, i = "", 0
    while i < len(members):
        last = members[i + 2 : i + 3] if members[i + 1 : i + 2] == "-" else ""
        if last and last < members[i]:
            raise BadPattern(text, f"[{members}] runs backwards: write the lower end first")
        out += re.escape(members[i]) + (f"-{re.escape(last)}" if last else "")
        i += 3 if last else 1
    return out


def _between(low: int, high: int) -> str:
    """Give a regular expression for the whole numbers from low to high."""
    lengths = range(len(str(low)), len(str(high)) + 1)
    bounds = ((max(low, 10 ** (n - 1) if n > 1 else 0), min(high, 10**n - 1)) for n in lengths)
    return f"(?:{'|'.join(_digits(str(first), str(last)) for first, last in bounds)})"


def _digits(low: str, high: str) -> str:
    """Do the same for two numbers of one length."""
    if low == high:
        return low
    if len(low) == 1:
        return f"[{low}-{high}]"
    if not low.strip("0") and not high.strip("9"):
        return "[0-9]" * len(low)
    rest = len(low) - 1
    if low[0] == high[0]:
        return low[0] + _digits(low[1:], high[1:])
    middle = f"[{int(low[0]) + 1}-{int(high[0]) - 1}]" + "[0-9]" * rest if int(high[0]) - int(low[0]) > 1 else None
    ends = (low[0] + _digits(low[1:], "9" * rest), middle, high[0] + _digits("0" * rest, high[1:]))
    return f"(?:{'|'.join(filter(None, ends))})"


def escape(name: str) -> str:
    """Write a name so that it matches itself alone.

    >>> escape("a[0]")
    'a[[]0]'
    """
    return re.sub(r"([*?\[{},])", r"[\1]", name)
