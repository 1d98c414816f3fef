"""The face of a run, watched or read from its log: its story, its steps, and what changed."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from itertools import accumulate, product
from typing import TYPE_CHECKING, Any

from freezeinspect.chapters import KNOWN, PLACES, Chapter
from freezeinspect.history import OUTCOMES, History
from freezeinspect.observed import Flip
from freezeinspect.report.model import Report
from freezeinspect.state import Source

if TYPE_CHECKING:
    import pandas as pd

SCHEMA = "freezeinspect-run/1"


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

        A count is of the tensors that a look saw move, or that lie between two looks which both did.
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
        """Count by part and place, step by step, from where each span begins and ends."""
        self.history.settle()
        names = {("weights", "step"): "weights_moved", ("stats", "forward"): "stats_moved"}
        names |= dict.fromkeys(product(("weights", "stats", "buffers"), ("outside",)), "moved_outside")
        edges = {name: [0] * (len(self) + 2) for name in names.values()}
        for chapter in self.history.chapters:
            for (_, tensor), spans in chapter.spans.items():
                for span in spans:
                    for place, bit in PLACES.items():
                        name = names.get(
                            (chapter.parts[tensor], place), "moved_outside" if place == "outside" else None
                        )
                        if name and span.seen & bit and span.first:
                            edges[name][span.first] += 1
                            edges[name][span.last + 1] -= 1
        return {name: list(accumulate(steps))[1 : len(self) + 1] for name, steps in edges.items()}

    def table(self, step: int) -> str:
        """Lay one step out: the flags before → after, and what moved in it. Raises IndexError for none such."""
        if not 1 <= step <= len(self):
            raise IndexError(f"no step {step}: the run has steps 1 to {len(self)}")
        from freezeinspect.views.timeline import side_by_side

        chapter = self.history.chapter_of(step)
        before, after = chapter.state_at(step - 1, within=True), chapter.state_at(step, within=True)
        return side_by_side(before.snapshot, after.snapshot, self._moved_in(step))

    def _moved_in(self, step: int) -> list[frozenset[str]]:
        """Say of each module which of its own parts moved in a step, and where."""
        chapter, bits = self.history.chapter_of(step), self.history.moved(step)
        found: list[set[str]] = [set() for _ in chapter.structure.paths]
        for tensor, part, seen in zip(chapter.structure.tensors, chapter.parts, bits, strict=True):
            found[tensor.owner] |= {f"{part} in {place}" for place, bit in PLACES.items() if seen & bit}
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

    def story(self) -> list[str]:
        """Tell the run in a few lines."""
        from freezeinspect.views.story import story

        self.history.settle()
        return story(self.history)

    def told(self) -> list[str]:
        """Tell it in lines of 80 columns."""
        from freezeinspect.views.text import wrapped

        return [wrapped(line, 80) for line in self.story()]

    def __str__(self) -> str:
        from freezeinspect.views.timeline import timeline

        return "\n".join([*self.told(), "", timeline(self.history.last, len(self))])

    __repr__ = __str__


def _told(chapter: Chapter) -> dict[str, Any]:
    tensors = range(len(chapter.structure.tensors))
    return {
        "first": chapter.first,
        "structure": chapter.structure.digest,
        "flips": [_in_words(flip)._asdict() for flip in chapter.flips()],
        "tensors": {
            chapter.structure.full_name(i): [
                {"first": one.first, "last": one.last, "looks": one.looks, **_places(one.seen)}
                for one in chapter.spans_of(i)
            ]
            for i in tensors
        },
    }


def _in_words(flip: Flip) -> Flip:
    return flip._replace(before=_word(flip.before), after=_word(flip.after))


def _places(seen: int) -> dict[str, str]:
    return {place: "yes" if seen & bit else "no" if seen >> KNOWN & bit else "unknown" for place, bit in PLACES.items()}


def _word(value: Any) -> Any:
    return value if value is None or isinstance(value, float) else str(value)
