"""A file read as a record: equal to what is loaded from it, and never at odds with the model it came from."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import freezeinspect as fi
from freezeinspect.readers.limits import Unreadable
from freezeinspect.report import Report
from freezeinspect.state import MIXED, NO, UNKNOWN, YES, Answer
from zoo import ZOO, Block, FrozenBatchNorm2d, Residual, quiet

UNSAVED = {"weight_norm_parametrized", "spectral_norm_parametrized", "scripted"}  # torch.save refuses them
LAYERS: tuple[Callable[[], nn.Module], ...] = (
    lambda: nn.Linear(2, 2),
    lambda: nn.Conv2d(2, 2, 1, bias=False),
    lambda: nn.BatchNorm1d(2),
    lambda: nn.BatchNorm2d(2, affine=False, momentum=None),
    lambda: nn.InstanceNorm2d(2, track_running_stats=True),
    lambda: nn.Dropout(0.25),
    lambda: FrozenBatchNorm2d(2),
    lambda: Block(2),
    lambda: nn.GRU(2, 2),
)
FLAGS = ("training", "trainable", "bn_freeze", "drop_freeze", "track_running_stats", "requires_grad")
VALUES = (True, False, None, 0, 1, 0.5, "no", float("nan"))


@pytest.fixture(scope="module", autouse=True)
def _alone() -> Iterator[None]:
    """Let this process be a group of one, as a saved DDP needs to be loaded."""
    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


def saved(value: Any, path: Path, **options: Any) -> Path:
    with quiet():
        torch.save(value, path, **options)
    return path


def loaded(path: Path) -> Any:
    with quiet():
        return torch.load(path, weights_only=False)


def compiled(model: nn.Module) -> Any:
    return torch.compile(model, backend="eager")


@st.composite
def trees(draw: st.DrawFn) -> nn.Module:
    """Draw a tree of modules with flags of every kind, shared modules and tied weights."""
    modules = [draw(st.sampled_from(LAYERS))() for _ in range(draw(st.integers(1, 5)))]
    for _ in range(draw(st.integers(0, 3))):
        held = draw(st.lists(st.sampled_from(modules), min_size=1, max_size=3))
        modules.append(nn.Sequential(*held))
    for module in modules:
        for flag, value in draw(st.dictionaries(st.sampled_from(FLAGS), st.sampled_from(VALUES), max_size=3)).items():
            setattr(module, flag, value)
        for parameter in module.parameters(recurse=False):
            parameter.requires_grad = draw(st.booleans())
    linear = [module for module in modules if isinstance(module, nn.Linear)]
    for module in linear[1:]:
        if draw(st.booleans()):
            module.weight = linear[0].weight
    return modules[-1]


class TestAPickledModule:
    @pytest.mark.parametrize("name", sorted(ZOO.keys() - UNSAVED))
    def test_of_the_zoo_is_read_as_it_is_loaded(self, name: str, tmp_path: Path) -> None:
        model = ZOO[name]().model
        for i, parameter in enumerate(model.parameters()):
            if parameter.is_floating_point() and i % 2:
                parameter.requires_grad = False
        path = saved(model, tmp_path / "model.pt")
        assert fi.inspect(path) == fi.inspect(loaded(path))

    @pytest.mark.parametrize("name", sorted(UNSAVED))
    def test_that_torch_refuses_to_save_is_no_loss(self, name: str, tmp_path: Path) -> None:
        with pytest.raises(RuntimeError):
            saved(ZOO[name]().model, tmp_path / "model.pt")

    @settings(max_examples=60, deadline=None)
    @given(tree=trees())
    def test_of_any_shape_and_flags_is_read_as_it_is_loaded(self, tree: nn.Module) -> None:
        path = Path(os.environ.get("TMPDIR", "/tmp")) / f"freezeinspect-{os.getpid()}.pt"
        try:
            saved(tree, path)
            assert fi.inspect(path) == fi.inspect(loaded(path))
        finally:
            path.unlink()

    @pytest.mark.parametrize("protocol", [2, 3, 4, 5])
    def test_is_the_same_in_every_protocol(self, protocol: int, tmp_path: Path) -> None:
        path = saved(ZOO["nested"]().model, tmp_path / "model.pt", pickle_protocol=protocol)
        assert fi.inspect(path) == fi.inspect(ZOO["nested"]().model)

    @pytest.mark.parametrize(
        "wrap",
        [
            nn.DataParallel,
            nn.parallel.DistributedDataParallel,
            compiled,
            torch.optim.swa_utils.AveragedModel,
            lambda model: compiled(nn.parallel.DistributedDataParallel(model)),
            torch.fx.symbolic_trace,
            lambda model: torch.fx.symbolic_trace(model).eval(),
        ],
    )
    def test_is_read_without_what_was_wrapped_around_it(self, wrap: Callable[..., Any], tmp_path: Path) -> None:
        model = Residual()
        model.layer1.requires_grad_(False).bn.eval()
        path = saved(wrap(model), tmp_path / "model.pt")
        report = fi.inspect(path)
        assert report == fi.inspect(loaded(path))
        assert report["layer1.bn"].requires_grad is NO
        assert report["layer1.bn"].type == "torch.nn.modules.batchnorm.BatchNorm2d"

    def test_has_modes_that_torch_itself_cannot_load(self, tmp_path: Path) -> None:
        """A quantised convolution comes back from torch.load without `_modules`, so that nothing can walk it."""
        with quiet():
            model = nn.Sequential(torch.ao.nn.quantized.Conv2d(2, 2, 1), nn.ReLU()).eval()
        path = saved(model, tmp_path / "model.pt")
        with pytest.raises(AttributeError, match="_modules"):
            list(loaded(path).named_modules())
        assert fi.inspect(path) == fi.inspect(model)

    def test_that_says_nothing_of_its_norm_s_rules_leaves_them_unknown(self, tmp_path: Path) -> None:
        """Of a class that is called neither BatchNorm nor InstanceNorm no file tells from which it descends."""
        for base in (nn.BatchNorm2d, nn.InstanceNorm2d):
            model = nn.Sequential(base(2, track_running_stats=True))
            model[0].__class__ = type("Renamed", (base,), {"__module__": __name__})
            globals()["Renamed"] = type(model[0])
            report = fi.inspect(saved(model, tmp_path / "model.pt"))
            assert (report["0"].stats_move, report["0"].normalises_with) == (UNKNOWN, "unknown")

    def test_holds_no_gradient_so_none_is_there_when_it_is_loaded(self, tmp_path: Path) -> None:
        model = nn.Linear(2, 2)
        model(torch.ones(1, 2)).sum().backward()
        assert loaded(saved(model, tmp_path / "model.pt")).weight.grad is None


class Built(nn.Linear):
    """Be rebuilt by a function, with a state or without."""

    def __init__(self, state: bool) -> None:
        super().__init__(2, 2)
        self.state = state

    def __reduce__(self) -> tuple[Any, ...]:
        return (build, (), self.__dict__) if self.state else (build, ())


def build() -> Built:
    return Built(state=True)


class TestWhatOnlyRunningWouldTell:
    def test_a_module_that_a_function_builds_is_unknown_and_named(self, tmp_path: Path) -> None:
        report = fi.inspect(saved(nn.Sequential(nn.ReLU(), Built(state=False)), tmp_path / "model.pt"))
        built = report["1"]
        assert (built.type, built.training, built.requires_grad, built.stats_move) == (None, *[UNKNOWN] * 3)
        assert (report[""].requires_grad, report.summary.parameters) == (UNKNOWN, None)
        assert report.source.content is not None
        assert report.source.content.endswith(
            f"not told without running it: 1 (an object that {__name__}.build would build)"
        )
        assert report.observed.imports == (f"{__name__}.build",)

    def test_of_one_with_its_state_all_is_known_but_the_class(self, tmp_path: Path) -> None:
        report = fi.inspect(saved(nn.Sequential(nn.ReLU(), Built(state=True)), tmp_path / "model.pt"))
        assert (report["1"].type, report["1"].training, report["1"].requires_grad) == (None, YES, YES)

    def test_classes_that_nobody_has_are_read_like_others(self, tmp_path: Path) -> None:
        program = (
            "import sys, types, torch; module = types.ModuleType('nobodys'); sys.modules['nobodys'] = module;"
            "module.Net = type('Net', (torch.nn.Linear,), {'__module__': 'nobodys'});"
            "net = module.Net(2, 2); net.bias.requires_grad = False; torch.save(net, sys.argv[1])"
        )
        subprocess.run([sys.executable, "-c", program, str(tmp_path / "model.pt")], check=True)
        with pytest.raises(ModuleNotFoundError):
            loaded(tmp_path / "model.pt")
        report = fi.inspect(tmp_path / "model.pt")
        assert (report[""].type, report[""].requires_grad) == ("nobodys.Net", MIXED)
        assert report.observed.imports == ()


def agrees(known: Answer, live: Answer) -> bool:
    """Tell whether an answer of a file could stand beside the model's."""
    return known in (UNKNOWN, live)


