"""Fuzz the file reader: mutate the opcodes and the zip members of real files, and watch what becomes of them.

Every input must end as a Report, written in every format, or as Unreadable, and nothing may be imported or run on the
way: an audit hook watches. `make fuzz MINUTES=5` runs this file; tests/hostile/test_fuzz.py runs a slice of it.
"""

from __future__ import annotations

import codecs
import collections
import gc
import io
import json
import pickletools
import random
import struct
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import torch
import torch.distributed.checkpoint
from safetensors.torch import save

import freezeinspect as fi
from freezeinspect.readers import chunks, dcp, file, legacy
from freezeinspect.readers.limits import Unreadable
from hostile import programs
from hostile.archives import members, mutated_zip, zipped
from zoo import ZOO, quiet

SEEDS = (
    "plain_cnn",
    "shared",
    "nested",
    "tied",
    "norms",
    "lazy",
    "sparse",
    "quantised_norm",
    "lora",
    "frozen_batchnorm",
)
FRAGMENTS = (  # what attacks are made of, in every protocol's way of saying it
    b"cposix\nsystem\n",
    b"(iposix\nsystem\n",
    b"\x8c\x05posix\x8c\x06system\x93",
    b"cposix\nsystem\n\x8c\x04trueR",
    b"cposix\nsystem\n\x8c\x04true\x85R",
    b"(cposix\nsystem\n\x8c\x04trueo",
    b"\x82\x01",
    b"\x84\xff\xff\xff\x7f",
    b"r\xff\xff\xff\x7f",
    b"\x94",
    b"2",
    b"(",
    b"1",
    b"0",
    b")",
    b"}",
    b"]",
    b"\x8f",
    b"N\x85" * 50,
    b"Q",
    b"b",
    b"u",
    b"e",
    b"R",
    b"\x81",
    b"\x92",
    b"I" + b"9" * 400 + b"\n",
    b"G\x7f\xf0\0\0\0\0\0\0",
    b"\x8a\xff" + b"\x7f" * 255,
    b"\x8c\x05a\x1b[2J",
    b"X\x03\0\0\0\xed\xa0\x80",
    b".",
)
WATCHED = (
    "pickle.find_class",
    "import",
    "exec",
    "compile",
    "os.system",
    "subprocess.Popen",
    "os.exec",
    "os.posix_spawn",
    "socket.connect",
)


@dataclass
class Outcome:
    """Count what became of the inputs, and keep those that became anything else."""

    inputs: int = 0
    reached: int = 0
    kinds: collections.Counter[str] = field(default_factory=collections.Counter)
    others: list[tuple[int, str]] = field(default_factory=list)


@dataclass
class Watch:
    """An audit hook, which Python never takes away: so there is one, to be switched on and off."""

    on: bool = False
    seen: list[str] = field(default_factory=list)

    def __call__(self, event: str, args: tuple[Any, ...]) -> None:
        if self.on and event in WATCHED:
            self.seen.append(f"{event} {args[:1]}")


WATCH = Watch()


def corpus() -> list[bytes]:
    """Save models, state_dicts and checkpoints as users do."""
    values: list[Any] = []
    for name in SEEDS:
        model = ZOO[name]().model
        values.append(model)
        if name not in ("lazy", "sparse", "quantised_norm"):
            optimizer = torch.optim.AdamW(model.named_parameters())
            values.append({"model": model.state_dict(), "optimizer": optimizer.state_dict(), "epoch": 3})
    values.append(torch.fx.symbolic_trace(ZOO["residual"]().model))
    values.append(torch.compile(ZOO["plain_cnn"]().model, backend="eager"))
    files = []
    for i, value in enumerate(values):
        stream = io.BytesIO()
        with quiet():
            torch.save(value, stream, pickle_protocol=2 + i % 4)
        files.append(stream.getvalue())
    return [*files, *map(scripted, ("residual", "lora"))]


def scripted(name: str) -> bytes:
    stream = io.BytesIO()
    with quiet():
        torch.jit.save(torch.jit.script(ZOO[name]().model), stream)
    return stream.getvalue()


def operations(pickled: bytes) -> list[bytes]:
    """Cut a pickle into its operations."""
    starts = [position for _, _, position in pickletools.genops(pickled)]
    return [pickled[a:b] for a, b in zip(starts, [*starts[1:], len(pickled)], strict=True)]


