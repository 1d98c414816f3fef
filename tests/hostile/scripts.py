"""TorchScript archives that cost much to read, or try to be taken for another: each function gives one.

Their code is a list of classes, which is searched and never compiled; their objects are a pickle like any other.
"""

import zipfile

from hostile.archives import zipped
from hostile.opcodes import DICT, NONE, TRUE, built, get, integer, mapping, name, program, put, tensor, text

MIB = 2**20
CODE = "code/__torch__.py"
ROOT = "class M(Module):\n  __parameters__ = []\n  __buffers__ = []\n"
M, OTHER = ("__torch__", "M"), ("__torch__", "X")


def script(state, code=ROOT, files=(), of=M):
    """Give an archive around what pushes its root's state."""
    named = {
        "data.pkl": program(built(state, of)),
        "constants.pkl": b"\x80\x02).",
        CODE: _raw(code),
        "data/0": bytes(16),
    }
    named |= {name: _raw(content) for name, content in dict(files).items()}
    return zipped([(f"m/{name}", content) for name, content in named.items()], zipfile.ZIP_DEFLATED)


def _raw(code):
    return code if isinstance(code, bytes) else code.encode()


def named(count, what, key="a"):
    """Push one thing under many names."""
    return mapping([(f"{key}{i:x}", what) for i in range(count)])


def lines_of_code():
    """A file of nothing but ends of lines."""
    return script(DICT, b"\n" * (60 * MIB) + ROOT.encode())


def classes_in_a_file():
    """As many classes as fit, of which one is asked for."""
    return script(DICT, ROOT + "".join(f"class c{i:x}:\n" for i in range(4_000_000)))


def one_class_again_and_again():
    return script(DICT, ROOT * 900_000)


def files_of_classes():
    """2,000 files, each with 2,000 classes."""
    code = ROOT + "".join(f"class c{i:x}:\n" for i in range(2_000))
    files = {f"code/__torch__/m{i}.py": code for i in range(2_000)}
    return script(mapping([(f"a{i}", built(DICT, (f"__torch__.m{i}", "M"))) for i in range(2_000)]), files=files)


def many_files():
    """9,000 files, one for each module."""
    files = {f"code/__torch__/m{i}.py": ROOT for i in range(9_000)}
    return script(mapping([(f"a{i}", built(DICT, (f"__torch__.m{i}", "M"))) for i in range(9_000)]), files=files)


def names_of_parameters():
    """A list of 10 million parameters."""
    return script(DICT, "class M(Module):\n  __parameters__ = [" + '"a", ' * (12 * MIB) + "]\n")


def other_names_of_parameters():
    names = "".join(f'"{i:x}", ' for i in range(4 * MIB))
    return script(DICT, f"class M(Module):\n  __parameters__ = [{names}]\n")


def name_without_an_end():
    """A list that backtracks."""
    return script(DICT, "class M(Module):\n  __buffers__ = [" + '"a", ' * (12 * MIB) + '"')


def no_text():
    """Each byte that is no UTF-8 becomes a character of two bytes; one of four bytes beside them widens them all."""
    return script(DICT, b"\xff" * (50 * MIB) + "\U0001f600\n".encode() + ROOT.encode())


def code_that_is_too_large():
    """A deflated bomb among the code."""
    return script(DICT, b" " * (100 * MIB))


def code_files_that_are_too_large_together():
    files = {f"code/__torch__/m{i}.py": ROOT.encode() + b" " * (20 * MIB) for i in range(4)}
    return script(mapping([(f"a{i}", built(DICT, (f"__torch__.m{i}", "M"))) for i in range(4)]), files=files)


def states_shared_by_many():
    """One state of 9,000 modules, of which 300 modules have a copy."""
    inner = built(DICT, M) + put(0) + b"0"
    shared = named(9_000, get(0)) + put(1) + b"0"
    return script(inner + shared + mapping([(f"b{i}", built(get(1), M)) for i in range(300)]))


def tensors_shared_by_many():
    """A class of 9,000 parameters, and 300 modules of it that share one state."""
    code = ROOT + "class X(Module):\n  __parameters__ = [" + "".join(f'"a{i:x}", ' for i in range(9_000)) + "]\n"
    shared = tensor() + put(0) + b"0" + named(9_000, get(0)) + put(1) + b"0"
    return script(shared + mapping([(f"b{i}", built(get(1), OTHER)) for i in range(300)]), code)


