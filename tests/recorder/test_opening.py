"""What a watch is asked for is checked before anything of the model is touched."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import freezeinspect as fi


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"evidence": "all"}, "evidence='all': expected 'auto' or 'off'; every=1 looks at every step"),
        ({"every": 0}, "every=0: expected a number of steps, 1 or more"),
        ({"every": 1.5}, "every=1.5: expected a number of steps, 1 or more"),
        ({"every": True}, "every=True: expected a number of steps, 1 or more"),
    ],
)
def test_an_option_of_another_kind_is_refused(options: dict[str, Any], said: str) -> None:
    model = nn.Linear(2, 2)
    with pytest.raises(ValueError, match="^" + said):
        fi.watch(model, **options)
    assert not model._forward_pre_hooks


def test_a_list_of_modules_is_no_model() -> None:
    with pytest.raises(TypeError, match=r"expected a torch\.nn\.Module but got list"):
        fi.watch([nn.Linear(2, 2)])  # type: ignore[arg-type]


def test_a_log_that_cannot_be_written_is_refused_and_nothing_is_hooked(tmp_path: Path) -> None:
    model = nn.Linear(2, 2)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with pytest.raises(OSError, match="No such file or directory"):
        fi.watch(model, optimizer, log=tmp_path / "nowhere" / "run.fi.jsonl")
    assert not optimizer._optimizer_step_pre_hooks
