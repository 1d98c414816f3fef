"""An inert machine for pickles: the security boundary, alone in this file.

It interprets opcodes as `pickletools.genops` reads them and builds stand-ins. It has no way to import, look up or
call anything that a pickle names: there is no `__import__`, no `getattr` and no call of a value here, and it keeps
away from `pickle.Unpickler`, whose C code allocates for a memo index before it looks and asks copyreg's cache before
`find_class`. What a pickle may cost is bounded by LIMITS.
"""

from __future__ import annotations

import gc
import struct
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING  # what Python calls the modules of Python 2
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pickletools import genops
from typing import Any

from freezeinspect.readers.limits import LIMITS, Limits, Unreadable, cut
from freezeinspect.readers.standins import Composite, Global, Made, Persistent

INTEGER_BITS = 512


@dataclass(frozen=True)
class Pickled:
    """What one pickle holds: its value, what loading it would import and call, what is outside it, and its size."""

    value: Any
    imports: tuple[Global, ...]
    called: frozenset[Global]
    outside: tuple[Persistent, ...] = ()
    length: int = 0
    operations: int = 0


def unpickle(data: bytes, limits: Limits = LIMITS) -> Pickled:
    """Read a pickle of any protocol into stand-ins, running nothing. Raises Unreadable."""
    if len(data) > limits.pickle_bytes:
        raise Unreadable(f"the pickle has {len(data):,} bytes, and the limit is {limits.pickle_bytes:,}")
    machine = _Machine(limits)
    with _no_collections():
        value, length, operations = _run(machine, data)
    outside = tuple(machine.outside)
    return Pickled(value, tuple(machine.globals.values()), frozenset(machine.called), outside, length, operations)


@contextmanager
def _no_collections() -> Iterator[None]:
    """Let Python not look for cycles among objects that all stay: it would take a third of the time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _run(machine: _Machine, data: bytes) -> tuple[Any, int, int]:
    position: int | None = 0
    try:
        for count, (opcode, arg, position) in enumerate(islice(genops(data), machine.limits.operations), 1):  # noqa: B007
            _DOES[opcode.name](machine, arg)
        if opcode.name == "STOP":
            return machine.stack.pop(), (position or 0) + 1, count
    except _Refused as error:
        raise Unreadable(f"byte {position} of the pickle: {error}") from None
    except IndexError:
        raise Unreadable(f"byte {position} of the pickle: {opcode.name} takes more than the stack has") from None
    except (ValueError, OverflowError, struct.error) as error:  # of genops, at the operation after this one
        raise Unreadable(f"after byte {position} of the pickle: {str(error)[:120]}") from None
    raise Unreadable(f"the pickle has more than {machine.limits.operations:,} operations, which is the limit")


class _Refused(Exception):
    """An operation that no file of torch has, or one past a limit."""


class _Machine:
    """The state of one run: the stack above the last mark, those below, the memo."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.copied = 0
        self.protocol = 0
        self.stack: list[Any] = []
        self.below: list[list[Any]] = []
        self.memo: dict[int, Any] = {}
        self.globals: dict[tuple[str, str], Global] = {}
        self.called: set[Global] = set()
        self.outside: list[Persistent] = []

    def mark(self) -> None:
        if len(self.below) == self.limits.depth:
            raise _Refused(f"more than {self.limits.depth:,} levels, which is the limit")
        self.below.append(self.stack)
        self.stack = []

    def since_mark(self) -> list[Any]:
        above = self.stack
        self.stack = self.below.pop()
        return above

    def call(self, function: Any, args: Any) -> None:
        if type(function) is Global:
            self.called.add(function)
        self.stack.append(Made(function, args, allocated=False))

    def name(self, module: Any, name: Any) -> Global:
        """Stand for a class or function, called as an unpickler of Python 3 would call it."""
        if type(module) is not str or type(name) is not str:
            raise _Refused(f"a class's name must be text, not {type(name).__name__} in {type(module).__name__}")
        if self.protocol < 3:
            module, name = NAME_MAPPING.get((module, name)) or (IMPORT_MAPPING.get(module, module), name)
        if len(module) + len(name) > self.limits.name_length:
            raise _Refused(f"a class's name with more than {self.limits.name_length:,} characters, which is the limit")
        if len(self.globals) == self.limits.classes:
            raise _Refused(f"more than {self.limits.classes:,} classes and functions, which is the limit")
        return self.globals.setdefault((module, name), Global(module, name))


def _push(machine: _Machine, value: Any) -> None:
    machine.stack.append(value)


def _push_integer(machine: _Machine, value: int) -> None:
    """Push a number, unless it is of many bits: to hash it, or to write it out, would take long again and again."""
    if value.bit_length() > INTEGER_BITS:
        raise _Refused(f"an integer of {value.bit_length():,} bits, and the limit is {INTEGER_BITS}")
    machine.stack.append(value)


