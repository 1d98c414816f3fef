"""torch.export's files: what their lists and their graph say, and what they have lost."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch._export.serde.serialize import _SERIALIZE_TO_TORCH_DTYPE
from torch.export.pt2_archive._package import package_pt2

import freezeinspect as fi
from freezeinspect.fingerprint import of_tensor
from freezeinspect.readers.exported import DTYPES
from freezeinspect.readers.limits import Unreadable
from freezeinspect.state import ABSENT, MIXED, NO, UNKNOWN, YES, Answer
from zoo import ZOO, Block, Specimen, quiet

SAVED = """plain_cnn residual transformer lstm tied shared nested weight_norm_hook weight_norm_parametrized
    spectral_norm_hook spectral_norm_parametrized lora batchnorm_root sync_batchnorm instance_norm frozen_batchnorm
    empty root_parameter complex_valued bfloat16 layouts resnet""".split()


INPUT = (torch.ones(2, 3, 4, 4),)


class Kinds(nn.Module):
    """Hold one tensor of every kind that a file of torch.export keeps in its own way."""

    def __init__(self) -> None:
        super().__init__()
        self.block = nn.Sequential(Block(3), nn.ReLU(), nn.Dropout(0.1))
        self.block[0].conv.requires_grad_(False)
        self.scale = nn.Parameter(torch.rand(3, 1, 1))
        self.turned = nn.Parameter(torch.rand(3, 4).t(), requires_grad=False)
        self.rough = nn.Parameter(torch.rand(4).bfloat16())
        self.first, self.second = nn.Linear(3, 3), nn.Linear(3, 3)
        self.second.weight = self.first.weight
        self.register_buffer("unsaved", torch.rand(3, 1, 1), persistent=False)
        self.register_buffer("scalar", torch.tensor(2.0))
        shared = torch.rand(9)
        self.register_buffer("head", shared[:6])
        self.register_buffer("tail", shared[4:])
        self.constant = torch.rand(3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.block(x * self.scale) * self.unsaved * self.scalar
        x = self.second(self.first(x.mean((2, 3)))) + self.constant
        return x @ self.turned.t() + self.rough + self.head.sum() + self.tail.sum()


def program(specimen: Specimen, **options: Any) -> torch.export.ExportedProgram:
    with quiet():
        return torch.export.export(specimen.model, specimen.args or (), specimen.kwargs, **options)


def exported(**options: Any) -> torch.export.ExportedProgram:
    torch.manual_seed(0)
    return program(Specimen(Kinds(), INPUT), **options)


kinds = cache(exported)


def saved(value: Any, path: Path) -> Path:
    with quiet():
        torch.export.save(value if isinstance(value, torch.export.ExportedProgram) else program(value), path)
    return path


def loaded(path: Path) -> torch.export.ExportedProgram:
    with quiet():
        return torch.export.load(path)


def tensors(report: fi.Report) -> dict[str, Any]:
    structure = report.snapshot.structure
    return {structure.full_name(i): one for i, one in enumerate(structure.tensors)}


def agrees(known: Answer, live: Answer) -> bool:
    """Tell whether an answer of a file could stand beside the model's."""
    return known in (UNKNOWN, live)


