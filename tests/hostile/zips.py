"""Zips laid out by hand, so that two readers may see two files in one: each function gives one.

The model of every one is BENIGN; where a second pickle hides, it is OTHER. Nothing in them runs.
"""

import struct
import zlib

from hostile.layout import FULL, FULL_16, Entry, central, end, end_64, joined, laid_out, local, locator
from hostile.opcodes import LINEAR, MODEL, integer, mapping, members, module, program, tensor, zipped

BENIGN = program(MODEL)
OTHER = program(module([("other", module(of=LINEAR))]))


def entries(pickle=BENIGN, top="m"):
    return [Entry(key, data) for key, data in members(pickle, top)]


def with_pickle(**differs):
    """Give the usual members, the pickle's with what differs."""
    first, *rest = entries()
    return joined([first._replace(**differs), *rest])


def plain():
    return joined(entries())


def two_pickles():
    """picklescan's advisories: a name twice, of which one reader takes the first and another the last."""
    return joined([*entries(), Entry("m/data.pkl", OTHER)])


def two_pickles_other_first():
    return joined([Entry("m/data.pkl", OTHER), *entries()])


def pickle_in_capitals():
    """miniz looks names up without regard to case."""
    return joined([Entry("m/DATA.PKL", OTHER), *entries()])


def pickle_in_capitals_last():
    return joined([*entries(), Entry("m/Data.Pkl", OTHER)])


def folder_in_capitals():
    return joined([Entry("M/data.pkl", OTHER), *entries()])


def only_capitals():
    return joined([Entry("m/DATA.PKL", BENIGN), *entries()[1:]])


def two_folders():
    """torch takes its folder from the first member."""
    return joined([*entries(OTHER, "a"), *entries(BENIGN, "m")])


def loose_first():
    return joined([Entry("data.pkl", OTHER), *entries()])


def prepended():
    """Polyglots, Ange Albertini in PoC||GTFO: a zip after anything."""
    return b"PK\3\4" + bytes(96) + plain()


def prepended_and_corrected():
    return joined(entries(), before=b"PK\3\4" + bytes(96))


def appended():
    return plain() + b"more"


def appended_archive():
    return plain() + joined(entries(OTHER))


def appended_corrected():
    start = plain()
    body, listing = laid_out(entries(OTHER), len(start))
    return start + body + listing + end(4, len(listing), len(start) + len(body))


def commented():
    return joined(entries(), comment=b"hello")


def end_in_the_comment():
    return joined(entries(), comment=joined(entries(OTHER)))


def overlapping():
    """David Fifield, "A better zip bomb" (USENIX WOOT 2019): members over the same bytes."""
    return joined([*entries(), Entry("m/data/1", bytes(16), at=0)])


def truncated_directory():
    return joined(entries(), count=2)


def more_than_listed():
    return joined(entries(), count=40)


def without_pickle():
    return joined(entries()[1:])


def torchscript():
    return joined([*entries(), Entry("m/constants.pkl", BENIGN)])


def torchscript_in_capitals():
    return joined([*entries(), Entry("m/CONSTANTS.PKL", BENIGN)])


def encrypted():
    """CVE-2025-1945, picklescan: flag bits that one reader minds and torch does not."""
    return with_pickle(flags=0x1)


def other_flags():
    return with_pickle(flags=0xFFFF & ~0x2061)


def patch_flag():
    return with_pickle(flags=0x20)


def unknown_method():
    return with_pickle(method=99)


def other_local_name():
    """CVE-2025-1944, picklescan: the local header has another name than the directory."""
    return with_pickle(local_name="m/else.pkl")


def wrong_crc():
    """CVE-2025-10156, picklescan: torch never looks at the checksum."""
    return with_pickle(crc=1)


def larger_than_stored():
    return with_pickle(size=len(BENIGN) + 1)


def smaller_than_stored():
    return with_pickle(size=len(BENIGN) - 1)


def deflated_past_its_size():
    return with_pickle(method=8, data=_deflated(BENIGN + OTHER), size=len(BENIGN))


def deflated_short_of_its_size():
    return with_pickle(method=8, data=_deflated(BENIGN), size=len(BENIGN) + 7)


def deflated_without_end():
    return with_pickle(method=8, data=_deflated(BENIGN, zlib.Z_SYNC_FLUSH), size=len(BENIGN))


def deflated_and_more():
    return with_pickle(method=8, data=_deflated(BENIGN) + b"more", size=len(BENIGN))


