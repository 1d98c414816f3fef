"""Write docs/rules from the rules' own pages: `python tests/rule_pages.py`."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

from freezeinspect.rules import RULES, name_of
from freezeinspect.views.findings import page

HEAD = """# Rules

What `fi.check` and `freezeinspect check` find. Each page's example fires its rule, and what it says to use instead does
not.
"""
FOLDER = Path(__file__).parents[1] / "docs/rules"


def pages() -> dict[str, str]:
    """Give the text of each file of docs/rules by its name."""
    index = "\n".join([HEAD, "| code | name | severity | what it finds |", "|---|---|---|---|", *map(row, RULES), ""])
    return {"index.md": index, **{f"{name_of(rule)}.md": page(rule) + "\n" for rule in RULES}}


def row(rule: ModuleType) -> str:
    """Give a rule's row in the index."""
    return f"| {rule.CODE} | [{name_of(rule)}]({name_of(rule)}.md) | {rule.SEVERITY} | {title(rule)} |"


def title(rule: ModuleType) -> str:
    """Give the first line of a rule's page."""
    return (rule.__doc__ or "").partition("\n")[0]


def main() -> None:
    """Write every page, and take away those of rules that are no more."""
    FOLDER.mkdir(exist_ok=True)
    for old in FOLDER.glob("*.md"):
        old.unlink()
    for name, text in pages().items():
        (FOLDER / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
