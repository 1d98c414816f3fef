"""Pickles written by hand, opcode by opcode, and the zips that torch would load them from."""

import io
import struct
import zipfile
from itertools import chain

STOP, MARK, TRUE, NONE = b".", b"(", b"\x88", b"N"
ADDITEMS, DICT = b"\x90", b"}"
PROTO_2, PROTO_4 = b"\x80\x02", b"\x80\x04"
HELD = ("_parameters", "_buffers", "_modules")
LINEAR = ("torch.nn.modules.linear", "Linear")
SEQUENTIAL = ("torch.nn.modules.container", "Sequential")
OLD = (1980, 1, 1, 0, 0, 0)


def text(value):
    """Push text; lone surrogates pass."""
    raw = value.encode("utf-8", "surrogatepass")
    return b"X" + struct.pack("<I", len(raw)) + raw


def raw(value):
    """Push bytes, as protocol 3 does."""
    return b"B" + struct.pack("<I", len(value)) + value


def integer(value):
    """Push an integer of any size."""
    if 0 <= value < 256:
        return b"K" + bytes([value])
    if -(2**31) <= value < 2**31:
        return b"J" + struct.pack("<i", value)
    data = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
    return b"\x8b" + struct.pack("<i", len(data)) + data


def name(module, attribute):
    """Push what GLOBAL names."""
    return f"c{module}\n{attribute}\n".encode()


def put(index):
    return b"r" + struct.pack("<I", index)


def get(index):
    return b"j" + struct.pack("<I", index)


def several(*parts):
    """Push a tuple."""
    return MARK + b"".join(parts) + b"t"


def listed(parts):
    return b"](" + b"".join(parts) + b"e"


def mapping(pairs):
    """Push a dict of (name, what pushes its value)."""
    return DICT + MARK + b"".join(chain.from_iterable((text(key), value) for key, value in pairs)) + b"u"


def call(module, function, *args):
    return name(module, function) + several(*args) + b"R"


def built(state, of=LINEAR):
    """Push an object as `copyreg.__newobj__` makes it, with its state."""
    return name(*of) + b")\x81" + state + b"b"


def module(modules=(), parameters=(), buffers=(), more=(), of=SEQUENTIAL):
    """Push a module that holds what is given as pairs."""
    return built(attributes(mapping(modules), mapping(parameters), mapping(buffers), more), of)


def attributes(modules=DICT, parameters=DICT, buffers=DICT, more=()):
    """Push a module's `__dict__`, from what pushes the three dicts."""
    hooks = [(f"_{when}_hooks", DICT) for when in ("backward", "forward", "forward_pre", "state_dict")]
    held = [("_parameters", parameters), ("_buffers", buffers), *hooks, ("_modules", modules)]
    return mapping([("training", TRUE), *held, *more])


def storage(key="0", elements=4):
    parts = text("storage"), name("torch", "FloatStorage"), text(key), text("cpu"), integer(elements)
    return several(*parts) + b"Q"


def tensor(shape=(2, 2), stride=None, key="0"):
    """Push a tensor; shape may be what pushes one."""
    size = shape if isinstance(shape, bytes) else several(*map(integer, shape))
    steps = (1,) * len(shape) if stride is None else stride
    return call("torch._utils", "_rebuild_tensor_v2", *_of_tensor(size, several(*map(integer, steps)), key))


def _of_tensor(size, steps, key):
    return storage(key), integer(0), size, steps, b"\x89", name("collections", "OrderedDict") + b")R"


def parameter(inner=None, requires_grad=TRUE):
    hooks = name("collections", "OrderedDict") + b")R"
    return call("torch._utils", "_rebuild_parameter", inner or tensor((2, 2), (2, 1)), requires_grad, hooks)


def program(body, proto=PROTO_2):
    """Give a whole pickle."""
    return proto + body + STOP


MODEL = module([("fc", module(parameters=[("weight", parameter())], of=LINEAR))])


def members(pickle, top="m"):
    """Give the members that torch asks for, in the order in which it writes them."""
    named = {"data.pkl": pickle, "byteorder": b"little", "data/0": bytes(16), "version": b"3\n"}
    return [(f"{top}/{key}", value) for key, value in named.items()]


def archive(pickle, deflated=False):
    """Give a file of torch around a pickle."""
    return zipped(members(pickle), deflated)


def zipped(pairs, deflated=False):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compresslevel=1) as made:
        for key, data in pairs:
            info = zipfile.ZipInfo(key, OLD)
            made.writestr(info, data, zipfile.ZIP_DEFLATED if deflated else zipfile.ZIP_STORED)
    return file.getvalue()
