"""The face of a run, watched or read from its log: its story, its steps, and what changed."""

from __future__ import annotations

import json
import os
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from freezeinspect.agreement import differing_histories
from freezeinspect.chapters import FORWARD, KNOWN, OUTSIDE, PLACES, STEP, Chapter
from freezeinspect.history import OUTCOMES, History
from freezeinspect.observed import Flip
from freezeinspect.report.model import Report
from freezeinspect.state import Source

if TYPE_CHECKING:
    import pandas as pd

SCHEMA = "freezeinspect-run/1"
_COUNTED = ("weights_moved", "weights_known", "stats_moved", "stats_known", "moved_outside")


@dataclass(frozen=True, eq=False)
class Run:
    """A training run, step by step. Prints as its story and a timeline of its modules."""

    history: History
    source: Source = Source("watch")

    def __len__(self) -> int:
        return len(self.history.taken)

    def report(self) -> Report:
        """Give the state that the run ended in, with what was seen to move on the way."""
        return Report(self.history.last.states[-1].snapshot, self.history.observed(), self.source)

    def changes(self) -> pd.DataFrame:
        """Give a frame of every flag that flipped: when, where, what, and by which call where that was asked for."""
        import pandas as pd

        flips = [flip for chapter in self.history.chapters for flip in chapter.flips()]
        rows = list(map(_in_words, flips))
        columns = ["step", "within", "path", "flag", "before", "after", "call"]
        return pd.DataFrame(rows, columns=columns)

    def steps(self) -> pd.DataFrame:
        """Give a frame with one row a step: by which optimizer, what came of it, forwards, and tensors that moved.

        A count is of the tensors that a look saw move, or that lie between two looks which both did; the known ones
        are those of which that much can be told.
        """
        import pandas as pd

        history = self.history
        columns: dict[str, Any] = {
            "optimizer": list(history.taken),
            "outcome": [OUTCOMES[one] for one in history.outcomes],
            "forwards": list(history.forwards),
        }
        return pd.DataFrame({**columns, **self._counts()}, index=pd.RangeIndex(1, len(history.taken) + 1, name="step"))

    def _counts(self) -> dict[str, list[int]]:
        """Count by part and place, step by step, from where each span of the step's optimizer begins and ends."""
        self.history.settle()
        edges: dict[tuple[int, str], list[int]] = defaultdict(lambda: [0] * (len(self) + 2))
        for chapter in self.history.chapters:
            for (optimizer, tensor), spans in chapter.spans.items():
                for span in spans:
                    for name in _counted(chapter.parts[tensor], span.seen) if span.first else ():
                        edges[optimizer, name][span.first] += 1
                        edges[optimizer, name][span.last + 1] -= 1
        sums = {key: list(accumulate(steps)) for key, steps in edges.items()}
        return {
            name: [sums[one, name][n] if (one, name) in sums else 0 for n, one in enumerate(self.history.taken, 1)]
            for name in _COUNTED
        }

    def table(self, step: int) -> str:
        """Lay one step out: the flags before → after, and what moved in it. Raises IndexError for none such."""
        if not 1 <= step <= len(self):
            raise IndexError(f"no step {step}: the run has {f'steps 1 to {len(self)}' if len(self) else 'none'}")
        from freezeinspect.views.timeline import side_by_side

        chapter = self.history.chapter_of(step)
        before, after = chapter.state_at(step - 1, within=True), chapter.state_at(step, within=True)
        return side_by_side(before.snapshot, after.snapshot, self._moved_in(step))

    def _moved_in(self, step: int) -> list[frozenset[str]]:
        """Say of each module which of its own parts moved in a step, and where; of those nobody looked at, ask."""
        chapter, bits = self.history.chapter_of(step), self.history.seen(step)
        found: list[set[str]] = [set() for _ in chapter.structure.paths]
        for tensor, part, seen in zip(chapter.structure.tensors, chapter.parts, bits, strict=True):
            told = {f"{part} in {place}" for place, bit in PLACES.items() if seen & bit}
            found[tensor.owner] |= told if seen >> KNOWN else {f"{part}?"}
        return [frozenset(one) for one in found]

    def to_json(self) -> str:
        """Write the run as JSON: its steps, flips, surprises and, of each tensor, what the looks at it saw."""
        history = self.history
        story = self.story()
        said = {
            "schema": SCHEMA,
            "source": asdict(self.source),
            "steps": len(self),
            "ended": history.ended,
            "outcomes": {str(n): OUTCOMES[one] for n, one in enumerate(history.outcomes, 1) if one},
            "story": story,
            "surprises": [{**one._asdict(), "predicted": str(one.predicted)} for one in history.surprises()],
            "chapters": list(map(_told, history.chapters)),
        }
        return json.dumps(said, indent=1)

    def to_html(self, path: str | os.PathLike[str] | None = None) -> str:
        """Give the run as a page of HTML to go through step by step, and write it where a path is given.

        It is one file that needs no network, and grows with what changes, not with the steps. Raises OSError.
        """
        from freezeinspect.views import html, lanes
        from freezeinspect.views.text import visible

        report = self.report()  # which settles the history
        title = visible(self.source.path or "a watched run")
        return html.write(lanes.page(self.history, title, report.findings, str(self)), path)

    def _repr_html_(self) -> str:
        from html import escape

        from freezeinspect.views import html

        return html.embedded(self.to_html(), f"<pre>{escape(str(self))}</pre>")

    def story(self) -> list[str]:
        """Tell the run in a few lines."""
        from freezeinspect.views.story import story

        self.history.settle()
        return story(self.history)

    def told(self) -> list[str]:
        """Tell it in lines of 80 columns, with what is wrong."""
        from freezeinspect.views import findings
        from freezeinspect.views.text import wrapped

        report = self.report()
        wrong = findings.beside(report.snapshot.structure, report.findings)
        return [*(wrapped(line, 80) for line in self.story()), *(["", wrong] if wrong else [])]

    def __str__(self) -> str:
        from freezeinspect.views.timeline import timeline

        return "\n".join([*self.told(), "", timeline(self.history.last, len(self))])

    __repr__ = __str__


