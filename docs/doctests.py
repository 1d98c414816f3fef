"""Show the doctests of docstrings as code."""

from __future__ import annotations

import re
from typing import Any

import griffe

DOCTEST = re.compile(r"^>>> .*\n(?:(?!\n).+\n?)*", re.MULTILINE)


class Doctests(griffe.Extension):
    """Put fences around doctests, which stand in no section of their own."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Take each object with a docstring."""
        if obj.docstring:
            obj.docstring.value = DOCTEST.sub(
                lambda found: f"```pycon\n{found[0].rstrip()}\n```\n", obj.docstring.value
            )
