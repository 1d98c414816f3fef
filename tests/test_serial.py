"""JSON, version 1: the contract of docs/design.md section 3, and the way there and back."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from torch import nn
from torch.optim import SGD

from freezeinspect import Answer, Finding, Observed, Report, Snapshot, Structure, inspect
from freezeinspect.observed import Disagreement, Flip, Lived, Moved, Movement, Surprise, Times, Turn
from freezeinspect.serial import NotARecord, Record, dumps, loads
from freezeinspect.state import Group, Optimizer, Reduction, Source
from freezeinspect.verdicts import Summary, judge, summarise
from zoo import ZOO, Residual, Specimen, Tied

SCHEMA = json.loads((files("freezeinspect") / "schema.json").read_text())
VALIDATOR = Draft202012Validator(SCHEMA)
DESIGN = Path(__file__).parents[1] / "docs/design.md"
NORMALISES = set(SCHEMA["$defs"]["Module"]["properties"]["normalises_with"]["examples"])
DERIVED = ("requires_grad", "weights_move", "stats_move", "normalises_with")  # of a module


def optimizer_of(specimen: Specimen) -> SGD:
    """Make an optimizer that owns an orphan too, and step it once on a gradient if the model gives one."""
    optimizer = SGD([*specimen.model.parameters(), nn.Parameter(torch.zeros(1))], lr=0.1, momentum=0.9)
    if specimen.runs and (loss := specimen.loss()).requires_grad:
        loss.backward()
    optimizer.step()
    return optimizer


FINDING = Finding("FI001", "a-rule", "error", "0", "seen", "weight", 3, "train.py:7", (0, 1), "model.eval()")
FLIP = Flip(3, False, "0", "training", Answer.NO, Answer.YES, "train.py:7 in fit")
SURPRISE = Surprise("0.weight", "step", Answer.YES, 2, 3, 2)
MOVED, TURN = Movement(stats=Moved(forward=Answer.YES)), Turn(2, "0", Answer.YES, Answer.NO, None)
RUN = ((FLIP,), (SURPRISE,), 3, (Lived(),) * 5, (TURN,), Times(1, 2), (("0", 2),))
RANKS = (Disagreement("0", "weight", "requires_grad", (("yes", (0, 2)), ("no", (1,))), 2),)
REDUCED = (Reduction("", 2, ("0.bias",), True),)
SEEN = Observed((None, MOVED), ("collections.OrderedDict",), *RUN, RANKS, ((0, 2),))
WHENCE = Source("file", "model.pt", "zip", "module")


def text_of_everything() -> str:
    model = nn.Sequential(nn.BatchNorm1d(2))
    snapshot = inspect(model, SGD(model.parameters(), lr=0.1)).snapshot
    fingerprints = tuple(f"{i:032x}" for i in range(len(snapshot.requires_grad)))
    return dumps(replace(snapshot, fingerprints=fingerprints, reductions=REDUCED), SEEN, WHENCE, [FINDING])


EVERYTHING = text_of_everything()


def full() -> dict[str, Any]:
    return json.loads(EVERYTHING)


def keys(record: Any) -> Iterator[str]:
    """Give every key of a record once, by the last part of each list; `Moved` is written apart in the design."""
    if isinstance(record, list) and record:
        yield from keys(record[-1])
    elif isinstance(record, dict):
        for key, value in record.items():
            yield key
            if key not in ("weights", "stats", "buffers"):
                yield from keys(value)


def test_the_keys_are_exactly_those_of_the_design() -> None:
    _, contract = DESIGN.read_text().split('```\n{"schema"')
    written = ["schema", *re.findall(r'"(\w+)":', contract.partition("```")[0])]
    record = full()
    assert sorted(keys(record)) == sorted(written)
    assert set(record["modules"][-1]["observed"]["stats"]) == {"forward", "step", "outside"}


def test_the_schema_is_one_and_describes_and_requires_each_key() -> None:
    Draft202012Validator.check_schema(SCHEMA)
    for part in (SCHEMA, *[part for part in SCHEMA["$defs"].values() if "properties" in part]):
        assert part["required"] == list(part["properties"])
        assert all("description" in node for node in part["properties"].values())


def places(record: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Give the place of every key in a record."""
    entries = record.items() if isinstance(record, dict) else enumerate(record) if isinstance(record, list) else ()
    for key, value in entries:
        if isinstance(key, str):
            yield (*path, key)
        yield from places(value, (*path, key))


def at(record: Any, path: tuple[Any, ...]) -> Any:
    for key in path:
        record = record[key]
    return record


