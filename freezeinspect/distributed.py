"""A model on all the ranks that train it: 16 bytes of each are exchanged, and more only where they differ."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
from torch import distributed as dist
from torch import nn
from xxhash import xxh3_64_digest

from freezeinspect.agreement import DIGEST, differing_flags, digest, disagreement
from freezeinspect.fingerprint import local, of_tensor
from freezeinspect.observed import Disagreement, Observed
from freezeinspect.readers import live
from freezeinspect.report import Report
from freezeinspect.serial import dumps, loads
from freezeinspect.state import Snapshot, Source

HALF = DIGEST  # of what is sent: of the flags, then of the values
KINDS_OF_FLAGS = 16  # different snapshots that are exchanged; of the ranks of others it is only told which they are
UNCOMPARED = "flags that were not compared one by one"
VALUES, BUFFERS = "values", "values of a buffer"


class NotDistributed(RuntimeError):
    """There are no ranks to compare."""

    def __init__(self) -> None:
        super().__init__(
            "torch.distributed is not initialised, so there are no ranks to compare; call it after "
            "init_process_group(), in a program that torchrun started"
        )


class RankLost(RuntimeError):
    """A rank did not answer: it ended, or never made this call."""

    def __init__(self, rank: int, error: Exception) -> None:
        why = str(error).strip().split("\n")[0][:160]
        super().__init__(
            f"rank {rank} waited for the others in vain: every rank of the group must make this call, and live until "
            f"it returns ({type(error).__name__}: {why})"
        )


def compare_ranks(model: nn.Module, optimizer: Any = None, group: dist.ProcessGroup | None = None) -> Report:
    """Report a model as this rank has it, and where the ranks of a group differ: in flags, and in replicated values.

    A collective call: every rank of the group makes it, or none may, and all get the same answer. Each sends 16
    bytes; snapshots follow only where these differ. Flags are FI401; parameters that DistributedDataParallel keeps
    equal, and DTensors that are replicated everywhere, FI403; buffers are information. The values of these are read,
    which waits for a device. Ranks are the global ones. Raises NotDistributed, RankLost, NotAModule, NotAnOptimizer.
    """
    if not (dist.is_available() and dist.is_initialized()):
        raise NotDistributed
    snapshot = live.read(model, optimizer)
    values = _values(model)
    mine = digest(snapshot) + xxh3_64_digest(b"".join(values))
    with answering():
        all_digests = _gathered(mine, group)
        flags, contents = ([one[part] for one in all_digests] for part in (slice(0, HALF), slice(HALF, None)))
        found = _differing_flags(snapshot, flags, group) if len(set(flags)) > 1 else []
        if len(set(contents)) > 1 and not any(one.what in ("structure", UNCOMPARED) for one in found):
            found += _differing_values(snapshot, values, group)
    return Report(snapshot, Observed(ranks=tuple(found)))


class Exchange:
    """A watch's part in what its ranks tell each other: as each step ends 16 bytes are sent, and read at the next end.

    Over gloo and its own group, so that no device is waited for; it waits for a rank as long as the default group does.
    A step that one rank takes, all must take.
    """

    def __init__(self) -> None:
        if not (dist.is_available() and dist.is_initialized()):
            raise NotDistributed
        with answering():
            self._group = dist.new_group(backend="gloo", timeout=_timeout())
        self._sent: tuple[int, Snapshot, list[torch.Tensor], Any] | None = None
        self._digests: dict[int, tuple[Snapshot, bytes]] = {}  # of the last snapshot, by its id
        self._told: set[tuple[bytes, ...]] = set()
        self._is_out_of_step = False

    def stepped(self, step: int, snapshot: Snapshot) -> list[Disagreement]:
        """Send what a step began with, and tell where the ranks differed at the one before it."""
        found = self.settle()
        sent = torch.frombuffer(bytearray(self._digest(snapshot) + step.to_bytes(HALF, "little")), dtype=torch.uint8)
        places = [torch.empty_like(sent) for _ in range(dist.get_world_size(self._group))]
        with answering():
            self._sent = step, snapshot, places, dist.all_gather(places, sent, self._group, async_op=True)
        return found

    def settle(self) -> list[Disagreement]:
        """Tell where the ranks differed at the last step that was sent; what was told before is not told again."""
        if self._sent is None:
            return []
        step, snapshot, places, work = self._sent
        self._sent = None
        with answering():
            work.wait()
            sent = [bytes(one.tolist()) for one in places]
            found = self._out_of_step([int.from_bytes(one[HALF:], "little") for one in sent])
            digests = tuple(one[:HALF] for one in sent)
            if len(set(digests)) > 1 and digests not in self._told:
                self._told.add(digests)
                found += _differing_flags(snapshot, digests, self._group, step)
            return found

    def _out_of_step(self, steps: Sequence[int]) -> list[Disagreement]:
        """Tell once where a rank took a step that another skipped."""
        if len(set(steps)) == 1 or self._is_out_of_step:
            return []
        self._is_out_of_step = True
        words, ranks = [f"at step {step}" for step in steps], [(rank,) for rank in range(len(steps))]
        return [disagreement("", None, "steps", words, ranks, min(steps))]

    def close(self) -> list[Disagreement]:
        """Tell of the last step, and give the group back once no rank waits in it."""
        found = self.settle()
        if dist.is_initialized():
            with answering():
                dist.barrier(self._group)
                dist.destroy_process_group(self._group)
        return found

    def _digest(self, snapshot: Snapshot) -> bytes:
        if id(snapshot) not in self._digests:
            self._digests = {id(snapshot): (snapshot, digest(snapshot))}
        return self._digests[id(snapshot)][1]


@contextmanager
def answering() -> Iterator[None]:
    """Say so where a rank is lost in a collective call."""
    try:
        yield
    except (RuntimeError, dist.DistError) as error:
        raise RankLost(dist.get_rank(), error) from error


def _differing_flags(
    snapshot: Snapshot, digests: Sequence[bytes], group: dist.ProcessGroup | None, step: int | None = None
) -> list[Disagreement]:
    """Exchange each different snapshot, of equal ones that of the lowest rank, and tell in which flags they differ."""
    kinds: dict[bytes, list[int]] = {}
    for rank, one in enumerate(digests):
        kinds.setdefault(one, []).append(_global(rank, group))
    compared, others = list(kinds.values())[:KINDS_OF_FLAGS], list(kinds.values())[KINDS_OF_FLAGS:]
    found = differing_flags({tuple(ranks): _broadcast(snapshot, ranks[0], group) for ranks in compared}, step)
    if others:
        told, rest = (tuple(rank for some in each for rank in some) for each in (compared, others))
        words = (f"one of the first {len(compared)} states", f"one of {len(others)} more")
        found.append(disagreement("", None, UNCOMPARED, words, (told, rest), step))
    return found


def _broadcast(snapshot: Snapshot, source: int, group: dist.ProcessGroup | None) -> Snapshot:
    text = [dumps(snapshot, Observed(), Source()) if source == dist.get_rank() else ""]
    dist.broadcast_object_list(text, source, group)
    return loads(text[0]).snapshot


def _values(model: nn.Module) -> list[bytes]:
    """Digest what is replicated, in the order of the structure's tensors; the rest is empty."""
    kept: set[int] = set()
    for one in live.replicas(model):
        ignored: Any = one.parameters_to_ignore
        kept |= {id(tensor) for name, tensor in _state(one) if name not in ignored}
    return [
        bytes.fromhex(of_tensor(local(one)) or "")[:HALF].ljust(HALF, b"\0")
        if id(one) in kept or _is_replicated(one)
        else bytes(HALF)
        for one in live.tensors(model)
    ]


