"""docs/rules is made from the rules' docstrings; `python tests/rule_pages.py` makes it anew."""

from rule_pages import FOLDER, pages


def test_the_pages_are_those_of_the_rules() -> None:
    written = {path.name: path.read_text(encoding="utf-8") for path in FOLDER.glob("*.md")}
    assert written == pages()
