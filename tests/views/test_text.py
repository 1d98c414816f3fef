"""What people read: the tree at 80 columns, Markdown, HTML, and the sentence below them."""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Callable
from html.parser import HTMLParser
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from syrupy.assertion import SnapshotAssertion
from torch import nn
from torch.optim import LBFGS, SGD

import freezeinspect as fi
from freezeinspect.report import Report
from freezeinspect.views import text
from freezeinspect.views.rows import Row
from zoo import ZOO, Lora, Residual

ANSI = re.compile(r"\x1b\[[0-9;]*m")


def table_of(report: Report) -> str:
    """Give the plain table of HTML, which stands wherever scripts do not run."""
    return text.html_table(report.rows(), *report._notes())


def frozen_body() -> Residual:
    model = Residual()
    fi.freeze(model)
    fi.bn_freeze(model, False)
    fi.set_train_mode(model)
    return model


def dressed(model: nn.Module) -> Report:
    """Report a model with every column that can be there: fastai's attributes, and an optimizer of two groups."""
    with warnings.catch_warnings(action="ignore"):
        if list(model.children()):
            fi.freeze(model)
    fi.bn_freeze(model, False)
    fi.set_train_mode(model)
    parameters = list(model.parameters())
    groups = [{"params": parameters[:1]}, {"params": parameters[1:-1]}]
    return fi.inspect(model, SGD(groups, lr=0.1) if parameters else None)


# Goldens


GOLDEN: dict[str, Callable[[], Report]] = {
    "residual": lambda: fi.inspect(Residual()),
    "residual after freeze, bn_freeze(False), set_train_mode, with an optimizer": lambda: fi.inspect(
        *(lambda model: (model, SGD(model.parameters(), lr=0.1)))(frozen_body())
    ),
    "residual with shapes": lambda: fi.inspect(Residual(), input_size=(2, 3, 8, 8)),
} | {
    name: lambda name=name: fi.inspect(ZOO[name]().model)
    for name in ("lora", "llama", "norms", "batchnorm_root", "tied", "empty", "lazy")
}


@pytest.mark.parametrize("name", GOLDEN)
def test_the_tree_reads(name: str, snapshot: SnapshotAssertion) -> None:
    assert str(GOLDEN[name]()) == snapshot


def test_the_tree_of_one_level_reads(snapshot: SnapshotAssertion) -> None:
    assert fi.inspect(Residual()).tree(depth=1) == snapshot


@pytest.mark.parametrize("name", ["residual", "lora"])
def test_the_markdown_reads(name: str, snapshot: SnapshotAssertion) -> None:
    assert GOLDEN[name]().to_markdown(depth=1) == snapshot


def test_the_html_reads(snapshot: SnapshotAssertion) -> None:
    assert table_of(GOLDEN["lora"]()) == snapshot


# The tree's width


def drawn(report: Report, **options: Any) -> list[str]:
    return report.tree(**options).split("\n\n")[0].splitlines()


@pytest.mark.parametrize("name", ZOO)
def test_no_line_of_a_tree_is_longer_than_80_characters(name: str) -> None:
    report = dressed(ZOO[name]().model)
    assert [line for line in drawn(report) + drawn(report, fold=False) if len(line) > 80] == []


@pytest.mark.parametrize("width", [60, 72, 80, 100, 200])
@pytest.mark.parametrize("name", ["residual", "llama"])
def test_a_tree_is_as_wide_as_it_is_asked_to_be(name: str, width: int) -> None:
    lines = drawn(fi.inspect(ZOO[name]().model), width=width)
    assert max(map(len, lines)) <= width


def test_where_there_is_room_nothing_is_shortened() -> None:
    assert "…" not in dressed(ZOO["llama"]().model).tree(width=150)
    assert "…" in dressed(ZOO["llama"]().model).tree(width=80)


def test_a_label_that_is_shortened_keeps_how_many_layers_it_stands_for() -> None:
    report = dressed(ZOO["llama"]().model)
    many = [row for row in report.rows() if row.times > 1]
    assert len(many) == 5
    assert [line.count("×") for line in drawn(report)].count(1) == len(many)


