"""Run the line that a finding says mends it."""

from __future__ import annotations

from typing import Any

import torch

import freezeinspect as fi
from freezeinspect.state import Finding


def mended(one: Finding, model: Any, optimizer: Any = None, **flags: Any) -> fi.Findings:
    """Run a finding's fix on the model, and check again for its rule."""
    world = {"fi": fi, "torch": torch, "model": model, "optimizer": optimizer, "optimizers": optimizer}
    assert one.fix is not None
    exec(one.fix, world)
    return fi.check(world["model"], world["optimizer"], select=[one.code], **flags)


def told(found: fi.Findings) -> list[tuple[str, str]]:
    """Give where and how bad."""
    return [(one.path, one.severity) for one in found]
