"""What a policy expects beside what is so: the last line that matches wins, held against a reading by hand."""

from __future__ import annotations

import time
from collections.abc import Sequence

from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import freezeinspect as fi
from freezeinspect.expected import Comparison, Expectation, Expected, Names, seen
from freezeinspect.patterns import Pattern
from freezeinspect.state import NO, YES
from zoo import ZOO

PATTERNS = [
    "",
    "**",
    "*",
    "left",
    "right",
    "left.1",
    "right.1",
    "twice.[0-2]",
    "**.weight",
    "left.0.bias",
    "{left,twice}",
]
PATTERNS += ["l*", "left.*", "none", "**.1", "twice.2", "right.1.weight", "[l-r]*.0", "left.1.**"]
LINES = st.lists(st.tuples(st.sampled_from(PATTERNS), st.sampled_from([YES, NO])), max_size=6)
MODEL = ZOO["shared"]().model
REPORT = fi.inspect(MODEL)


def comparison(lines: Sequence[Expectation], complete: bool = False) -> Comparison:
    answers = seen(REPORT.snapshot, REPORT.verdicts)
    return Comparison(Expected(tuple(lines), complete), REPORT.snapshot.structure, answers, REPORT.verdicts.stats)


def last_that_matches(lines: Sequence[Expectation], first: str, others: Sequence[str]) -> int | None:
    """Give the last line that matches the first path; where none does, the last that matches another."""
    for paths in ([first], others):
        found = [n for n, line in enumerate(lines) if any(map(Pattern(line.pattern).matches, paths))]
        if found:
            return found[-1]
    return None


@settings(max_examples=300, deadline=None)
@given(LINES)
def test_of_the_lines_that_match_the_last_wins(chosen: list[tuple[str, fi.Answer]]) -> None:
    lines = [Expectation(pattern, {"requires_grad": answer, "training": answer}) for pattern, answer in chosen]
    structure, found = REPORT.snapshot.structure, comparison(lines)
    for i, said in enumerate(found.governing("training")):
        line = last_that_matches(lines, structure.paths[i], structure.aliases[i])
        assert said == (None if line is None else (line, chosen[line][1]))
    for i, said in enumerate(found.governing("requires_grad")):
        tensor = structure.tensors[i]
        others = [f"{alias}.{tensor.name}" for alias in structure.aliases[tensor.owner]]
        line = last_that_matches(lines, structure.full_name(i), others)
        assert said == (None if line is None else (line, chosen[line][1]))


@settings(max_examples=200, deadline=None)
@given(LINES, st.sampled_from(PATTERNS), st.sampled_from([YES, NO]))
def test_a_line_at_the_end_decides_all_that_it_matches_and_nothing_else(
    chosen: list[tuple[str, fi.Answer]], pattern: str, answer: fi.Answer
) -> None:
    lines = [Expectation(one, {"training": said}) for one, said in chosen]
    before = comparison(lines).governing("training")
    after = comparison([*lines, Expectation(pattern, {"training": answer})]).governing("training")
    places = Names(REPORT.snapshot.structure).matching(pattern)
    for i, (one, other) in enumerate(zip(before, after, strict=True)):
        if i in places.modules:
            assert other == (len(lines), answer)
        elif one is not None and i not in places.shared_modules:
            assert other == one


@settings(max_examples=200, deadline=None)
@given(LINES)
def test_a_line_that_is_written_twice_in_a_row_says_no_more(chosen: list[tuple[str, fi.Answer]]) -> None:
    lines = [Expectation(one, {"training": said}) for one, said in chosen]
    words = [said and said[1] for said in comparison(lines).governing("training")]
    doubled = [line for line in lines for _ in range(2)]
    assert [said and said[1] for said in comparison(doubled).governing("training")] == words


@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from(PATTERNS), max_size=4))
def test_what_no_line_matches_is_told_by_its_topmost_module(patterns: list[str]) -> None:
    structure = REPORT.snapshot.structure
    lines = [Expectation(pattern, {"requires_grad": YES}) for pattern in patterns]

    def is_matched(paths: list[str]) -> bool:
        return any(Pattern(pattern).matches(path) for pattern in patterns for path in paths)

    matched, lacking = set(), set()
    for i, path in enumerate(structure.paths):
        paths = [path, *structure.aliases[i]]
        names = [[f"{one}.{structure.tensors[n].name}" for one in paths] for n in structure.own[i]]
        if is_matched(paths):
            matched.add(path)
        elif not all(map(is_matched, names)) or not (structure.children[i] or names):
            lacking.add(path)
    told = {structure.paths[i] for i in comparison(lines, complete=True).uncovered()}

    def below(path: str) -> set[str]:
        return {one for one in structure.paths if not path or one == path or one.startswith(f"{path}.")}

    assert lacking <= set().union(set(), *map(below, told))
    for path in told:
        assert path in lacking or (lacking & below(path) and not matched & below(path))
        assert not any(path in below(other) and not matched & below(other) for other in told - {path})


def test_a_policy_of_many_lines_takes_time_by_what_they_match() -> None:
    model = nn.Sequential(*(nn.Sequential(nn.Linear(1, 1), nn.ReLU()) for _ in range(2000)))
    for i, block in enumerate(model):
        block[0].weight.requires_grad = bool(i % 2)
        block.train(i % 3 == 0)
    report = fi.inspect(model)
    lines = tuple(Expectation(path, {"training": answer}) for path, answer in zip(
        report.snapshot.structure.paths, report.snapshot.training, strict=True
    ))  # fmt: skip
    start = time.perf_counter()
    assert not fi.check(report, policy=fi.Policy(lines), select=["FI601", "FI602"])
    assert time.perf_counter() - start < 5  # 4,001 lines over 10,000 names: 0.2 s