def test_many_groups_leave_the_line_at_80_characters() -> None:
    model = nn.Sequential(*(nn.Sequential(*(nn.Linear(1, 1, bias=False) for _ in range(20))) for _ in range(2)))
    in_turn = [layer.weight for pair in zip(*model, strict=True) for layer in pair]
    report = fi.inspect(model, SGD([{"params": [weight]} for weight in in_turn], lr=0.1))
    assert max(map(len, drawn(report))) <= 80


@pytest.mark.parametrize("name", ["llama", "transformer", "segformer", "nested"])
def test_a_label_that_is_shortened_keeps_its_indent(name: str) -> None:
    report = dressed(ZOO[name]().model)
    lines = list(zip(drawn(report)[3:], report.rows(), strict=True))
    step = len(lines[1][0]) - len(lines[1][0].lstrip())
    assert [line for line, row in lines if row.depth <= 8 and len(line) - len(line.lstrip()) != step * row.depth] == []


def test_a_deep_tree_is_indented_by_less_so_that_each_level_is_told_from_the_one_above() -> None:
    lines = drawn(fi.inspect(chain(nn.Linear(1, 1), "abcdefghijk")))[3:]
    assert [len(line) - len(line.lstrip()) for line in lines] == list(range(12))
    lines = drawn(fi.inspect(chain(nn.Linear(1, 1), "abcd")))[3:]
    assert [len(line) - len(line.lstrip()) for line in lines] == [0, 2, 4, 6, 8]


def chain(model: nn.Module, names: str) -> nn.Module:
    for name in reversed(names):
        model = nn.ModuleDict({name: model})
    return model


def test_a_row_however_deep_still_says_a_name() -> None:
    lines = drawn(dressed(chain(nn.Linear(1, 1), "abcdefghijklmnop")))
    assert [line.split()[0] for line in lines[3:]] == ["ModuleDict", *"abcdefghijklmnop"]


@pytest.mark.parametrize("name", ZOO)
def test_every_row_has_a_line_and_every_line_its_words(name: str) -> None:
    report = dressed(ZOO[name]().model)
    lines, made = drawn(report)[3:], report.rows()
    assert len(lines) == len(made)
    for line, row in zip(lines, made, strict=True):
        said = [row.mode, row.trainable, row.requires_grad, row.weights, row.stats]
        words = iter(line.split())
        assert [one for one in said if one != "–" and one not in words] == []


def test_columns_that_say_nothing_are_left_out() -> None:
    heading = " ".join(drawn(fi.inspect(nn.Sequential(nn.Linear(1, 1))))[:2])
    assert heading.split() == "module params mode requires weights running _grad stats".split()


# Colour


def test_there_is_no_colour_unless_asked() -> None:
    report = fi.inspect(Residual())
    assert "\x1b" not in str(report) + report.tree() + report.to_markdown() + table_of(report)


@pytest.mark.parametrize("name", ["residual", "lora", "norms"])
def test_colour_changes_no_character(name: str) -> None:
    made = fi.inspect(ZOO[name]().model).rows()
    coloured = text.tree(made, colour=True)
    assert ANSI.sub("", coloured) == text.tree(made)
    assert set(re.findall(r"\x1b\[\d+m([a-z]+)\x1b\[0m", coloured)) <= {"move", "still", "mixed"}
    assert "\x1b[32mmove\x1b[0m" in coloured


# Names that nobody should have


def named(name: str, kind: str = "Linear") -> Report:
    odd = type(kind, (nn.Linear,), {})(1, 1)
    model = nn.Sequential()
    model._modules[name] = odd
    return fi.inspect(model)


@settings(max_examples=150, deadline=None)
@given(st.text(st.characters(exclude_characters="."), min_size=1, max_size=20))
def test_no_name_can_leave_its_line_or_move_the_cursor(name: str) -> None:
    report = named(name)
    for shown in (str(report), report.to_markdown()):
        assert all(c.isprintable() or c == "\n" for c in shown)
    assert len(str(report).splitlines()) == 3 + 2 + 2
    assert len(report.to_markdown().splitlines()) == 2 + 2 + 2


