"""Nobody is shown another file than torch loads: a crafted zip is shown as torch reads it, or refused."""

import io

import pytest
import torch

import freezeinspect
from freezeinspect.readers.limits import Unreadable
from hostile import zips
from hostile.child import held, report, report_all, watch
from hostile.opcodes import SEQUENTIAL


def loaded(data):
    """Give the paths and the classes of what torch loads; None where it loads nothing."""
    try:
        model = torch.load(io.BytesIO(data), weights_only=False)
    except Exception:  # torch raises anything
        return None
    return [(path, f"{type(one).__module__}.{type(one).__qualname__}") for path, one in model.named_modules()]


def shown(file):
    try:
        return [(one.path, one.type) for one in freezeinspect.inspect(file)]
    except Unreadable:
        return None


@pytest.mark.parametrize("attack", zips.VIEWS, ids=lambda attack: attack.__name__)
def test_a_crafted_zip_is_shown_as_torch_loads_it_or_refused(attack, tmp_path):
    data = attack()
    (tmp_path / "model.pt").write_bytes(data)
    seen, real = shown(tmp_path / "model.pt"), loaded(data)
    assert seen is None or real is None or seen == real


@pytest.mark.parametrize("attack", [zips.plain, zips.wrong_crc, zips.sizes_in_64], ids=lambda attack: attack.__name__)
def test_what_torch_itself_may_write_is_shown(attack, tmp_path):
    (tmp_path / "model.pt").write_bytes(attack())
    assert shown(tmp_path / "model.pt") == loaded(attack()) != None  # noqa: E711


def test_some_zips_do_hold_two_models():
    """The comparison can fail: torch loads the other model from some of them."""
    other = ("other", "torch.nn.modules.linear.Linear")
    models = {attack.__name__: loaded(attack()) for attack in zips.VIEWS}
    assert sum(other in (paths or ()) for paths in models.values()) > 3
    assert models["plain"][0] == ("", ".".join(SEQUENTIAL))


def test_a_crafted_zip_is_shown_or_refused_in_one_line(tmp_path):
    report_all({attack.__name__: attack() for attack in zips.VIEWS}, tmp_path)


@pytest.mark.parametrize("attack", zips.BOMBS, ids=lambda attack: attack.__name__)
def test_a_zip_bomb_is_shown_or_refused_in_time_and_memory(attack, tmp_path):
    report(attack(), tmp_path, [[]])


def test_a_file_cut_anywhere_is_refused(tmp_path):
    data = zips.plain()
    for size in range(0, len(data), 100):
        (tmp_path / "model.pt").write_bytes(data[:size])
        with pytest.raises(Unreadable):
            freezeinspect.inspect(tmp_path / "model.pt")


def test_a_directory_that_is_4_gb_of_nothing_is_refused(tmp_path):
    with open(tmp_path / "model.pt", "wb") as file:
        file.write(zips.plain()[:-22])
        at = file.tell()
        file.truncate(2**32 - 2)
        file.seek(0, 2)
        file.write(zips.end(4, 2**32 - 2 - at, at))
    (seen,) = held(watch([["report", str(tmp_path / "model.pt")]], tmp_path / "seen"))
    assert seen.code == 2
