"""Files of torch.export that would fill the memory or take for ever, were they read as JSON reads them."""

import pytest

from hostile.archives import zipped
from hostile.child import report

LARGE = 60 * 2**20
STACK, NAME = b'"nn_module_stack": "', b'"fqn": "'
GRAPHS = {
    "quotes": b'"' * LARGE,
    "starts_of_names": NAME * (LARGE // len(NAME)),
    "a_name_without_an_end": NAME + b'\\"' * (LARGE // 2),
    "many_empty_lists": b"[]," * (LARGE // 3),
    "one_deep_stack": STACK + b",,;" * (LARGE // 3) + b'"',
    "many_stacks": b"".join(STACK + b'%d%s"' % (i, b",,;" * 200) for i in range(LARGE // 650)),
    "many_calls": STACK + b"".join(b"%d,a%d,b.c;" % (i, i) for i in range(2_000_000)) + b'"',
    "many_modules": b"".join(NAME + b'%d"' % i for i in range(100_000)),
    "a_long_class": STACK + b",," + b"a." * (LARGE // 2) + b'a"',
    "a_terminal": NAME + b'\\u001b[2J"' + STACK + b",\\u001b[2J,a.\\u001b[2J" + b'"',
}
EMPTY = b'{"config": {}}'
LISTS = {
    "many_lists": b'{"config": [' + b"[]," * (7 * 2**20) + b"[]]}",
    "deep": b'{"config": ' * 100_000,
    "a_long_number": b'{"config": ' + b"9" * 2**24 + b"}",
    "a_long_name": b'{"config": {"' + b"n" * 2**24 + b'": 1}}',
}


def program(graph=b"{}", weights=EMPTY):
    parts = {
        "archive_format": b"pt2",
        "archive_version": b"0",
        "models/model.json": graph,
        "data/weights/model_weights_config.json": weights,
        "data/constants/model_constants_config.json": EMPTY,
    }
    return zipped([(f"model/{name}", content) for name, content in parts.items()])


@pytest.mark.parametrize("kind", GRAPHS)
def test_a_graph_is_searched_in_bounded_time_and_memory(kind, tmp_path):
    report(program(graph=GRAPHS[kind]), tmp_path)


@pytest.mark.parametrize("kind", LISTS)
def test_a_list_is_read_in_bounded_time_and_memory(kind, tmp_path):
    assert {seen.code for seen in report(program(weights=LISTS[kind]), tmp_path)} == {2}
