"""The faces: a Report of one model, a Diff of two, and what makes them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, TypeAlias

from freezeinspect.report.difference import Diff
from freezeinspect.report.model import ModuleState, NoSuchModule, Report

if TYPE_CHECKING:
    from torch import nn

    from freezeinspect.policy import Policy
    from freezeinspect.report.findings import Findings
    from freezeinspect.report.run import Run

__all__ = ["Diff", "ModuleState", "NoSuchModule", "Report", "check", "diff", "inspect", "policy_of", "read"]

Model: TypeAlias = "nn.Module | Report | str | os.PathLike[str]"


def inspect(
    model: nn.Module | str | os.PathLike[str],
    optimizer: Any = None,
    *,
    input_size: Any = None,
    input_data: Any = None,
    key: str | None = None,
    values: bool = False,
) -> Report:
    """Report the freeze state of a model, live or in a file: what is frozen, what trains and what will move.

    A file is one of torch.save (Lightning's too), TorchScript, torch.export or safetensors, or a folder of Hugging
    Face or torch.distributed.checkpoint: docs/reference/formats.md.
    `optimizer` is one optimizer or a list of them. `input_size` or `input_data` adds output shapes and
    multiply-adds by torchinfo, run on a twin. The model is never changed. Of a file nothing is run or imported; `key`
    chooses among the models of a training checkpoint. No value is read unless `values` asks for a fingerprint of
    each tensor, so that a later report can tell what moved. Raises NotAModule, NotAnOptimizer, ShapesUnknown, and for a
    file Unreadable.
    """
    if isinstance(model, str | os.PathLike):
        return _of_file(model, key, values, optimizer, input_size, input_data)
    if key is not None:
        raise TypeError("key= chooses a model in a file, but a live model was given; leave it out")
    from freezeinspect.readers import live

    snapshot = live.read(model, optimizer, values=values)
    if input_size is None and input_data is None:
        return Report(snapshot)
    from freezeinspect.shapes import measure

    return Report(snapshot, shapes=measure(model, input_size, input_data))


def _of_file(path: str | os.PathLike[str], key: str | None, values: bool, *live_only: Any) -> Report:
    from freezeinspect.readers import file

    if any(one is not None for one in live_only):
        raise TypeError(
            f"an optimizer or an input needs a live model, but {os.fspath(path)!r} is a file; load it first"
        )
    return Report(*file.read(path, key, values))


def read(path: str | os.PathLike[str], key: str | None = None) -> Report | Run:
    """Read a model's file as a Report, and the log of a run as a Run. Raises Unreadable."""
    from freezeinspect.readers import file

    with file.opened(path, key) as one:
        if one.history is None:
            return Report(*one[:3])
        from freezeinspect.report.run import Run

        return Run(one.history, one.source)


def diff(before: Model, after: Model, *, exact: bool = False, key: str | None = None) -> Diff:
    """Tell what differs between two models, reports or files: structure, flags, and which tensors have other values.

    A file is one that `inspect` reads, and the two may be of different formats.
    Of two files the zips' checksums are compared, and bytes only where these tell nothing; `exact` compares bytes
    alone. Of a live model or a file beside another, fingerprints are made; a Report has those it was made with.
    `key` chooses among the models of a file. Raises NotAModule, Unreadable.
    """
    if isinstance(before, str | os.PathLike) and isinstance(after, str | os.PathLike):
        return _of_files(before, after, exact, key)
    from freezeinspect.compare import compare

    one, other = (_with_values(model, key) for model in (before, after))
    return Diff(one, other, compare(one.snapshot, other.snapshot))


def check(
    source: nn.Module | Report | Run | str | os.PathLike[str],
    optimizer: Any = None,
    *,
    policy: Policy | str | os.PathLike[str] | None = None,
    select: Sequence[str] = (),
    ignore: Sequence[str] = (),
    allow: Sequence[str] = (),
    key: str | None = None,
) -> Findings:
    """Find what is wrong with a freeze state: of a model with its optimizer, a Report, a watched run or a file.

    `policy` says what is expected (docs/reference/policy.md); it may be the path of one. `select` and `ignore` name
    rules by code or name; `allow` also only somewhere, as "FI106:backbone", beside what the policy allows. `key`
    chooses among the models of a file. Raises NoSuchRule, BadPattern, BadPolicy, and what inspect() raises.
    """
    from freezeinspect.report.findings import selected

    found = report_of(source, optimizer, key)
    if policy is None:
        return selected(found.snapshot.structure, found.findings, select, ignore, allow)
    from freezeinspect.policy import Policy, load
    from freezeinspect.rules import find

    if not isinstance(policy, Policy | str | os.PathLike):
        raise TypeError(f"policy={policy!r}: expected a Policy, or the path of one, as 'freeze.toml'")
    policy = policy if isinstance(policy, Policy) else load(policy)
    findings = tuple(find(found.facts(policy.expected)))
    return selected(found.snapshot.structure, findings, select, ignore, (*policy.allow, *allow))


def policy_of(
    source: nn.Module | Report | Run | str | os.PathLike[str], optimizer: Any = None, *, key: str | None = None
) -> Policy:
    """Give the policy that says exactly the state of a model, with its optimizer, a Report, a run's end or a file.

    It holds of its source, and no longer once a flag flips. It has at most one line for each of the folded tree's. What
    a file does not tell is left out. `key` chooses among the models of a file. Raises what inspect() raises.

    >>> from torch import nn
    >>> print(policy_of(nn.Sequential(nn.Linear(2, 2).requires_grad_(False), nn.Linear(2, 2))))
    # The last line that matches wins, key by key: docs/reference/policy.md
    expect = [
        {pattern = "", training = true, trainable = "absent", bn_freeze = "absent"},
        {pattern = "0", requires_grad = false},
        {pattern = "1", requires_grad = true},
    ]
    """
    from freezeinspect.policy import of

    return of(report_of(source, optimizer, key).snapshot)


def report_of(source: Any, optimizer: Any = None, key: str | None = None) -> Report:
    """Report what is to be checked: a Report is its own, a run's is that of its end. Raises what inspect() raises."""
    is_run = hasattr(source, "history")  # of a Watch too
    if optimizer is not None and (is_run or isinstance(source, Report)):
        raise TypeError("an optimizer needs a live model, but a report or a run was given; it has its own")
    if isinstance(source, Report):
        return source
    found: Report = source.report() if is_run else _to_check(source, optimizer, key)
    return found


def _to_check(model: nn.Module | str | os.PathLike[str], optimizer: Any, key: str | None) -> Report:
    """Report a model or a file; of a file's values the running statistics are looked at too."""
    if optimizer is not None or not isinstance(model, str | os.PathLike):
        return inspect(model, optimizer, key=key)
    from freezeinspect.readers import file

    return Report(*file.read_statistics(model, key))


def _with_values(model: Model, key: str | None) -> Report:
    if isinstance(model, Report):
        return model
    return inspect(model, key=key if isinstance(model, str | os.PathLike) else None, values=True)


def _of_files(before: str | os.PathLike[str], after: str | os.PathLike[str], exact: bool, key: str | None) -> Diff:
    from freezeinspect.compare import compare
    from freezeinspect.readers import file
    from freezeinspect.readers.values import changed

    with ExitStack() as stack:
        one, other = (stack.enter_context(file.opened(path, key)) for path in (before, after))
        found = compare(one.snapshot, other.snapshot, lambda i, j: changed(one.values, i, other.values, j, exact))
    return Diff(Report(*one[:3]), Report(*other[:3]), found)