def are_of_one_run(runs: Sequence[Run]) -> bool:
    """Tell whether these are the runs of several ranks, each of another."""
    return len({run.history.rank for run in runs}) == len(runs) > 1


def together(runs: Sequence[Run]) -> Run:
    """Read the runs of several ranks as one: the lowest rank's, and where the others were in another state.

    Each rank counts once. What differs is told as of the first step that began so; so is how far each got.
    """
    by_rank = {run.history.rank: run for run in sorted(runs, key=lambda one: one.history.rank)}
    first = next(iter(by_rank.values()))
    histories = {rank: run.history for rank, run in by_rank.items()}
    first.history.ranked(differing_histories(histories))
    path = f"{first.source.path} and {len(by_rank) - 1} more ranks"
    return Run(first.history, replace(first.source, path=path))


def _counted(part: str, seen: int) -> Iterator[str]:
    """Give the columns of `steps` that a tensor counts in, by what was seen of it."""
    if place := {"weights": STEP, "stats": FORWARD}.get(part):
        if seen & place:
            yield f"{part}_moved"
        if seen & (place | place << KNOWN):
            yield f"{part}_known"
    if seen & OUTSIDE:
        yield "moved_outside"


def _told(chapter: Chapter) -> dict[str, Any]:
    names = map(chapter.structure.full_name, range(len(chapter.structure.tensors)))
    return {
        "first": chapter.first,
        "structure": chapter.structure.digest,
        "flips": [_in_words(flip)._asdict() for flip in chapter.flips()],
        "tensors": {
            name: [{"first": one.first, "last": one.last, "looks": one.looks, **_places(one.seen)} for one in spans]
            for name, spans in zip(names, chapter.spans_by_tensor(), strict=True)
        },
    }


def _in_words(flip: Flip) -> Flip:
    return flip._replace(before=_word(flip.before), after=_word(flip.after))


def _places(seen: int) -> dict[str, str]:
    return {place: "yes" if seen & bit else "no" if seen >> KNOWN & bit else "unknown" for place, bit in PLACES.items()}


def _word(value: Any) -> Any:
    return value if value is None or isinstance(value, float) else str(value)
