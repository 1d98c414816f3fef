"""The inert machine: it reads what a pickle holds as Python would build it, and runs nothing of it."""

from __future__ import annotations

import collections
import datetime
import gc
import pickle
import pickletools
import sys
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from freezeinspect.readers.limits import LIMITS, Unreadable
from freezeinspect.readers.standins import Composite, Global, Made, Persistent
from freezeinspect.readers.unpickle import unpickle

ATOMS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary()
DATA = st.recursive(
    ATOMS, lambda inner: st.lists(inner) | st.tuples(inner, inner) | st.dictionaries(ATOMS, inner), max_leaves=20
)
PROTOCOLS = st.integers(0, pickle.HIGHEST_PROTOCOL)
NAMED = "byte 0 of the pickle: a class's"
CLASSES = "classes and functions, which is the limit"
COPIES_60 = b"}(" + b"".join(b"K%cN" % n for n in range(20)) + b"u\x940cm\nC\n)\x81" + b"h\x00b" * 3 + b"."


class Kept:
    """Keep what it is made with, and a slot."""

    def __init__(self) -> None:
        self.kept = [1, 2]


class Plain(list[int]):
    """Be a list with an attribute."""


def plain(value: Any) -> Any:
    """Read the bytes of protocols that have no opcode for them."""
    if type(value) is Made and str(value.of) == "_codecs.encode":
        return value.args[0].encode("latin-1")
    if type(value) is Made and str(value.of) == "builtins.bytes":
        return b""
    if type(value) in (list, tuple):
        return type(value)(plain(one) for one in value)
    return {key(one): plain(held) for one, held in value.items()} if type(value) is dict else value


def key(value: Any) -> Any:
    return plain(value.value if type(value) is Composite else value)


class TestData:
    @given(value=DATA, protocol=PROTOCOLS)
    def test_of_any_shape_is_read_as_python_reads_it(self, value: Any, protocol: int) -> None:
        read = plain(unpickle(pickle.dumps(value, protocol)).value)
        assert read == value
        assert repr(read) == repr(value)  # True is not 1

    @given(protocol=PROTOCOLS)
    def test_shared_and_cyclic_is_so_again(self, protocol: int) -> None:
        value: list[Any] = [[]]
        value += [value[0], value]
        read = unpickle(pickle.dumps(value, protocol)).value
        assert read[0] is read[1]
        assert read[2] is read

    def test_optimised_for_size_is_the_same(self) -> None:
        value = {"a": [1, (2, "b")], "c": ("a", "a")}
        assert unpickle(pickletools.optimize(pickle.dumps(value, 4))).value == value

    def test_of_python_2_is_decoded_as_torch_does(self) -> None:
        assert unpickle(b"U\x04na\xc3\xafT\x02\0\0\0ab\x86.").value == ("naï", "ab")


class TestPickled:
    def test_ends_where_its_last_operation_does_whatever_follows(self) -> None:
        read = unpickle(b"NK\x01.more")
        assert (read.value, read.length, read.operations) == (1, 4, 3)

    def test_tells_what_it_would_import_and_what_of_that_it_would_call(self) -> None:
        read = unpickle(b"cm\nA\n)\x81cm\nf\n)R(im\ng\n(cm\nh\no.")
        assert [str(one) for one in read.imports] == ["m.A", "m.f", "m.g", "m.h"]
        assert {str(one) for one in read.called} == {"m.f", "m.g", "m.h"}

    def test_tells_what_is_kept_outside_in_order(self) -> None:
        assert [one.id for one in unpickle(b"Pa\nPb\n.").outside] == ["a", "b"]

    def test_tells_of_a_class_kept_with_its_source_only_the_class(self) -> None:
        read = unpickle(b"(\x8c\x06modulecm\nA\n\x8c\x04filetQ.")
        assert (str(read.value), read.outside) == ("m.A", ())

    @pytest.mark.parametrize("enabled", [True, False])
    @pytest.mark.parametrize("data", [b"N.", b"?"])
    def test_leaves_the_garbage_collector_as_it_was(self, enabled: bool, data: bytes) -> None:
        was = gc.isenabled()
        try:
            (gc.enable if enabled else gc.disable)()
            with suppress(Unreadable):
                unpickle(data)
            assert gc.isenabled() is enabled
        finally:
            (gc.enable if was else gc.disable)()


