"""Folders of torch.distributed.checkpoint whose `.metadata` costs much to read: each function fills a folder."""

import os

from hostile import bombs
from hostile.opcodes import (
    DICT,
    MARK,
    NONE,
    TRUE,
    archive,
    built,
    get,
    integer,
    listed,
    mapping,
    members,
    name,
    program,
    put,
    several,
    tensor,
    text,
    zipped,
)  # fmt: skip

CHECKPOINT = "torch.distributed.checkpoint"
FILE = "__0_0.distcp"
ITEM = archive(program(integer(1)))
LENGTH = len(ITEM)
DTYPE = name("torch", "float32")


def of(kind, *pairs):
    """Push an object of one of the classes of `.metadata`."""
    place = "filesystem" if kind.startswith("_") else "metadata"
    return built(mapping(pairs), (f"{CHECKPOINT}.{place}", kind))


def size(*sizes):
    return name("torch", "Size") + several(several(*map(integer, sizes))) + b"R"


PROPERTIES = built(several(DTYPE, NONE, TRUE, NONE, NONE), (f"{CHECKPOINT}.metadata", "TensorProperties"))
BYTES = of("BytesStorageMetadata")
CHUNK = of("ChunkStorageMetadata", ("offsets", size(0)), ("sizes", size(4)))


def described(*more, chunks=b"]"):
    return of("TensorStorageMetadata", ("properties", PROPERTIES), ("size", size(4)), ("chunks", chunks), *more)


def info(start=0, length=LENGTH, path=FILE, more=()):
    place = ("relative_path", text(path)), ("offset", integer(start)), ("length", integer(length))
    return of("_StorageInfo", *place, *more)


def key(fqn, offset=NONE):
    return of("MetadataIndex", ("fqn", text(fqn)), ("offset", offset), ("index", NONE))


def by_object(pairs):
    """Push a dict of what pushes the keys and the values."""
    return DICT + MARK + b"".join(one + other for one, other in pairs) + b"u"


def written(folder, entries, stored=DICT, paths=DICT, before=b"", items=ITEM):
    """Write a folder: `.metadata`, with what stands before it, and one file of items."""
    parts = ("state_dict_metadata", entries), ("planner_data", paths), ("storage_data", stored)
    (folder / ".metadata").write_bytes(program(before + of("Metadata", *parts)))
    (folder / FILE).write_bytes(items)


def shared(what, index=0):
    return what + put(index) + b"0"


def names(count, what, start="a"):
    return mapping([(f"{start}{i:x}", what) for i in range(count)])


def many_chunks(folder):
    """A tensor of 60,000 chunks."""
    one = of("ChunkStorageMetadata", ("offsets", get(0)), ("sizes", get(0)))
    written(folder, mapping([("w", described(chunks=listed([one] * 60_000)))]), before=shared(size(4)))


def million_chunks(folder):
    """A million times one chunk."""
    written(folder, mapping([("w", described(chunks=listed([get(0)] * bombs.MILLION)))]), before=shared(CHUNK))


def chunks_shared_by_many(folder):
    """20,000 tensors that have one list of 100,000 chunks."""
    before = shared(CHUNK) + shared(listed([get(0)] * 100_000), 1) + shared(described(chunks=get(1)), 2)
    written(folder, names(20_000, get(2)), before=before)


def attributes_shared_by_many(folder):
    """20,000 tensors, and as many places, that are one object of 50,000 attributes."""
    many = [(f"k{i:x}", NONE) for i in range(50_000)]
    before = shared(described(*many)) + shared(info(more=many), 1)
    stored = by_object((key(f"a{i:x}"), get(1)) for i in range(20_000))
    written(folder, names(20_000, get(0)), stored, before=before)


def states_shared_by_many(folder):
    """The same, of an object that was given a hundred states."""
    place = info() + (DICT + b"b") * 99
    stored = by_object((key(f"a{i:x}"), get(0)) for i in range(40_000))
    written(folder, mapping([("w", described())]), stored, before=shared(place))


def many_names(folder):
    """Half as many tensors as a model may have."""
    written(folder, names(60_000, get(0)), before=shared(described()))


def more_names_than_the_limit(folder):
    written(folder, names(300_000, get(0)), before=shared(described()))


def long_name(folder):
    written(folder, mapping([("a" * 30_000_000, described())]))


def long_path(folder):
    """A path of a million keys."""
    path = several(*[integer(1)] * bombs.MILLION)
    written(folder, mapping([("w", described())]), paths=mapping([("w", path)]))


