"""Any file as a record: open it safely, tell its format by its content, find the model in it."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from tempfile import TemporaryFile
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

from freezeinspect.observed import Observed
from freezeinspect.readers import imports, modules, statedicts
from freezeinspect.readers.archive import EXPORTED, SCRIPTED, START, Archive
from freezeinspect.readers.checkpoints import Chosen, choose
from freezeinspect.readers.directory import INDEX, METADATA, adapter_in, joined, shards_of, weights_in
from freezeinspect.readers.legacy import MAGIC, Legacy
from freezeinspect.readers.limits import LIMITS, SHOWN, Unreadable, cut, past
from freezeinspect.readers.optimizers import beside
from freezeinspect.readers.safetensors import SafeTensors
from freezeinspect.readers.stored import Modules, Stored, ordered, snapshot
from freezeinspect.readers.unpickle import unpickle
from freezeinspect.readers.values import Unrecorded, Values
from freezeinspect.state import Snapshot, Source
from freezeinspect.verdicts import STATISTICS

if TYPE_CHECKING:
    from freezeinspect.history import History

FORMAT, SCRIPT = "torch zip", "TorchScript"
_LOG = b'{"schema":"freezeinspect-log/'  # as the journal begins, which is not imported to read a model
STANDARD_INPUT = "-"
_NAMED = 5  # unread parts
_BLOCK = 2**20
_STARTS = {  # of files that people have beside torch's
    b"PK\x05\x06": "an empty zip",
    b"\x89HDF": "an HDF5 file",
    b"GGUF": "a GGUF file",
    b"\x1f\x8b": "a gzip file",
    b"BZh": "a bzip2 file",
    b"\xfd7zXZ": "an xz file",
    b"\x93NUMPY": "a NumPy array",
    b"\x80": "a plain pickle",
}
COUNTED = (*STATISTICS, "num_batches_tracked")
_WAY_OUT = "what this version reads is what torch and safetensors write"


class Opened(NamedTuple):
    """An open file as a record, and the values of its tensors, read when they are asked for."""

    snapshot: Snapshot
    observed: Observed
    source: Source
    values: Values
    share: float = 0  # of what reading one file may cost
    history: History | None = None  # of a run's log


def read(
    path: str | os.PathLike[str], key: str | None = None, values: bool = False
) -> tuple[Snapshot, Observed, Source]:
    """Read a model's file into a record, running none of it; `-` is standard input.

    `key` chooses among the models of a training checkpoint; `values` asks for a fingerprint of each tensor, for which
    the file is read to its end. Raises Unreadable.
    """
    with opened(path, key) as one:
        prints = one.values.fingerprints() if values else ()
        return replace(one.snapshot, fingerprints=prints), one.observed, one.source


def read_statistics(path: str | os.PathLike[str], key: str | None = None) -> tuple[Snapshot, Observed, Source]:
    """Read a file as `read` does, with fingerprints of running statistics and no other values. Raises Unreadable."""
    with opened(path, key) as one:
        names = one.snapshot.structure.columns[1] if one.history is None else ()
        prints = tuple(one.values.fingerprint(i) if name in COUNTED else None for i, name in enumerate(names))
        return replace(one.snapshot, fingerprints=prints if any(prints) else ()), one.observed, one.source


@contextmanager
def opened(path: str | os.PathLike[str], key: str | None = None) -> Iterator[Opened]:
    """Read a file or a folder as `read` does, and keep it open for its values. Raises Unreadable."""
    name = os.fsdecode(path)
    with ExitStack() as stack:
        try:
            one = _of_paths(_paths(name), name, key, stack)
        except Unreadable as error:
            raise Unreadable(f"{name if name and name.isprintable() else ascii(name)}: {error}") from None
        except MemoryError:
            raise Unreadable(f"{name!a}: it takes more memory than there is; free some, and try again") from None
        yield one


def _paths(name: str) -> list[str]:
    """Give the file itself, or those that a folder, or an index of shards, stands for."""
    try:
        if name != STANDARD_INPUT and os.path.isdir(name):
            return weights_in(name)
        return shards_of(name) if name.endswith(INDEX) and os.path.isfile(name) else [name]
    except OSError as error:
        raise Unreadable(f"{(error.strerror or str(error)).lower()}; name a file that can be read") from None


def _of_paths(paths: list[str], name: str, key: str | None, stack: ExitStack) -> Opened:
    if os.path.basename(paths[0]) == METADATA:
        return _of_checkpoint(paths[0], name, key, stack)
    if len(paths) == 1:
        one = _of_file(stack.enter_context(_opened(paths[0])), name, key)
        return one if paths[0] == name else one._replace(source=_with_adapter(one.source, paths[0]))
    if key is not None:
        raise Unreadable(f"its shards are one state_dict, with no key {cut(key)}; leave the key out")
    shards = list(_shards(paths, stack))
    named, source = joined([(one.snapshot.structure, one.values) for one in shards])
    found, stored = statedicts.read(named)
    stored = ordered(stored)
    beyond = tuple(dict.fromkeys(name for one in shards for name in one.observed.imports))
    about = Source("file", name, f"{len(paths)} shards of {shards[0].source.format}", "a state_dict")
    return Opened(snapshot(found, stored), Observed(imports=beyond), about, Values(source, stored))


def _shards(paths: list[str], stack: ExitStack) -> Iterator[Opened]:
    """Read shards, which have together what one file may have. Raises Unreadable."""
    share, names = 0.0, 0
    for path in paths:
        with _within(path):
            one = _of_file(stack.enter_context(_opened(path)), path, None)
        share, names = share + one.share, names + len(one.values.stored)
        if share > 1:
            raise Unreadable(f"its {len(paths):,} shards take more to read than one file may; get the folder again")
        if names > LIMITS.entries:
            raise past("entries", f"its shards have at least {names:,} names")
        yield one


@contextmanager
def _within(path: str) -> Iterator[None]:
    """Say in which file of a folder something is wrong."""
    try:
        yield
    except Unreadable as error:
        raise Unreadable(f"its {cut(os.path.basename(path))}: {error}") from None


def _with_adapter(source: Source, weights: str) -> Source:
    return replace(source, content=f"{source.content}{adapter_in(weights)}")


def _of_checkpoint(path: str, name: str, key: str | None, stack: ExitStack) -> Opened:
    """Read a folder of torch.distributed.checkpoint by its .metadata."""
    from freezeinspect.readers import dcp
    from freezeinspect.readers.chunks import Chunks, Located

    with _opened(path) as file:
        checkpoint = dcp.Checkpoint(file)
    files = {}
    for one in checkpoint.files():
        with _within(one):
            files[one] = stack.enter_context(_opened(os.path.join(os.path.dirname(path), one)))
    chosen = choose(checkpoint.value(files), key)
    if modules.is_module(chosen.value):
        raise Unreadable("a module pickled whole in a folder, which this version does not read; save its state_dict")
    found, stored = _state_dict(chosen.value)
    stored = ordered(stored)
    source = Chunks(files, checkpoint.tensor)
    observed = Observed(imports=imports.beyond(dcp.imported(checkpoint.read), set()))
    about = Source(
        "file", name, dcp.FORMAT, _content("a state_dict", chosen.key, chosen.others) + checkpoint.left_out()
    )
    values = Values(source, Located(stored, checkpoint.names(stored), source))
    return Opened(_record(found, stored, chosen), observed, about, values)


def _of_file(file: BinaryIO, name: str, key: str | None) -> Opened:
    if _is_log(file):
        return _of_log(file, name, key)
    return _of_safetensors(file, name, key) if _is_safetensors(file) else _of_torch(file, name, key)


def _of_log(file: BinaryIO, name: str, key: str | None) -> Opened:
    """Read a run's log: the state at its end, and what was seen to move on the way."""
    if key is not None:
        raise Unreadable(f"the log of a run is of one model, with no key {cut(key)}; leave the key out")
    from freezeinspect.readers import log

    history = log.read(file)
    state = history.last.states[-1].snapshot
    about = Source("watch", name, log.FORMAT, log.content(history))
    return Opened(state, history.observed(), about, Unrecorded(len(state.structure.tensors)), history=history)


