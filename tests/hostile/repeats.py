"""Pickles that have one large thing many times: each function gives one; whoever looks at each use looks for ever.

All are kin of "billion laughs" (CVE-2003-1564): a reference costs two bytes, and what it leads to much more.
"""

from hostile.opcodes import (
    LINEAR,
    MODEL,
    NONE,
    call,
    get,
    integer,
    listed,
    mapping,
    module,
    name,
    program,
    put,
    tensor,
    text,
)

HUGE = b"\x8b" + (20 * 2**20).to_bytes(4, "little") + b"\x7f" * (20 * 2**20)


def names(count):
    return (f"{i:x}" for i in range(count))


def integer_of_many_keys():
    """CPython keeps no integer's hash, so each use as a key walks all of it."""
    return program(HUGE + put(0) + b"0" + b"}(" + (get(0) + NONE) * 300 + b"u")


def integer_of_many_offsets():
    """The same, where a tensor says where in its storage it starts."""
    storage = b"(" + text("storage") + name("torch", "FloatStorage") + text("0") + text("cpu") + integer(4) + b"tQ"
    size = integer(4) + b"\x85"
    one = (
        name("torch._utils", "_rebuild_tensor_v2") + b"(" + storage + HUGE + size + integer(1) + b"\x85\x89}tR" + put(1)
    )
    return program(one + b"0" + mapping([(key, get(1)) for key in names(300)]))


def attributes_of_many_graphs():
    """Modules of torch.fx that share one dict of 100,000 attributes: theirs are not copied."""
    holds = [("_modules", b"}"), ("_parameters", b"}"), ("_buffers", b"}")]
    shared = mapping([*holds, *[(key, NONE) for key in names(100_000)]]) + put(0) + b"0"
    graph = name("torch.fx.graph_module", "reduce_graph_module") + get(0) + b"\x85R"
    return program(shared + module([(key, graph) for key in names(4_000)]))


def states_of_many_parts():
    """An object with two large states, 100,000 times among the values that may be a model."""
    one = name("m", "X") + b")\x81" + mapping([(key, NONE) for key in names(100_000)]) + b"b}b" + put(0) + b"0"
    return program(one + mapping([(key, get(0)) for key in names(100_000)]))


def groups_of_many_optimizers():
    """Optimizers that share one list of 10,000 groups."""
    groups = listed([mapping([("params", b"]")])] * 10_000) + put(0) + b"0"
    optimizers = listed([mapping([("param_groups", get(0))])] * 3_000)
    return program(groups + mapping([("model", MODEL), ("optimizers", optimizers)]))


def parameters_of_many_optimizers():
    """Optimizers that share one list of 110,000 parameters."""
    params = listed([integer(3)] * 110_000) + put(1) + b"0" + listed([mapping([("params", get(1))])]) + put(0) + b"0"
    optimizers = listed([mapping([("param_groups", get(0))])] * 3_000)
    return program(params + mapping([("model", MODEL), ("optimizers", optimizers)]))


def states_of_many_names():
    """One tensor with a hundred states under 110,000 names."""
    one = tensor() + b"}b" * 99 + put(1) + b"0"
    return program(one + mapping([(key, get(1)) for key in names(110_000)]))


def ties_to_the_outside():
    """One tensor under 60,000 names, 190 levels down, and once outside: a link that every level carries up."""
    tied = tensor() + put(1) + b"0"
    deep = module(parameters=[(key, get(1)) for key in names(60_000)], of=LINEAR)
    for _ in range(190):
        deep = module([("a", deep)])
    return program(tied + module([("first", module(parameters=[("w", get(1))], of=LINEAR)), ("deep", deep)]))


def module_that_a_call_gives_many_times():
    """One object that only running would tell, under 100,000 names."""
    one = call("m", "make") + put(0) + b"0"
    return program(one + module([(key, get(0)) for key in names(100_000)]))


REPEATS = (
    integer_of_many_keys, integer_of_many_offsets, attributes_of_many_graphs, states_of_many_parts,
    groups_of_many_optimizers, parameters_of_many_optimizers, states_of_many_names, ties_to_the_outside,
    module_that_a_call_gives_many_times,
)  # fmt: skip
