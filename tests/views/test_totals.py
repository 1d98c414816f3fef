"""Totals over subtrees, against adding up what each subtree has."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import freezeinspect as fi
from freezeinspect.views import totals
from freezeinspect.views.totals import Count, Totals, groups_below
from zoo import ZOO


@pytest.mark.parametrize("name", ZOO)
def test_parameters_are_counted_as_pytorch_counts_them(name: str) -> None:
    model = ZOO[name]().model
    structure = fi.inspect(model).snapshot.structure
    counted = Totals(structure)
    for path, module in model.named_modules():
        parameters = list(module.parameters())
        lazy = any(nn.parameter.is_lazy(parameter) for parameter in parameters)
        expected = None if lazy else sum(parameter.numel() for parameter in parameters)
        assert counted.below(structure.index[path]) == Count(expected, sure=True)


def test_what_shares_with_too_much_is_not_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    structure = fi.inspect(ZOO["shared"]().model).snapshot.structure
    monkeypatch.setattr(totals, "WALKED", 3)
    assert Totals(structure).below(0) == Count(None, sure=False)
    assert Totals(structure).below(structure.index["left.0"]) == Count(20, sure=True)


def test_groups_are_those_of_all_parameters_below() -> None:
    model = nn.Sequential(nn.Linear(1, 1), nn.BatchNorm1d(1, affine=False), nn.Sequential(nn.Linear(1, 1)))
    optimizer = torch.optim.SGD([{"params": model[0].parameters()}, {"params": [model[2][0].weight]}], lr=0.1)
    assert groups_below(fi.inspect(model, optimizer).snapshot) == [
        {(0,), (1,), ()},
        {(0,)},
        set(),
        {(1,), ()},
        {(1,), ()},
    ]
