"""The face of two models: a Diff, what differs between them."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from freezeinspect.compare import Differences
from freezeinspect.report.model import Report
from freezeinspect.state import Source

if TYPE_CHECKING:
    import pandas as pd

SCHEMA = "freezeinspect-diff/1"
KINDS = ("weights", "stats", "flags", "structure")


@dataclass(frozen=True, eq=False)
class Diff:
    """What differs between two reports; true where anything does, as far as is known."""

    before: Report
    after: Report
    differences: Differences

    def __bool__(self) -> bool:
        return any(map(self.has, (*KINDS, "buffers")))

    def has(self, kind: str) -> bool:
        """Tell whether there is a difference in "weights", "stats", "buffers", "flags" or "structure"."""
        found = self.differences
        return bool({"flags": found.flags, "structure": found.structure}.get(kind) or found.changed(kind))

    @property
    def weights(self) -> tuple[str, ...]:
        """Name the parameters whose values differ."""
        return tuple(one.name for one in self.differences.changed("weights"))

    @property
    def stats(self) -> tuple[str, ...]:
        """Name the running statistics whose values differ."""
        return tuple(one.name for one in self.differences.changed("stats"))

    def only(self, pattern: str) -> Diff:
        """Keep what a pattern matches. Raises BadPattern, MatchesNothing."""
        return Diff(self.before, self.after, self.differences.only(pattern))

    @property
    def _sources(self) -> tuple[Source, Source]:
        return self.before.source, self.after.source

    @property
    def sentence(self) -> str:
        """The differences in one sentence."""
        from freezeinspect.views import changes

        return changes.sentence(self.differences)

    def __str__(self) -> str:
        from freezeinspect.views import changes

        return changes.text(self._sources, self.after.snapshot.structure, self.differences)

    __repr__ = __str__

    def to_markdown(self) -> str:
        """Write the differences as Markdown tables."""
        from freezeinspect.views import changes

        return changes.text(self._sources, self.after.snapshot.structure, self.differences, "github") + "\n"

    def to_frame(self) -> pd.DataFrame:
        """Give a pandas frame with one row a difference."""
        import pandas as pd

        return pd.DataFrame(self._rows(), columns=["name", "kind", "before", "after"])

    def _rows(self) -> list[tuple[str, str, Any, Any]]:
        found = self.differences
        changes = [(path, what, before, after) for path, what, before, after in found.structure + found.flags]
        return changes + [(one.name, one.kind, None, None) for one in found.values if str(one.changed) == "yes"]

    def to_json(self) -> str:
        """Write both sources and all differences as JSON."""
        found = self.differences
        record = {
            "schema": SCHEMA,
            "before": asdict(self.before.source),
            "after": asdict(self.after.source),
            "structure": [one._asdict() for one in found.structure],
            "flags": [one._asdict() for one in found.flags],
            "values": [{"name": one.name, "kind": one.kind, "changed": one.changed} for one in found.values],
        }
        return json.dumps(record, indent=1, default=str)