def _push_python_2_text(machine: _Machine, text: str) -> None:
    """Decode as torch.load does; genops gives the bytes as Latin-1."""
    _push(machine, text.encode("latin-1").decode("utf-8"))


def _pushing(make: Callable[[], Any]) -> Callable[[_Machine, Any], None]:
    return lambda machine, _: machine.stack.append(make())


def _pop(machine: _Machine, _: Any) -> None:
    """Drop the top, or the mark that is on top."""
    if machine.stack:
        machine.stack.pop()
    else:
        machine.since_mark()


def _dup(machine: _Machine, _: Any) -> None:
    _push(machine, machine.stack[-1])


def _mark(machine: _Machine, _: Any) -> None:
    machine.mark()


def _pop_mark(machine: _Machine, _: Any) -> None:
    machine.since_mark()


def _get(machine: _Machine, index: int) -> None:
    if index not in machine.memo:
        raise _Refused(f"memo entry {index} was never put")
    _push(machine, machine.memo[index])


def _put(machine: _Machine, index: int) -> None:
    if index < 0:
        raise _Refused(f"memo entry {index} is negative")
    machine.memo[index] = machine.stack[-1]


def _memoize(machine: _Machine, _: Any) -> None:
    _put(machine, len(machine.memo))


def _tuple_of(count: int) -> Callable[[_Machine, Any], None]:
    def make(machine: _Machine, _: Any) -> None:
        if len(machine.stack) < count:
            raise IndexError
        machine.stack[-count:] = [tuple(machine.stack[-count:])]

    return make


def _tuple(machine: _Machine, _: Any) -> None:
    _push(machine, tuple(machine.since_mark()))


def _list(machine: _Machine, _: Any) -> None:
    _push(machine, machine.since_mark())


def _dict(machine: _Machine, _: Any) -> None:
    made: dict[Any, Any] = {}
    _set(made, machine.since_mark())
    _push(machine, made)


def _frozenset(machine: _Machine, _: Any) -> None:
    made = Made(_FROZENSET, (), allocated=False)
    made.items = machine.since_mark()
    _push(machine, made)


def _append(machine: _Machine, _: Any) -> None:
    item = machine.stack.pop()
    _extend(machine.stack[-1], [item])


def _appends(machine: _Machine, _: Any) -> None:
    items = machine.since_mark()
    _extend(machine.stack[-1], items)


def _extend(target: Any, items: list[Any]) -> None:
    if type(target) is list:
        target.extend(items)
    elif type(target) is not Made:
        raise _Refused(f"cannot append to {_kind(target)}")
    elif target.items is None:
        target.items = items
    else:
        target.items.extend(items)


def _setitem(machine: _Machine, _: Any) -> None:
    value, key = machine.stack.pop(), machine.stack.pop()
    _set(machine.stack[-1], [key, value])


def _setitems(machine: _Machine, _: Any) -> None:
    pairs = machine.since_mark()
    _set(machine.stack[-1], pairs)


def _set(target: Any, pairs: list[Any]) -> None:
    if len(pairs) % 2:
        raise _Refused("a key without a value")
    if type(target) is Made:
        if target.entries is None:
            target.entries = {}
        target = target.entries
    if type(target) is not dict:
        raise _Refused(f"cannot set an item of {_kind(target)}")
    for key, value in zip(pairs[::2], pairs[1::2], strict=True):
        target[key if type(key) in _PLAIN else Composite(key)] = value


_SET, _FROZENSET = Global("builtins", "set"), Global("builtins", "frozenset")
_PLAIN = frozenset((str, int, float, bool, bytes, type(None), Global, Made))  # hashed in no time; the last by identity


def _kind(value: Any) -> str:
    return cut(value) if type(value) is Global else f"a {type(value).__name__.lower()}"


def _global(machine: _Machine, pair: str) -> None:
    _push(machine, machine.name(*_pair(pair)))


def _pair(text: str) -> list[str]:
    """Part what genops joins by a space."""
    pair = text.split(" ")
    if len(pair) != 2:
        raise _Refused(f"a class's name with a space: {cut(text)}")
    return pair


def _stack_global(machine: _Machine, _: Any) -> None:
    name, module = machine.stack.pop(), machine.stack.pop()
    _push(machine, machine.name(module, name))


def _extension(machine: _Machine, code: int) -> None:
    """Stand for what copyreg's registry would name; the registry is not asked."""
    _push(machine, machine.name("copyreg", f"extension {code}"))


def _reduce(machine: _Machine, _: Any) -> None:
    args, function = machine.stack.pop(), machine.stack.pop()
    machine.call(function, args)