@pytest.mark.parametrize("odd", ["\x1b[31mred", "two\nlines", "\x07", "a\u202eb", "a\rb"])
def test_no_type_can_leave_its_line_or_move_the_cursor(odd: str) -> None:
    report = named("fc", odd)
    for shown in (str(report), report.to_markdown(), table_of(report)):
        assert all(c.isprintable() or c == "\n" for c in shown)
    assert len(str(report).splitlines()) == 3 + 2 + 2


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("\x1b[2J", r"\x1b[[]2J"),
        ("two\nlines", r"two\nlines"),
        ("a\u202eb", r"a\u202eb"),
        ("\ud800", r"\ud800"),
        ("größe", "größe"),
    ],
)
def test_control_characters_are_escaped_and_letters_are_not(name: str, shown: str) -> None:
    assert f"  {shown} Linear" in str(named(name))


class Cells(HTMLParser):
    """Collect the cells of an HTML table, and every tag."""

    def __init__(self, markup: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.cells: list[str] = []
        self.feed(markup)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert attrs == []
        self.tags.add(tag)
        self.cells += [""] * (tag == "td")

    def handle_data(self, data: str) -> None:
        if self.cells:
            self.cells[-1] += data


@pytest.mark.parametrize("odd", ["<img src=x onerror=alert(1)>", "</td></table><script>x</script>", "a&amp;b", "<b"])
@pytest.mark.parametrize("place", ["name", "type"])
def test_html_shows_names_and_types_as_text(odd: str, place: str) -> None:
    report = named(odd) if place == "name" else named("fc", odd)
    read = Cells(table_of(report))
    assert read.tags == {"table", "thead", "tbody", "tr", "th", "td", "p"}
    assert odd in [cell.strip() for cell in read.cells]


@pytest.mark.parametrize("place", ["name", "type"])
def test_markdown_cells_keep_their_pipes(place: str) -> None:
    report = named("a|b") if place == "name" else named("fc", "a|b")
    head, _, *body = report.to_markdown().split("\n\n")[0].splitlines()
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in body} == {head.count("|")}
    assert r" a\|b " in body[1]


def test_markdown_heads_its_columns_with_words() -> None:
    model = frozen_body()
    report = fi.inspect(model, SGD(model.parameters(), lr=0.1), input_size=(2, 3, 8, 8))
    headings = [cell.strip() for cell in report.to_markdown().splitlines()[0].strip("|").split("|")]
    plain = ["module", "count", "type", "params", "output shape", "mult-adds", "mode", "trainable", "bn_freeze"]
    assert headings == [*plain, "requires_grad", "group", "weights", "running stats", "norm uses"]


def test_a_table_of_no_rows_has_its_headings() -> None:
    assert text.table(["a", "bc"], []) == "a  bc\n-  --"
    assert "depth" in Row._fields


# The sentence


def changed(report: Report, **answers: str) -> Report:
    """Read a report back from its record, with other answers for every module and tensor."""
    record = json.loads(report.to_json())
    for module in record["modules"]:
        for one in [module, *module["tensors"]]:
            one.update({key: value for key, value in answers.items() if key in one})
    return Report.from_json(json.dumps(record))


def linears(*trainable: bool) -> nn.Sequential:
    return nn.Sequential(*(nn.Linear(2, 2).requires_grad_(each) for each in trainable))


def stepping(model: nn.Module, part: nn.Module, kind: type = SGD) -> Report:
    return fi.inspect(model, kind(part.parameters(), lr=0.1))


def lora(*, stepped: slice | None = None) -> Report:
    model = nn.Sequential(Lora(), Lora())
    trainable = [p for p in model.parameters() if p.requires_grad]
    return fi.inspect(model, None if stepped is None else SGD(trainable[stepped], lr=0.1))


def two_adapters() -> nn.Module:
    model = nn.ModuleDict({"base": nn.Linear(2, 2).requires_grad_(False), "lora_A": nn.Linear(2, 1, bias=False)})
    model["prompt_encoder"] = nn.Linear(2, 1, bias=False)
    return model


def norms(*modes: bool, kind: Any = nn.BatchNorm1d) -> nn.Module:
    return nn.Sequential(*(kind(2, affine=False).train(mode) for mode in modes))