def mutated_pickle(parts: list[bytes], dice: random.Random) -> bytes:
    """Change a few operations: what is left mostly still runs to its end."""
    parts = list(parts)
    for _ in range(dice.choice((1, 1, 1, 2, 3, 8))):
        at = dice.randrange(len(parts))
        change = dice.randrange(8)
        if change == 0:
            del parts[at : at + dice.randint(1, 3)]
        elif change == 1:
            parts.insert(at, dice.choice(parts))
        elif change == 2:
            other = dice.randrange(len(parts))
            parts[at], parts[other] = parts[other], parts[at]
        elif change == 3:
            parts.insert(at, dice.choice(FRAGMENTS))
        elif change == 4:
            parts[at] = with_other_argument(parts[at], dice)
        elif change == 5:
            start, end = sorted(dice.randrange(len(parts)) for _ in range(2))
            parts[at:at] = parts[start : min(end, start + 40)]
        elif change == 6:
            parts[at] = dice.choice(parts)
        else:
            parts = parts[: at + 1] if dice.random() < 0.1 else parts
        parts = parts or [b"."]
    return b"".join(parts)


def with_other_argument(operation: bytes, dice: random.Random) -> bytes:
    """Keep an opcode and change a byte of its argument."""
    if len(operation) < 2:
        return bytes([dice.randrange(256)])
    at = dice.randrange(1, len(operation))
    return operation[:at] + bytes([dice.randrange(256)]) + operation[at + 1 :]


def legacy_corpus() -> list[list[bytes]]:
    """Save models in torch's old format, cut into its five pickles and the storages."""
    files = []
    for name in ("residual", "shared", "tied"):
        stream = io.BytesIO()
        torch.save(ZOO[name]().model, stream, _use_new_zipfile_serialization=False)
        content, stream, parts = stream.getvalue(), io.BytesIO(stream.getvalue()), []
        for _ in range(5):
            start = stream.tell()
            collections.deque(pickletools.genops(stream), maxlen=0)
            parts.append(content[start : stream.tell()])
        files.append([*parts, content[stream.tell() :]])
    return files


def mutated_legacy(parts: list[bytes], dice: random.Random) -> bytes:
    parts = list(parts)
    which = dice.choice((0, 1, 2, 3, 3, 3, 3, 4, 5))
    if which < 5:
        parts[which] = mutated_pickle(operations(parts[which]), dice)
    else:
        parts[which] = parts[which][: dice.randrange(len(parts[which]))] + dice.randbytes(dice.randrange(9))
    return b"".join(parts)


def mutated_safetensors(content: bytes, dice: random.Random) -> bytes:
    """Change the header's entries, its bytes, or its length."""
    length = int.from_bytes(content[:8], "little")
    header, data = json.loads(content[8 : 8 + length]), content[8 + length :]
    name = dice.choice([key for key in header if key != "__metadata__"])
    change = dice.randrange(6)
    odd = dice.choice((None, -1, 2**63, "F32", [], [1, 2], {"a": 1}, 0.5, True, "\x1b[2J", "a..b"))
    if change == 0:
        header[name][dice.choice(("dtype", "shape", "data_offsets"))] = odd
    elif change == 1:
        header[str(odd)] = header.pop(name)
    elif change == 2:
        header[name] = odd
    text = bytearray(json.dumps(header).encode())
    if change == 3:
        text[dice.randrange(len(text))] = dice.randrange(256)
    size = len(text) if change != 4 else dice.randrange(2 ** dice.choice((8, 20, 40)))
    return struct.pack("<Q", size) + bytes(text) + (data if change != 5 else data[: dice.randrange(len(data))])


def distributed_corpus(folder: Path) -> dict[str, bytes]:
    """Save a checkpoint as torch.distributed.checkpoint does, and give its files by name."""
    model = ZOO["residual"]().model
    optimizer = torch.optim.AdamW(model.named_parameters())
    with quiet():
        state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "epoch": 3}
        torch.distributed.checkpoint.save(state, checkpoint_id=folder)
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def mutated_distributed(files: dict[str, bytes], dice: random.Random) -> dict[str, bytes]:
    """Change the operations of .metadata, or bytes of the file of items."""
    metadata, items = files[dcp.METADATA], bytearray(files["__0_0.distcp"])
    if dice.random() < 0.7:
        metadata = mutated_pickle(operations(metadata), dice)
    else:
        for _ in range(dice.choice((1, 9, 99))):
            items[dice.randrange(len(items))] = dice.randrange(256)
    return {dcp.METADATA: metadata, "__0_0.distcp": bytes(items)}


