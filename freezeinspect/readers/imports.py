"""What loading a pickle would import, beyond what every file of torch names: code that a stranger could choose."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Set

from freezeinspect.readers.standins import Global
from freezeinspect.readers.tensors import REBUILDS, STORAGES
from freezeinspect.walk import WRAPPERS

_PLAIN = """collections.OrderedDict collections.defaultdict collections.Counter collections.deque builtins.set
builtins.frozenset builtins.dict builtins.list builtins.tuple builtins.object builtins.int builtins.float builtins.bool
builtins.str builtins.bytes builtins.bytearray builtins.complex builtins.slice builtins.range copyreg._reconstructor
copyreg.__newobj__ copyreg.__newobj_ex__ torch.Size torch.device torch.Tensor torch.serialization._get_layout
torch.nn.parameter.Parameter torch.nn.parameter.Buffer torch.utils.hooks.RemovableHandle torch.per_tensor_affine
torch.per_channel_affine torch.per_channel_affine_float_qparams torch.strided torch.contiguous_format
torch.channels_last torch.preserve_format"""
EXPECTED = REBUILDS | WRAPPERS.keys() | set(_PLAIN.split())
_DTYPE = re.compile(r"torch\.(bool|b?float\d\w*|q?u?int\d\w*|complex\d+|bits\w+)")
_HOLD_DATA = frozenset(  # parts of the standard library
    "argparse array collections copyreg datetime decimal enum fractions numbers pathlib re string typing uuid".split()
)


def beyond(named: Iterable[Global], classes: Set[str]) -> tuple[str, ...]:
    """Name the imports beyond torch's own rebuilds and the model's classes, the standard library's first.

    No module's class is in the standard library, so nothing of it passes for one.
    """
    names = {str(one) for one in named if not _is_storage(one)}
    left = {name for name in names - EXPECTED if not _DTYPE.fullmatch(name)}
    return tuple(sorted((name for name in left if _runs(name) or name not in classes), key=lambda n: (not _runs(n), n)))


def _is_storage(one: Global) -> bool:
    return one.name in STORAGES and one.module in ("torch", "torch.storage", "torch.cuda")


def _runs(name: str) -> bool:
    """Tell a name of the standard library beyond its containers: what an attack is made of."""
    top = name.partition(".")[0]
    return top in sys.stdlib_module_names and top not in _HOLD_DATA
