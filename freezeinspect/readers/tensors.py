"""What a pickled tensor says of itself: each way that torch rebuilds one, read and not run."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from math import prod
from typing import Any, NamedTuple

from freezeinspect.readers.flags import STRAY_ON_PARAMETER, answer, stray_names
from freezeinspect.readers.standins import Global, Made, Persistent, name_of
from freezeinspect.state import UNKNOWN, Answer

DEPTH = 20  # rebuilds within rebuilds: torch makes three
_LARGEST = 2**63 - 1  # a size, and the number of elements, are 64-bit integers
_DIMENSIONS = 64

STORAGES = {
    "DoubleStorage": "float64",
    "FloatStorage": "float32",
    "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16",
    "LongStorage": "int64",
    "IntStorage": "int32",
    "ShortStorage": "int16",
    "CharStorage": "int8",
    "ByteStorage": "uint8",
    "BoolStorage": "bool",
    "ComplexDoubleStorage": "complex128",
    "ComplexFloatStorage": "complex64",
    "QUInt8Storage": "quint8",
    "QInt8Storage": "qint8",
    "QInt32Storage": "qint32",
    "QUInt4x2Storage": "quint4x2",
    "QUInt2x4Storage": "quint2x4",
    "UntypedStorage": "uint8",
}


ITEM_SIZES = {
    **dict.fromkeys(("bool", "uint8", "int8", "float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2", "float8_e5m2fnuz"), 1),
    **dict.fromkeys(("float16", "bfloat16", "int16", "uint16"), 2),
    **dict.fromkeys(("float32", "int32", "uint32", "complex32"), 4),
    **dict.fromkeys(("float64", "int64", "uint64", "complex64"), 8),
    "complex128": 16,
}


class Place(NamedTuple):
    """Where a tensor's elements are: in which storage, from which element on, and how."""

    storage: str
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class Rebuilt(NamedTuple):
    """What is known of one tensor; `place` is equal for two over the same memory.

    A `plain` one is what its storage's bytes are, element by element; others need more to be worked out.
    """

    shape: tuple[int, ...] | None = None
    dtype: str | None = None
    requires_grad: Answer = UNKNOWN
    is_parameter: bool = False
    place: Place | None = None
    plain: bool = False
    stray: frozenset[str] = frozenset()  # misspelled names that were set to false


def rebuilt(value: Any, nesting: int = DEPTH) -> Rebuilt | None:
    """Read what would be rebuilt as a tensor; None where it is no tensor that torch knows how to rebuild."""
    if type(value) is not Made or not nesting:
        return None
    read = _READERS.get(name_of(value.of))
    if read is None or type(value.args) is not tuple:
        return None
    try:
        found = read(nesting - 1, *value.args)
    except (TypeError, ValueError, IndexError, KeyError):  # torch would fail on these arguments
        return None
    return found and (found._replace(stray=found.stray | _stray(value.states)) if value.states else found)


def rebuilt_once(value: Any, known: dict[int, Rebuilt | None]) -> Rebuilt | None:
    """Read a tensor, or give what is known of it: one may stand under many names."""
    if id(value) not in known:
        known[id(value)] = rebuilt(value)
    return known[id(value)]


def looks_like_tensor(value: Any) -> bool:
    """Tell whether a value would be rebuilt as a tensor, without reading its arguments."""
    return type(value) is Made and name_of(value.of) in REBUILDS


def _stray(states: Iterable[Any]) -> frozenset[str]:
    """Give the misspelled attributes that were set to false, as they were set last."""
    last: dict[str, Any] = {}
    for state in states:
        if type(state) is dict:
            last |= {name: state[name] for name in STRAY_ON_PARAMETER if name in state}
    return frozenset(stray_names(last, STRAY_ON_PARAMETER))


def _tensor(
    _: int, storage: Any, offset: Any, size: Any, stride: Any, requires_grad: Any = False, *rest: Any
) -> Rebuilt:
    place = _place(storage, offset, size, stride)
    bits = rest[1] if len(rest) > 1 else None  # whether it is conjugated or negated
    return Rebuilt(shape_of(size), _dtype_of(storage), answer(requires_grad), place=place, plain=not bits)


def _tensor_v3(
    _: int, storage: Any, offset: Any, size: Any, stride: Any, requires_grad: Any, hooks: Any, dtype: Any, *rest: Any
) -> Rebuilt:
    place = _place(storage, offset, size, stride)
    return Rebuilt(shape_of(size), _dtype(dtype), answer(requires_grad), place=place, plain=not any(rest))


def _quantised(
    _: int, storage: Any, offset: Any, size: Any, stride: Any, quantiser: Any, requires_grad: Any, *rest: Any
) -> Rebuilt:
    return _tensor(_, storage, offset, size, stride, requires_grad)._replace(plain=False)


def _parameter(nesting: int, data: Any, requires_grad: Any, hooks: Any = None, state: Any = None) -> Rebuilt:
    inner = rebuilt(data, nesting) or Rebuilt()
    parts = state if type(state) is tuple else (state,)
    return inner._replace(requires_grad=answer(requires_grad), is_parameter=True, stray=_stray(parts[:2]))


