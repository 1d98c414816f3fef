"""Pages of HTML: each one file, which asks nothing of a network and runs only the script that it came with."""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Hashable, Iterable, Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, TypeVar

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from freezeinspect.folding import classes
from freezeinspect.observed import Observed
from freezeinspect.rules import SEVERITIES
from freezeinspect.state import Finding, Shape, Snapshot, Structure
from freezeinspect.verdicts import Summary, Verdicts
from freezeinspect.views import findings
from freezeinspect.views.rows import MOVES, WORD, Row, facts, group_names, quantity, rows
from freezeinspect.views.text import html_table, saying, visible

POLICY = (
    "default-src 'none'; script-src 'sha256-{}'; style-src 'sha256-{}'; img-src data:; base-uri 'none';"
    " form-action 'none'"
)
FALLBACK = 500  # lines of the table that stands where scripts do not run
WIDTHS = {  # of each column, in px; and which gives way first
    "params": (72, 3),
    "shape": (120, 1),
    "mult_adds": (84, 1),
    "mode": (58, 7),
    "trainable": (80, 4),
    "bn_freeze": (84, 4),
    "requires_grad": (120, 6),
    "group": (62, 4),
    "weights": (82, 9),
    "stats": (114, 9),
    "norm": (92, 5),
}
HEADINGS = {
    "shape": "output",
    "mult_adds": "mult-adds",
    "weights": "next step",
    "stats": "next forward",
    "norm": "norm uses",
}
Kind = TypeVar("Kind", bound=Hashable)


