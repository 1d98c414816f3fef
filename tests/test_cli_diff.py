"""`freezeinspect diff`: two files of one fine-tuning, told apart by weights and by running statistics."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner, Result
from torch import nn
from torch.nn.functional import cross_entropy

import freezeinspect as fi
from freezeinspect.cli import main
from freezeinspect.readers import values
from zoo import Residual


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Fine-tune a model whose body is frozen by requires_grad alone, so that its BatchNorm leaks."""
    folder = tmp_path_factory.mktemp("run")
    torch.manual_seed(0)
    model = Residual().train()
    for name, parameter in model.named_parameters():
        parameter.requires_grad = name.startswith("head.")
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    torch.save(model, folder / "before.pt")
    torch.save(model.state_dict(), folder / "weights_before.pt")
    for _ in range(3):
        optimizer.zero_grad()
        cross_entropy(model(torch.randn(4, 3, 8, 8)), torch.tensor([0, 1, 0, 1])).backward()
        optimizer.step()
    torch.save(model, folder / "after.pt")
    torch.save(model.state_dict(), folder / "weights_after.pt")
    return folder


def diff(folder: Path, before: str, after: str, *options: str) -> Result:
    return CliRunner().invoke(main, ["diff", str(folder / before), str(folder / after), *options])


@pytest.mark.parametrize("form", ["text", "markdown"])
def test_a_leaking_batchnorm_is_told_from_the_weights(form: str, folder: Path, snapshot: Any) -> None:
    done = diff(folder, "before.pt", "after.pt", "--format", form)
    assert done.exit_code == 0
    assert done.stdout.replace(str(folder), "run") == snapshot


@pytest.mark.parametrize(
    "pair", [("before.pt", "after.pt"), ("weights_before.pt", "weights_after.pt"), ("before.pt", "weights_after.pt")]
)
@pytest.mark.parametrize("options", [(), ("--exact",)])
def test_modules_and_state_dicts_are_told_apart_alike(
    pair: tuple[str, str], options: tuple[str, ...], folder: Path
) -> None:
    record = json.loads(diff(folder, *pair, *options, "--format", "json").stdout)
    changed = {one["name"] for one in record["values"] if one["changed"] == "yes"}
    state = Residual().state_dict()
    leaked = {name for name in state if "running_" in name or name.endswith("num_batches_tracked")}
    assert changed == {"head.3.weight", "head.3.bias"} | leaked
    assert {one["name"] for one in record["values"]} == set(state)


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ((), 0),
        (("--fail-on", "weights"), 1),
        (("--fail-on", "weights", "--only", "layer1"), 0),
        (("--fail-on", "stats", "--only", "layer1"), 1),
        (("--fail-on", "flags"), 0),
        (("--fail-on", "structure", "--fail-on", "flags"), 0),
        (("--fail-on", "any"), 1),
        (("--fail-on", "any", "--only", "**.conv"), 0),
    ],
)
def test_exit_code_1_says_that_what_was_asserted_does_not_hold(
    options: tuple[str, ...], code: int, folder: Path
) -> None:
    assert diff(folder, "before.pt", "after.pt", *options).exit_code == code


@pytest.mark.parametrize(
    ("pair", "options", "said"),
    [
        (("none.pt", "after.pt"), (), "none.pt: no such file or directory; name a file that can be read"),
        (("before.pt", "after.pt"), ("--only", "layer9"), "pattern 'layer9'"),
        (("before.pt", "after.pt"), ("--key", "ema"), "it is the model itself, with no key 'ema'; leave the key out"),
    ],
)
def test_what_cannot_be_compared_is_one_line(
    pair: tuple[str, str], options: tuple[str, ...], said: str, folder: Path
) -> None:
    done = diff(folder, *pair, *options)
    assert (done.exit_code, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert said in done.stderr


class TestChecksums:
    def test_tell_without_a_byte_of_the_weights_being_read(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(values.Values, "blocks", lambda *_: pytest.fail("the weights were read"))
        assert fi.diff(folder / "before.pt", folder / "after.pt").weights == ("head.3.weight", "head.3.bias")

    def test_that_were_left_out_make_the_bytes_be_read(self, tmp_path: Path) -> None:
        one, other = nn.Linear(2, 2), nn.Linear(2, 2)
        other.load_state_dict({**one.state_dict(), "bias": torch.ones(2)})
        torch.serialization.set_crc32_options(False)
        try:
            torch.save(one, tmp_path / "one.pt")
            torch.save(other, tmp_path / "other.pt")
        finally:
            torch.serialization.set_crc32_options(True)
        assert fi.diff(tmp_path / "one.pt", tmp_path / "other.pt").weights == ("bias",)

    def test_of_a_shared_storage_do_not_tell_its_parts_apart(self, tmp_path: Path) -> None:
        whole = torch.arange(8.0)
        torch.save({"first": whole[:4], "last": whole[4:]}, tmp_path / "one.pt")
        whole[7] = 0.5
        torch.save({"first": whole[:4], "last": whole[4:]}, tmp_path / "other.pt")
        found = fi.diff(tmp_path / "one.pt", tmp_path / "other.pt")
        assert found.weights == ("last",)

    def test_of_equal_bytes_in_another_layout_do_not_tell(self, tmp_path: Path) -> None:
        square = torch.arange(4.0).reshape(2, 2)
        torch.save({"w": square}, tmp_path / "one.pt")
        torch.save({"w": square.t()}, tmp_path / "other.pt")
        torch.save({"w": square.t().contiguous().t()}, tmp_path / "alike.pt")
        assert fi.diff(tmp_path / "one.pt", tmp_path / "other.pt").weights == ("w",)
        assert fi.diff(tmp_path / "one.pt", tmp_path / "alike.pt").weights == ()

    def test_of_another_dtype_are_no_comparison(self, tmp_path: Path) -> None:
        torch.save({"w": torch.zeros(2)}, tmp_path / "one.pt")
        torch.save({"w": torch.zeros(2, dtype=torch.int32)}, tmp_path / "other.pt")
        found = fi.diff(tmp_path / "one.pt", tmp_path / "other.pt")
        assert found.weights == ("w",)
        assert [change.what for change in found.differences.structure] == ["dtype"]