class TestAStateDict:
    @pytest.mark.parametrize("keep_vars", [False, True])
    @pytest.mark.parametrize("name", sorted(ZOO.keys() - {"scripted", "quantised_dynamic"}))
    def test_never_contradicts_the_model(self, name: str, keep_vars: bool, tmp_path: Path) -> None:
        model = ZOO[name]().model
        live = fi.inspect(model)
        report = fi.inspect(saved(model.state_dict(keep_vars=keep_vars), tmp_path / "model.pt"))
        for module in report:
            twin = live[module.path]
            assert module.type is None
            for flag in (*FLAGS, "weights_move", "stats_move"):
                assert agrees(getattr(module, flag), getattr(twin, flag)), (module, flag)
            assert module.normalises_with in ("unknown", twin.normalises_with)
            known = {tensor.name: tensor for tensor in twin.tensors}
            for tensor in module.tensors:
                assert tensor.kind in ("unknown", known[tensor.name].kind)
                assert (tensor.shape, tensor.dtype) == (known[tensor.name].shape, known[tensor.name].dtype)

    def test_has_every_module_in_its_metadata(self, tmp_path: Path) -> None:
        model = Residual()
        report = fi.inspect(saved(model.state_dict(), tmp_path / "model.pt"))
        assert [module.path for module in report] == [path for path, _ in model.named_modules()]

    def test_without_metadata_has_the_modules_that_own_tensors(self, tmp_path: Path) -> None:
        report = fi.inspect(saved(dict(Residual().layer1.state_dict()), tmp_path / "model.pt"))
        assert [module.path for module in report] == ["", "conv", "bn"]

    def test_of_parameters_knows_which_require_a_gradient(self, tmp_path: Path) -> None:
        model = Residual()
        model.layer1.requires_grad_(False)
        for parameters in (dict(model.named_parameters()), model.state_dict(keep_vars=True)):
            report = fi.inspect(saved(parameters, tmp_path / "model.pt"))
            assert (report["layer1.conv"].requires_grad, report["layer2.conv"].requires_grad) == (NO, YES)

    def test_of_a_compiled_model_has_the_names_that_the_user_wrote(self, tmp_path: Path) -> None:
        report = fi.inspect(saved(compiled(Residual()).state_dict(), tmp_path / "model.pt"))
        assert [module.path for module in report] == [path for path, _ in Residual().named_modules()]

    def test_ties_what_shares_its_memory(self, tmp_path: Path) -> None:
        report = fi.inspect(saved(ZOO["tied"]().model.state_dict(), tmp_path / "model.pt"))
        assert report.snapshot.structure.tie_groups == {0: [0, 1]}

    def test_says_at_most_how_many_parameters_there_are(self, tmp_path: Path) -> None:
        report = fi.inspect(saved(nn.BatchNorm1d(2).state_dict(), tmp_path / "model.pt"))
        assert [row.params for row in report.rows()] == ["≤9"]
        assert report.summary.parameters is None