class TestObjects:
    @pytest.mark.parametrize("protocol", range(6))
    def test_are_stand_ins_with_their_class_and_state(self, protocol: int) -> None:
        pickled = unpickle(pickle.dumps(Kept(), protocol))
        made = pickled.value
        assert type(made) is Made
        assert made.states == [{"kept": [1, 2]}]
        assert f"{__name__}.Kept" in map(str, pickled.imports)

    def test_may_be_filled_and_given_a_state(self) -> None:
        value = Plain([1, 2])
        value.name = "x"
        made = unpickle(pickle.dumps(value, 2)).value
        assert (str(made.of), made.allocated, made.items, made.states) == (
            f"{__name__}.Plain",
            True,
            [1, 2],
            [{"name": "x"}],
        )

    def test_with_keyword_arguments_are_allocated_too(self) -> None:
        made = unpickle(b"\x80\x04cm\nC\n)}\x8c\x01k\x8c\x01vs\x92.").value
        assert (str(made.of), made.allocated, made.args) == ("m.C", True, ((), {"k": "v"}))

    @pytest.mark.parametrize("pickled", [b"cm\nC\nK\x01\x85R.", b"(K\x01im\nC\n.", b"(cm\nC\nK\x01o."])
    def test_are_called_with_their_arguments(self, pickled: bytes) -> None:
        made = unpickle(pickled).value
        assert (str(made.of), made.allocated, made.args) == ("m.C", False, (1,))

    def test_are_allocated_with_their_arguments(self) -> None:
        assert unpickle(b"cm\nC\nK\x01\x85\x81.").value.args == (1,)

    def test_that_are_called_are_told_from_those_that_are_allocated(self) -> None:
        made = unpickle(pickle.dumps(datetime.date(2020, 1, 2))).value
        assert (str(made.of), made.allocated) == ("datetime.date", False)

    def test_of_ordered_dicts_keep_their_entries_in_order(self) -> None:
        made = unpickle(pickle.dumps(collections.OrderedDict(b=1, a=2), 2)).value
        assert list(made.entries.items()) == [("b", 1), ("a", 2)]

    def test_of_sets_keep_their_items(self) -> None:
        for kind in (set, frozenset):
            made = unpickle(pickle.dumps(kind([1]), 4)).value
            assert (str(made.of), made.args, made.allocated) == (f"builtins.{kind.__name__}", (), False)
            assert made.items == [1]

    def test_kept_outside_are_named_by_their_id(self) -> None:
        assert unpickle(b"(\x8c\x07storageU\x010tQ.").value.id == ("storage", "0")
        assert unpickle(b"Pa\nPany text\n.").value.id == "any text"

    @pytest.mark.parametrize("name", ["modul", "module2", "MODULE", ""])
    def test_kept_outside_are_classes_only_where_torch_s_old_format_says_so(self, name: str) -> None:
        text = b"\x8c" + bytes([len(name)]) + name.encode()
        for pickled in (text + b"cm\nA\n\x86Q.", b"\x8c\x06module\x85Q.", b"\x8c\x06moduleN\x86Q.", b")Q."):
            assert type(unpickle(pickled).value) is Persistent
        assert str(unpickle(b"\x8c\x06modulecm\nA\n\x86Q.").value) == "m.A"

    @pytest.mark.parametrize(
        "pickled",
        [
            b"cposix\nsystem\n.",
            b"\x8c\x05posix\x8c\x06system\x93.",
            b"(iposix\nsystem\n.",
            b"\x80\x02cposix\nsystem\n.",
        ],
    )
    def test_of_any_opcode_are_named_as_what_would_be_imported(self, pickled: bytes) -> None:
        assert [str(one) for one in unpickle(pickled).imports] == ["posix.system"]

    def test_of_python_2_are_called_as_python_3_would(self) -> None:
        assert str(unpickle(b"\x80\x02c__builtin__\neval\n.").value) == "builtins.eval"
        assert str(unpickle(b"\x80\x02ccPickle\nloads\n.").value) == "pickle.loads"
        assert str(unpickle(b"c__builtin__\nxrange\n.").value) == "builtins.range"
        assert str(unpickle(b"\x80\x03c__builtin__\neval\n.").value) == "__builtin__.eval"
        assert str(unpickle(b"\x80\x04c__builtin__\neval\n.").value) == "__builtin__.eval"

    def test_may_have_any_white_space_in_their_names_but_the_one_that_parts_them(self) -> None:
        assert str(unpickle(b"ca\tb\nc\n.").value) == "a\tb.c"

    def test_of_an_extension_are_named_by_its_code_for_the_registry_is_not_asked(self) -> None:
        import copyreg

        copyreg.add_extension("posix", "system", 77)
        copyreg._extension_cache[77] = print
        try:
            values = unpickle(b"\x82\x4d\x83\x4d\0\x84\x4d\0\0\0\x87.").value
        finally:
            copyreg.remove_extension("posix", "system", 77)
        assert [str(value) for value in values] == ["copyreg.extension 77"] * 3

    def test_are_never_imported(self) -> None:
        name = "this"  # a module of the standard library that prints when it is imported
        assert name not in sys.modules
        unpickle(f"c{name}\ns\n)R.".encode())
        assert name not in sys.modules