def test_the_schema_notices_each_key_that_is_missing_and_each_value_of_a_wrong_type() -> None:
    assert VALIDATOR.is_valid(full())
    for path in list(places(full())):
        for spoil in (dict.pop, lambda part, key: part.update({key: {"wrong": 1}})):
            record = full()
            spoil(at(record, path[:-1]), path[-1])
            assert not VALIDATOR.is_valid(record), path


@pytest.mark.parametrize("stepped", [False, True], ids=["alone", "with an optimizer"])
@pytest.mark.parametrize("name", ZOO)
def test_every_model_of_the_zoo_fits_the_contract_and_comes_back_equal(name: str, stepped: bool) -> None:
    specimen = ZOO[name]()
    report = inspect(specimen.model, optimizer_of(specimen) if stepped else None)
    text = report.to_json()
    record = json.loads(text)
    VALIDATOR.validate(record)
    assert list(record) == SCHEMA["required"]
    assert {tuple(module) for module in record["modules"]} == {tuple(SCHEMA["$defs"]["Module"]["required"])}
    assert {module["normalises_with"] for module in record["modules"]} <= NORMALISES
    back = Report.from_json(text)
    assert back == report
    assert (back.verdicts, back.summary, back.source) == (report.verdicts, report.summary, report.source)
    assert back.to_json() == text


# Random records. A name is what torch takes for one: not empty, and without dots.

NAMES = st.text(st.characters(exclude_characters="."), min_size=1, max_size=4) | st.sampled_from(
    ['"', "\n", "\0", "\\", "'", "\u2028", "1*", "[0]", " ", "𝄞", "weight", "running_mean", "running_var", "bias"]
)
ANSWERS = st.sampled_from(Answer)
NUMBERS = st.none() | st.floats(allow_nan=False, allow_infinity=False)
TYPES = st.none() | st.sampled_from(["torch.nn.modules.instancenorm.InstanceNorm2d", "torch.nn.BatchNorm1d", "m.Own"])
TREES = st.recursive(st.just({}), lambda below: st.dictionaries(NAMES, below, max_size=3), max_leaves=8)
TENSORS = st.tuples(
    st.sampled_from(["parameter", "buffer", "unknown"]),
    st.none() | st.lists(st.integers(0, 9), max_size=3).map(tuple),
    st.sampled_from([None, "float32", "bfloat16"]),
    st.none() | st.integers(0, 2),
)
MOVED = st.builds(Moved, ANSWERS, ANSWERS, ANSWERS)
GROUPS = st.builds(Group, NUMBERS, NUMBERS, *[st.none() | st.integers(0, 9)] * 3, st.sampled_from([(), ((2, 3), ())]))
SOURCES = st.builds(Source, st.sampled_from(["module", "file", "watch"]), *[st.none() | st.text()] * 3)


def paths(tree: dict[str, Any], top: str = "") -> Iterator[str]:
    yield top
    for name, below in tree.items():
        yield from paths(below, f"{top}.{name}" if top else name)


@st.composite
def structures(draw: st.DrawFn) -> Structure:
    modules = tuple(paths(draw(TREES)))
    numbers = st.integers(0, len(modules) - 1)
    edges = draw(st.lists(st.tuples(numbers, NAMES, numbers), max_size=4))
    joined = {f"{modules[i]}.{name}".lstrip("."): target for i, name, target in edges}
    shared = sorted(((path, i) for path, i in joined.items() if path not in modules), key=lambda edge: edge[1])
    owned = [draw(st.dictionaries(NAMES, TENSORS, max_size=3)) for _ in modules]
    tensors = [(i, name, *facts) for i, held in enumerate(owned) for name, facts in held.items()]
    tensors.sort(key=lambda tensor: ("parameter", "buffer", "unknown").index(tensor[2]))
    types = tuple(draw(TYPES) for _ in modules)
    return Structure(modules, types, tuple(zip(*tensors, strict=True)) or ((),) * 6, tuple(shared))