def attributes_of_no_module():
    """The same, of objects whose class is no module."""
    shared = built(DICT, OTHER) + put(0) + b"0" + named(9_000, get(0)) + put(1) + b"0"
    return script(shared + mapping([(f"b{i}", built(get(1), M)) for i in range(300)]), ROOT + "class X:\n  pass\n")


def modules_with_long_names():
    """As many modules as fit, of a class in 450 packages, one within the other."""
    package = "__torch__" + ".a" * 450
    return script(many((package, "M")), files={f"code/{package.replace('.', '/')}.py": ROOT})


def many_modules():
    return script(many(M))


def many(of):
    """Push 550,000 modules by name."""
    one = name(*of) + put(0) + b"0"
    return one + mapping([(f"{i:x}", get(0) + b")\x81") for i in range(550_000)])


def one_module_under_many_names():
    return script(built(DICT, M) + put(0) + b"0" + named(600_000, get(0)))


def deep_modules():
    start = b"c__torch__\nM\n)\x81}" + text("a")
    return script(start * 200_000 + DICT + b"sb" * 200_000)


def cycle():
    """A module that holds itself, and what holds it."""
    return script(
        put(1) + DICT + text("me") + get(1) + b"s" + text("other") + built(mapping([("up", get(1))]), M) + b"s"
    )


def terminal():
    """CVE-2003-0063's family: escape sequences for whoever prints a name."""
    bad = "\x1b]0;x\x07\x1b[2J\n\u202e"
    code = ROOT + f'class X(Module):\n  __parameters__ = ["{bad}", "\x1b[2J", ]\n'
    inner = built(mapping([("\x1b[2J", tensor()), (bad, tensor())]), OTHER)
    return script(mapping([(bad, inner), ("\x1b[2Jb", inner)]), code)


def terminal_in_a_class():
    return script(DICT, files={"code/__torch__/\x1b[2J.py": ROOT}, of=("__torch__.\x1b[2J", "M"))


def terminal_in_a_missing_class():
    return script(DICT, of=("__torch__.\x1b[2J", "\x1b[2J"))


def code_in_capitals():
    """miniz looks names up without regard to case: which of two files torch compiles, no name tells."""
    return script(DICT, files={"code/__TORCH__.py": ROOT.replace("Module", "Moduel")})


def code_elsewhere():
    """Zip Slip, Snyk 2018, by way of a class's name."""
    return script(DICT, of=("__torch__.......etc.passwd", "M"))


def wrappers():
    """Modules that are named as wrappers are, within themselves."""
    package = "__torch__.torch.nn.parallel.data_parallel"
    code = {f"code/{package.replace('.', '/')}.py": "class DataParallel(Module):\n"}
    return script(put(1) + DICT + text("module") + get(1) + b"s", files=code, of=(package, "DataParallel"))


def states_of_other_forms():
    """`__getstate__` may give anything: a tuple, a list of states, none."""
    odd = [NONE, b")", integer(7), b"]", text("x"), TRUE, tensor()]
    inner = [(f"a{i}", built(state, M)) for i, state in enumerate(odd)]
    return script(mapping([*inner, ("twice", built(DICT, M) + NONE + b"b"), ("none", b"c__torch__\nM\n)\x81")]))


def names_that_are_no_text():
    inner = DICT + integer(3) + built(DICT, M) + b"s" + NONE + built(DICT, M) + b"s"
    return script(inner)


def root_of_another_form():
    return script(integer(1))


def class_that_is_no_module():
    return script(DICT, "class M:\n  __parameters__ = []\n")


def class_of_torch():
    """Named as a module that was pickled, in an archive whose code does not have it."""
    return script(DICT, of=("torch.nn.modules.linear", "Linear"))


SCRIPTS = (
    lines_of_code, classes_in_a_file, one_class_again_and_again, files_of_classes, many_files, names_of_parameters,
    other_names_of_parameters, name_without_an_end, no_text, code_that_is_too_large,
    code_files_that_are_too_large_together, states_shared_by_many, tensors_shared_by_many, attributes_of_no_module,
    modules_with_long_names, many_modules, one_module_under_many_names, deep_modules, cycle, terminal,
    terminal_in_a_class, terminal_in_a_missing_class, code_in_capitals, code_elsewhere, wrappers,
    states_of_other_forms, names_that_are_no_text, root_of_another_form, class_that_is_no_module, class_of_torch,
)  # fmt: skip
