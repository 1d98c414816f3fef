"""What stands below a block of the pages is what it prints; every block is run by a test, or listed with why not."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import freezeinspect
import json_page
from freezeinspect.cli import main
from pages import DOCS, PROGRAM, ROOT, Block, blocks, executed, read, renew

TESTS = Path(__file__).parent
WHOLE = [  # run here, from top to bottom
    "index.md",
    "reference/cli.md",
    "reference/json.md",
    *sorted(f"explanation/{page.name}" for page in (DOCS / "explanation").glob("*.md")),
]
SECTIONS = ["troubleshooting.md"]  # run by test_troubleshooting.py, each section by itself
STICKS = [
    "def again(",
    "class Overriding(",
    "def fastai(",
    "def to_eval(",
    "def replace(",
    "def momentum(",
    "def patch(",
]
ELSEWHERE = {  # pages with a test of their own: which blocks of them it runs, by their first lines or their languages
    "../README.md": ("test_readme.py", ["python", "console"]),
    "how-to/a-freeze-that-sticks.md": ("test_freeze_that_sticks.py", STICKS),
    "how-to/hold-it-in-ci.md": ("test_example_project.py", ["python"]),
    "how-to/train-on-several-ranks.md": ("test_distributed.py", ["import torch", "console"]),
    "how-to/watch-a-script.md": ("test_cli_run.py", ["python", "console"]),
}
NOT_RUN = {  # each with why not, and the test that runs its like
    ("design.md", "import freezeinspect as fi"): "the public face, as a list: "
    "test_pages.py::test_every_name_in_the_design_s_list_is_there",
    ("how-to/a-freeze-that-sticks.md", "def test_statistics_stay(freeze_watch):"): "a test of the reader's own: "
    "pytest_plugin/test_freeze_watch.py::test_only_chosen_rules_fail",
    ("how-to/fastai.md", "for parameter in learn.model.parameters():"): "needs fastai; without it: "
    "rules/test_frozen_with_stale_grad.py::test_it_is_told_and_mended",
    ("how-to/lightning.md", "class KeepNorms(lightning.Callback):"): "goes with a Trainer: "
    "integrations/test_lightning.py::test_a_norm_in_eval_from_the_start_of_the_training_stays_in_eval",
    ("how-to/train-on-several-ranks.md", "report = fi.compare_ranks(model, optimizer)"): "needs ranks: "
    "test_distributed.py::test_every_rank_gets_the_same_answer",
    ("how-to/transformers.md", "class KeptResNetForImageClassification(ResNetForImageClassification):"): "goes with a "
    "Trainer: integrations/test_transformers.py::"
    "test_the_batchnorm_of_a_base_below_adapters_moves_and_a_train_method_of_the_base_keeps_it",
    ("how-to/transformers.md", "model, optimizer, loader = accelerator.prepare(model, optimizer, loader)"): "a part of "
    "a loop: recorder/test_frameworks.py::test_accelerate_s_loop_steps_where_its_optimizer_does",
}
CODE = ("python", "py", "console", "pycon")


@pytest.mark.parametrize("page", WHOLE)
def test_what_stands_below_a_block_is_what_it_prints(
    page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert executed(read(page)) == read(page)


def test_a_page_that_is_renewed_leaves_no_file_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "page.md").write_text('```python\nopen("made.pt", "w").close()\nprint(1)\n```\n', encoding="utf-8")
    renew(Path("page.md"))
    assert [path.name for path in tmp_path.iterdir()] == ["page.md"]
    assert (tmp_path / "page.md").read_text(encoding="utf-8").endswith("```\n\n```text\n1\n```\n")


def is_run(page: str, block: Block) -> bool:
    """Tell whether a test runs a block: this file, the page's own, or test_how_to.py, which runs its first program."""
    if page in (*WHOLE, *SECTIONS):
        return block.language in ("python", "console")
    program = PROGRAM.search(read(page))
    _, run = ELSEWHERE.get(page, ("", []))
    return (
        block.language in run
        or any(block.text.startswith(start) for start in run)
        or (program is not None and block.text == program[1])
    )


def test_every_block_is_run_by_a_test_or_listed_with_why_not() -> None:
    pages = [str(page.relative_to(DOCS)) for page in DOCS.rglob("*.md")] + ["../README.md"]
    unread = {
        (page, block.text.partition("\n")[0])
        for page in pages
        if not page.startswith("rules/")
        for block in blocks(read(page))
        if block.language in CODE and not is_run(page, block)
    }
    assert unread == set(NOT_RUN)


@pytest.mark.parametrize("why", NOT_RUN.values())
def test_what_runs_the_like_of_a_block_that_is_not_run_is_there(why: str) -> None:
    file, _, name = why.rpartition(": ")[2].partition("::")
    assert f"def {name}" in (TESTS / file).read_text(encoding="utf-8")


def test_every_name_in_the_design_s_list_is_there() -> None:
    (listed,) = [block.text for block in blocks(read("design.md")) if block.language == "python"]
    names = re.findall(r"\bfi\.(\w+)", listed)
    assert [name for name in names if not hasattr(freezeinspect, name)] == []
    for kind, variable in ((freezeinspect.Report, "report"), (freezeinspect.Watch, "watch")):
        for name in re.findall(rf"\b{variable}\.(\w+)", listed):
            assert hasattr(kind, name) or name in kind.__dict__.get("__dataclass_fields__", ()), name


def test_a_block_of_a_rule_s_page_is_its_example_or_its_mend() -> None:
    for page in (DOCS / "rules").glob("*-*.md"):
        sections = re.split(r"^## (.+)$", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
        found = [heading for heading, text in zip(sections[1::2], sections[2::2], strict=True) for _ in blocks(text)]
        assert found == ["Example", "Use instead"], page.name


@pytest.mark.parametrize("page", ELSEWHERE)
def test_a_page_with_a_test_of_its_own_is_named_there(page: str) -> None:
    assert Path(page).name in (TESTS / ELSEWHERE[page][0]).read_text(encoding="utf-8")


def test_the_command_line_s_page_has_every_command() -> None:
    page = read("reference/cli.md")
    assert [
        name for name in main.commands if f"\n## {name}\n\n```console\n$ freezeinspect {name} --help\n" not in page
    ] == []


def test_the_page_of_python_has_every_public_name() -> None:
    stub = (Path(freezeinspect.__file__).parent / "__init__.pyi").read_text(encoding="utf-8")
    public = {f"{room}.{name}" for room, name in re.findall(r"^from (\S+) import (\w+)", stub, re.MULTILINE)}
    assert public - set(re.findall(r"^::: (\S+)$", read("reference/api.md"), re.MULTILINE)) == set()


def test_the_page_of_json_is_that_of_the_schema() -> None:
    assert json_page.page() == read(json_page.PAGE)


def test_every_page_is_reached_from_the_navigation() -> None:
    config = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    pages = {str(page.relative_to(DOCS)) for page in DOCS.rglob("*.md")} - {
        f"rules/{p.name}" for p in (DOCS / "rules").glob("*-*.md")
    }
    assert pages | {"tutorial.md"} == set(re.findall(r": ([^*\s]+\.md)$", config, re.MULTILINE))
