"""Pickled modules whose tree costs much to walk, to fold or to draw: each function gives one pickle."""

from hostile.opcodes import (
    DICT,
    LINEAR,
    MODEL,
    NONE,
    SEQUENTIAL,
    attributes,
    built,
    get,
    integer,
    mapping,
    module,
    name,
    parameter,
    program,
    put,
    tensor,
    text,
)

TRUE_LINEAR = module(of=LINEAR)


def chain(depth, bottom, key="a"):
    """Push modules within modules, and below them what pushes the last."""
    start = name(*SEQUENTIAL) + b")\x81}(" + text("training") + b"\x88"
    start += text("_parameters") + DICT + text("_buffers") + DICT + text("_modules") + DICT + text(key)
    return start * depth + bottom + b"sub" * depth


def one_dict_in_many():
    """100,000 modules that hold the same 100,000, by one dict."""
    held = DICT + put(0) + b"0"
    child = built(attributes(modules=get(0))) + put(1) + b"0"
    filled = get(0) + b"(" + b"".join(text(f"m{i}") + get(1) for i in range(100_000)) + b"u0"
    others = [(f"o{i}", built(attributes(modules=get(0)))) for i in range(10_000)]
    return program(held + child + filled + module(others))


def cycle():
    """A module that holds itself."""
    inner = DICT + put(0) + b"0"
    root = built(attributes(modules=get(0)), SEQUENTIAL) + put(1)
    return program(inner + root + get(0) + text("me") + get(1) + b"s0")


def chain_of_100_000():
    return program(chain(100_000, MODEL))


def chain_past_many_marks():
    return program(chain(9_000, MODEL))


def many_aliases_of_many_names():
    """100,000 names of one module that has 90,000 tensors: a filter that asks both asks 9 billion times."""
    weight = tensor() + put(0) + b"0"
    child = module(buffers=[(f"b{i}", get(0)) for i in range(90_000)], of=LINEAR) + put(1) + b"0"
    return program(weight + child + module([(f"m{i}", get(1)) for i in range(100_000)]))


def ties_far_down():
    """100,000 names of one tensor, 190 modules down: folding carries each up all the way."""
    weight = tensor() + put(0) + b"0"
    last = module(buffers=[(f"b{i}", get(0)) for i in range(100_000)], of=LINEAR)
    return program(weight + chain(190, last))


def shared_far_down():
    """100,000 edges to one module, 190 modules down."""
    child = TRUE_LINEAR + put(0) + b"0"
    last = module([(f"m{i}", get(0)) for i in range(100_000)])
    return program(child + chain(190, last))


def leaves_far_down():
    """60,000 modules, 190 modules down: each module above sums over all of them."""
    return program(chain(190, module([(f"m{i}", TRUE_LINEAR) for i in range(60_000)])))


def each_holds_the_root():
    """20,000 modules of different classes, each of which holds the root: the subtree of each is the whole."""
    inner = DICT + put(0) + b"0"
    root = built(attributes(modules=get(0)), SEQUENTIAL) + put(1)
    backs = (text(f"m{i}") + module([("up", get(1))], of=("m", f"C{i}")) for i in range(20_000))
    return program(inner + root + get(0) + b"(" + b"".join(backs) + b"u0")


def names_of_dots():
    """A dict of 400 names that are 990 dots, in 400 modules: looking for a parent's path tries each dot."""
    child = TRUE_LINEAR + put(0) + b"0"
    held = mapping([("." * 980 + str(i), get(0)) for i in range(400)]) + put(1) + b"0"
    return program(child + held + module([(f"m{i}", built(attributes(modules=get(1)))) for i in range(400)]))


def wrappers_of_one():
    """10,000 wrappers, each outside the same 190 wrappers, none of which is shown."""
    wrapper = ("torch.nn.parallel.distributed", "DistributedDataParallel")
    inner = MODEL
    for _ in range(190):
        inner = module([("module", inner)], of=wrapper)
    many = [(f"m{i}", module([("module", get(0))], of=wrapper)) for i in range(10_000)]
    return program(inner + put(0) + b"0" + module(many))


def wrapper_in_itself():
    """A wrapper that wraps itself, beside a million names."""
    wrapper = ("torch.nn.parallel.distributed", "DistributedDataParallel")
    inner = mapping([(f"m{i}", NONE) for i in range(500_000)]) + put(0) + b"0"
    root = built(attributes(modules=get(0)), wrapper) + put(1)
    return program(inner + root + get(0) + text("module") + get(1) + b"s0")


def different_leaves():
    """90,000 modules, none of which folds into another."""
    return program(module([(f"m{i}", module(of=("m", f"C{i}"))) for i in range(90_000)]))


def many_parameters():
    """190,000 parameters of one module."""
    one = parameter() + put(0) + b"0"
    return program(one + module(parameters=[(f"p{i}", get(0)) for i in range(190_000)]))


def long_paths():
    """60,000 modules whose paths have 990 characters."""
    below = module([(f"m{i}", TRUE_LINEAR) for i in range(60_000)])
    return program(module([("a" * 980, below)]))


def names_like_the_filter():
    """50,000 modules with names so near to a filter's that each is measured."""
    return program(module([(f"*x{i}", TRUE_LINEAR) for i in range(50_000)]))


def huge_flags():
    """Integers of a million bits as flags, sizes and rates."""
    huge = integer(1 << MILLION) + put(0) + b"0"
    more = [(flag, get(0)) for flag in ("trainable", "momentum", "p", "bn_freeze", "track_running_stats")]
    norm = module(buffers=[("running_mean", tensor(several_of(get(0))))], more=more, of=("m", "Dropout"))
    return program(huge + norm)


def several_of(*parts):
    return b"(" + b"".join(parts) + b"t"


MILLION = 10**6
TREES = (
    one_dict_in_many, cycle, chain_of_100_000, chain_past_many_marks, many_aliases_of_many_names, ties_far_down,
    shared_far_down, leaves_far_down, each_holds_the_root, names_of_dots, wrappers_of_one, wrapper_in_itself,
    different_leaves, many_parameters, long_paths, names_like_the_filter, huge_flags,
)  # fmt: skip