def _deflated(data, flush=zlib.Z_FINISH):
    deflate = zlib.compressobj(1, zlib.DEFLATED, -15)
    return deflate.compress(data) + deflate.flush(flush)


def nul_in_a_name():
    """A name that ends for C at its first NUL."""
    return joined([Entry("m/data.pkl\0x", OTHER), *entries()])


def nul_in_the_only_name():
    return joined([Entry("m/data.pkl\0x", OTHER), *entries()[1:]])


def climbing_names():
    """Zip Slip, Snyk 2018."""
    return joined([*entries(), Entry("m/../../hostile_payload", b"x"), Entry("../hostile_payload", b"x")])


def climbing_name_inside():
    return joined([*entries(), Entry("m/../../hostile_payload", b"x")])


def absolute_name():
    return joined([*entries(), Entry("/hostile_payload", b"x")])


def dots_before_the_pickle():
    return joined([*entries(), Entry("m/./data.pkl", OTHER), Entry("m//data.pkl", OTHER)])


def backslashes():
    return joined([*entries(), Entry("m\\data.pkl", OTHER)])


def link():
    """A member that is a symbolic link."""
    return joined([*entries(), Entry("m/link", b"data.pkl", attributes=0o120777 << 16)])


def terminal_in_a_name():
    """CVE-2003-0063's family: escape sequences for whoever prints the name."""
    return joined([*entries(), Entry("m/\x1b]0;x\x07\x1b[2J", b"")])


def unicode_path():
    """The field 0x7075 gives a member another name, which only some readers take."""
    field = struct.pack("<BI", 1, zlib.crc32(b"m/data.pkl")) + b"m/other.pkl"
    return with_pickle(extra=struct.pack("<HH", 0x7075, len(field)) + field)


def unicode_path_of_another():
    field = struct.pack("<BI", 1, zlib.crc32(b"m/x")) + b"m/data.pkl"
    extra = struct.pack("<HH", 0x7075, len(field)) + field
    return joined([Entry("m/x", OTHER, extra=extra), *entries()])


def _of_64(*numbers):
    field = struct.pack(f"<{len(numbers)}Q", *numbers)
    return struct.pack("<HH", 1, len(field)) + field


def sizes_in_64():
    return with_pickle(size=FULL, stored=FULL, extra=_of_64(len(BENIGN), len(BENIGN)))


def two_sizes_in_64():
    """Two fields of zip64: which counts?"""
    first, second = _of_64(len(BENIGN), len(BENIGN)), _of_64(3, 3)
    return with_pickle(size=FULL, stored=FULL, extra=first + second)


def place_in_64():
    """The pickle is where a zip64 field says."""
    hidden = Entry("m/hidden", OTHER)
    first, *rest = entries()
    moved = first._replace(at=FULL, extra=_of_64(len(local(first))), data=OTHER)
    return joined([first._replace(name="m/first"), moved, *rest, hidden])


def sizes_of_4_gb_in_64():
    return with_pickle(size=FULL, stored=FULL, extra=_of_64(2**32 + 5, 2**32 + 5))


def _hiding(tail, comment=lambda other: b""):
    """Lay out BENIGN's members with OTHER's, their directory and a zip64 end of it inside one more.

    `tail` makes the end: of where BENIGN's directory is and its size, where OTHER's zip64 end, and its directory, are.
    """
    shown = entries()
    start = len(laid_out(shown)[0]) + len(local(Entry("m/data/1", b"")))
    hidden, listing = laid_out(entries(OTHER), start)
    at = start + len(hidden)
    inside = hidden + listing + end_64(4, len(listing), at)
    other = at + len(listing)
    body, directory = laid_out([*shown, Entry("m/data/1", inside, comment=comment(other))])
    return body + directory + tail(len(body), len(directory), other, end(4, len(listing), at))


def locator_points_elsewhere():
    """CVE-2025-8291, zipfile: it takes the zip64 record before the locator, wherever the locator points."""
    full = end(FULL_16, FULL, FULL)
    return _hiding(lambda at, size, other, _: end_64(5, size, at) + locator(other) + full)


def locator_points_elsewhere_with_a_whole_end():
    """The same, where the plain end is right too."""
    return _hiding(lambda at, size, other, _: end_64(5, size, at) + locator(other) + end(5, size, at))


def locator_without_record_before_it():
    """The same the other way round: zipfile finds no record before the locator, and believes the plain end."""
    return _hiding(lambda at, size, other, _: end(5, size, at), comment=locator)


def locator_to_nothing():
    """The same: the locator points at nothing, and torch believes the plain end."""
    return _hiding(lambda at, size, other, plain: end_64(5, size, at) + locator(3) + plain)