@st.composite
def records(draw: st.DrawFn) -> Record:
    structure = draw(structures())
    modules, tensors = len(structure), len(structure.tensors)

    def each(strategy: st.SearchStrategy[Any], count: int) -> tuple[Any, ...]:
        return tuple(draw(st.lists(strategy, min_size=count, max_size=count)))

    optimizers = tuple(draw(st.lists(st.builds(Optimizer, TYPES, st.lists(GROUPS, max_size=2).map(tuple)), max_size=3)))
    count = sum(len(one.groups) for one in optimizers)
    looked = tensors if optimizers else 0
    in_groups = st.none() | st.lists(st.sampled_from(range(count)), unique=True).map(tuple)
    prints = each(st.none() | st.text(min_size=1), tensors)
    movement = each(st.none() | st.builds(Movement, MOVED, MOVED, MOVED), modules)
    snapshot = Snapshot(
        structure,
        *[each(ANSWERS, modules) for _ in range(5)],
        *[each(NUMBERS, modules) for _ in range(2)],
        draw(st.dictionaries(st.integers(0, modules - 1), st.lists(NAMES, min_size=1).map(tuple), max_size=2)),
        each(ANSWERS, tensors),
        optimizers,
        each(in_groups if count else st.just(()), looked),
        each(ANSWERS, looked),
        each(ANSWERS, looked),
        prints if any(prints) else (),
    )
    imports = tuple(draw(st.lists(st.text(), max_size=2)))
    return Record(draw(SOURCES), snapshot, Observed(movement if any(movement) else (), imports))


def written(record: Record) -> str:
    return dumps(record.snapshot, record.observed, record.source)


def extended(record: Any) -> Any:
    """Add a key that no reader knows to every object, but not to the words of an answer."""
    if isinstance(record, list):
        return [extended(one) for one in record]
    if isinstance(record, dict):
        return {key: extended(value) for key, value in record.items()} | {"added later": {"anything": [None]}}
    return record


@given(records())
@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_any_record_comes_back_equal_with_its_verdicts(record: Record) -> None:
    text = written(record)
    back = loads(text)
    VALIDATOR.validate(json.loads(text))
    assert back == record
    assert judge(back.snapshot) == judge(record.snapshot)
    assert written(back) == text
    assert loads(text.encode()) == back


@given(records())
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_keys_may_be_added_anywhere_and_are_ignored(record: Record) -> None:
    more = extended(json.loads(written(record)))
    VALIDATOR.validate(more)
    assert loads(json.dumps(more)) == record


@pytest.mark.parametrize("spoil", [dict.pop, lambda part, key: part.update({key: "nonsense"})], ids=["gone", "wrong"])
def test_what_is_derived_is_worked_out_anew(spoil: Callable[[Any, str], Any]) -> None:
    record = full()
    before = loads(json.dumps(record))
    for key in ("summary", "findings"):
        spoil(record, key)
    for module in record["modules"]:
        for key in DERIVED:
            spoil(module, key)
    assert loads(json.dumps(record)) == before


def test_a_shared_module_and_a_cycle_come_back() -> None:
    model, shared = nn.Sequential(nn.Sequential(), nn.Sequential()), nn.Sequential(nn.BatchNorm1d(2))
    for parent in model:
        parent.add_module("it", shared)
        parent.add_module("again", shared)
    shared.add_module("up", model)
    report = inspect(model)
    assert report["0.it"].aliases[:3] == ("0.again", "1.it", "1.again")
    assert Report.from_json(report.to_json()) == report


def test_a_name_with_dots_comes_back_though_only_an_attribute_can_have_one() -> None:
    model = nn.Module()
    setattr(model, "a.b", nn.Linear(2, 2))
    setattr(model, "c.d", getattr(model, "a.b"))
    report = inspect(model)
    assert report["a.b"].aliases == ("c.d",)
    assert Report.from_json(report.to_json()) == report


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_nan_and_infinity_never_reach_the_json(value: float) -> None:
    model = nn.Sequential(nn.BatchNorm1d(2, momentum=value), nn.Dropout())
    model[1].p = value
    optimizer = SGD(model.parameters(), lr=0.1)
    optimizer.param_groups[0].update(lr=value, weight_decay=torch.tensor(value))
    record = json.loads(inspect(model, optimizer).to_json(), parse_constant=pytest.fail)
    assert [module["momentum"] for module in record["modules"]] == [None] * 3
    assert [record["optimizers"][0]["groups"][0][key] for key in ("lr", "weight_decay")] == [None, None]


# What is no record.


def refusal(text: str | bytes) -> str:
    with pytest.raises(NotARecord) as caught:
        loads(text)
    return str(caught.value)


def spoiled(path: tuple[Any, ...], value: Any) -> str:
    record = full()
    at(record, path[:-1])[path[-1]] = value
    return json.dumps(record)