def deep_paths(folder):
    """Paths of 199 keys, of which no two share one: each key is a dict."""
    paths = [(f"{i:x}", several(text(f"{i:x}"), get(1) * 198)) for i in range(5_000)]
    written(folder, names(5_000, get(0), ""), paths=mapping(paths), before=shared(described()) + shared(text("a"), 1))


def path_of_long_keys(folder):
    long = shared(text("a" * 20_000_000))
    written(folder, mapping([("w", described())]), paths=mapping([("w", several(*[get(0)] * 150))]), before=long)


def path_of_odd_keys(folder):
    written(folder, mapping([("w", described())]), paths=mapping([("w", several(NONE, TRUE, b"]", DICT))]))


def path_through_a_value(folder):
    paths = [("v", several(text("a"))), ("w", several(text("a"), text("b")))]
    written(folder, mapping([("v", described()), ("w", described())]), paths=mapping(paths))


def path_of_a_huge_number(folder):
    paths = mapping([("w", several(integer(2**500), text("weight")))])
    written(folder, mapping([("w", described())]), paths=paths)


def values_of_one_file(folder):
    """20,000 values, each of the same bytes."""
    stored = by_object((key(f"a{i:x}"), info()) for i in range(20_000))
    written(folder, names(20_000, get(0)), stored, before=shared(BYTES))


def values_read_again_and_again(folder):
    """Values of 3 MB that are the same bytes under many files' names."""
    item = archive(program(integer(1)) + bytes(3_000_000))
    stored = [(key(f"a{i:x}"), info(0, len(item), f"f{i}")) for i in range(900)]
    written(folder, names(900, get(0)), by_object(stored), before=shared(BYTES), items=item)
    for i in range(900):
        (folder / f"f{i}").symlink_to(FILE)


def value(folder, item):
    stored = by_object([(key("w"), info(0, len(item)))])
    written(folder, mapping([("w", BYTES)]), stored, items=item)


def deflated_value(folder):
    value(folder, archive(program(b"}" * 2_900_000), deflated=True))


def large_value(folder):
    value(folder, archive(program(text("a" * 5_000_000))))


def value_of_sets(folder):
    """A million sets."""
    value(folder, archive(program(b"\x8f" * 1_000_000)))


def value_of_marks(folder):
    value(folder, archive(bombs.marks()))


def value_of_many_members(folder):
    value(folder, zipped([*members(program(integer(1))), *[(f"m/{i:x}", b"") for i in range(30_000)]]))


def groups_that_are_one_list(folder):
    """An optimizer whose 100,000 groups are one list of 100,000 parameters."""
    group = shared(mapping([("params", listed([integer(1)] * 100_000))]))
    item = archive(program(group + listed([get(0)] * 100_000)))
    stored = by_object([(key("o"), info(0, len(item)))])
    entries, paths = [("o", BYTES), ("w", described())], [("o", several(text("o"), text("param_groups")))]
    written(folder, mapping(entries), stored, mapping(paths), items=item)


def names_shared_by_groups(folder):
    """An optimizer whose 9,000 groups are one list of 100,000 names."""
    group = shared(mapping([("params", listed([text("a")] * 100_000))]))
    item = archive(program(group + listed([get(0)] * 9_000)))
    stored = by_object([(key("o"), info(0, len(item)))])
    entries, paths = [("o", BYTES), ("w", described())], [("o", several(text("o"), text("param_groups")))]
    written(folder, mapping(entries), stored, mapping(paths), items=item)


def groups_shared_by_optimizers(folder):
    """10,000 optimizers that are one item of 9,000 groups."""
    group = shared(mapping([("params", listed([integer(1)] * 10))]))
    item = archive(program(group + listed([get(0)] * 9_000)))
    stored = by_object([(key("o"), get(1)), *[(key(f"o{i}"), get(1)) for i in range(10_000)]])
    paths = [(f"o{i}", several(text(f"o{i}"), text("param_groups"))) for i in range(10_000)]
    entries = [("w", described()), *[(f"o{i}", get(0)) for i in range(10_000)]]
    before = shared(BYTES) + shared(info(0, len(item)), 1)
    written(folder, mapping(entries), stored, mapping(paths), before, items=item)


def overlapping_items(folder):
    """Items that end within each other."""
    stored = by_object((key(f"a{i}"), info(i, 900 - i)) for i in range(400))
    written(folder, names(400, get(0)), stored, before=shared(BYTES), items=ITEM * 2)


def elsewhere(folder):
    """Zip Slip, Snyk 2018, by way of a file's name."""
    written(folder, mapping([("w", BYTES)]), by_object([(key("w"), info(path="../../etc/passwd"))]))


