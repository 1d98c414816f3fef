"""The face of one model: a Report, module by module."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from freezeinspect.expected import Expected
from freezeinspect.observed import Observed
from freezeinspect.patterns import MatchesNothing, Pattern, nearest
from freezeinspect.state import NO, YES, Answer, Finding, Shape, Snapshot, Source, Structure, Tensor
from freezeinspect.verdicts import Summary, Verdicts, judge, summarise

if TYPE_CHECKING:
    import pandas as pd

    from freezeinspect.rules.facts import Facts
    from freezeinspect.views.rows import Row


class NoSuchModule(KeyError):
    """The model has no module at this path; the nearest ones are named."""

    def __init__(self, path: str, paths: Any) -> None:
        near = nearest(path, paths)
        hint = f"; did you mean {' or '.join(map(repr, near))}?" if near else "; report.find() takes patterns"
        self.message = f"no module at {path!r}{hint}"
        super().__init__(self.message)

    def __str__(self) -> str:
        return self.message


@dataclass(frozen=True)
class ModuleState:
    """One module of a report: its flags and its verdicts.

    `requires_grad`, `weights_move` and `stats_move` are over its subtree, all else is its own.
    """

    report: Report
    number: int

    @property
    def path(self) -> str:
        """Give the path as `named_modules` does; the root's is empty."""
        return self._structure.paths[self.number]

    @property
    def aliases(self) -> tuple[str, ...]:
        """Give the further paths of a shared module."""
        return self._structure.aliases[self.number]

    @property
    def type(self) -> str | None:
        """Give the fully qualified class name, as the user wrote it."""
        return self._structure.types[self.number]

    @property
    def training(self) -> Answer:
        """Tell whether the module is in train mode."""
        return self.report.snapshot.training[self.number]

    @property
    def trainable(self) -> Answer:
        """Give fastai's attribute; `absent` where it is missing."""
        return self.report.snapshot.trainable[self.number]

    @property
    def bn_freeze(self) -> Answer:
        """Give fastai's attribute; `absent` where it is missing."""
        return self.report.snapshot.bn_freeze[self.number]

    @property
    def drop_freeze(self) -> Answer:
        """Give fastai's attribute; `absent` where it is missing."""
        return self.report.snapshot.drop_freeze[self.number]

    @property
    def track_running_stats(self) -> Answer:
        """Give the norm layer's attribute; `absent` where it is missing."""
        return self.report.snapshot.track_running_stats[self.number]

    @property
    def momentum(self) -> float | None:
        """Give the norm layer's momentum."""
        return self.report.snapshot.momentum[self.number]

    @property
    def dropout(self) -> float | None:
        """Give a dropout's p."""
        return self.report.snapshot.dropout[self.number]

    @property
    def stray(self) -> tuple[str, ...]:
        """Give misspelled attributes that were set to false and freeze nothing."""
        return self.report.snapshot.stray.get(self.number, ())

    @property
    def requires_grad(self) -> Answer:
        """Tell whether the parameters of the subtree require a gradient."""
        return self.report.verdicts.requires_grad[self.number]

    @property
    def weights_move(self) -> Answer:
        """Tell whether the next step can move the weights of the subtree."""
        return self.report.verdicts.weights_move[self.number]

    @property
    def stats_move(self) -> Answer:
        """Tell whether the next forward can move the running statistics of the subtree."""
        return self.report.verdicts.stats_move[self.number]

    @property
    def normalises_with(self) -> str:
        """Tell what the module itself normalises with: batch, running, sample, none or unknown."""
        return self.report.verdicts.normalises_with[self.number]

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """Give the module's own parameters and buffers."""
        return tuple(self._structure.tensors[i] for i in self._structure.own[self.number])

    @property
    def findings(self) -> tuple[Finding, ...]:
        """Give what is wrong with the module itself."""
        return tuple(one for one in self.report.findings if one.path == self.path)

    @property
    def shape(self) -> Shape | None:
        """Give the output's shape and multiply-adds, where an input was given."""
        return self.report.shapes.get(self.path) if self.report.shapes else None

    @property
    def _structure(self) -> Structure:
        return self.report.snapshot.structure

    def __repr__(self) -> str:
        flags = ("training", "trainable", "bn_freeze", "requires_grad", "weights_move", "stats_move")
        said = ", ".join(f"{flag}={getattr(self, flag)}" for flag in flags)
        return f"ModuleState({self.path!r}, {said}, normalises_with={self.normalises_with})"