class TestKeys:
    def test_that_hashing_could_never_end_on_stand_for_themselves(self) -> None:
        nested = b"N" + b"\x85" * 100_000
        read = unpickle(b"}" + nested + b"Ns.").value
        (one,) = read
        assert type(one) is Composite
        (one,) = unpickle(b"}K\x01\x85Ns.").value
        assert one.value == (1,)

    def test_of_plain_values_are_those_values(self) -> None:
        assert unpickle(pickle.dumps({1: 2, "a": 3, None: 4})).value == {1: 2, "a": 3, None: 4}


class TestBuilding:
    def test_copies_a_state_as_a_module_s_setstate_does(self) -> None:
        """A state that is changed after BUILD changes nothing of the object."""
        made = unpickle(b"}\x940cm\nC\n)\x81h\x00bh\x00\x8c\x01kNs0.").value
        assert made.states == [{}]

    def test_may_come_twice_and_both_count(self) -> None:
        made = unpickle(b"cm\nC\n)\x81}\x8c\x01kK\x01sb}\x8c\x01kK\x02sb.").value
        assert made.states == [{"k": 1}, {"k": 2}]

    def test_copies_no_more_entries_than_there_may_be_operations(self) -> None:
        entries = b"".join(b"K" + bytes([n]) + b"N" for n in range(50))
        pickled = b"}(" + entries + b"u\x940cm\nC\n)\x81" + b"h\x00b" * 10 + b"."
        assert len(unpickle(pickled).value.states) == 10
        with pytest.raises(Unreadable, match="copies more than 200 entries, which is the limit"):
            unpickle(pickled, replace(LIMITS, operations=200))

    def test_of_the_last_two_opcodes_for_lists_extends_what_is_there(self) -> None:
        assert unpickle(b"cm\nC\n)\x81Na(K\x01K\x02e.").value.items == [None, 1, 2]
        assert unpickle(b"]Na(K\x01K\x02e.").value == [None, 1, 2]

    @pytest.mark.parametrize(
        ("target", "kind"),
        [
            (b"cm\nC\n", "'m.C'"),
            (b"]", "a list"),
            (b"}", "a dict"),
            (b"N", "a nonetype"),
            (b"\x8c\x01a", "a str"),
            (b"cm\nC\n)\x81N", "a nonetype"),
        ],
    )
    def test_anything_but_an_object_is_refused(self, target: bytes, kind: str) -> None:
        with pytest.raises(Unreadable, match=f"sets the state of {kind}, which no file of torch does"):
            unpickle(target + b"}b.")

    def test_is_of_the_object_on_top(self) -> None:
        assert unpickle(b"Ncm\nC\n)\x81}b.").value.states == [{}]


@pytest.mark.parametrize(
    ("pickled", "value"),
    [
        (b"NK\x01]2\x86.", ([], [])),  # DUP
        (b"K\x01(NN1.", 1),  # POP_MARK
        (b"K\x01(0.", 1),  # POP takes a mark that is on top
        (b"NK\x01K\x02K\x03\x87.", (1, 2, 3)),  # TUPLE3
        (b"\x8b\x01\0\0\0\x05.", 5),  # LONG4
        (b"K\x05r\0\1\0\0j\0\1\0\0\x86.", (5, 5)),  # LONG_BINPUT, LONG_BINGET
    ],
)
def test_opcodes_that_no_pickle_of_python_s_own_is_sure_to_have(pickled: bytes, value: Any) -> None:
    assert unpickle(pickled).value == value


