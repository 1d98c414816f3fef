"""Pickled modules as a record: the walk, the flags and the tensors of stand-ins, as live.py reads living ones."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from freezeinspect.readers.flags import FLAGS, MISSING, NOT_SEEN, STRAY_ON_MODULE, Flags, meaning, stray_names
from freezeinspect.readers.limits import LIMITS, Unreadable, cut
from freezeinspect.readers.standins import Global, Made, name_of
from freezeinspect.readers.stored import Budget, Modules, Stored
from freezeinspect.readers.tensors import Rebuilt, rebuilt_once
from freezeinspect.state import UNSEEN
from freezeinspect.walk import WRAPPERS

HOLDS = ("_modules", "_parameters", "_buffers")
GRAPH_MODULE = "torch.fx.graph_module.GraphModule.__new__.<locals>.GraphModuleImpl"
_MAPPINGS = ("collections.OrderedDict", "builtins.dict", "collections.defaultdict")
_GRAPH = ("torch.fx.graph_module.reduce_graph_module", "torch.fx.graph_module.reduce_package_graph_module")
_COMPILED = "torch._dynamo.eval_frame.OptimizedModule"
_MARKS: tuple[tuple[set[str], set[str]], ...] = (  # attributes, and buffers
    ({"device_ids", "output_device", "dim", "src_device_obj"}, set()),
    ({"device_ids", "output_device", "dim", "require_backward_grad_sync"}, set()),
    ({"avg_fn", "multi_avg_fn", "use_buffers"}, {"n_averaged"}),
)
_ALLOCATE = ("copyreg._reconstructor", "copyreg.__newobj__", "copyreg.__newobj_ex__")
_NORMS = ("torch.nn.", "torch.ao.nn.")
_QUANTISED = "torch.ao.nn.quantized.modules.conv."


def mapping(value: Any) -> dict[Any, Any] | None:
    """Give a dict, or what stands for an OrderedDict or another subclass, as a dict; None for anything else.

    A call with arguments is none: a list of pairs among them would be entries that are not told. Nor is a module.
    """
    if type(value) is dict:
        return value
    if type(value) is not Made or type(value.of) is not Global or has_a_modules_state(value):
        return None
    kind = name_of(value.of)
    if value.args != () and not (kind == "collections.defaultdict" and _is_a_factory(value.args)):
        return None
    if value.entries is not None:
        return value.entries
    return {} if kind in _MAPPINGS else None


def has_a_modules_state(value: Made) -> bool:
    """Tell an object that was given a module's attributes, whatever else was done to it."""
    return any(type(state) is dict and "_modules" in state for state in value.states or ())


def _is_a_factory(args: Any) -> bool:
    return type(args) is tuple and len(args) == 1 and type(args[0]) in (Global, type(None))


def class_of(value: Made) -> Global | None:
    """Give the class that would be allocated; None where a function would be called, for who knows what it gives."""
    if value.allocated or name_of(value.of) == _COMPILED:
        return value.of if type(value.of) is Global else None
    if name_of(value.of) in _ALLOCATE and type(value.args) is tuple and value.args:
        return value.args[0] if type(value.args[0]) is Global else None
    return None


def is_module(value: Any) -> bool:
    """Tell whether a module's attributes are in the pickle."""
    return attributes(value) is not None


def attributes(value: Any) -> dict[Any, Any] | None:
    """Give the attributes that a pickled module would have; None where it is none, or the file does not say."""
    if type(value) is not Made or value.items or value.entries:
        return None  # a module that is filled as a list or dict: only its class knows what that does
    states = _states(value)
    if any(type(state) is not dict for state in states):
        return None
    if not all(any(kind in state for state in states) for kind in HOLDS):
        return None
    found = states[0] if len(states) == 1 else {name: one for state in states for name, one in state.items()}
    return found if all(mapping(found.get(kind)) is not None for kind in HOLDS) else None


def _states(value: Made) -> list[Any]:
    """Give the states that make up a module's attributes; some kinds keep them elsewhere, or in another form."""
    kind = name_of(value.of)
    first = value.args[0] if type(value.args) is tuple and value.args else None
    if kind in _GRAPH:
        return [first]
    if kind == _COMPILED and not value.allocated:
        return [{**{held: {} for held in HOLDS}, "_modules": {"_orig_mod": first}}]
    if kind.startswith(_QUANTISED):
        return [_quantised_state(state) for state in value.states or ()]
    return value.states or []


def _quantised_state(state: Any) -> Any:
    """Give what a quantised convolution's 15 values say of its flags: its mode is the last."""
    if type(state) is not tuple or len(state) != 15:
        return state
    return {"training": state[-1], **{kind: {} for kind in HOLDS}}


