"""What stands around a report's rows: of a file what it is, what it has lost, its optimizers, what it would import."""

from __future__ import annotations

from freezeinspect.observed import Observed
from freezeinspect.readers.imports import is_of_python
from freezeinspect.state import Group, Optimizer, Snapshot, Source
from freezeinspect.views.text import WIDTH, visible

IMPORTS = 12  # lines of them
GROUPS = 8  # of an optimizer, in its line
IMPORTING = (
    "Nothing of it was run. torch.load(weights_only=False) would import, beyond what\n"
    "torch itself writes and the model's classes:"
)
OF_PYTHON = "  <- of Python itself: what attacks are made of"
LOST = (
    "? is what the file does not tell. A state_dict keeps neither modes nor requires_grad,"
    " nor which tensors are parameters: ≤ counts buffers too."
)
NAMELESS = (
    "The optimizer's state does not name its parameters, so which it moves is not known: make it from"
    " named_parameters() and it will."
)


def above(source: Source) -> str:
    """Say of a file what it is and what was read of it; nothing of a live model."""
    return visible(f"{source.path}: {source.format}, {source.content}") if source.path is not None else ""


def below(snapshot: Snapshot, observed: Observed, source: Source) -> list[str]:
    """Say of a file what it has lost, what it keeps of optimizers, and what loading it would import."""
    if source.kind != "file":
        return []
    kinds = {tensor.kind for tensor in snapshot.structure.tensors if not tensor.is_unseen}
    lost = [LOST] if "unknown" in kinds else []
    optimizers = "\n".join(map(_about_optimizer, snapshot.optimizers))
    nameless = [NAMELESS] if any(one.orphans is None for each in snapshot.optimizers for one in each.groups) else []
    return list(filter(None, [*lost, optimizers, *nameless, _warning(observed)]))


def _about_optimizer(optimizer: Optimizer) -> str:
    kind = (optimizer.type or "").rpartition(".")[2]
    groups = [*map(_about_group, optimizer.groups[:GROUPS])]
    if more := len(optimizer.groups) - len(groups):
        groups.append(f"and {more} more groups")
    return visible(f"Optimizer {kind}".rstrip() + ": " + "; ".join(groups) + ".")


def _about_group(group: Group) -> str:
    lr = "lr unknown" if group.lr is None else f"lr {group.lr:g}"
    stepped = f"{group.with_state} of them stepped" if group.with_state else "none with a state"
    return f"{lr}, {group.parameters} tensor{'s' * (group.parameters != 1)}, {stepped}"


def _warning(observed: Observed) -> str:
    """Name what loading the file would import; empty where it is nothing out of the ordinary."""
    if not observed.imports:
        return ""
    names = [f"  {_named(name)}" for name in observed.imports[:IMPORTS]]
    more = len(observed.imports) - len(names)
    return "\n".join([IMPORTING, *names, *([f"  and {more} more"] if more else [])])


def _named(name: str) -> str:
    shown = visible(name if len(name) <= WIDTH else name[: WIDTH - 1] + "…")
    return shown + OF_PYTHON if is_of_python(name) else shown