def _state(replica: Any) -> Iterator[tuple[str, torch.Tensor]]:
    yield from replica.module.named_parameters()
    yield from replica.module.named_buffers()


def _is_replicated(tensor: torch.Tensor) -> bool:
    return local(tensor) is not tensor and all(one.is_replicate() for one in tensor.placements)  # type: ignore[attr-defined]


def _differing_values(
    snapshot: Snapshot, values: Sequence[bytes], group: dist.ProcessGroup | None
) -> Iterator[Disagreement]:
    ranks = [(_global(rank, group),) for rank in range(dist.get_world_size(group))]
    rows = [[one[at : at + HALF] for at in range(0, len(one), HALF)] for one in _gathered(b"".join(values), group)]
    structure = snapshot.structure
    for tensor, several in zip(structure.tensors, zip(*rows, strict=True), strict=True):
        if len(set(several)) > 1:
            what = VALUES if tensor.kind == "parameter" else BUFFERS
            yield disagreement(
                structure.paths[tensor.owner], tensor.name, what, [one.hex() for one in several], ranks, None
            )


def _gathered(mine: bytes, group: dist.ProcessGroup | None) -> list[bytes]:
    """Give the bytes of every rank, as many of each; where the group has no backend for the CPU, by its device."""
    device = _device(group)
    sent = torch.frombuffer(bytearray(mine), dtype=torch.uint8).to(device)
    found = [torch.empty_like(sent) for _ in range(dist.get_world_size(group))]
    dist.all_gather(found, sent, group)
    return [bytes(one.tolist()) for one in found]


def _device(group: dist.ProcessGroup | None) -> torch.device:
    kinds = {one.type for one in (group or dist.group.WORLD)._device_types}  # type: ignore[union-attr]
    return torch.device("cpu" if "cpu" in kinds else next(iter(kinds)))


def _timeout() -> timedelta | None:
    """Give how long the default group waits, which no other group takes over by itself."""
    backend = dist.group.WORLD._get_backend(_device(None))  # type: ignore[union-attr]
    return getattr(getattr(backend, "options", None), "_timeout", None)


def _global(rank: int, group: dist.ProcessGroup | None) -> int:
    return dist.get_global_rank(group, rank) if group is not None else rank