def mixed_norms() -> nn.Module:
    return nn.Sequential(nn.BatchNorm1d(2, affine=False), nn.InstanceNorm1d(2, track_running_stats=True).eval())


SENTENCES: dict[str, tuple[Callable[[], Report], str]] = {
    "all": (lambda: fi.inspect(linears(True, True)), "All 12 parameters train."),
    "none": (lambda: fi.inspect(linears(False, False)), "None of 12 parameters trains."),
    "some": (lambda: fi.inspect(linears(False, True)), "6 of 12 parameters train."),
    "no parameters": (lambda: fi.inspect(nn.ReLU()), "There are no parameters."),
    "not known": (
        lambda: changed(fi.inspect(linears(True)), requires_grad="unknown"),
        "Which parameters train is not known.",
    ),
    "not known what is a parameter": (
        lambda: changed(fi.inspect(linears(True)), kind="unknown", requires_grad="unknown"),
        "Which parameters train is not known.",
    ),
    "an optimizer that nobody can tell": (
        lambda: stepping(*[linears(True)] * 2, LBFGS),
        "All 6 parameters require a gradient, but which of them an optimizer moves is not known.",
    ),
    "an optimizer that misses a layer": (
        lambda: (lambda model: stepping(model, model[1]))(linears(True, True)),
        "6 of 12 parameters train, 6 require a gradient that no optimizer steps.",
    ),
    "an optimizer that steps another model": (
        lambda: stepping(linears(True, False), linears(True)),
        "None of 12 parameters trains, 6 require a gradient that no optimizer steps.",
    ),
    "adapters": (lora, "Trainable 32 of 72, 44 %, all of it `lora_*`."),
    "two kinds of adapters": (
        lambda: fi.inspect(two_adapters()),
        "Trainable 4 of 10, 40 %, all of it `lora_*` and `prompt_*`.",
    ),
    "adapters and a head": (
        lambda: fi.inspect(nn.ModuleDict({"lora_A": nn.Linear(1, 1), "head": nn.Linear(1, 1)})),
        "All 4 parameters train.",
    ),
    "one norm that moves": (
        lambda: fi.inspect(norms(True)),
        "There are no parameters; 1 BatchNorm layer will update its running statistics.",
    ),
    "one norm that is still": (
        lambda: fi.inspect(norms(False)),
        "There are no parameters; 1 BatchNorm layer keeps its running statistics still.",
    ),
    "norms that move": (
        lambda: fi.inspect(norms(True, True)),
        "There are no parameters; 2 BatchNorm layers will update their running statistics.",
    ),
    "norms of which some move": (
        lambda: fi.inspect(norms(True, False, True)),
        "There are no parameters; 2 of 3 BatchNorm layers will update their running statistics.",
    ),
    "norms that are still": (
        lambda: fi.inspect(norms(False, False)),
        "There are no parameters; 2 BatchNorm layers keep their running statistics still.",
    ),
    "instance norms": (
        lambda: fi.inspect(nn.InstanceNorm1d(2, track_running_stats=True)),
        "There are no parameters; 1 InstanceNorm layer will update its running statistics.",
    ),
    "norms of two families": (
        lambda: fi.inspect(mixed_norms()),
        "There are no parameters; 1 of 2 normalisation layers will update their running statistics.",
    ),
    "norms of an unknown mode": (
        lambda: changed(fi.inspect(norms(True, True)), training="unknown"),
        "There are no parameters; whether the running statistics of 2 BatchNorm layers will move is not known.",
    ),
}


@pytest.mark.parametrize("case", SENTENCES)
def test_the_sentence_says(case: str) -> None:
    report, said = SENTENCES[case]
    assert report().sentence == said


def test_the_sentence_says_that_an_optimizer_misses_an_adapter() -> None:
    assert "8 require a gradient that no optimizer steps" in lora(stepped=slice(3)).sentence


def test_the_sentence_ends_every_view() -> None:
    report = fi.inspect(Residual())
    assert " ".join(str(report).split("\n\n")[-1].splitlines()) == report.sentence
    assert max(map(len, str(report).splitlines())) <= 80
    assert report.to_markdown().endswith(f"\n\n{report.sentence}\n")
    assert table_of(report).endswith(f"<p>{report.sentence}</p>")