def file_that_is_a_device(folder):
    written(folder, mapping([("w", BYTES)]), by_object([(key("w"), info(path="zero"))]))
    (folder / "zero").symlink_to("/dev/zero")


def file_that_is_a_loop(folder):
    written(folder, mapping([("w", BYTES)]), by_object([(key("w"), info(path="loop"))]))
    (folder / "loop").symlink_to("loop")


def files_that_are_many(folder):
    """More files than a process may have open."""
    stored = by_object((key(f"a{i:x}"), info(path=f"f{i}")) for i in range(3_000))
    written(folder, names(3_000, get(0)), stored, before=shared(BYTES))
    for i in range(3_000):
        (folder / f"f{i}").symlink_to(FILE)


def item_past_every_end(folder):
    written(folder, mapping([("w", BYTES)]), by_object([(key("w"), info(2**500, 2**500))]))


def terminal(folder):
    """CVE-2003-0063's family: escape sequences for whoever prints a name."""
    bad = "\x1b]0;x\x07\x1b[2J\n\u202e"
    written(folder, mapping([(bad, described())]), paths=mapping([(bad, several(text(bad), text(bad)))]))


def terminal_in_a_files_name(folder):
    written(folder, mapping([("w", BYTES)]), by_object([(key("w"), info(path="\x1b[2J\n"))]))


def surrogate_in_a_files_name(folder):
    written(folder, mapping([("w", BYTES)]), by_object([(key("w"), info(path="\ud800"))]))


def metadata_without_an_end(folder):
    written(folder, DICT)
    os.truncate(folder / ".metadata", 2**40)


def metadata_that_is_a_device(folder):
    (folder / ".metadata").symlink_to("/dev/zero")


def metadata_that_is_a_zip(folder):
    (folder / ".metadata").write_bytes(ITEM)


def _tensors(folder, item, count=60, chunks=1):
    """Write tensors of which each has its chunks in a file of its own, all of which are one file."""
    offsets = [size(4 * j) for j in range(chunks)]
    listing = listed(of("ChunkStorageMetadata", ("offsets", at), ("sizes", size(4))) for at in offsets)
    state = ("properties", PROPERTIES), ("size", size(4 * chunks)), ("chunks", listing)
    pairs = [(f"a{i}", at, f"f{i}") for i in range(count) for at in offsets]
    stored = by_object((key(fqn, at), info(0, len(item), path)) for fqn, at, path in pairs)
    entries = mapping([(f"a{i}", get(0)) for i in range(count)])
    written(folder, entries, stored, before=shared(of("TensorStorageMetadata", *state)), items=item)
    for i in range(count):
        (folder / f"f{i}").symlink_to(FILE)


def tensor_of_many_operations(folder):
    """60 tensors, each of which a pickle of three million operations makes."""
    _tensors(folder, archive(program(b"]0" * 1_490_000 + tensor((4,)))))


def deflated_tensor(folder):
    _tensors(folder, archive(program(b"]0" * 1_490_000 + tensor((4,))), deflated=True))


def tensor_of_many_members(folder):
    _tensors(folder, zipped([*members(program(tensor((4,)))), *[(f"m/{i:x}", b"") for i in range(3_000)]]))


def chunks_that_are_one(folder):
    """100 tensors, each of 50 chunks in one item."""
    _tensors(folder, archive(program(tensor((4,)))), 100, 50)


def list_of_chunks(folder):
    """A thousand tensors that have one list of 30,000 chunks."""
    before = shared(CHUNK) + shared(listed([get(0)] * 30_000), 1) + shared(described(chunks=get(1)), 2)
    written(folder, names(1_000, get(2)), before=before)


FOLDERS = (
    many_chunks, million_chunks, chunks_shared_by_many, attributes_shared_by_many, states_shared_by_many,
    many_names, more_names_than_the_limit, long_name, long_path, deep_paths, path_of_long_keys, path_of_odd_keys,
    path_through_a_value, path_of_a_huge_number, values_of_one_file, values_read_again_and_again, deflated_value,
    large_value, value_of_sets, value_of_marks, value_of_many_members, groups_that_are_one_list,
    names_shared_by_groups, groups_shared_by_optimizers, overlapping_items, elsewhere, file_that_is_a_device,
    file_that_is_a_loop, files_that_are_many, item_past_every_end, terminal, terminal_in_a_files_name,
    surrogate_in_a_files_name, metadata_without_an_end, metadata_that_is_a_device, metadata_that_is_a_zip,
)  # fmt: skip
VALUES = (tensor_of_many_operations, deflated_tensor, tensor_of_many_members, chunks_that_are_one, list_of_chunks)
