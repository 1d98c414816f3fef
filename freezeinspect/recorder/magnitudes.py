"""How far each weight moves in a step, against its own size: kept on the device until it is asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch

if TYPE_CHECKING:
    import pandas as pd


class _Moves(NamedTuple):
    """Of some parameters, the relative norms of their updates: the last one, the sum, the largest, and how many."""

    last: torch.Tensor
    total: torch.Tensor
    most: torch.Tensor
    steps: int


class Magnitudes:
    """The relative update norms of what each optimizer steps. A step takes a copy of the weights, and no waiting."""

    def __init__(self, optimizers: list[torch.optim.Optimizer]) -> None:
        self._optimizers = optimizers
        self._kept: dict[int, tuple[list[torch.Tensor], list[torch.Tensor]]] = {}
        self._moves: dict[int, tuple[list[torch.Tensor], _Moves]] = {}

    @torch.no_grad()
    def begins(self, optimizer: int) -> None:
        """Copy the weights before a step."""
        groups = self._optimizers[optimizer].param_groups if self._optimizers else []
        weights = [one.detach() for group in groups for one in group["params"] if _is_measured(one)]
        self._kept[optimizer] = weights, [one.clone() for one in weights]

    @torch.no_grad()
    def ends(self, optimizer: int) -> None:
        """Measure how far the step moved them."""
        weights, before = self._kept.pop(optimizer, ([], []))
        if not weights:
            return
        device = weights[0].device
        updates = torch._foreach_norm(torch._foreach_sub(weights, before))
        sizes = torch._foreach_norm(before)
        moved, size = (torch.stack([one.to(device, torch.float32) for one in norms]) for norms in (updates, sizes))
        relative = torch.where(moved == 0, 0.0, moved / size)
        known = self._moves.get(optimizer)
        if known is None or len(known[0]) != len(weights):
            self._moves[optimizer] = weights, _Moves(relative, relative.clone(), relative, 1)
        else:
            last = known[1]
            most = torch.maximum(last.most, relative)
            self._moves[optimizer] = weights, _Moves(relative, last.total + relative, most, last.steps + 1)

    def frame(self, names: dict[int, str]) -> pd.DataFrame:
        """Give a frame with one row a weight: the last, the mean and the largest update; waits for the device."""
        import pandas as pd

        rows = [
            (names.get(weight.data_ptr(), "?"), number, *values, moves.steps)
            for number, (weights, moves) in self._moves.items()
            for weight, *values in zip(
                weights,
                moves.last.tolist(),
                (moves.total / moves.steps).tolist(),
                moves.most.tolist(),
                strict=True,
            )
        ]
        columns = ["parameter", "optimizer", "last", "mean", "most", "steps"]
        return pd.DataFrame(rows, columns=columns).set_index("parameter")


def _is_measured(weight: torch.Tensor) -> bool:
    return weight.is_floating_point() and weight.layout is torch.strided