class TestWhatIsRefused:
    @pytest.mark.parametrize(
        ("pickled", "said"),
        [
            (b"", "after byte 0 of the pickle: pickle exhausted before seeing STOP"),
            (b"K\x01", "after byte 0 of the pickle: pickle exhausted before seeing STOP"),
            (b"\xff.", r"after byte 0 of the pickle: at position 0, opcode b'\xff' unknown"),
            (b".", "byte 0 of the pickle: STOP takes more than the stack has"),
            (b"NR.", "byte 1 of the pickle: REDUCE takes more than the stack has"),
            (b"N(R.", "byte 2 of the pickle: REDUCE takes more than the stack has"),
            (b"N\x86.", "byte 1 of the pickle: TUPLE2 takes more than the stack has"),
            (b"h\x07.", "byte 0 of the pickle: memo entry 7 was never put"),
            (b"Np-1\n.", "byte 1 of the pickle: memo entry -1 is negative"),
            (b"}(Nu.", "byte 3 of the pickle: a key without a value"),
            (b")Na.", "byte 2 of the pickle: cannot append to a tuple"),
            (b"cm\nC\nNa.", "byte 6 of the pickle: cannot append to 'm.C'"),
            (b")NNs.", "byte 3 of the pickle: cannot set an item of a tuple"),
            (b"N\x8c\x01n\x93.", "byte 4 of the pickle: a class's name must be text, not str in NoneType"),
            (b"\x8c\x01mN\x93.", "byte 4 of the pickle: a class's name must be text, not NoneType in str"),
            (b"ca b\nc\n.", "byte 0 of the pickle: a class's name with a space: 'a b c'"),
            (b"\x80\x06.", "byte 0 of the pickle: protocol 6, and the newest is 5"),
            (b"\x97.", "byte 0 of the pickle: a buffer outside the pickle, which no file has"),
            (b"N\x98.", "byte 1 of the pickle: a buffer outside the pickle, which no file has"),
            (b"\x8b\xff\xff\xff\x7f.", "after byte 0 of the pickle: not enough data in stream to read long4"),
            (b"L" + b"9" * 5000 + b"L\n.", "after byte 0 of the pickle: Exceeds the limit (4300 digits) for integer"),
        ],
    )
    def test_says_where_and_what(self, pickled: bytes, said: str) -> None:
        with pytest.raises(Unreadable) as error:
            unpickle(pickled)
        assert str(error.value).startswith(said)

    @pytest.mark.parametrize(
        ("limit", "value", "pickled", "said"),
        [
            ("pickle_bytes", 4, b"NNN.", "the pickle has 4 bytes, and the limit is 3"),
            ("operations", 4, b"NNN.", "the pickle has more than 3 operations, which is the limit"),
            ("operations", 3, b"N\x85.", "the pickle has more than 2 operations, which is the limit"),
            ("depth", 3, b"(((lll.", "byte 2 of the pickle: more than 2 levels, which is the limit"),
            ("name_length", 5, b"cabc\nde\n.", f"{NAMED} name with more than 4 characters, which is the limit"),
            ("classes", 2, b"ca\nb\nca\nc\n.", f"byte 5 of the pickle: more than 1 {CLASSES}"),
            ("classes", 2, b"\x82\x01\x82\x02.", f"byte 2 of the pickle: more than 1 {CLASSES}"),
            ("states", 2, b"cm\nC\n)\x81}b}b.", "byte 10 of the pickle: gives one object more than 1 states"),
            ("operations", 60, COPIES_60, "byte 80 of the pickle: copies more than 59 entries, which is the limit"),
        ],
    )
    def test_each_limit_to_the_last_one_within_it(self, limit: str, value: int, pickled: bytes, said: str) -> None:
        unpickle(pickled, replace(LIMITS, **{limit: value}))
        with pytest.raises(Unreadable) as error:
            unpickle(pickled, replace(LIMITS, **{limit: value - 1}))
        assert str(error.value).startswith(said)

    def test_the_limits_that_hold_where_none_are_given(self) -> None:
        classes = b"".join(b"cm\n%d\n" % n for n in range(LIMITS.classes))
        assert unpickle(b"(" * LIMITS.depth + b"N.").value is None
        assert len(unpickle(classes + b".").imports) == LIMITS.classes
        for pickled in (b"(" * (LIMITS.depth + 1), classes + b"cm\nC\n."):
            with pytest.raises(Unreadable, match="more than 10,000"):
                unpickle(pickled)

    def test_an_error_of_python_s_own_is_cut_at_120_characters(self) -> None:
        with pytest.raises(Unreadable) as error:
            unpickle(b"L" + b"9" * 5000 + b"L\n.")
        assert len(str(error.value)) == len("after byte 0 of the pickle: ") + 120

    @pytest.mark.parametrize("number", [2**512 - 1, 1 - 2**512])
    @pytest.mark.parametrize("protocol", [0, 2])
    def test_an_integer_of_more_bits_than_512(self, number: int, protocol: int) -> None:
        assert unpickle(pickle.dumps(number, protocol)).value == number
        with pytest.raises(Unreadable, match="an integer of 513 bits, and the limit is 512"):
            unpickle(pickle.dumps(number * 2, protocol))

    def test_a_memo_index_that_would_allocate_costs_nothing(self) -> None:
        assert unpickle(b"Nr\xff\xff\xff\x7f.").value is None


def test_a_stand_in_is_no_value() -> None:
    assert type(unpickle(b"cposix\nsystem\n.").value) is Global