def _of_safetensors(file: BinaryIO, name: str, key: str | None) -> Opened:
    if key is not None:
        raise Unreadable(f"a safetensors file is one state_dict, with no key {cut(key)}; leave the key out")
    source = SafeTensors(file)
    found, stored = statedicts.read(source.tensors)
    stored = ordered(stored)
    about = Source("file", name, "safetensors", "a state_dict")
    return Opened(snapshot(found, stored), Observed(), about, Values(source, stored), source.share)


def _of_torch(file: BinaryIO, name: str, key: str | None) -> Opened:
    source: Archive | Legacy
    if _is_legacy(file):
        source = Legacy(file)
        pickled, form = source.pickled, "torch's old format"
    else:
        _check_format(file)
        source = Archive(file)
        if source.has(EXPORTED):
            return _of_exported(source, name, key)
        pickled, form = unpickle(source.pickle()), FORMAT
        if source.has(SCRIPTED):  # torch compiles its code, and imports nothing
            from freezeinspect.readers import torchscript

            made = torchscript.as_pickled(source, pickled.value)
            pickled, form = replace(pickled, value=made, imports=(), called=frozenset()), SCRIPT
    chosen = choose(pickled.value, key)
    tree = None
    if modules.is_module(chosen.value):
        tree = modules.Tree(chosen.value)
        found, stored = tree.modules, tree.tensors
    else:
        found, stored = _state_dict(chosen.value)
    stored = ordered(stored)
    observed = Observed(imports=imports.beyond(pickled, tree.classes if tree else set()))
    kind = "a state_dict" if tree is None else "a scripted or traced module" if form == SCRIPT else "a pickled module"
    content = _content(kind, chosen.key, chosen.others, tree.unread if tree else ())
    about = Source("file", name, form, content)
    share = max(source.share, pickled.operations / LIMITS.operations)
    return Opened(_record(found, stored, chosen), observed, about, Values(source, stored), share)


def _state_dict(value: Any) -> tuple[Modules, list[Stored]]:
    found = statedicts.tensors(modules.mapping(value) or {})
    return statedicts.read(found, modules.metadata_of(value))


