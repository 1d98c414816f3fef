"""Rows as text: the folded tree, Markdown and plain HTML, all by tabulate, and the sentence below them."""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from textwrap import fill

from tabulate import tabulate

from freezeinspect.state import NO, UNKNOWN, YES, Snapshot
from freezeinspect.verdicts import Summary, Verdicts, with_statistics
from freezeinspect.views.rows import Row, quantity

WIDTH = 80
NARROWEST = 22  # of the module column, before a column gives way
COLUMNS = {  # of Row, with the heading of each, in order
    "params": "params",
    "shape": "output\nshape",
    "mult_adds": "mult-\nadds",
    "mode": "mode",
    "trainable": "train-\nable",
    "bn_freeze": "bn_\nfreeze",
    "requires_grad": "requires\n_grad",
    "group": "group",
    "weights": "weights",
    "stats": "running\nstats",
    "norm": "norm\nuses",
    "finding": "rule",
}
HEADINGS = {"shape": "output shape", "mult_adds": "mult-adds", "stats": "running stats", "norm": "norm uses"}
OPTIONAL = (
    "shape",
    "mult_adds",
    "trainable",
    "bn_freeze",
    "group",
    "norm",
    "finding",
)  # shown where they say something
GIVE_WAY = ("finding", "params", "norm", "mult_adds")  # in this order, where the width does not do
ROOT = "(root)"
LINES = 5_000  # of a tree: nobody reads more
_ANSI = re.compile(r"\x1b\[[0-9;]*m")
COLOURS = {"move": "32", "still": "36", "mixed": "33"}
ADAPTERS = ("lora_", "adapter", "ia3_", "prompt_", "prefix_", "oft_", "vera_", "hada_", "lokr_")


def tree(rows: Sequence[Row], width: int = WIDTH, colour: bool = False) -> str:
    """Lay rows out as an indented table no wider than `width` characters, where its columns allow."""
    rows, rest = rows[:LINES], rows[LINES:]
    columns = _fitting(rows, width)
    room = width - sum(_widths(rows, columns))
    step = "  " if 4 * max((row.depth for row in rows), default=0) <= room else " "
    cells = [[_label(row, room, step), *(_cell(row, column, colour) for column in columns)] for row in rows]
    drawn = table(["module", *(COLUMNS[column] for column in columns)], cells, right=("params", "mult-\nadds"))
    return drawn + _more(rest)


def _more(rest: Sequence[Row]) -> str:
    return f"\n\n… and {len(rest):,} more lines: show fewer levels, or a part of it" if rest else ""


def _width(text: str) -> int:
    return len(_ANSI.sub("", text)) if "\x1b" in text else len(text)


def table(headers: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[str] = ()) -> str:
    """Lay cells out under their headings, two spaces apart, without the padding that tabulate gives headings."""
    columns = list(zip(*rows, strict=True)) or [()] * len(headers)
    widths = [
        max(_width(text) for cell in (header, *column) for text in cell.split("\n"))
        for header, column in zip(headers, columns, strict=True)
    ]
    body = [list(headers), ["-" * width for width in widths], *map(list, rows)]
    align = ["right" if header in right else "left" for header in headers]
    text = tabulate(body, tablefmt="plain", colalign=align, disable_numparse=True, preserve_whitespace=True)
    return "\n".join(line.rstrip() for line in text.splitlines())


def _fitting(rows: Sequence[Row], width: int) -> list[str]:
    columns = saying(rows)
    wanted = min(NARROWEST, max(len(_whole_label(row)) for row in rows))
    for column in GIVE_WAY:
        if column in columns and width - sum(_widths(rows, columns)) < wanted:
            columns.remove(column)
    return columns


def saying(rows: Sequence[Row]) -> list[str]:
    """Give the columns without the optional ones that are empty everywhere."""
    return [c for c in COLUMNS if c not in OPTIONAL or any(getattr(row, c) not in ("", "–", "?") for row in rows)]