class TestWhatAFileTells:
    @pytest.mark.parametrize("name", ["kinds", *SAVED])
    def test_is_what_torch_loads(self, name: str, tmp_path: Path) -> None:
        path = saved(kinds() if name == "kinds" else ZOO[name](), tmp_path / "model.pt2")
        report, back = fi.inspect(path, values=True), loaded(path)
        buffers = dict(back.named_buffers())
        expected = {**dict(back.named_parameters()), **buffers}
        structure, snapshot = report.snapshot.structure, report.snapshot
        assert {structure.full_name(i) for i in range(len(structure.tensors))} == set(expected)
        for i, one in enumerate(structure.tensors):
            tensor = expected[structure.full_name(i)]
            assert (one.shape, f"torch.{one.dtype}") == (tuple(tensor.shape), str(tensor.dtype))
            assert one.kind == ("buffer" if structure.full_name(i) in buffers else "parameter")
            required = YES if tensor.requires_grad else NO
            assert snapshot.requires_grad[i] is (ABSENT if one.kind == "buffer" else required)
            assert snapshot.fingerprints[i] == of_tensor(tensor)

    @pytest.mark.parametrize("strict", [False, True])
    @pytest.mark.parametrize("name", SAVED)
    def test_never_contradicts_the_model(self, name: str, strict: bool, tmp_path: Path) -> None:
        specimen = ZOO[name]()
        for i, parameter in enumerate(specimen.model.parameters()):
            parameter.requires_grad = parameter.is_floating_point() and i % 2 == 0
        live = fi.inspect(specimen.model)
        report = fi.inspect(saved(program(specimen, strict=strict), tmp_path / "model.pt2"))
        assert {module.path for module in report} >= {module.path for module in live}
        for module in report:
            twin = live[module.path]
            assert module.type in (None, twin.type)
            for flag in ("training", "trainable", "bn_freeze", "drop_freeze", "track_running_stats"):
                assert agrees(getattr(module, flag), getattr(twin, flag)), (module, flag)
            for verdict in ("requires_grad", "weights_move", "stats_move"):
                assert agrees(getattr(module, verdict), getattr(twin, verdict)), (module, verdict)
            assert module.normalises_with in ("unknown", twin.normalises_with)

    @pytest.mark.parametrize("strict", [False, True])
    def test_has_every_module_in_order_with_the_class_of_those_that_were_called(
        self, strict: bool, tmp_path: Path
    ) -> None:
        report = fi.inspect(saved(program(ZOO["resnet"](), strict=strict), tmp_path / "model.pt2"))
        live = fi.inspect(ZOO["resnet"]().model)
        assert [module.path for module in report] == [module.path for module in live]
        without = {live[module.path].type.rpartition(".")[2] for module in report if module.type is None}
        assert without == {"ModuleList", "Sequential", "Identity"}  # walked by hand, or without an operation

    def test_is_who_is_frozen_and_no_mode(self, tmp_path: Path) -> None:
        report = fi.inspect(saved(kinds(), tmp_path / "model.pt2"))
        bn, conv = report["block.0.bn"], report["block.0.conv"]
        assert (conv.requires_grad, bn.requires_grad, report[""].requires_grad) == (NO, YES, MIXED)
        assert (conv.weights_move, bn.weights_move) == (NO, YES)
        assert (bn.training, bn.stats_move, bn.normalises_with) == (UNKNOWN, UNKNOWN, "unknown")
        assert report["block.2"].type == "torch.nn.modules.dropout.Dropout"
        assert report.summary.parameters == sum(one.numel() for one in Kinds().parameters())
        assert (report.source.format, report.source.content) == ("torch.export", "an exported program")

    def test_has_buffers_of_both_lists_and_no_constants(self, tmp_path: Path) -> None:
        found = tensors(fi.inspect(saved(kinds(), tmp_path / "model.pt2")))
        assert {found[name].kind for name in ("unsaved", "scalar", "head")} == {"buffer"}
        assert "constant" not in found

    def test_ties_what_is_one_tensor_and_not_what_overlaps(self, tmp_path: Path) -> None:
        found = tensors(fi.inspect(saved(kinds(), tmp_path / "model.pt2")))
        assert found["first.weight"].tie == found["second.weight"].tie is not None
        assert [found[name].tie for name in ("head", "tail", "scale")] == [None] * 3

    def test_is_the_same_with_dynamic_shapes(self, tmp_path: Path) -> None:
        given = ({0: torch.export.Dim.AUTO},)
        fixed = saved(kinds(), tmp_path / "fixed.pt2")
        assert fi.inspect(saved(exported(dynamic_shapes=given), tmp_path / "free.pt2")) == fi.inspect(fixed)

    def test_of_tensors_without_values_is_no_tie_and_no_value(self, tmp_path: Path) -> None:
        report = fi.inspect(saved(ZOO["meta"](), tmp_path / "model.pt2"), values=True)
        assert report.snapshot.structure.tie_groups == {}
        assert set(report.snapshot.fingerprints) == {None}

    def test_ends_where_only_a_pickle_within_tells_more(self, tmp_path: Path) -> None:
        path = rewritten(saved(kinds(), tmp_path / "model.pt2"), WEIGHTS, pickled("scale"))
        report = fi.inspect(path, values=True)
        names = [report.snapshot.structure.full_name(i) for i in range(len(report.snapshot.fingerprints))]
        prints = dict(zip(names, report.snapshot.fingerprints, strict=True))
        assert [name for name, known in prints.items() if known is None] == ["scale"]
        assert (tensors(report)["scale"].shape, tensors(report)["scale"].kind) == ((3, 1, 1), "parameter")
        said = "an exported program; not told without running it: scale (a pickle within the file)"
        assert report.source.content == said


