"""What loading a pickle would import, beyond what every file of torch names: code that a stranger could choose."""

from __future__ import annotations

import re
import sys
from collections.abc import Set

from freezeinspect.readers.standins import Global
from freezeinspect.readers.tensors import REBUILDS, STORAGES
from freezeinspect.readers.unpickle import Pickled
from freezeinspect.walk import WRAPPERS

_PLAIN = """collections.OrderedDict collections.defaultdict collections.Counter collections.deque builtins.set
builtins.frozenset builtins.dict builtins.list builtins.tuple builtins.object builtins.int builtins.float builtins.bool
builtins.str builtins.bytes builtins.bytearray builtins.complex builtins.slice builtins.range copyreg._reconstructor
copyreg.__newobj__ copyreg.__newobj_ex__ torch.Size torch.device torch.Tensor torch.serialization._get_layout
torch.nn.parameter.Parameter torch.nn.parameter.Buffer torch.utils.hooks.RemovableHandle torch.per_tensor_affine
torch.per_channel_affine torch.per_channel_affine_float_qparams torch.strided torch.contiguous_format
torch.channels_last torch.preserve_format"""
_PATHS = "pathlib.PosixPath pathlib.WindowsPath pathlib._local.PosixPath pathlib._local.WindowsPath"
_DISTRIBUTED = """metadata.Metadata metadata.MetadataIndex metadata.StorageMeta metadata.TensorStorageMetadata
metadata.BytesStorageMetadata metadata.ChunkStorageMetadata metadata.TensorProperties metadata._MEM_FORMAT_ENCODING
filesystem._StorageInfo"""  # of torch.distributed.checkpoint, whose .metadata has the path of its folder too
_OLDER = """torch.distributed._shard.sharded_tensor.metadata.TensorProperties
torch.distributed._shard.sharded_tensor.metadata.MEM_FORMAT_ENCODING"""
EXPECTED = REBUILDS | WRAPPERS.keys() | {*_PLAIN.split(), *_PATHS.split(), *_OLDER.split()}
EXPECTED |= {f"torch.distributed.checkpoint.{name}" for name in _DISTRIBUTED.split()}
_DTYPE = re.compile(r"torch\.(bool|b?float\d\w*|q?u?int\d\w*|complex\d+|bits\w+)")
_ACTIVATION = re.compile(r"torch\.(nn\.functional|_C\._nn)\.\w+")  # that a layer holds, and loading does not call
_ONLY_ALLOCATED = ("torch.nn.modules.", "torch.optim.")  # torch's own classes, in other models of the file
_HOLD_DATA = frozenset(  # parts of the standard library
    "_codecs argparse array collections datetime decimal enum fractions numbers pathlib re string typing uuid".split()
)


def beyond(pickled: Pickled, classes: Set[str]) -> tuple[str, ...]:
    """Name the imports beyond torch's own rebuilds and the model's classes, those that attacks are made of first.

    A name that is called anywhere, or of the standard library, is never taken for a class of a module or optimizer.
    """
    called = {str(one) for one in pickled.called}
    names = {str(one) for one in pickled.imports if not _is_storage(one)} - EXPECTED
    left = {name for name in names if not _DTYPE.fullmatch(name)}
    harmless = {name for name in names if name.startswith(_ONLY_ALLOCATED) or _ACTIVATION.fullmatch(name)}
    trusted = {name for name in (classes | harmless) - called if not _is_standard(name)}
    return tuple(sorted(left - trusted, key=lambda name: (not is_of_python(name), name)))


def _is_storage(one: Global) -> bool:
    return one.name in STORAGES and one.module in ("torch", "torch.storage", "torch.cuda")


def _is_standard(name: str) -> bool:
    return name.partition(".")[0] in sys.stdlib_module_names


def is_of_python(name: str) -> bool:
    """Tell a name of the standard library beyond what only holds data."""
    return _is_standard(name) and name.partition(".")[0] not in _HOLD_DATA
