"""What the snapshots of ranks that train one model should agree in, and where they do not."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Hashable, Iterable, Mapping, Sequence

from freezeinspect.chapters import FLAGS
from freezeinspect.history import History
from freezeinspect.observed import Disagreement
from freezeinspect.state import Snapshot

DIGEST = 8  # bytes


def digest(snapshot: Snapshot) -> bytes:
    """Digest what all ranks should agree in. Shapes are no part of it: FSDP cuts them."""
    text = json.dumps([list(_compared(snapshot).values())], default=str)
    return hashlib.blake2b(text.encode(), digest_size=DIGEST).digest()


def _compared(snapshot: Snapshot) -> dict[str, Sequence[Hashable]]:
    structure = snapshot.structure
    groups = [group for one in snapshot.optimizers for group in one.groups]
    return {
        "structure": (structure.paths, structure.types, *structure.columns[:3]),
        **{flag: getattr(snapshot, flag) for flag in FLAGS},
        "requires_grad": snapshot.requires_grad,
        "groups": tuple(map(_in_groups, snapshot.groups)),
        "settings": [f"lr {group.lr}, weight decay {group.weight_decay}" for group in groups],
    }


def _in_groups(numbers: tuple[int, ...] | None) -> str:
    return f"group {', '.join(map(str, numbers))}" if numbers else "no group"


def differing_flags(snapshots: Mapping[tuple[int, ...], Snapshot], step: int | None = None) -> list[Disagreement]:
    """Tell in which flags snapshots differ, by the ranks that each is of."""
    ranks, several = list(snapshots), list(map(_compared, snapshots.values()))
    if len({one["structure"] for one in several}) > 1:
        counts = [f"{len(one['structure'][0])} modules" for one in several]  # type: ignore[arg-type]
        return [disagreement("", None, "structure", counts, ranks, step)]
    structure = next(iter(snapshots.values())).structure
    found = []
    for what, *columns in zip(several[0], *(one.values() for one in several), strict=True):
        for i, words in enumerate(zip(*columns, strict=False)):
            if len(set(words)) > 1:
                path, tensor = "", None
                if what in FLAGS:
                    path = structure.paths[i]
                elif what == "settings":
                    what = f"settings of group {i}"
                else:
                    path, tensor = structure.paths[structure.tensors[i].owner], structure.tensors[i].name
                found.append(disagreement(path, tensor, what, list(map(str, words)), ranks, step))
    return found


def differing_histories(histories: Mapping[int, History]) -> list[Disagreement]:
    """Tell where runs of one model on several ranks differ: in flags, at the first step that began so, and in steps."""
    found: dict[tuple[str, str | None, str], Disagreement] = {}
    told: set[tuple[bytes, ...]] = set()
    steps = {rank: len(one.taken) for rank, one in histories.items()}
    states = [state for one in histories.values() for chapter in one.chapters for state in chapter.states]
    for step in sorted({state.step + state.within for state in states}):
        if step > max(min(steps.values()), 1):
            break
        snapshots = {rank: one.chapter_of(step).state_at(step, False).snapshot for rank, one in histories.items()}
        digests = tuple(map(digest, snapshots.values()))
        if digests not in told:
            told.add(digests)
            kinds: dict[bytes, list[int]] = {}
            for rank, one in zip(snapshots, digests, strict=True):
                kinds.setdefault(one, []).append(rank)
            for each in differing_flags({tuple(ranks): snapshots[ranks[0]] for ranks in kinds.values()}, step):
                found.setdefault((each.path, each.tensor, each.what), each)
    if len(set(steps.values())) > 1:
        words = [f"{count} steps" for count in steps.values()]
        found["", None, "steps"] = disagreement("", None, "steps", words, [(rank,) for rank in steps], None)
    return list(found.values())


def disagreement(
    path: str, tensor: str | None, what: str, words: Sequence[str], ranks: Iterable[tuple[int, ...]], step: int | None
) -> Disagreement:
    """Say which ranks have which word."""
    seen: dict[str, list[int]] = {}
    for word, some in zip(words, ranks, strict=True):
        seen.setdefault(word, []).extend(some)
    return Disagreement(path, tensor, what, tuple((word, tuple(sorted(some))) for word, some in seen.items()), step)
