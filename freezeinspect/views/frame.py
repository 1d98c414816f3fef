"""A snapshot as a pandas frame: one row a module, nothing folded."""

from __future__ import annotations

import pandas as pd

from freezeinspect.state import Shape, Snapshot
from freezeinspect.verdicts import Verdicts
from freezeinspect.views.totals import Totals

FLAGS = ("training", "trainable", "bn_freeze", "drop_freeze", "track_running_stats", "momentum", "dropout")
DERIVED = ("requires_grad", "weights_move", "stats_move", "normalises_with")


def frame(snapshot: Snapshot, verdicts: Verdicts, shapes: dict[str, Shape] | None = None) -> pd.DataFrame:
    """Give one row a module, in pre-order, indexed by path; answers are their words."""
    structure = snapshot.structure
    columns: dict[str, object] = {"type": structure.types}
    columns |= {flag: _words(getattr(snapshot, flag)) for flag in FLAGS}
    columns |= {name: _words(getattr(verdicts, name)) for name in DERIVED}
    totals = Totals(structure)
    counts = [totals.below(i) for i in range(len(structure))]
    columns["parameters"] = pd.array([count.elements if count.sure else None for count in counts], dtype="Int64")
    if shapes is not None:
        found = [shapes.get(path) for path in structure.paths]
        columns["output_shape"] = [shape and shape.output for shape in found]
        columns["mult_adds"] = pd.array([shape and shape.mult_adds for shape in found], dtype="Int64")
    return pd.DataFrame(columns, index=pd.Index(structure.paths, name="path"))


def _words(column: tuple[object, ...]) -> list[object]:
    return [value if value is None or isinstance(value, (str, float)) else str(value) for value in column]
