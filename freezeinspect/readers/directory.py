"""Folders: which files of one have the weights, whole or in shards."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import PurePath
from typing import Any

from freezeinspect.readers.archive import Extent
from freezeinspect.readers.documents import parsed
from freezeinspect.readers.limits import LIMITS, Unreadable, cut, past
from freezeinspect.readers.statedicts import Named
from freezeinspect.readers.values import Source, Values
from freezeinspect.state import Structure

WEIGHTS = (  # the first that is there
    "model.safetensors.index.json",
    "model.safetensors",
    "adapter_model.safetensors",
    "pytorch_model.bin.index.json",
    "pytorch_model.bin",
    "adapter_model.bin",
    "diffusion_pytorch_model.safetensors",
    "diffusion_pytorch_model.bin",
)
INDEX = ".index.json"
METADATA = ".metadata"  # of torch.distributed.checkpoint
_CONFIG = 2**20  # bytes that an adapter's config may have
_NAMED = 5  # modules of an adapter


def weights_in(folder: str) -> list[str]:
    """Give the paths of the files that have a folder's weights. Raises Unreadable."""
    name = next((name for name in WEIGHTS if os.path.isfile(os.path.join(folder, name))), None)
    if name is None and os.path.lexists(os.path.join(folder, METADATA)):
        return [os.path.join(folder, METADATA)]
    if name is None:
        raise Unreadable(f"a folder with none of {', '.join(WEIGHTS[:5])} and the like; name a file in it")
    path = os.path.join(folder, name)
    return shards_of(path) if name.endswith(INDEX) else [path]


def adapter_in(weights: str) -> str:
    """Say what adapter the config beside its weights describes; nothing where none can be read."""
    config = os.path.join(os.path.dirname(weights), "adapter_config.json")
    if not os.path.basename(weights).startswith("adapter_model.") or not os.path.isfile(config):
        return ""
    import json

    try:
        with open(config, "rb") as file:
            text = file.read(_CONFIG + 1)
        about = json.loads(text) if len(text) <= _CONFIG else None
    except (OSError, ValueError, RecursionError):
        return ""
    return _adapter(about) if type(about) is dict else ""


def _adapter(about: dict[str, Any]) -> str:
    """Say in one phrase what PEFT's config says; what is of an odd type is left out."""
    kind, rank, bias, base = (about.get(key) for key in ("peft_type", "r", "bias", "base_model_name_or_path"))
    said = [f" of an adapter of type {cut(kind)}" if kind and type(kind) is str else " of an adapter"]
    said += [f" and rank {rank}"] * (type(rank) is int and 0 < rank < 2**31)
    said += [f" for {named}" for named in _named(about.get("target_modules"))]
    said += [f" on {cut(base)}"] * (type(base) is str and base != "")
    said += [f", with bias {cut(bias)}"] * (type(bias) is str and bias != "none")
    said += [f", with the whole of {named}" for named in _named(about.get("modules_to_save"))]
    return "".join(said)


def _named(value: Any) -> list[str]:
    """Give some of the names that a pattern or a list of names is, in one phrase; none of anything else."""
    names = [value] if type(value) is str else value
    if type(names) is not list or not names or not all(type(name) is str for name in names):
        return []
    return [", ".join([*map(cut, names[:_NAMED]), *["…"] * (len(names) > _NAMED)])]


def shards_of(index: str) -> list[str]:
    """Give the paths of the shards that an index names, all of which stand beside it. Raises Unreadable."""
    with open(index, "rb") as file:
        text = file.read(LIMITS.directory_bytes + 1)
    if len(text) > LIMITS.directory_bytes:
        raise past("directory_bytes", f"the index has more than {LIMITS.directory_bytes:,} bytes")
    try:
        names = set(parsed(text, "an index of shards", "text")["weight_map"].values())
    except (KeyError, TypeError, AttributeError):
        raise Unreadable("an index of shards without a weight_map of names to files; get the folder again") from None
    if not names:
        raise Unreadable("an index of shards that names none; get the folder again")
    if len(names) > LIMITS.groups:
        raise past("groups", f"the index names {len(names):,} files")
    for name in names:
        if type(name) is not str or PurePath(name).name != name or name in ("", ".", ".."):
            raise Unreadable(f"an index that names {cut(name)}, which is no file beside it; get the folder again")
    return [os.path.join(os.path.dirname(index), name) for name in sorted(names)]


class Shards:
    """Several files as one source of bytes; a storage's name begins with the number of its file."""

    def __init__(self, sources: Sequence[Source]) -> None:
        self.sources = sources
        self.size = sum(source.size for source in sources)
        self.is_little_endian = all(source.is_little_endian for source in sources)

    def extent(self, storage: str) -> Extent | None:
        """Tell where a storage's bytes are."""
        number, _, name = storage.partition("/")
        return self.sources[int(number)].extent(name)


def joined(shards: Sequence[tuple[Structure, Values]]) -> tuple[Named, Shards]:
    """Join the tensors of some shards. Raises Unreadable where two have one name."""
    found: Named = {}
    for number, (structure, values) in enumerate(shards):
        for i, one in enumerate(values.stored):
            name, place = structure.full_name(i), one.tensor.place
            if name in found:
                raise Unreadable(f"two of its shards have the tensor {cut(name)}; get the folder again")
            within = None if place is None else place._replace(storage=f"{number}/{place.storage}")
            kind, identity = one.identity
            found[name] = ((kind, (number, identity)), one.tensor._replace(place=within))
    return found, Shards([values.source for _, values in shards])