@dataclass(frozen=True, eq=False)
class Report:
    """The state of one model, module by module; everything that is worked out is made on first use.

    Two reports are equal when structure, flags and optimizers are.
    """

    snapshot: Snapshot
    observed: Observed = Observed()
    source: Source = Source()
    shapes: dict[str, Shape] | None = None

    @cached_property
    def verdicts(self) -> Verdicts:
        """What follows from the flags."""
        return judge(self.snapshot)

    @cached_property
    def summary(self) -> Summary:
        """The totals."""
        return summarise(self.snapshot, self.verdicts)

    @cached_property
    def findings(self) -> tuple[Finding, ...]:
        """What is wrong, by the rules that apply to what is known."""
        from freezeinspect.rules import find

        return tuple(find(self.facts()))

    def facts(self, expected: Expected = Expected()) -> Facts:
        """Give what the rules see, beside what a policy expects."""
        from freezeinspect.rules.facts import Facts

        return Facts(self.snapshot, self.observed, self.source, expected)

    @cached_property
    def sentence(self) -> str:
        """The state in one sentence."""
        from freezeinspect.views import text

        return text.sentence(self.snapshot, self.verdicts, self.summary)

    def __len__(self) -> int:
        return len(self.snapshot.structure)

    def __iter__(self) -> Iterator[ModuleState]:
        return (ModuleState(self, i) for i in range(len(self)))

    def __getitem__(self, path: str) -> ModuleState:
        index = self.snapshot.structure.index
        if path not in index:
            raise NoSuchModule(path, index)
        return ModuleState(self, index[path])

    def find(self, pattern: str) -> list[ModuleState]:
        """Give the modules that a pattern matches, each with its subtree, and the owners of matched tensors.

        Raises BadPattern and MatchesNothing.
        """
        glob, structure = Pattern(pattern), self.snapshot.structure
        found = {i for path, i in structure.index.items() if glob.matches(path)}
        found |= {tensor.owner for i, tensor in enumerate(structure.tensors) if glob.matches(structure.full_name(i))}
        aliases = ((alias, i) for i, paths in enumerate(structure.aliases) for alias in paths)
        found |= {
            i for alias, i in aliases for n in structure.own[i] if glob.matches(f"{alias}.{structure.tensors[n].name}")
        }
        if not found:
            raise MatchesNothing(pattern, structure.index)
        return [ModuleState(self, i) for i in sorted(found)]

    @property
    def frozen(self) -> list[ModuleState]:
        """Give the modules all of whose parameters are frozen."""
        return [module for module in self if module.requires_grad is NO]

    @property
    def trainable(self) -> list[ModuleState]:
        """Give the modules all of whose parameters require a gradient."""
        return [module for module in self if module.requires_grad is YES]

    def rows(self, depth: int | None = None, fold: bool = True, only: str | None = None) -> list[Row]:
        """Give the folded rows that every view is made of; `only` is a pattern for the modules to keep.

        Raises BadPattern and MatchesNothing.
        """
        from freezeinspect.views import findings, rows

        kept = None if only is None else {module.number for module in self.find(only)}
        codes = findings.codes(self.snapshot.structure, self.findings)
        about = (self.snapshot, self.verdicts, self.observed, self.shapes, codes)
        return rows.rows(*about, depth=depth, fold=fold, kept=kept)

    def tree(
        self,
        depth: int | None = None,
        fold: bool = True,
        width: int = 80,
        only: str | None = None,
        colour: bool = False,
    ) -> str:
        """Draw the folded tree, with what is known of its file and the sentence."""
        from freezeinspect.views import text

        return self._with_text(text.tree(self.rows(depth, fold, only), width, colour), width)

    def table(self, depth: int | None = None, fold: bool = True, only: str | None = None) -> str:
        """Write the folded rows as a table with whole paths, however wide."""
        from freezeinspect.views import text

        return self._with_text(text.listing(self.rows(depth, fold, only)))

    def _with_text(self, drawn: str, width: int | None = None) -> str:
        from freezeinspect.views import text

        before, after = self._notes()
        if width is not None:
            before, after = text.wrapped(before, width), [text.wrapped(note, width) for note in after]
        return "\n\n".join(filter(None, [before, drawn, *after]))

    def _notes(self) -> tuple[str, list[str]]:
        """Give what stands above the rows, and below them: the sentence first, then what is wrong."""
        from freezeinspect.views import findings, notes

        wrong = findings.beside(self.snapshot.structure, self.findings)
        below = notes.below(self.snapshot, self.observed, self.source)
        return notes.above(self.source), [self.sentence, *filter(None, [wrong]), *below]

    def __str__(self) -> str:
        return self.tree()

    def __repr__(self) -> str:
        return self.tree(colour=sys.stdout.isatty() and not os.environ.get("NO_COLOR"))

    def _repr_html_(self) -> str:
        from freezeinspect.views import html, text

        return html.embedded(self.to_html(), text.html_table(self.rows(), *self._notes()))

    def to_html(self, path: str | os.PathLike[str] | None = None) -> str:
        """Give the modules as a page of HTML to search and filter, and write it where a path is given.

        It is one file that needs no network; where scripts do not run, it is a table. Raises OSError.
        """
        from freezeinspect.views import html, notes

        worked_out = self.verdicts, self.observed, self.shapes, self.summary, self.findings
        below = notes.below(self.snapshot, self.observed, self.source)
        said = notes.above(self.source), [self.sentence, *below]  # what is wrong has its own place there
        return html.write(html.report(self.snapshot, *worked_out, said, self.rows()), path)

    def to_markdown(self, depth: int | None = None, fold: bool = True, only: str | None = None) -> str:
        """Write the folded rows as a Markdown table, with what is known of its file and the sentence."""
        from freezeinspect.views import text

        above, (sentence, *below) = self._notes()
        return text.markdown(self.rows(depth, fold, only), above, sentence, below)

    def to_frame(self) -> pd.DataFrame:
        """Give a pandas frame with one row a module, indexed by path."""
        from freezeinspect.views import frame

        return frame.frame(self.snapshot, self.verdicts, self.shapes)

    def to_json(self) -> str:
        """Write the record as JSON, version 1 (docs/design.md, section 3)."""
        from freezeinspect.serial import dumps

        return dumps(self.snapshot, self.observed, self.source, self.findings)

    @classmethod
    def from_json(cls, text: str | bytes) -> Report:
        """Read a report back from its JSON. Raises NotARecord."""
        from freezeinspect.serial import loads

        record = loads(text)
        return cls(record.snapshot, record.observed, record.source)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Report) and self.snapshot == other.snapshot

    def __hash__(self) -> int:
        return hash(self.snapshot.structure.paths)