def inputs(files: list[bytes], dice: random.Random) -> Iterator[bytes]:
    """Give mutated files without end: four in five are torch's zips, of which three in four have the pickle changed."""
    old, exported = legacy_corpus(), programs.corpus()
    plain = save(ZOO["residual"]().model.state_dict())
    cut = []
    for content in files:
        parts = members(content)
        pickled = next(i for i, (name, _) in enumerate(parts) if name.endswith("/data.pkl"))
        cut.append((content, parts, pickled, operations(parts[pickled][1])))
    while True:
        content, parts, pickled, pieces = dice.choice(cut)
        if dice.random() < 0.2:
            yield mutated_other(dice.choice(old), plain, dice.choice(exported), dice)
        elif dice.random() < 0.75:
            changed = list(parts)
            changed[pickled] = (parts[pickled][0], mutated_pickle(pieces, dice))
            yield zipped(changed)
        else:
            yield mutated_zip(content, dice)


def mutated_other(old: list[bytes], plain: bytes, program: bytes, dice: random.Random) -> bytes:
    """Change a file of torch's old format, of safetensors or of torch.export."""
    change = dice.random()
    if change < 0.5:
        return mutated_legacy(old, dice)
    return mutated_safetensors(plain, dice) if change < 0.7 else programs.mutated(program, dice)


def outcome_of(path: Path) -> str:
    """Read a file and write it in every format."""
    try:
        report = fi.inspect(path, values=True)
        for text in (report.tree(), report.table(), report.to_markdown(), report.to_json()):
            if "\x1b" in text:
                return "a control character was printed"
    except Unreadable as error:
        return "Unreadable" if str(error).startswith(str(path)) and "\n" not in str(error) else f"badly said: {error}"
    except Exception:
        WATCH.on = False  # a traceback compiles what it shows
        return traceback.format_exc(limit=-3)
    return "Report"


def run(seed: int, count: int, seconds: float = float("inf")) -> Outcome:
    """Read up to `count` inputs, for at most so many seconds."""
    dice, done, reached = random.Random(seed), Outcome(), False
    rooms = (file, legacy, dcp, chunks)
    before, reading = [room.unpickle for room in rooms], file.unpickle
    end = time.monotonic() + seconds

    def counted(pickled: bytes, *limits: Any) -> Any:
        nonlocal reached
        reached = True
        return reading(pickled, *limits)

    for room in rooms:
        room.unpickle = counted
    try:
        with tempfile.TemporaryDirectory() as folder:
            path, checkpoint = Path(folder) / "model.pt", Path(folder) / "checkpoint"
            saved = distributed_corpus(checkpoint)
            for first in (corpus()[0], corpus()[-1], b"".join(legacy_corpus()[0]), programs.corpus()[0]):
                path.write_bytes(first)
                outcome_of(path)
            outcome_of(checkpoint)  # what is imported on first use is imported now; so are Python's own text codecs
            _ = [codecs.lookup(name) for name in ("cp437", "raw_unicode_escape", "unicode_escape", "latin-1")]
            for content in inputs(corpus(), dice):
                if done.inputs == count or time.monotonic() > end:
                    break
                named = {path.name: content}
                if dice.random() < 0.1:
                    named = {f"checkpoint/{name}": one for name, one in mutated_distributed(saved, dice).items()}
                for name, one in named.items():
                    (Path(folder) / name).write_bytes(one)
                reached = False
                WATCH.seen, WATCH.on = [], True
                kind = outcome_of(path if len(named) == 1 else checkpoint)
                WATCH.on = False
                done.inputs += 1
                done.reached += reached
                kind = f"it did {WATCH.seen}, and then: {kind}" if WATCH.seen else kind
                done.kinds[kind if kind in ("Report", "Unreadable") else "other"] += 1
                if kind not in ("Report", "Unreadable"):
                    done.others.append((done.inputs, kind))
    finally:
        for room, its in zip(rooms, before, strict=True):
            room.unpickle = its
    return done


sys.addaudithook(WATCH)


def main() -> int:
    minutes, seed = float(sys.argv[1]), int(sys.argv[2])
    gc.freeze()
    done = run(seed, count=int(sys.argv[3]), seconds=60 * minutes)
    share = f"{done.reached} ({done.reached / max(done.inputs, 1):.0%}) reached the machine"
    sys.stdout.write(f"seed {seed}: {done.inputs} inputs, {share}; {dict(done.kinds)}\n")
    for number, kind in done.others[:20]:
        sys.stdout.write(f"\ninput {number}: {kind}\n")
    return 1 if done.others else 0


if __name__ == "__main__":
    sys.exit(main())
