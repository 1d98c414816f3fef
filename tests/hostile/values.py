"""Names and values that a model never has: each function gives a pickle."""

from hostile.opcodes import (
    DICT,
    LINEAR,
    NONE,
    attributes,
    built,
    call,
    get,
    integer,
    listed,
    mapping,
    module,
    name,
    parameter,
    program,
    put,
    several,
    tensor,
    text,
)

TERMINAL = "\x1b]0;owned\x07\x1b[2J\x1b[31m"  # CVE-2003-0063: what a terminal obeys
BIDI = "\u202egnp.\u2066x"  # CVE-2021-42574, "Trojan Source": text that shows in another order
BROKEN = "\udc80\ud800"
LINES = "a\nfreezeinspect: fine\r\n\u2028b\x85c\x0bd"
LONG = "n" * 10**6
NAMES = {
    "terminal": TERMINAL, "bidi": BIDI, "broken": BROKEN, "lines": LINES, "long": LONG, "empty": "", "dots": "...",
    "nul": "a\0b", "pipes": "|*`<script>", "pattern": "[0-9]{a,b}**", "combining": "a" + "\u0301" * 400,
}  # fmt: skip


def in_paths(value):
    return program(module([(value, module(parameters=[(value, parameter())], of=LINEAR))]))


def in_classes(value):
    """STACK_GLOBAL takes any text."""
    cls = text(value) + text(value) + b"\x93"
    inside = cls + b")\x81" + attributes() + b"b"
    return program(module([("fc", inside)]) + cls + b"0")


def in_keys(value):
    weights = mapping([(value, tensor()), (f"{value}.{value}", tensor())])
    return program(mapping([(value, weights), ("model", weights), (f"{value}2", weights)]))


def in_no_model(value):
    return program(mapping([(value, integer(1))]))


def in_metadata(value):
    ordered = name("collections", "OrderedDict") + b")R" + text(value) + tensor() + b"s"
    return program(ordered + mapping([("_metadata", mapping([(value, NONE)]))]) + b"b")


def in_optimizers(value):
    group = mapping([("params", listed([text(value)])), ("param_names", listed([text(value)])), ("lr", text(value))])
    optimizer = mapping([("state", mapping([(value, NONE)])), ("param_groups", listed([group]))])
    return program(mapping([("model", mapping([(value, tensor())])), ("optimizer", optimizer)]))


def in_dtypes(value):
    made = call("torch._utils", "_rebuild_meta_tensor_no_storage", *_of_meta(text("torch") + text(value) + b"\x93"))
    return program(module(parameters=[("weight", made)]))


def _of_meta(dtype):
    return dtype, several(integer(2)), several(integer(1)), b"\x88"


PLACES = (in_paths, in_classes, in_keys, in_no_model, in_metadata, in_optimizers, in_dtypes)


def real(value):
    """Push a float."""
    import struct

    return b"G" + struct.pack(">d", value)


SCALARS = {
    "nan": real(float("nan")), "inf": real(float("inf")), "minus_inf": real(float("-inf")), "tiny": real(5e-324),
    "huge": integer(10**400), "minus_huge": integer(-(10**400)), "text": text("0.1"), "none": NONE, "list": b"]",
    "object": call("a", "b"), "class": name("a", "b"), "tensor": tensor(()), "true": b"\x88", "bytes": b"C\x01x",
}  # fmt: skip


def as_flags(value):
    flags = ("training", "trainable", "bn_freeze", "drop_freeze", "track_running_stats", "momentum", "p", "eps")
    held = [("running_mean", tensor((2,))), ("running_var", tensor((2,)))]
    norm = ("torch.nn.modules.batchnorm", "BatchNorm2d")
    more = [(flag, value) for flag in flags]
    return program(
        module([("bn", module(buffers=held, more=more, of=norm)), ("d", module(more=more, of=("m", "Drop")))])
    )


def as_rates(value):
    made = parameter() + put(0) + b"0"
    group = mapping([("params", listed([get(0), value])), ("lr", value), ("weight_decay", value)])
    optimizer = mapping([("state", DICT + get(0) + value + b"s"), ("param_groups", listed([group]))])
    return program(made + mapping([("model", module(parameters=[("w", get(0))])), ("optimizer", optimizer)]))


def as_sizes(value):
    shapes = (several(value), value, several(*[value] * 70), listed([value]), several(integer(2), value))
    return program(mapping([(f"w{i}", tensor(shape)) for i, shape in enumerate(shapes)]))


def as_requires_grad(value):
    return program(module(parameters=[("w", parameter(requires_grad=value))]))


def as_tensors(value):
    return program(module(parameters=[("w", value)], buffers=[("b", value)]))


def as_modules(value):
    return program(module([("fc", value), ("more", built(attributes(value, value, value)))]))


def as_root(value):
    return program(value)


def as_model_of_a_checkpoint(value):
    return program(mapping([("model", value), ("state_dict", value), ("optimizer", value)]))


USES = (as_flags, as_rates, as_sizes, as_requires_grad, as_tensors, as_modules, as_root, as_model_of_a_checkpoint)
SHAPES = {
    "2**62": tensor((2**62,)), "2**62_squared": tensor((2**62, 2**62)), "negative": tensor((-1, 2)),
    "10,000_dims": tensor((1,) * 10_000), "2**70": tensor((2**70,)), "zero_of_huge": tensor((0, 2**63 - 1)),
    "dict": tensor(DICT), "class": tensor(name("torch", "Size")), "no_size": tensor(call("torch", "Size")),
    "sizes": tensor(call("torch", "Size", several(integer(2)), NONE)),
}  # fmt: skip
ODD_REBUILDS = {
    "sparse_of_nothing": call("torch._utils", "_rebuild_sparse_tensor", NONE, b")"),
    "sparse_without_size": call("torch._utils", "_rebuild_sparse_tensor", NONE, several(tensor(), tensor())),
    "sparse_of_a_dict": call("torch._utils", "_rebuild_sparse_tensor", NONE, DICT),
    "sparse_of_a_class": call("torch._utils", "_rebuild_sparse_tensor", NONE, name("a", "b")),
    "of_no_arguments": call("torch._utils", "_rebuild_parameter"),
    "of_one_argument": name("torch._utils", "_rebuild_parameter") + NONE + b"R",
    "of_a_list": name("torch._utils", "_rebuild_tensor_v2") + b"]R",
    "of_keywords": name("torch._utils", "_rebuild_tensor_v2") + several() + mapping([("size", NONE)]) + b"\x92",
    "parameter_of_text": call("torch._utils", "_rebuild_parameter", text("x"), text("y"), text("z")),
    "type_of_text": call("torch._tensor", "_rebuild_from_type_v2", text("x"), text("y"), text("z"), text("a")),
    "lazy_of_text": call("torch.nn.parameter", "UninitializedParameter", text("x")),
}