def _widths(rows: Sequence[Row], columns: Sequence[str]) -> list[int]:
    """Give the width of each column with the two spaces before it."""
    cells = {c: [*COLUMNS[c].split("\n"), *(getattr(row, c) for row in rows)] for c in columns}
    return [2 + max(map(len, cells[c])) for c in columns]


def _whole_label(row: Row) -> str:
    return (
        f"{'  ' * row.depth}{_shown(row)}{_times(row)} {visible(row.type)}" if row.depth else visible(row.type) or ROOT
    )


def _times(row: Row) -> str:
    return f" ×{row.times}" if row.times > 1 else ""


def _shown(row: Row) -> str:
    """Name a row within its parent; a bare number says little, so its parent's name goes before it."""
    parent = row.pattern[: -len(row.name) - 1].rpartition(".")[2]
    return visible(f"{parent}.{row.name}" if parent and row.name.lstrip("{[")[:1].isdigit() else row.name)


def _label(row: Row, room: int, step: str) -> str:
    """Shorten a label to its room: the type gives way first, then the name's end, a deep indent, never the count."""
    if not row.depth:
        return _cut(visible(row.type) or ROOT, room)
    indent, times = (step * row.depth)[: room // 2], _times(row)
    name = indent + _cut(_shown(row), room - len(indent) - len(times)) + times
    left = room - len(name) - 1
    return f"{name} {_cut(visible(row.type), left)}" if left > 1 else name


def _cut(text: str, room: int) -> str:
    return text if len(text) <= room else text[: max(room - 1, 0)] + "…"


def visible(text: str) -> str:
    """Write control characters as escapes, so that a name cannot move the cursor."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _cell(row: Row, column: str, colour: bool) -> str:
    text: str = getattr(row, column)
    return f"\x1b[{COLOURS[text]}m{text}\x1b[0m" if colour and text in COLOURS else text


def listing(rows: Sequence[Row]) -> str:
    """Lay rows out as a table with whole paths, however wide."""
    return _plain(rows, "simple")


def markdown(rows: Sequence[Row], above: str, sentence: str, below: Sequence[str]) -> str:
    """Lay rows out as a Markdown table with the sentence; notes hold a file's names, so they are code."""
    before, after = _fenced([above]), _fenced(below)
    return "\n\n".join([*before, _plain(rows, "github"), sentence, *after]) + "\n"


def _fenced(notes: Sequence[str]) -> list[str]:
    return [f"```text\n{note.replace('```', '`` `')}\n```" for note in notes if note]


def html_table(rows: Sequence[Row], above: str, below: Sequence[str], lines: int = LINES) -> str:
    """Lay rows out as an HTML table with the notes around it."""
    said = [f"<p>{html.escape(note).replace(chr(10), '<br>')}</p>" for note in (above, *below)]
    return "\n".join([*said[: bool(above)], _plain(rows, "html", lines), *said[1:]])


def wrapped(text: str, width: int) -> str:
    """Break each line at spaces; a name longer than the width stays whole."""
    return "\n".join(
        fill(line, width, break_long_words=False, break_on_hyphens=False, subsequent_indent=" " * line.startswith(" "))
        for line in text.split("\n")
    )


def _plain(rows: Sequence[Row], style: str, lines: int = LINES) -> str:
    columns = saying(rows)
    rows, rest = rows[:lines], rows[lines:]
    names = [(visible(row.pattern) or ROOT, str(row.times), visible(row.type)) for row in rows]
    cells = [[*name, *(getattr(row, c) for c in columns)] for name, row in zip(names, rows, strict=True)]
    if style == "github":
        cells = [[cell.replace("|", "\\|") for cell in line] for line in cells]
    headers = ["module", "count", "type", *(HEADINGS.get(c, c) for c in columns)]
    return tabulate(cells, headers, style, disable_numparse=True) + _more(rest)


def sentence(snapshot: Snapshot, verdicts: Verdicts, summary: Summary) -> str:
    """Say in one sentence what trains and which running statistics will move."""
    parts = [_about_weights(snapshot, verdicts, summary), _about_stats(snapshot, verdicts, summary)]
    text = "; ".join(filter(None, parts))
    return text[:1].upper() + text[1:] + "."


def _about_weights(snapshot: Snapshot, verdicts: Verdicts, summary: Summary) -> str:
    structure = snapshot.structure
    kinds = {tensor.kind for tensor in structure.tensors}
    parameters = [i for i in structure.unique if structure.tensors[i].kind == "parameter"]
    if "unknown" in kinds or any(snapshot.requires_grad[i] is UNKNOWN for i in parameters):
        return "which parameters train is not known"
    if any(verdicts.weights[i] is UNKNOWN for i in parameters):
        required = [i for i in parameters if snapshot.requires_grad[i] is YES]
        some = "all" if len(required) == len(parameters) else f"{quantity(_elements(snapshot, required))} of"
        share = f"{some} {quantity(summary.parameters)} parameters require a gradient"
        return f"{share}, but which of them an optimizer moves is not known"
    if not parameters:
        return "there are no parameters"
    training = [i for i in parameters if verdicts.weights[i] is YES]
    share = _share(snapshot, training, summary.parameters)
    stuck = [i for i in parameters if verdicts.weights[i] is NO and snapshot.requires_grad[i] is YES]
    aside = f"{quantity(_elements(snapshot, stuck))} require a gradient that no optimizer steps" if stuck else ""
    if adapters := _adapters(snapshot, training):
        said = f"trainable {share}, all of it {adapters}"
    elif not training:
        said = f"none of {quantity(summary.parameters)} parameters trains"
    elif len(training) == len(parameters):
        said = f"all {quantity(summary.parameters)} parameters train"
    else:
        said = f"{quantity(_elements(snapshot, training))} of {quantity(summary.parameters)} parameters train"
    return f"{said}, {aside}" if aside else said


def _elements(snapshot: Snapshot, tensors: Sequence[int]) -> int | None:
    sizes = [snapshot.structure.tensors[i].elements for i in tensors]
    return None if None in sizes else sum(size for size in sizes if size is not None)


def _share(snapshot: Snapshot, training: Sequence[int], parameters: int | None) -> str:
    elements = _elements(snapshot, training)
    percent = f", {100 * elements / parameters:.2g} %" if elements is not None and parameters else ""
    return f"{quantity(elements)} of {quantity(parameters)}{percent}"


def _adapters(snapshot: Snapshot, training: Sequence[int]) -> str:
    """Name the adapters, where all that trains is adapters."""
    found: dict[str, None] = {}
    for i in training:
        names = snapshot.structure.full_name(i).lower().split(".")
        known = [f"`{adapter}*`" for name in names for adapter in ADAPTERS if name.startswith(adapter)]
        if not known:
            return ""
        found[known[0]] = None
    return " and ".join(found)


def _about_stats(snapshot: Snapshot, verdicts: Verdicts, summary: Summary) -> str:
    layers = with_statistics(snapshot)
    if not layers:
        return "whether any running statistics will move is not known" if UNKNOWN in verdicts.stats else ""
    many = f"{len(layers)} {_family(snapshot, layers)}layer{'s' * (len(layers) > 1)}"
    if summary.stats_layers_moving is None:
        return f"whether the running statistics of {many} will move is not known"
    verb = "keep their" if len(layers) > 1 else "keeps its"
    if not summary.stats_layers_moving:
        return f"{many} {verb} running statistics still"
    part = "" if summary.stats_layers_moving == len(layers) else f"{summary.stats_layers_moving} of "
    return f"{part}{many} will update {'their' if len(layers) > 1 else 'its'} running statistics"


def _family(snapshot: Snapshot, layers: Sequence[int]) -> str:
    types = [snapshot.structure.types[i] or "" for i in layers]
    families = (name for name in ("BatchNorm", "InstanceNorm") if all(name in kind for kind in types))
    return next((f"{name} " for name in families), "normalisation ")
