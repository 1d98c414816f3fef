"""Files made to cost much: each is shown or refused within the memory and the time that `child` allows."""

import pytest

from hostile import bombs, repeats, trees
from hostile.child import report, watch
from hostile.opcodes import archive


@pytest.mark.parametrize("attack", bombs.PICKLES, ids=lambda attack: attack.__name__)
def test_a_bomb_is_shown_or_refused_in_time_and_memory(attack, tmp_path):
    report(archive(attack(), deflated=True), tmp_path, [[]])


@pytest.mark.parametrize("attack", trees.TREES, ids=lambda attack: attack.__name__)
def test_a_tree_that_grows_is_shown_or_refused_in_time_and_memory(attack, tmp_path):
    report(archive(attack(), deflated=True), tmp_path)


@pytest.mark.parametrize("attack", repeats.REPEATS, ids=lambda attack: attack.__name__)
def test_one_large_thing_under_many_names_is_shown_or_refused_in_time_and_memory(attack, tmp_path):
    report(archive(attack(), deflated=True), tmp_path)


@pytest.mark.parametrize("attack", repeats.REPEATS, ids=lambda attack: attack.__name__)
def test_one_large_thing_under_many_names_is_checked_in_time_and_memory(attack, tmp_path):
    (tmp_path / "0.pt").write_bytes(archive(attack(), deflated=True))
    (one,) = watch([["check", "--", str(tmp_path / "0.pt")]], tmp_path / "seen").runs
    assert one.code in (0, 1, 2), one.err
    assert "Traceback" not in one.err