def end_points_elsewhere():
    """ "My ZIP isn't your ZIP" (USENIX Security 2025): zipfile looks for the directory just before its end."""
    return _hiding(lambda at, size, other, plain: plain)


def directory_further_back():
    return joined(entries(), shift=-8)


def directory_further_on():
    return joined(entries(), shift=8)


def gap_before_the_directory():
    return joined(entries(), between=bytes(64))


def many_members():
    """500,000 members."""
    usual = entries()
    body, listing = laid_out(usual)
    more = b"".join(central(Entry(f"m/{i:x}", b""), len(body)) for i in range(500_000))
    return body + listing + more + end(FULL_16, len(listing) + len(more), len(body))


def as_many_as_may_be():
    usual = entries()
    body, listing = laid_out(usual)
    empty = [Entry(f"m/{i:x}", b"") for i in range(390_000)]
    parts, at = [], len(body)
    listed = []
    for one in empty:
        parts.append(local(one))
        listed.append(central(one, at))
        at += len(parts[-1])
    more = b"".join(listed)
    return body + b"".join(parts) + listing + more + end(FULL_16, len(listing) + len(more), at)


def quoted_overlap():
    """Fifield's quoted overlap: each member quotes the header of the next, down to one kernel."""
    kernel = _deflated(bytes(20 * 2**20))
    quoted, listing = b"", b""
    made = local(Entry("m/z", kernel, 8, size=20 * 2**20))
    parts = [(Entry("m/z", kernel, 8, size=20 * 2**20), 0)]
    for i in range(50):
        quote = b"\x00" + struct.pack("<HH", len(local(parts[-1][0])) - len(parts[-1][0].data), 0xFFFF)
        quoted = quote + made
        one = Entry("m/data.pkl" if i == 49 else f"m/{i}", quoted, 8, size=20 * 2**20)
        made, parts = local(one), [*parts, (one, 0)]
    for one, _ in parts:
        listing += central(one, len(made) - len(local(one)))
    return made + listing + end(len(parts), len(listing), len(made))


def deflate_bomb():
    """CVE-2019-9674: a thousand bytes for each one, in the pickle itself."""
    return with_pickle(method=8, data=_deflated(bytes(100 * 2**20)), size=100 * 2**20)


def deflate_bomb_that_lies():
    return with_pickle(method=8, data=_deflated(bytes(100 * 2**20)), size=1000)


def empty():
    return end(0, 0, 0)


def empty_after_a_start():
    return b"PK\3\4" + bytes(26) + end(0, 0, 30)


def one_directory_of_4_gb():
    return plain()[:-22] + end(4, 0xFFFFFFF0, 0)


def end_of_64_that_lies():
    return plain()[:-22] + end_64(2**63, 2**63, 2**63) + locator(len(plain()) - 22) + end(FULL_16, FULL, FULL)


def state_dict():
    return zipped(members(program(mapping([("weight", tensor((2, 2), b"")), ("n", integer(1))]))))


VIEWS = (
    plain, two_pickles, two_pickles_other_first, pickle_in_capitals, pickle_in_capitals_last, folder_in_capitals,
    only_capitals, two_folders, loose_first, prepended, prepended_and_corrected, appended, appended_archive,
    appended_corrected, commented, end_in_the_comment, overlapping, truncated_directory, more_than_listed,
    without_pickle, torchscript, torchscript_in_capitals, encrypted, other_flags, patch_flag, unknown_method,
    other_local_name, wrong_crc, larger_than_stored, smaller_than_stored, deflated_past_its_size,
    deflated_short_of_its_size, deflated_without_end, deflated_and_more, nul_in_a_name, nul_in_the_only_name,
    climbing_names, climbing_name_inside, absolute_name, dots_before_the_pickle, backslashes, link,
    terminal_in_a_name, unicode_path, unicode_path_of_another, sizes_in_64, two_sizes_in_64, place_in_64,
    locator_points_elsewhere, locator_points_elsewhere_with_a_whole_end, locator_without_record_before_it,
    locator_to_nothing, end_points_elsewhere, directory_further_back, directory_further_on, gap_before_the_directory,
)  # fmt: skip
BOMBS = (
    sizes_of_4_gb_in_64, many_members, as_many_as_may_be, quoted_overlap, deflate_bomb, deflate_bomb_that_lies, empty,
    empty_after_a_start, one_directory_of_4_gb, end_of_64_that_lies,
)  # fmt: skip
