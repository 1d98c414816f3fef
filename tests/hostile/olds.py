"""Files of torch's old format that cost much to read: five pickles, of which each may be a bomb."""

import io
import struct
import tarfile

from hostile import bombs
from hostile.opcodes import MARK, MODEL, NONE, TRUE, integer, listed, mapping, module, parameter, program, tensor, text

MAGIC = program(integer(0x1950A86A20F9469CFC6C))
PROTOCOL = program(integer(1001))
SYSTEM = program(mapping([("little_endian", TRUE), ("protocol_version", integer(1001))]))
KEYS = program(listed([text("0")]))
STORAGES = struct.pack("<q", 4) + bytes(16)


def old(magic=MAGIC, protocol=PROTOCOL, system=SYSTEM, model=None, keys=KEYS, storages=STORAGES):
    return magic + protocol + system + (program(MODEL) if model is None else model) + keys + storages


def marks_for_a_number():
    """The number itself stands in the first bytes, and what follows it is a bomb."""
    return old(magic=MAGIC[:-1] + b"0" + MARK * bombs.MILLION + b".")


def texts_for_a_number():
    return old(magic=MAGIC[:-1] + b"0" + text("a" * 60 * bombs.MILLION) + b".")


def sets_for_a_protocol():
    return old(protocol=bombs.many_sets())


def laughing_system():
    return old(system=program(bombs.laughing(b"](", b"e")))


def system_of_many_keys():
    return old(system=bombs.many_keys())


def sets_for_a_model():
    return old(model=bombs.many_sets())


def sets_for_keys():
    return old(keys=bombs.many_sets())


def sets_for_both():
    """Twice what one pickle may have."""
    sets = program(b"\x8f0" * 200_000 + b"\x8f" * 1_000_000 + MODEL)
    return old(model=sets, keys=sets)


def dicts_for_both():
    dicts = program(b"}" * 1_500_000 + MODEL)
    return old(model=dicts, keys=dicts)


def tuples_for_keys():
    return old(keys=program(NONE + b"\x85" * bombs.MILLION))


def million_keys():
    """One storage, a million times, each empty."""
    return old(keys=program(listed([text("0")] * bombs.MILLION)), storages=bytes(8) * bombs.MILLION)


def million_keys_past_the_end():
    return old(keys=program(listed([text("0")] * bombs.MILLION)), storages=b"")


def million_storages():
    """A million storages, of which the model has one."""
    return old(keys=program(listed(text(str(i)) for i in range(bombs.MILLION))))


def storage_past_the_end():
    return old(storages=struct.pack("<q", 2**62))


def storage_of_less_than_nothing():
    return old(storages=struct.pack("<q", -1) + bytes(16))


def storage_smaller_than_its_tensor():
    weight = parameter(tensor((2**40,), (1,)))
    return old(model=program(module(parameters=[("weight", weight)])))


def keys_of_other_forms():
    return old(keys=program(listed([NONE, integer(1), b"]", text("0")])))


def without_keys():
    return old(keys=b"", storages=b"")


def tar():
    """A polyglot, Ange Albertini in PoC||GTFO: torch looks for a tar first."""
    return _tarred(tarfile.TarInfo("x"))


def tar_of_a_long_name():
    """The same, where to tell a tar is to read a name of 8 GB."""
    return _tarred(_extended(tarfile.GNUTYPE_LONGNAME))


def tar_of_long_attributes():
    return _tarred(_extended(tarfile.XHDTYPE))


def _extended(kind):
    info = tarfile.TarInfo("x")
    info.type, info.size = kind, 2**33 - 512
    return info


def _tarred(info):
    """Give a file that starts as torch's old format and has a tar's first block, whose checksum is right."""
    start = old()
    head = bytearray(info.tobuf(tarfile.GNU_FORMAT)[:512])
    head[:100] = start[:100]
    head[148:156] = b" " * 8
    head[148:156] = b"%06o\0 " % sum(head)
    stream = io.BytesIO()
    stream.write(head + bytes(10 * 1024))
    return stream.getvalue()


OLDS = (
    marks_for_a_number, texts_for_a_number, sets_for_a_protocol, laughing_system, system_of_many_keys,
    sets_for_a_model, sets_for_keys, sets_for_both, dicts_for_both, tuples_for_keys, million_keys,
    million_keys_past_the_end, million_storages, storage_past_the_end, storage_of_less_than_nothing,
    storage_smaller_than_its_tensor, keys_of_other_forms, without_keys, tar, tar_of_a_long_name,
    tar_of_long_attributes,
)  # fmt: skip