def _of_type(nesting: int, function: Any, kind: Any, args: Any, state: Any) -> Rebuilt | None:
    inner = rebuilt(Made(function, args, allocated=False), nesting)
    if inner is None:
        return None
    parts = state if type(state) is tuple else (state,)
    is_parameter = inner.is_parameter or name_of(kind) == "torch.nn.parameter.Parameter"
    return inner._replace(is_parameter=is_parameter, stray=_stray(parts[:2]))


def _sparse(_: int, layout: Any, data: Any) -> Rebuilt:
    """Read COO's (indices, values, size, coalesced) or a compressed (pointers, indices, values, size)."""
    parts = [rebuilt(part, 1) for part in data[:5]]
    values = [part for part in parts if part is not None][-1]
    sizes = [shape_of(part) for part, tensor in zip(data, parts, strict=False) if tensor is None]
    return Rebuilt(sizes[0], values.dtype, answer(False))


def _nested(nesting: int, buffer: Any, *rest: Any) -> Rebuilt:
    inner = rebuilt(buffer, nesting) or Rebuilt()
    return Rebuilt(None, inner.dtype, inner.requires_grad)


def _without_storage(_: int, dtype: Any, size: Any, stride: Any, requires_grad: Any) -> Rebuilt:
    return Rebuilt(shape_of(size), _dtype(dtype), answer(requires_grad))


def _wrapper(
    _: int, cls: Any, dtype: Any, size: Any, stride: Any, offset: Any, layout: Any, device: Any, requires: Any
) -> Rebuilt:
    return Rebuilt(shape_of(size), _dtype(dtype), answer(requires))


def _on_device(nesting: int, data: Any, dtype: Any, device: Any, requires_grad: Any) -> Rebuilt:
    inner = rebuilt(data, nesting) or Rebuilt()
    return Rebuilt(inner.shape, _dtype(dtype), answer(requires_grad))


def _lazy_parameter(_: int, requires_grad: Any) -> Rebuilt:
    return Rebuilt(None, "float32", answer(requires_grad), is_parameter=True)  # loading takes the default dtype


def _lazy_buffer(_: int, requires_grad: Any) -> Rebuilt:
    return Rebuilt(None, "float32", answer(requires_grad))


_READERS: dict[str, Callable[..., Rebuilt | None]] = {
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_tensor_v3": _tensor_v3,
    "torch._utils._rebuild_qtensor": _quantised,
    "torch._utils._rebuild_parameter": _parameter,
    "torch._utils._rebuild_parameter_with_state": _parameter,
    "torch._utils._rebuild_sparse_tensor": _sparse,
    "torch._utils._rebuild_nested_tensor": _nested,
    "torch._utils._rebuild_meta_tensor_no_storage": _without_storage,
    "torch._utils._rebuild_wrapper_subclass": _wrapper,
    "torch._utils._rebuild_device_tensor_from_cpu_tensor": _on_device,
    "torch._utils._rebuild_device_tensor_from_numpy": _on_device,
    "torch._utils._rebuild_xla_tensor": _on_device,
    "torch._tensor._rebuild_from_type": _of_type,
    "torch._tensor._rebuild_from_type_v2": _of_type,
    "torch.nn.parameter.UninitializedParameter": _lazy_parameter,
    "torch.nn.parameter.UninitializedBuffer": _lazy_buffer,
}
REBUILDS = frozenset(_READERS)


def shape_of(size: Any) -> tuple[int, ...] | None:
    """Read a size; None for what is no size of a tensor."""
    if type(size) is Made and name_of(size.of) == "torch.Size" and type(size.args) is tuple:
        (size,) = size.args
    sizes = _integers(size)
    elements = prod(max(one, 1) for one in sizes or ())
    return sizes if elements <= _LARGEST else None


def _integers(value: Any) -> tuple[int, ...] | None:
    if type(value) not in (tuple, list) or len(value) > _DIMENSIONS:
        return None
    return tuple(value) if all(type(one) is int and 0 <= one <= _LARGEST for one in value) else None


def _storage(storage: Any) -> tuple[Any, ...]:
    """Give torch's id of a storage: ("storage", its class, key, device, number of elements)."""
    id = storage.id if type(storage) is Persistent else ()
    return id if type(id) is tuple and len(id) >= 5 and id[0] == "storage" else ()


def storage_of(outside: Persistent) -> tuple[str, int] | None:
    """Give the key of a storage and the bytes of its elements; None where torch names none."""
    id = _storage(outside)
    size = ITEM_SIZES.get(_dtype_of(outside) or "")
    return (id[2], size) if id and type(id[2]) is str and size is not None else None


def _dtype_of(storage: Any) -> str | None:
    id = _storage(storage)
    return STORAGES.get(id[1].name) if id and type(id[1]) is Global else None


def _dtype(dtype: Any) -> str | None:
    return dtype.name if type(dtype) is Global and dtype.module == "torch" else None


def _place(storage: Any, offset: Any, size: Any, stride: Any) -> Place | None:
    id = _storage(storage)
    if not id or id[5:6] not in ((), (None,)):  # in torch's old format a storage may be a part of another
        return None
    return place_of(id[2], offset, size, stride) if type(id[2]) is str else None


def place_of(storage: str, offset: Any, size: Any, stride: Any) -> Place | None:
    """Read where a tensor's elements are; None for what is no offset, size or stride."""
    shape, strides = shape_of(size), _integers(stride)
    if shape is None or strides is None or len(shape) != len(strides) or _integers((offset,)) is None:
        return None
    return Place(storage, offset, shape, strides)