@cache
def _environment() -> Environment:
    made = Environment(
        loader=PackageLoader(__package__, "pages"),
        autoescape=True,
        undefined=StrictUndefined,
        keep_trailing_newline=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.policies["json.dumps_kwargs"] = {"separators": (",", ":")}
    return made


@cache
def _source(*names: str) -> Markup:
    """Give style sheets or scripts as one text: they are our own, so nothing in them is escaped."""
    return Markup("\n".join(files(__package__).joinpath("pages", name).read_text("utf-8") for name in names))


def _digest(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def page(template: str, scripts: Sequence[str], **world: Any) -> str:
    """Make a page: a template, the scripts that it comes with, and what it shows."""
    style = _source("page.css")
    script = Markup('(() => {{\n"use strict";\n{}}})();').format(_source(*scripts, "frame.js"))
    policy = POLICY.format(_digest(script), _digest(style))
    return _environment().get_template(template).render(policy=policy, style=style, script=script, **world)


def write(text: str, path: str | os.PathLike[str] | None) -> str:
    """Give the text of a page, and write it where a path is given. Raises OSError."""
    if path is not None:
        Path(path).write_text(text, encoding="utf-8")
    return text


def paragraphs(notes: Iterable[str]) -> str:
    """Write notes as paragraphs."""
    return "\n".join(f"<p>{escape(note)}</p>" for note in notes)


def embedded(text: str, fallback: str) -> str:
    """Give what a notebook shows: a table, and where scripts run the page in a frame of its own instead."""
    number = hashlib.blake2b(text.encode(), digest_size=6).hexdigest()
    made: str = (
        _environment()
        .get_template("embedded.html.j2")
        .render(number=number, page=text, fallback=Markup(fallback), script=_source("embedded.js"))
    )
    return made


def report(
    snapshot: Snapshot,
    verdicts: Verdicts,
    observed: Observed,
    shapes: dict[str, Shape] | None,
    summary: Summary,
    found: Sequence[Finding],
    notes: tuple[str, Sequence[str]],
    folded: Sequence[Row],
) -> str:
    """Make the page of one model's state; `notes` stand above the rows and below them, the sentence first."""
    above, (sentence, *below) = notes
    codes = findings.codes(snapshot.structure, found)
    made = rows(snapshot, verdicts, observed, shapes, codes, fold=False)
    data = _modules(snapshot, verdicts, made) | {
        "same": classes(snapshot.structure, facts(snapshot, observed, shapes or {}, codes)),
        "findings": list(told(snapshot.structure, found)),
    }
    return page(
        "report.html.j2",
        ("patterns.js", "tree.js", "search.js", "words.js", "report.js"),
        title=visible((snapshot.structure.types[0] or "model").rpartition(".")[2]),
        above=above,
        sentence=sentence,
        notes=below,
        totals=list(_totals(summary)),
        share=_share(summary),
        counted=counted(found),
        fallback=Markup(html_table(folded, "", (), FALLBACK)),
        data=data,
    )


def _modules(snapshot: Snapshot, verdicts: Verdicts, made: Sequence[Row]) -> dict[str, Any]:
    """Give the modules as columns, each distinct set of facts once."""
    structure = snapshot.structure
    keys = ("type", *WIDTHS)
    kinds, kind = distinct(tuple(_word(row, key) for key in keys) for row in made)
    types, type_of = distinct(visible(name or "") for name in structure.types)
    tensors, own = distinct(tuple(_tensor(snapshot, verdicts, i) for i in numbers) for numbers in structure.own)
    return {
        "names": [visible(name) for name in structure.names],
        "depths": [row.depth for row in made],
        "aliases": {i: list(map(visible, paths)) for i, paths in enumerate(structure.aliases) if paths},
        "columns": [(key, HEADINGS.get(key, key), *WIDTHS[key]) for key in saying(made) if key in WIDTHS],
        "keys": keys,
        "kinds": kinds,
        "kind": kind,
        "types": types,
        "type": type_of,
        "tensors": tensors,
        "own": own,
    }


def _word(row: Row, key: str) -> str:
    word: str = getattr(row, key)
    return visible(word) if key == "type" else word


def _tensor(snapshot: Snapshot, verdicts: Verdicts, i: int) -> tuple[str, ...]:
    tensor = snapshot.structure.tensors[i]
    shape = "?" if tensor.shape is None else "×".join(map(str, tensor.shape)) or "scalar"
    required, moves = WORD[snapshot.requires_grad[i]], MOVES[verdicts.weights[i]]
    group = group_names({snapshot.groups[i]}) if snapshot.groups else ""
    name, kind = visible(tensor.name), tensor.kind
    return name, kind, shape, (tensor.dtype or "?").removeprefix("torch."), required, moves, group


def distinct(many: Iterable[Kind]) -> tuple[list[Kind], list[int]]:
    """Give each distinct one once, and where each of the many is among them."""
    known: dict[Kind, int] = {}
    places = [known.setdefault(one, len(known)) for one in many]
    return list(known), places


def told(structure: Structure, found: Sequence[Finding]) -> Iterable[dict[str, Any]]:
    """Give findings as a page shows them: those that differ in nothing but their place as one."""
    for group in findings.alike(sorted(found, key=lambda one: SEVERITIES.index(one.severity))):
        first = group[0]
        when = f" (step {first.step})" if first.step is not None else ""
        fix = findings.mend(group)
        yield {
            "code": first.code,
            "name": first.name,
            "severity": first.severity,
            "where": visible(findings.where(structure, group)),
            "times": len(group),
            "message": visible(first.message),
            "when": visible(when + (f", by {first.call}" if first.call else "")),
            "step": first.step,
            "fix": visible(fix) if fix else None,
            "modules": [structure.index.get(one.path, 0) for one in group],
        }


def counted(found: Sequence[Finding]) -> str:
    """Count findings by severity."""
    many = {kind: sum(one.severity == kind for one in found) for kind in SEVERITIES}
    return "Findings: " + ", ".join(
        f"{number:,} {kind}{'s' * (number > 1 and kind != 'info')}" for kind, number in many.items() if number
    )


def _totals(summary: Summary) -> Iterable[tuple[str, str]]:
    yield f"{summary.modules:,}", "module" + "s" * (summary.modules != 1)
    yield quantity(summary.parameters), "parameters"
    yield quantity(summary.trainable_parameters), "require a gradient"
    yield quantity(summary.frozen_parameters), "frozen"
    yield _number(summary.train_mode_modules), "in train mode"
    yield _number(summary.eval_mode_modules), "in eval mode"
    if summary.stats_layers:
        yield f"{_number(summary.stats_layers_moving)} of {summary.stats_layers:,}", "running statistics move"


def _number(count: int | None) -> str:
    return "?" if count is None else f"{count:,}"


def _share(summary: Summary) -> float | None:
    """Give the share of parameters that require a gradient, in per cent."""
    if not summary.parameters or summary.trainable_parameters is None:
        return None
    return round(100 * summary.trainable_parameters / summary.parameters, 2)
