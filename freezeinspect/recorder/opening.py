"""Open a watch: what it was asked for is checked before anything of the model is touched."""

from __future__ import annotations

import os
from typing import Any

from torch import nn

from freezeinspect.distributed import Exchange
from freezeinspect.readers import live
from freezeinspect.recorder.attention import Attention
from freezeinspect.recorder.boundaries import hookable
from freezeinspect.recorder.log import Log
from freezeinspect.recorder.watch import Watch
from freezeinspect.walk import NotAModule


def watch(
    model: nn.Module,
    optimizer: Any = None,
    *,
    evidence: str = "auto",
    every: int | None = None,
    blame: bool = False,
    magnitudes: bool = False,
    ranks: bool = False,
    log: str | os.PathLike[str] | None = None,
) -> Watch:
    """Watch a training loop, which stays as it is: who may move, who moved, and what flipped, at every step.

    A context manager; or call `close()`. A step is one of an optimizer, one or a list; without, a forward of the model.
    `evidence` is "auto", which looks at every step at first and after each flip and then gives weights half a percent
    of the steps' time, or "off"; `every=n` looks at every nth step whole. `blame` finds the call behind each flip, and
    slows these calls down. `magnitudes` measures how far weights move, and copies them for it. `ranks` tells where the
    ranks' flags differ: all of them open such a watch, take the same steps, and close it. `log` is a file for the
    steps, whole to the last finished one whatever ends the run. Raises NotAModule, NotAnOptimizer, ValueError, OSError,
    and with `ranks` NotDistributed and RankLost.
    """
    if not isinstance(model, nn.Module):
        raise NotAModule(model, groups=False)
    if evidence not in ("auto", "off"):
        raise ValueError(f"evidence={evidence!r}: expected 'auto' or 'off'; every=1 looks at every step")
    if every is not None and (type(every) is not int or every < 1):
        raise ValueError(f"every={every!r}: expected a number of steps, 1 or more")
    optimizers = hookable(live.opened(optimizer))
    exchange = Exchange() if ranks else None
    written = None if log is None else Log(log)
    return Watch(model, optimizers, Attention(evidence, every), written, blame, magnitudes, exchange=exchange)
