"""Files of safetensors whose header costs much to read, or lies: each function gives one."""

import json
import struct

SIZE = 24 * 2**20 - 64  # bytes of a header that is just within the limit
F32 = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}


def headed(header, data=b"", length=None):
    """Give a file with this header, which may be text."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def one(data=bytes(4), **differs):
    return headed({"a": F32 | differs}, data)


def filled(start, piece, end):
    """Repeat a piece, numbered where it has a place for it, for as long as the limit allows."""
    count = (SIZE - len(start) - len(end)) // len(piece % 0xFFFFFFF if b"%" in piece else piece)
    pieces = (piece % i for i in range(count)) if b"%" in piece else [piece] * count
    return headed(start + b"".join(pieces) + end)


def names():
    """As many names as fit."""
    return filled(b"{", b'"%x":1,', b'"b":1}')


def wide_names():
    """PEP 393: names of characters beyond the others take more bytes."""
    return filled(b"{", '"Ā%x":1,'.encode(), b'"b":1}')


def pairs_within_the_limit():
    """Nearly as many names as are parsed."""
    return headed(b"{" + b"".join('"Ā%x":1,'.encode() % i for i in range(900_000)) + b'"b":1}')


def tensors():
    """As many tensors as fit, none of which has an element."""
    piece = b'"a%x":{"dtype":"F32","shape":[0],"data_offsets":[0,0]},'
    return filled(b"{", piece, b'"b":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}}')


def tensors_within_the_limit():
    """61,000 tensors, in modules of two."""
    return headed(
        {f"a{i % 30_500}.b{i}": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]} for i in range(61_000)}
    )


def objects():
    """As many empty objects as fit."""
    return filled(b'{"a":[', b"{},", b"{}]}")


def lists():
    return filled(b'{"a":[', b"[],", b"[]]}")


def lists_of_metadata():
    """The same, where no tensor is."""
    return filled(b'{"__metadata__":[', b"[],", b"[]]}")


def texts():
    """PEP 393 again, in values."""
    return filled(b'{"a":[', '"Ā",'.encode(), b"1]}")


def numbers():
    return filled(b'{"a":[', b"1e9,", b"1]}")


def escapes():
    """Names that are written in six bytes a character."""
    return filled(b'{"', b"\\ud83d", b'":1}')


def dimensions():
    """A shape of 12 million dimensions."""
    return filled(b'{"a":{"dtype":"F32","data_offsets":[0,4],"shape":[', b"1,", b"1]}}")


def deep_lists():
    return headed(b'{"a":' + b"[" * (SIZE - 5))


def deep_objects():
    return headed(b'{"a":' * (SIZE // 5))


def deep_and_closed():
    """Deep enough for any parser's stack, and well formed."""
    return headed(b'{"a":' + b"[" * (SIZE // 2 - 9) + b"]" * (SIZE // 2 - 9) + b"}")


def long_name():
    return headed(b'{"' + b"a" * (SIZE - 99) + b'":' + json.dumps(F32).encode() + b"}", bytes(4))


def dots():
    """A name of 12 million modules, one within the other."""
    return headed(b'{"' + b"a." * (SIZE // 2 - 99) + b'a":' + json.dumps(F32).encode() + b"}", bytes(4))


def long_dtype():
    return headed({"a": F32 | {"dtype": "F" * 20_000_000}}, bytes(4))


def long_number():
    """CVE-2020-10735: text to integer takes quadratic time."""
    return headed(b'{"a":' + b"9" * (SIZE - 9) + b"}")


def long_offset():
    """The same within Python's own limit: an integer of 4,000 digits in a message."""
    return one(dtype="?", data_offsets=[0, 10**4000])


def long_offsets():
    return one(data_offsets=[10**4000, 10**4000 + 4])


def infinite_shape():
    return headed(b'{"a":{"dtype":"F32","shape":[1e999],"data_offsets":[0,4]}}', bytes(4))


def infinite_offset():
    return headed(b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,1e999]}}', bytes(4))


def no_number():
    """JSON of Python's own: NaN and Infinity."""
    return headed(b'{"a":{"dtype":"F32","shape":[NaN],"data_offsets":[-Infinity,Infinity]}}', bytes(4))


def huge_shape():
    """An overflow of 64 bits: 2**32 times 2**32 elements are 0."""
    return one(shape=[2**32, 2**32])


def huge_and_empty():
    """No element, and dimensions whose product no 64-bit integer holds."""
    return one(b"", shape=[0, 2**62, 2**62], data_offsets=[0, 0])


def large_and_empty():
    return one(b"", shape=[2**62, 0], data_offsets=[0, 0])


def negative():
    return one(shape=[-1, -1])


def truths_for_numbers():
    return one(shape=[True], data_offsets=[False, 4])


def one_name_twice():
    text = json.dumps(F32).encode()
    return headed(b'{"a":' + text + b',"\\u0061":' + text + b"}", bytes(4))


def lone_surrogates():
    """What no encoding can write."""
    return headed({"\ud800.\udfff": F32}, bytes(4))


def terminal():
    """CVE-2003-0063's family: escape sequences for whoever prints a name."""
    return headed({"\x1b]0;x\x07\x1b[2J.\n\u202e": F32 | {"dtype": "\x1b[2J"}}, bytes(4))


def tensor_in_a_tensor():
    """A name that is both a tensor and a module that holds one."""
    other = F32 | {"data_offsets": [4, 8]}
    return headed({"a": F32, "a.b": other}, bytes(8))


def overlapping():
    return headed({"a": F32, "b": F32}, bytes(4))


def gap():
    return headed({"a": F32, "b": F32 | {"data_offsets": [8, 12]}}, bytes(12))


def backwards():
    return headed({"a": F32 | {"data_offsets": [4, 0]}}, bytes(4))


def header_past_the_end():
    return headed({"a": F32}, bytes(4), length=2**31)


def header_past_the_limit():
    return headed({"a": F32}, bytes(4), length=2**40)


def header_cut_short():
    return headed({"a": F32}, bytes(4), length=20)


def entries_of_other_forms():
    return headed({"a": None, "b": [], "c": "F32", "d": 1})


def no_object():
    return struct.pack("<Q", 2) + b"{]"


HEADERS = (
    names, wide_names, pairs_within_the_limit, tensors, tensors_within_the_limit, objects, lists, lists_of_metadata,
    texts, numbers, escapes, dimensions, deep_lists, deep_objects, deep_and_closed, long_name, dots, long_dtype,
    long_number, long_offset, long_offsets, infinite_shape, infinite_offset, no_number, huge_shape, huge_and_empty,
    large_and_empty, negative, truths_for_numbers, one_name_twice, lone_surrogates, terminal, tensor_in_a_tensor,
    overlapping, gap, backwards, header_past_the_end, header_past_the_limit, header_cut_short,
    entries_of_other_forms, no_object,
)  # fmt: skip