def test_every_dtype_has_torchs_number() -> None:
    expected = {int(number): str(dtype) for number, dtype in _SERIALIZE_TO_TORCH_DTYPE.items()}
    assert {number: f"torch.{name}" for number, name in DTYPES.items()} == expected


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_any_one_element_that_changes_is_found(data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("elements")
    before, tensors = (
        saved(kinds(), folder / "before.pt2"),
        {**kinds().state_dict, "unsaved": kinds().constants["unsaved"]},
    )
    name = data.draw(st.sampled_from(sorted(tensors)))
    tensor = tensors[name].data
    at = tuple(data.draw(st.integers(0, length - 1)) for length in tensor.shape)
    kept = tensor[at].clone()
    tensor[at] += 1
    found = fi.diff(before, saved(kinds(), folder / "after.pt2")).differences
    tensor[at] = kept
    changed = {one.name for kind in ("weights", "stats", "buffers") for one in found.changed(kind)}
    same = next(({*names} for names in (("head", "tail"), ("first.weight", "second.weight")) if name in names), {name})
    assert name in changed <= same


class TestSeveralPrograms:
    @pytest.fixture
    def path(self, tmp_path: Path) -> Path:
        programs = {"ema": program(ZOO["lora"]()), "model": program(ZOO["plain_cnn"]())}
        with quiet():
            package_pt2(str(tmp_path / "both.pt2"), exported_programs=programs)
        return tmp_path / "both.pt2"

    def test_the_one_that_torch_loads_is_read_and_the_others_are_named(self, path: Path) -> None:
        report = fi.inspect(path, values=True)
        assert not fi.diff(path, saved(ZOO["plain_cnn"](), path.with_name("one.pt2")))
        assert report.source.content == "an exported program under 'model' (also there: 'ema'; --key chooses)"

    def test_a_key_chooses(self, path: Path) -> None:
        report = fi.inspect(path, key="ema")
        assert report["0.lora_A"].type == "torch.nn.modules.linear.Linear"
        assert report.source.content == "an exported program under 'ema' (also there: 'model'; --key chooses)"

    def test_a_key_that_is_not_there_is_an_error(self, path: Path) -> None:
        with pytest.raises(Unreadable, match="no model under key 'net'; it has one under 'ema', 'model'"):
            fi.inspect(path, key="net")


WEIGHTS, CONSTANTS = "data/weights/model_weights_config.json", "data/constants/model_constants_config.json"
GRAPH = "models/model.json"
Change = Callable[[bytes], bytes | None]


def rewritten(path: Path, member: str, change: Change) -> Path:
    """Write a file again with another content of one member, or without it."""
    with zipfile.ZipFile(path) as archive:
        parts = {one.filename.partition("/")[2]: archive.read(one) for one in archive.infolist()}
    content = change(parts.pop(member, b""))
    if content is not None:
        parts[member] = content
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in parts.items():
            archive.writestr(f"model/{name}", data)
    return path


def to(content: bytes) -> Change:
    return lambda _: content


def without(_: bytes) -> None:
    return None


def entry(name: str, **changes: Any) -> Change:
    """Change what a list says of one tensor; an entry of tensor_meta has `meta_` before its name."""

    def change(content: bytes) -> bytes:
        config = json.loads(content)
        one = config["config"][name]
        for key, value in changes.items():
            (one["tensor_meta"] if key.startswith("meta_") else one)[key.removeprefix("meta_")] = value
        return json.dumps(config).encode()

    return change


def pickled(name: str) -> Change:
    return entry(name, use_pickle=True)


def text(before: str, after: str) -> Change:
    return lambda content: content.replace(before.encode(), after.encode())


NO_FLAGS = "its tensor 'scale' has no place, dtype and flags"
NO_SHAPE = "its tensor 'scale' has no shape that a tensor can have"
LACKS = "its tensor 'scale' lacks its place, its dtype or its shape"


class TestWhatIsDamagedOrMadeUp:
    @pytest.mark.parametrize(
        ("member", "change", "said"),
        [
            ("archive_format", to(b"pt3"), "its 'archive_format' is 'pt3', where this version reads 'pt2'"),
            ("archive_version", to(b"1"), "its 'archive_version' is '1', where this version reads '0'"),
            ("archive_version", without, "its 'archive_version' is '', where this version reads '0'"),
            ("data.pkl", to(b"N."), "the zip has both 'archive_format' and 'data.pkl'"),
            ("constants.pkl", to(b"N."), "the zip has both 'archive_format' and 'constants.pkl'"),
            ("data/weights/model.pt", to(b""), "a file of an older torch.export"),
            ("data/constants/model.pt", to(b""), "a file of an older torch.export"),
            (GRAPH, without, "a file of torch.export without a program in it"),
            (WEIGHTS, without, f"a file of torch.export without '{WEIGHTS}'"),
            (CONSTANTS, without, f"a file of torch.export without '{CONSTANTS}'"),
            (WEIGHTS, to(b"["), "a file of torch.export whose list of weights is no JSON"),
            (WEIGHTS, to(b"[]"), "a file of torch.export whose list of weights is no JSON object"),
            (WEIGHTS, to(b'{"config": []}'), "a file of torch.export whose list of weights has no config"),
            (WEIGHTS, to(b'{"config":' * 100_000), "a file of torch.export whose list of weights is no JSON"),
            (WEIGHTS, to(b"\xff\xfe{\0}\0"), "a file of torch.export whose list of weights is no JSON"),
            (CONSTANTS, to(b'{"config": 1, "config": {}}'), "a file of torch.export with one name twice in its list"),
            (WEIGHTS, to(b" " * 2**25), "its list of weights has 33,554,432 bytes, and the limit is"),
            (WEIGHTS, to(b'{"config": {"scale": 1}}'), LACKS),
            (WEIGHTS, to(b'{"config": {"": {}}}'), "the name of a tensor is empty"),
            (WEIGHTS, to(b'{"config": {"a..b": {}}}'), "the name of a tensor is empty"),
            (WEIGHTS, entry("scale", tensor_meta=None), LACKS),
            (WEIGHTS, entry("scale", meta_sizes=3), LACKS),
            (WEIGHTS, entry("scale", meta_sizes=[{"as_expr": "s0"}] * 3), LACKS),
            (WEIGHTS, entry("scale", meta_storage_offset=0), LACKS),
            (WEIGHTS, entry("scale", path_name=3), NO_FLAGS),
            (WEIGHTS, entry("scale", is_param="yes"), NO_FLAGS),
            (WEIGHTS, entry("scale", use_pickle=0), NO_FLAGS),
            (WEIGHTS, entry("scale", meta_dtype="float32"), NO_FLAGS),
            (WEIGHTS, entry("scale", meta_requires_grad=None), NO_FLAGS),
            (WEIGHTS, entry("scale", meta_sizes=[{"as_int": 2**63}] * 3), NO_SHAPE),
            (WEIGHTS, entry("scale", meta_sizes=[{"as_int": 2**40}] * 3), NO_SHAPE),
            (WEIGHTS, entry("scale", meta_sizes=[{"as_int": 1.5}] * 3), NO_SHAPE),
            (WEIGHTS, entry("scale", meta_strides=[]), NO_SHAPE),
            (WEIGHTS, entry("scale", meta_storage_offset={"as_int": -1}), NO_SHAPE),
            (WEIGHTS, entry("scale", path_name="weight_99"), "its tensor 'scale' has its bytes in 'weight_99', which"),
            (WEIGHTS, entry("scale", path_name="../byteorder"), "its tensor 'scale' has its bytes in '../byteorder'"),
            (WEIGHTS, entry("first.weight", meta_dtype=5), "its tensor 'second.weight' shares 'weight_"),
            (GRAPH, to(b'"fqn": "' + b"a." * 300 + b'a"'), "modules are nested at least 201 deep"),
            (
                GRAPH,
                to(b'"nn_module_stack": "' + b"a,a,b.C;" * 300 + b'"'),
                "its graph has modules that are nested 300",
            ),
            (GRAPH, to(b"".join(b'"fqn":"%d"' % i for i in range(120_001))), "its graph has at least 120,001 names"),
            (GRAPH, to(b" " * 2**26), f"the zip's '{GRAPH}', with what else is read of it, has 67,1"),
        ],
    )
    def test_is_one_error(self, member: str, change: Change, said: str, tmp_path: Path) -> None:
        path = rewritten(saved(kinds(), tmp_path / "model.pt2"), member, change)
        with pytest.raises(Unreadable) as error:
            fi.inspect(path, values=True)
        assert str(error.value).removeprefix(f"{path}: ").startswith(said)

    def test_is_an_error_wherever_a_file_was_cut_off(self, tmp_path: Path) -> None:
        content = saved(kinds(), tmp_path / "model.pt2").read_bytes()
        for length in range(0, len(content), 997):
            (tmp_path / "cut.pt2").write_bytes(content[:length])
            with pytest.raises(Unreadable):
                fi.inspect(tmp_path / "cut.pt2")

    def test_has_no_value_where_bytes_are_missing_or_of_another_machine(self, tmp_path: Path) -> None:
        short = rewritten(saved(kinds(), tmp_path / "short.pt2"), "data/weights/weight_0", to(b"\0" * 4))
        swapped = rewritten(saved(kinds(), tmp_path / "swapped.pt2"), "byteorder", to(b"big"))
        assert fi.inspect(short, values=True).snapshot.fingerprints.count(None) == 1
        assert set(fi.inspect(swapped, values=True).snapshot.fingerprints) == {None}


class TestAClassIsNeverGuessed:
    @pytest.mark.parametrize(
        "change",
        [
            text("L__self__block.1,block.1,", "L__self__block.1,block.1@1,"),
            text("L__self__block.1,block.1,", "L__self__block.1,block.slice(None,3,None).1,"),
            text("L__self__block.1,block.1,", "L__self__block.1,block..1,"),
            text("torch.nn.modules.activation.ReLU", "a,b"),
            text("torch.nn.modules.activation.ReLU", "ReLU"),
            text("torch.nn.modules.activation.ReLU", r"a.\ud800"),
            text("torch.nn.modules.activation.ReLU", r"a.\x"),
            text("torch.nn.modules.activation.ReLU", "a.B;L__self__block.1,block.1,a.C"),
        ],
    )
    def test_where_the_graph_does_not_tell_it_plainly(self, change: Change, tmp_path: Path) -> None:
        report = fi.inspect(rewritten(saved(kinds(), tmp_path / "model.pt2"), GRAPH, change))
        assert report["block.1"].type is None
        assert report["block.0.bn"].type == "torch.nn.modules.batchnorm.BatchNorm2d"
        assert [module.path for module in report] == [path for path, _ in Kinds().named_modules()]

    def test_from_a_text_within_a_text(self, tmp_path: Path) -> None:
        inner = json.dumps({"nn_module_stack": "x,block.1,evil.Class", "fqn": "evil", "buffer_name": "constant"})
        noted = text('"metadata": {', '"metadata": {"custom": ' + json.dumps(inner) + ", ")
        path = saved(kinds(), tmp_path / "model.pt2")
        before = fi.inspect(path)
        assert fi.inspect(rewritten(path, GRAPH, noted)) == before

    def test_where_there_is_no_graph_the_tensors_names_make_the_tree(self, tmp_path: Path) -> None:
        report = fi.inspect(rewritten(saved(kinds(), tmp_path / "model.pt2"), GRAPH, to(b"{}")))
        assert [module.path for module in report] == [
            "",
            "block",
            "block.0",
            "block.0.conv",
            "block.0.bn",
            "first",
            "second",
        ]
        assert {module.type for module in report} == {None}
        assert report["block.0.conv"].requires_grad is NO


def test_a_file_of_an_older_torch_export_is_refused_by_name(tmp_path: Path) -> None:
    """Up to 2.7, torch wrote its members without a folder around them."""
    with zipfile.ZipFile(tmp_path / "model.pt2", "w") as archive:
        for name in ("serialized_exported_program.json", "serialized_state_dict.pt", "version"):
            archive.writestr(name, b"8.5")
    with pytest.raises(Unreadable, match=r"a file of an older torch\.export, which this version does not read"):
        fi.inspect(tmp_path / "model.pt2")
