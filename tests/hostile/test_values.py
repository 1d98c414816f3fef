"""Names and values that no model has neither break the report nor write to the terminal what it would obey."""

import json

import pytest

from hostile import values
from hostile.child import report_all
from hostile.opcodes import archive, mapping, module, program


def told(pickles, folder):
    """Report pickles, and hold the text to what a terminal shows as it is, and the JSON to being JSON."""
    all_seen = report_all({kind: archive(pickle) for kind, pickle in pickles.items()}, folder)
    for kind, (tree, record, filtered) in all_seen.items():
        for said in (tree.out, tree.err, record.err, filtered.out, filtered.err):
            assert all(character.isprintable() or character == "\n" for character in said), kind
            assert len(said) < 50_000, kind
        if record.code == 0:
            json.loads(record.out, parse_constant=pytest.fail)


@pytest.mark.parametrize("place", values.PLACES, ids=lambda place: place.__name__)
def test_a_name_is_shown_as_text_or_refused(place, tmp_path):
    told({kind: place(name) for kind, name in values.NAMES.items()}, tmp_path)


@pytest.mark.parametrize("use", values.USES, ids=lambda use: use.__name__)
def test_a_value_of_another_kind_is_unknown_or_refused(use, tmp_path):
    told({kind: use(value) for kind, value in values.SCALARS.items()}, tmp_path)


def test_a_shape_that_no_tensor_has_is_unknown_or_refused(tmp_path):
    told({kind: program(mapping([("weight", shape)])) for kind, shape in values.SHAPES.items()}, tmp_path)


def test_a_tensor_rebuilt_from_other_arguments_is_unknown_or_refused(tmp_path):
    told({kind: program(module(parameters=[("w", one)])) for kind, one in values.ODD_REBUILDS.items()}, tmp_path)
