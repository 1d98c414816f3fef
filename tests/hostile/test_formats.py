"""Hostile files of each format: every one is shown or refused within the memory and the time that `child` allows."""

import pytest

from hostile import distributed, folders, headers, olds, scripts
from hostile.child import OPTIONS, held, report, watch


@pytest.mark.parametrize("attack", scripts.SCRIPTS, ids=lambda attack: attack.__name__)
def test_a_torchscript_archive(attack, tmp_path):
    report(attack(), tmp_path, OPTIONS[:1])


@pytest.mark.parametrize("attack", headers.HEADERS, ids=lambda attack: attack.__name__)
def test_a_header_of_safetensors(attack, tmp_path):
    report(attack(), tmp_path, OPTIONS[:1])


@pytest.mark.parametrize("attack", olds.OLDS, ids=lambda attack: attack.__name__)
def test_a_file_of_torchs_old_format(attack, tmp_path):
    report(attack(), tmp_path, OPTIONS[:1])


@pytest.mark.parametrize("attack", folders.FOLDERS, ids=lambda attack: attack.__name__)
def test_a_folder_of_shards(attack, tmp_path):
    reported(attack, tmp_path)


@pytest.mark.parametrize("attack", distributed.FOLDERS, ids=lambda attack: attack.__name__)
def test_a_folder_of_torch_distributed_checkpoint(attack, tmp_path):
    reported(attack, tmp_path)


@pytest.mark.parametrize("attack", distributed.VALUES, ids=lambda attack: attack.__name__)
def test_values_of_torch_distributed_checkpoint(attack, tmp_path):
    """What only a comparison looks at, and only where shapes and dtypes are the same."""
    reported(attack, tmp_path, "diff", 2)


def reported(attack, folder, command="report", times=1):
    made = folder / "model"
    made.mkdir()
    attack(made)
    return held(watch([[command, *[str(made)] * times]], folder / "seen"))
