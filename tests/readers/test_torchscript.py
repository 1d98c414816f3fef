"""TorchScript archives: what torch.jit.save keeps, beside what torch.jit.load makes of it."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import freezeinspect as fi
from freezeinspect.fingerprint import of_tensor
from freezeinspect.readers.limits import Unreadable
from freezeinspect.state import ABSENT, NO, UNKNOWN, YES
from zoo import ZOO, Residual, Specimen, quiet

UNSCRIPTED = {  # torch refuses, or finds no source
    *("nested", "lazy", "weight_norm_hook", "spectral_norm_hook", "spectral_norm_parametrized", "sync_batchnorm"),
    *("quantised_norm", "resnet", "mobilenet", "segformer", "llama"),
}
UNTRACED = {"lazy", "resnet", "mobilenet", "segformer", "llama"}


def scripted(specimen: Specimen, path: Path) -> Path:
    with quiet():
        torch.jit.script(specimen.model).save(path)
    return path


def traced(specimen: Specimen, path: Path) -> Path:
    with quiet():
        torch.jit.trace(specimen.model, specimen.args, check_trace=False).save(path)
    return path


WRITTEN = [(scripted, name) for name in sorted(ZOO.keys() - UNSCRIPTED)]
WRITTEN += [(traced, name) for name in sorted(ZOO.keys() - UNTRACED)]


@pytest.mark.parametrize(("write", "name"), WRITTEN)
def test_modules_modes_and_tensors_are_those_of_the_loaded_model(
    write: Callable[[Specimen, Path], Path], name: str, tmp_path: Path
) -> None:
    path = write(ZOO[name](), tmp_path / "model.pt")
    with quiet():
        model = torch.jit.load(path)
    report = fi.inspect(path, values=True)
    assert [module.path for module in report] == [path for path, _ in model.named_modules()]
    modes = [YES if module.training else NO for module in model.modules()] if len(list(model.children())) else []
    assert [module.training for module in report if modes] == modes
    structure, snapshot = report.snapshot.structure, report.snapshot
    for kind, tensors in (("parameter", model.named_parameters()), ("buffer", model.named_buffers())):
        for full, tensor in tensors:
            i = next(i for i, one in enumerate(structure.tensors) if structure.full_name(i) == full)
            required = ABSENT if kind == "buffer" else YES if tensor.requires_grad else NO
            assert (structure.tensors[i].kind, snapshot.requires_grad[i]) == (kind, required)
            assert snapshot.fingerprints[i] in (of_tensor(tensor), None if tensor.is_conj() else of_tensor(tensor))
    named = {name for names in (model.state_dict(),) for name in names}
    assert named <= {structure.full_name(i) for i in range(len(structure.tensors))}


class Part(nn.Module):
    """Keep what a scripted module keeps, and what it does not."""

    def __init__(self) -> None:
        super().__init__()
        self.bn = nn.BatchNorm1d(2)
        self.linear = nn.Linear(2, 2)
        self.trainable = False
        self.table = torch.ones(3)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(self.bn(x)) * self.table[0]


class TestAScriptedModule:
    def test_keeps_its_attributes_but_neither_momentum_nor_tracking(self, tmp_path: Path) -> None:
        path = scripted(Specimen(Part().eval(), ()), tmp_path / "part.pt")
        report = fi.inspect(path)
        assert (report.source.format, report.source.content) == ("TorchScript", "a scripted or traced module")
        assert (report[""].trainable, report[""].bn_freeze, report["bn"].trainable) == (NO, UNKNOWN, UNKNOWN)
        bn, linear = report["bn"], report["linear"]
        assert (bn.training, bn.momentum, bn.track_running_stats, bn.stats_move) == (NO, None, UNKNOWN, UNKNOWN)
        assert (bn.normalises_with, linear.normalises_with) == ("unknown", "none")
        assert report.observed.imports == ()

    def test_has_its_classes_as_the_user_wrote_them(self, tmp_path: Path) -> None:
        model = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 2))  # two types of one class, one of them mangled
        report = fi.inspect(scripted(Specimen(model, ()), tmp_path / "model.pt"))
        linear = "torch.nn.modules.linear.Linear"
        assert [module.type for module in report] == ["torch.nn.modules.container.Sequential", linear, linear]

    def test_has_no_tensor_that_is_neither_parameter_nor_buffer(self, tmp_path: Path) -> None:
        report = fi.inspect(scripted(Specimen(Part(), ()), tmp_path / "part.pt"))
        assert [tensor.name for tensor in report.snapshot.structure.tensors if tensor.owner == 0] == []

    def test_beside_the_model_differs_in_nothing_it_knows(self, tmp_path: Path) -> None:
        model = Residual()
        model.layer1.requires_grad_(False).eval()
        path = scripted(Specimen(model, ()), tmp_path / "model.pt")
        assert not fi.diff(path, model)
        model.layer1.bn.train()
        model.layer2.bn.running_mean += 1
        model.layer2.conv.requires_grad_(False)
        found = fi.diff(path, model)
        assert [(one.path, one.what) for one in found.differences.flags] == [
            ("layer1.bn", "training"),
            ("layer2.conv.weight", "requires_grad"),
        ]
        assert (found.weights, found.stats) == ((), ("layer2.bn.running_mean",))

    def test_is_no_part_of_anything_so_a_key_is_refused(self, tmp_path: Path) -> None:
        path = scripted(Specimen(Part(), ()), tmp_path / "part.pt")
        with pytest.raises(Unreadable, match="it is the model itself, with no key 'model'; leave the key out"):
            fi.inspect(path, key="model")


def test_a_model_traced_in_eval_ignores_its_flag_so_its_statistics_are_unknown(tmp_path: Path) -> None:
    model = nn.Sequential(nn.BatchNorm1d(2)).eval()
    path = traced(Specimen(model, (torch.randn(4, 2),)), tmp_path / "model.pt")
    with quiet():
        loaded = torch.jit.load(path).train()
        before = loaded.state_dict()["0.running_mean"].clone()
        loaded(torch.randn(4, 2))
    assert torch.equal(before, loaded.state_dict()["0.running_mean"])  # in train mode, and still
    assert fi.inspect(path)["0"].stats_move is UNKNOWN


def test_a_frozen_archive_has_one_module_and_no_parameter(tmp_path: Path) -> None:
    with quiet():
        torch.jit.freeze(torch.jit.script(Part().eval())).save(tmp_path / "frozen.pt")
    report = fi.inspect(tmp_path / "frozen.pt")
    assert [(module.path, module.training, len(module.tensors)) for module in report] == [("", UNKNOWN, 0)]


class TestADamagedArchive:
    @pytest.fixture
    def members(self, tmp_path: Path) -> dict[str, bytes]:
        with zipfile.ZipFile(scripted(Specimen(Part(), ()), tmp_path / "part.pt")) as archive:
            return {name: archive.read(name) for name in archive.namelist()}

    def written(self, members: dict[str, bytes], path: Path) -> Path:
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in members.items():
                archive.writestr(name, content)
        return path

    def code_of(self, class_: str, members: dict[str, bytes]) -> str:
        return next(name for name, code in members.items() if f"class {class_}(Module)".encode() in code)

    def test_without_its_code_is_refused_as_torch_refuses_it(self, members: dict[str, bytes], tmp_path: Path) -> None:
        del members[self.code_of("Linear", members)]
        path = self.written(members, tmp_path / "cut.pt")
        with pytest.raises(RuntimeError), quiet():
            torch.jit.load(path)
        with pytest.raises(Unreadable, match=r"without the code of '__torch__\.torch\.nn\.modules\.linear\."):
            fi.inspect(path)

    def test_with_too_much_code_is_refused_before_it_is_read(self, members: dict[str, bytes], tmp_path: Path) -> None:
        members[self.code_of("Linear", members)] = b"#" * (65 * 2**20)
        with pytest.raises(Unreadable, match="and the limit is 67,108,864"):
            fi.inspect(self.written(members, tmp_path / "large.pt"))

    def test_whose_root_is_no_module_is_refused(self, members: dict[str, bytes], tmp_path: Path) -> None:
        members["part/data.pkl"] = b"\x80\x02}."
        with pytest.raises(Unreadable, match="a TorchScript archive whose root is no module"):
            fi.inspect(self.written(members, tmp_path / "empty.pt"))

    def test_with_a_part_in_a_state_of_another_form_has_it_unknown_and_named(
        self, members: dict[str, bytes], tmp_path: Path
    ) -> None:
        name = self.code_of("Part", members).removeprefix("part/code/").removesuffix(".py").replace("/", ".")
        part = f"c{name}\nPart\n)\x81".encode("latin-1")
        members["part/data.pkl"] = b"\x80\x02" + part + b"}(U\x08trainingI01\nU\x01a" + part + b"K\x01bub."
        report = fi.inspect(self.written(members, tmp_path / "other.pt"))
        assert [(module.path, module.training) for module in report] == [("", YES), ("a", UNKNOWN)]
        assert report.summary.parameters is None
        assert "; not told without running it: a (an object that " in (report.source.content or "")