class TestTheSource:
    def test_names_the_file_its_format_and_what_was_read(self, tmp_path: Path) -> None:
        path = saved(nn.Linear(1, 1), tmp_path / "model.pt")
        source = fi.inspect(str(path)).source
        assert (source.kind, source.path, source.format, source.content) == (
            "file",
            str(path),
            "torch zip",
            "a pickled module",
        )

    def test_and_the_whole_report_come_back_from_json(self, tmp_path: Path) -> None:
        model = Residual()
        checkpoint = {"model": model.state_dict(), "optimizer": torch.optim.Adam(model.parameters()).state_dict()}
        report = fi.inspect(saved(checkpoint, tmp_path / "model.pt"))
        back = Report.from_json(report.to_json())
        assert (back, back.source, back.observed) == (report, report.source, report.observed)


class TestWhatIsNoModel:
    @pytest.mark.parametrize(
        ("value", "seen"),
        [
            (torch.zeros(2), "it holds one tensor"),
            ({"epoch": 3, "notes": [1]}, "it holds a dict with 'epoch', 'notes'"),
            ({}, "it holds an empty dict"),
            ([1], "it holds an object of type list"),
        ],
    )
    def test_in_a_torch_zip_is_said(self, value: Any, seen: str, tmp_path: Path) -> None:
        path = saved(value, tmp_path / "model.pt")
        with pytest.raises(Unreadable) as error:
            fi.inspect(path)
        said = f"{path}: no module and no state_dict in it: {seen}; save the model's state_dict"
        assert str(error.value) == said

    @pytest.mark.parametrize(
        ("content", "seen"),
        [
            (b"", "an empty file"),
            (b"epoch,loss\n1,0.5\n", "text that starts with 'epoch,loss'"),
            (b"\x00\xff" * 9, "of no known format: it starts with the bytes 00 ff 00 ff 00 ff 00 ff"),
            (b"\x80\x04K\x01.", "a plain pickle"),
        ],
    )
    def test_is_told_by_its_content(self, content: bytes, seen: str, tmp_path: Path) -> None:
        (tmp_path / "model.pt").write_bytes(content)
        with pytest.raises(Unreadable) as error:
            fi.inspect(tmp_path / "model.pt")
        way_out = "what this version reads is what torch and safetensors write"
        assert str(error.value) == f"{tmp_path / 'model.pt'}: {seen}; {way_out}"

    def test_what_needs_a_live_model_is_refused(self, tmp_path: Path) -> None:
        path = saved(nn.Linear(1, 1), tmp_path / "model.pt")
        with pytest.raises(TypeError, match=r"needs a live model, but .*model\.pt' is a file; load it first"):
            fi.inspect(path, input_size=(1, 1))
        with pytest.raises(TypeError, match="a live model was given"):
            fi.inspect(nn.Linear(1, 1), key="model")