def _record(found: Modules, stored: list[Stored], chosen: Chosen) -> Snapshot:
    """Make the record of a chosen model and the optimizers beside it."""
    identities = [one.identity for one in stored]
    return beside(snapshot(found, stored), chosen.optimizers, identities, trusted=chosen.is_only)


def _of_exported(source: Archive, name: str, key: str | None) -> Opened:
    from freezeinspect.readers import exported

    program = exported.read(source, key)
    stored = ordered(program.tensors)
    content = _content("an exported program", program.key, program.others, program.unread)
    about = Source("file", name, exported.FORMAT, content)
    return Opened(snapshot(program.modules, stored), Observed(), about, Values(source, stored), source.share)


def _content(kind: str, key: str | None, others: Sequence[str], unread: Sequence[tuple[str, str]] = ()) -> str:
    """Say what was read, under which key, what else is there, and what could not be read."""
    said = [kind]
    if key is not None:
        said.append(f" under {cut(key)}")
    if others:
        named = [*map(cut, others[:_NAMED]), *["…"] * (len(others) > _NAMED)]
        said.append(f" (also there: {', '.join(named)}; --key chooses)")
    if unread:
        paths = ", ".join(f"{path[:SHOWN] or 'the root'} ({why[: 2 * SHOWN]})" for path, why in unread[:_NAMED])
        more = f" and {len(unread) - _NAMED} more" if len(unread) > _NAMED else ""
        said.append(f"; not told without running it: {paths}{more}")
    return "".join(said)


@contextmanager
def _opened(name: str) -> Iterator[BinaryIO]:
    """Open a regular file, or standard input, to seek in. Raises Unreadable."""
    try:
        with _standard_input() if name == STANDARD_INPUT else _regular(name) as file:
            yield file
    except OSError as error:
        raise Unreadable(f"{(error.strerror or str(error)).lower()}; name a file that can be read") from None


def _regular(name: str) -> BinaryIO:
    """Open a file; a pipe or a device would block, or never end, so it is not opened."""
    if "\0" in name:
        raise Unreadable("its name has a null character; name a file")
    try:
        mode = os.stat(name).st_mode
    except UnicodeEncodeError:
        raise Unreadable("its name cannot be written as this system writes names; rename it") from None
    _check_regular(mode)
    file = open(os.open(name, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK), "rb")  # noqa: SIM115
    _check_regular(os.fstat(file.fileno()).st_mode)  # it may have been changed in between
    return file


def _check_regular(mode: int) -> None:
    if stat.S_ISDIR(mode):
        raise Unreadable("a folder; name a file in it")
    if not stat.S_ISREG(mode):
        kind = "a pipe" if stat.S_ISFIFO(mode) else "a socket" if stat.S_ISSOCK(mode) else "a device"
        raise Unreadable(f"{kind}; name a regular file, or send it to standard input and name it -")


@contextmanager
def _standard_input() -> Iterator[BinaryIO]:
    """Give standard input, by way of a temporary file where it cannot seek."""
    if sys.stdin is None:
        raise Unreadable("standard input is closed; name a file")
    piped = sys.stdin.buffer
    if piped.seekable() and stat.S_ISREG(os.fstat(piped.fileno()).st_mode):
        yield piped
        return
    with TemporaryFile() as file:
        start = piped.read(_BLOCK)
        while start and (not file.tell() or file.tell() <= LIMITS.piped_bytes):
            file.write(start)
            if file.tell() == len(start) and not (_is_safetensors(file) or _is_legacy(file) or _is_log(file)):
                _check_format(file)
            file.seek(0, 2)
            start = piped.read(_BLOCK)
        if start:
            raise past("piped_bytes", "standard input is larger than what may be written to a temporary file")
        yield file


def _is_log(file: BinaryIO) -> bool:
    file.seek(0)
    return file.read(len(_LOG)) == _LOG


def _is_safetensors(file: BinaryIO) -> bool:
    file.seek(0)
    head = file.read(9)
    return head[8:] == b"{" and int.from_bytes(head[:8], "little") < 2**32


def _is_legacy(file: BinaryIO) -> bool:
    """Tell torch's old format by the number with which it starts, in any protocol."""
    file.seek(0)
    return MAGIC.to_bytes(10, "little") in file.read(32)


def _check_format(file: BinaryIO) -> None:
    """Tell by its first bytes that a file is a zip, or say what it is instead."""
    file.seek(0)
    head = file.read(512)
    if head.startswith(START):
        return
    if not head:
        raise Unreadable(f"an empty file; {_WAY_OUT}")
    known = next((kind for start, kind in _STARTS.items() if head.startswith(start)), None)
    raise Unreadable(f"{known or _unknown(head)}; {_WAY_OUT}")


def _unknown(head: bytes) -> str:
    try:
        text = head[:-3].decode() if len(head) == 512 else head.decode()
    except UnicodeDecodeError:
        return f"of no known format: it starts with the bytes {head[:8].hex(' ')}"
    return f"text that starts with {text.strip().partition(chr(10))[0][:40]!r}"