EACH = {tuple(part for part in path if isinstance(part, str)): path for path in places(full())}
NEEDED = [
    path
    for path in EACH.values()
    if path[0] not in ("summary", "findings") and path[-1] != "index" and (len(path) != 3 or path[-1] not in DERIVED)
]
NOT_JSON = {
    "nothing": "",
    "cut off": "{",
    "a path": "model.pt",
    "bytes": b"\x80\x02}",
    "deep": "[" * 100_000,
    "NaN": spoiled(("imports",), math.nan),
}


@pytest.mark.parametrize("text", NOT_JSON.values(), ids=NOT_JSON)
def test_what_is_not_json_is_refused(text: str | bytes) -> None:
    assert re.fullmatch(r"not JSON: .*; expected the text that report.to_json\(\) writes", refusal(text))


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        (spoiled(("schema",), "freezeinspect/2"), "'freezeinspect/2'"),
        (spoiled(("schema",), {}), "{}"),
        ("{}", "None"),
        ("[]", "'list'"),
        ("null", "'NoneType'"),
    ],
)
def test_another_schema_or_none_is_refused(text: str, seen: str) -> None:
    assert refusal(text) == f'schema: expected "freezeinspect/1", saw {seen}; write it anew with report.to_json()'


@pytest.mark.parametrize("path", NEEDED, ids=lambda path: ".".join(map(str, path)))
def test_a_missing_key_is_refused_and_named_where_it_is_missing(path: tuple[Any, ...]) -> None:
    record = full()
    del at(record, path[:-1])[path[-1]]
    where, _, rest = refusal(json.dumps(record)).partition(": ")
    assert where.startswith(path[0])
    if path != ("schema",):
        assert f"'{path[-1]}'" in rest
        assert rest.endswith("; see freezeinspect/schema.json")


ANSWERED = [path for path in NEEDED if at(full(), path) in [str(answer) for answer in Answer]]


@pytest.mark.parametrize("path", ANSWERED, ids=lambda path: ".".join(map(str, path)))
def test_an_answer_that_is_none_of_the_five_words_is_refused(path: tuple[Any, ...]) -> None:
    message = refusal(spoiled(path, "maybe"))
    assert message.startswith(path[0])
    assert "'maybe'" in message


@pytest.mark.parametrize(
    ("path", "value", "seen"),
    [
        (("modules", 1, "tensors", 0, "kind"), "weight", "'weight'"),
        (("modules", 1, "tensors", 0, "groups"), [7], "7"),
        (("modules", 0, "path"), "body", "'body'"),  # no root: no way up from any module would end
        (("modules",), [], "modules"),
    ],
)
def test_a_record_that_contradicts_itself_is_refused(path: tuple[Any, ...], value: Any, seen: str) -> None:
    assert seen in refusal(spoiled(path, value))


def test_the_summary_counts_elements_modes_and_layers_with_statistics() -> None:
    model = Residual()
    model.layer1.requires_grad_(False).eval()
    model.layer2.bn.momentum = 0
    frozen = sum(p.numel() for p in model.layer1.parameters())
    total = sum(p.numel() for p in model.parameters())
    assert inspect(model).summary == Summary(19, total, total - frozen, frozen, 16, 3, 4, 2)


def test_a_tied_tensor_counts_once() -> None:
    assert inspect(Tied()).summary.parameters == 40
    assert inspect(Tied().requires_grad_(False)).summary.frozen_parameters == 40


@pytest.mark.parametrize("name", ZOO)
def test_the_totals_of_the_zoo_are_those_that_torch_counts(name: str) -> None:
    model = ZOO[name]().model
    counted = inspect(model).summary
    assert counted.modules == len(list(model.modules()))
    assert counted.train_mode_modules == sum(module.training for module in model.modules())
    sizes = [(p.numel(), p.requires_grad) for p in model.parameters()] if name != "lazy" else None
    assert counted.parameters == (None if sizes is None else sum(size for size, _ in sizes))
    assert counted.trainable_parameters == (None if sizes is None else sum(size for size, needs in sizes if needs))


def test_totals_that_the_source_cannot_tell_are_none() -> None:
    snapshot = inspect(nn.Sequential(nn.BatchNorm1d(2))).snapshot
    columns = snapshot.structure.columns
    structure = replace(snapshot.structure, columns=(*columns[:2], ("unknown",) * 5, *columns[3:]))
    nobody_knows = {"training": (Answer.UNKNOWN,) * 2, "requires_grad": (Answer.UNKNOWN,) * 5}
    plain = replace(snapshot, structure=structure, **nobody_knows)
    counted = summarise(plain, judge(plain))
    assert (counted.modules, counted.stats_layers) == (2, 1)
    assert {value for key, value in vars(counted).items() if key not in ("modules", "stats_layers")} == {None}