class Module:
    """One pickled module: what it is, and what it holds."""

    def __init__(self, value: Any) -> None:
        self.value = value
        self.around: tuple[str, ...] = ()  # classes of the wrappers that were passed over
        self.attributes = attributes(value)
        self.type: str | None = None
        if type(value) is Made:
            cls = class_of(value)
            self.type = GRAPH_MODULE if name_of(value.of) in _GRAPH else name_of(cls) or None

    def held(self, kind: str) -> dict[str, Any]:
        """Give what it holds in `_modules`, `_parameters` or `_buffers`, without the Nones. Raises Unreadable."""
        entries = mapping((self.attributes or {}).get(kind)) or {}
        for name in entries:
            if type(name) is not str:
                raise Unreadable(
                    f"a name in a module's {kind} is no plain text, so only loading the file would tell it"
                )
        return {name: value for name, value in entries.items() if value is not None}

    @property
    def entries(self) -> int:
        """Count the names in what it holds."""
        return sum(len(mapping((self.attributes or {}).get(kind)) or ()) for kind in HOLDS)

    def flags(self) -> Flags:
        """Read the flags from its attributes."""
        if self.attributes is None:
            return NOT_SEEN
        values = [self.attributes.get(flag, MISSING) for flag in FLAGS]
        return meaning(self.type, (self.type or "").rpartition(".")[2], values, self._is_norm_of_unknown_kind())

    def _is_norm_of_unknown_kind(self) -> bool:
        """Tell a norm that may descend from BatchNorm or from InstanceNorm, whose rules differ."""
        return not (self.type or "").startswith(_NORMS)

    @property
    def unread(self) -> str:
        """Say what would have to run to tell more; empty where nothing would."""
        if self.attributes is not None and self.type is not None:
            return ""
        what = "an object" if self.attributes is None else "a module"
        made = name_of(self.value.of) if type(self.value) is Made else ""
        return f"{what} that {made} would build" if made else f"{what} of no known class"


def walk(root: Any) -> Iterator[tuple[str, Module | int]]:
    """Give the path and module of every module in pre-order, each once; a further edge gives the number it leads to.

    Wrappers that the user never named are passed over, as walk.walk does. Raises Unreadable past a limit.
    """
    opened: dict[int, Module] = {}
    checked: set[int] = set()
    paths: set[str] = set()
    visited: dict[int, int] = {}
    stack: list[tuple[str, Any, int]] = [("", root, 0)]
    budget = Budget()
    while stack:
        path, value, depth = stack.pop()
        module = _unwrapped(value, opened)
        _check_names(module, checked)
        budget.spend(path, depth, module.entries)
        if id(module.value) in visited:
            yield path, visited[id(module.value)]
            continue
        if path in paths:
            raise Unreadable(f"two modules have the path {cut(path)}, so no name tells them apart")
        paths.add(path)
        visited[id(module.value)] = len(visited)
        yield path, module
        prefix = f"{path}." if path else ""
        below = module.held("_modules").items()
        stack += [(prefix + name, child, depth + 1) for name, child in reversed(below)]


def _check_names(module: Module, checked: set[int]) -> None:
    """Refuse an attribute whose name is no text; many modules may share one large state, which is looked at once."""
    if id(module.attributes) not in checked and any(type(name) is not str for name in module.attributes or ()):
        raise Unreadable("the name of an attribute is no plain text, so only loading the file would tell it")
    checked.add(id(module.attributes))


def _unwrapped(value: Any, opened: dict[int, Module]) -> Module:
    """Open a value, or the module within the wrappers that it is; each is opened once."""
    passed: list[int] = []
    around: tuple[str, ...] = ()
    while id(value) not in opened and len(passed) < LIMITS.tree_depth:
        module = opened[id(value)] = Module(value)
        passed.append(id(value))
        held = mapping((module.attributes or {}).get("_modules")) or {}
        name = WRAPPERS.get(module.type or "") or _wrapped_at(module, held)
        inner = held.get(name) if name is not None else None
        if inner is None:
            break
        around, value = (*around, module.type or ""), inner
        del opened[id(module.value)]
    if id(value) not in opened or id(value) in passed[:-1]:
        raise Unreadable(f"a wrapper within itself, or more than {LIMITS.tree_depth} of them around one module")
    found = opened[id(value)]
    found.around += around
    opened |= dict.fromkeys(passed, found)
    return found


class Tree:
    """What one walk over pickled modules met."""

    def __init__(self, root: Any) -> None:
        self.modules = Modules([], [], [], {})
        self.tensors: list[Stored] = []
        self.unread: list[tuple[str, str]] = []
        self.classes: set[str] = set()
        self._rebuilt: dict[int, Rebuilt | None] = {}
        for path, module in walk(root):
            if isinstance(module, int):
                self.modules.shared.append((path, module))
            else:
                self._enter(path, module)

    def _enter(self, path: str, module: Module) -> None:
        here = len(self.modules.paths)
        self.modules.paths.append(path)
        self.modules.rows.append(module.flags())
        self.classes |= {*module.around, module.type or ""}
        if module.unread:
            self.unread.append((path, module.unread))
        if module.attributes is None:
            self.tensors.append(Stored(here, UNSEEN, "unknown", Rebuilt(), ("object", id(module.value))))
        elif names := stray_names(module.attributes, STRAY_ON_MODULE):
            self.modules.stray[here] = names
        for kind, held in (("parameter", "_parameters"), ("buffer", "_buffers")):
            for name, value in module.held(held).items():
                found = rebuilt_once(value, self._rebuilt) or Rebuilt()
                self.tensors.append(Stored(here, name, kind, found, ("object", id(value))))


def _wrapped_at(module: Module, held: dict[Any, Any]) -> str | None:
    """Tell a subclass of a wrapper by the attributes that torch's have beside their one module."""
    attributes = module.attributes or {}
    if list(held) != ["module"] or mapping(attributes.get("_parameters")) != {}:
        return None
    buffers = set(mapping(attributes.get("_buffers")) or ())
    is_wrapper = any(marks <= attributes.keys() and buffers == own for marks, own in _MARKS)
    return "module" if is_wrapper else None


def metadata_of(value: Any) -> list[Any]:
    """Give the module paths that a state_dict's metadata lists: also those that own no tensor."""
    states = value.states or () if type(value) is Made else ()
    listed = [mapping(state.get("_metadata")) for state in states if type(state) is dict]
    return [path for entries in listed for path in entries or ()]