def _newobj(machine: _Machine, _: Any) -> None:
    args, cls = machine.stack.pop(), machine.stack.pop()
    _push(machine, Made(cls, args, allocated=True))


def _newobj_ex(machine: _Machine, _: Any) -> None:
    kwargs, args, cls = machine.stack.pop(), machine.stack.pop(), machine.stack.pop()
    _push(machine, Made(cls, (args, kwargs), allocated=True))


def _obj(machine: _Machine, _: Any) -> None:
    cls, *args = machine.since_mark()
    machine.call(cls, tuple(args))


def _inst(machine: _Machine, pair: str) -> None:
    args = tuple(machine.since_mark())
    machine.call(machine.name(*_pair(pair)), args)


def _build(machine: _Machine, _: Any) -> None:
    state = machine.stack.pop()
    target = machine.stack[-1]
    if type(target) is not Made:
        raise _Refused(f"sets the state of {_kind(target)}, which no file of torch does")
    if type(state) is dict:
        machine.copied += len(state)
        if machine.copied > machine.limits.operations:
            raise _Refused(f"copies more than {machine.limits.operations:,} entries, which is the limit")
        state = dict(state)
    if target.states is None:
        target.states = []
    if len(target.states) == machine.limits.states:
        raise _Refused(f"gives one object more than {machine.limits.states} states, which is the limit")
    target.states.append(state)


def _persistent(machine: _Machine, id: Any) -> None:
    """Stand for what is outside; torch's old format so keeps a module's class, with its source text."""
    if type(id) is tuple and len(id) > 1 and id[0] == "module" and type(id[1]) is Global:
        _push(machine, id[1])
        return
    machine.outside.append(Persistent(id))
    _push(machine, machine.outside[-1])


def _binary_persistent(machine: _Machine, _: Any) -> None:
    _persistent(machine, machine.stack.pop())


def _protocol(machine: _Machine, number: int) -> None:
    if number > 5:
        raise _Refused(f"protocol {number}, and the newest is 5")
    machine.protocol = number


def _out_of_band(machine: _Machine, _: Any) -> None:
    raise _Refused("a buffer outside the pickle, which no file has")


def _nothing(machine: _Machine, _: Any) -> None:
    pass


_VALUES = """BININT BININT1 BININT2 BINBYTES SHORT_BINBYTES BINBYTES8 BYTEARRAY8 STRING UNICODE
SHORT_BINUNICODE BINUNICODE BINUNICODE8 FLOAT BINFLOAT"""

_DOES: dict[str, Callable[[_Machine, Any], None]] = {
    **dict.fromkeys(_VALUES.split(), _push),
    **dict.fromkeys(("INT", "LONG", "LONG1", "LONG4"), _push_integer),
    **dict.fromkeys(("BINSTRING", "SHORT_BINSTRING"), _push_python_2_text),
    **dict.fromkeys(("GET", "BINGET", "LONG_BINGET"), _get),
    **dict.fromkeys(("PUT", "BINPUT", "LONG_BINPUT"), _put),
    **dict.fromkeys(("APPENDS", "ADDITEMS"), _appends),
    **dict.fromkeys(("EXT1", "EXT2", "EXT4"), _extension),
    **dict.fromkeys(("NEXT_BUFFER", "READONLY_BUFFER"), _out_of_band),
    "NONE": _push,
    "NEWTRUE": _pushing(lambda: True),
    "NEWFALSE": _pushing(lambda: False),
    "EMPTY_LIST": _pushing(list),
    "EMPTY_TUPLE": _pushing(tuple),
    "EMPTY_DICT": _pushing(dict),
    "EMPTY_SET": _pushing(lambda: Made(_SET, (), allocated=False)),
    "APPEND": _append,
    "LIST": _list,
    "TUPLE": _tuple,
    "TUPLE1": _tuple_of(1),
    "TUPLE2": _tuple_of(2),
    "TUPLE3": _tuple_of(3),
    "DICT": _dict,
    "SETITEM": _setitem,
    "SETITEMS": _setitems,
    "FROZENSET": _frozenset,
    "POP": _pop,
    "DUP": _dup,
    "MARK": _mark,
    "POP_MARK": _pop_mark,
    "MEMOIZE": _memoize,
    "GLOBAL": _global,
    "STACK_GLOBAL": _stack_global,
    "REDUCE": _reduce,
    "BUILD": _build,
    "INST": _inst,
    "OBJ": _obj,
    "NEWOBJ": _newobj,
    "NEWOBJ_EX": _newobj_ex,
    "PROTO": _protocol,
    **dict.fromkeys(("FRAME", "STOP"), _nothing),
    "PERSID": _persistent,
    "BINPERSID": _binary_persistent,
}
