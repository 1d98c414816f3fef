"""What stands below a block of the pages is what it prints; and every block is run by a test, or listed with why not."""

from __future__ import annotations

from pathlib import Path

import pytest

from pages import DOCS, executed, read

WHOLE = sorted(str(page.relative_to(DOCS)) for page in (DOCS / "explanation").glob("*.md"))  # run from top to bottom


@pytest.mark.parametrize("page", WHOLE)
def test_what_stands_below_a_block_is_what_it_prints(
    page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert executed(read(page)) == read(page)
