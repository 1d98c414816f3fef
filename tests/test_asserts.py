"""assert_frozen and assert_trainable: what they take, which half fails, where, and the line that mends it."""

from __future__ import annotations

import copy
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim import LBFGS, SGD

import freezeinspect as fi
from freezeinspect.asserts import NotFrozen, NotTrainable


def network(blocks: int = 3) -> Any:
    """Freeze a body, weights and statistics, under a head that trains."""
    block = [nn.Sequential(OrderedDict(conv=nn.Conv2d(3, 3, 1), bn=nn.BatchNorm2d(3))) for _ in range(blocks)]
    model = nn.Sequential(OrderedDict(body=nn.Sequential(*block), head=nn.Linear(2, 2)))
    model.body.requires_grad_(False).eval()
    return model


class TestFrozen:
    def test_passes_where_weights_and_statistics_are_still(self) -> None:
        fi.assert_frozen(network(), "body")
        fi.assert_frozen(network(), "body.0", "body.[1-2].bn")
        fi.assert_frozen(network().eval().requires_grad_(False))

    def test_says_which_half_fails_with_paths_and_the_line_that_mends_it(self) -> None:
        model = network(53)
        model.train()
        with pytest.raises(NotFrozen) as error:
            fi.assert_frozen(model, "body")
        assert str(error.value) == (
            "not frozen: weights are still, running statistics move\n\n"
            "module              weights  running stats\n"
            "------------------  -------  -------------\n"
            "body.[0-52].bn ×53  still    move\n\n"
            "    model.body[0].bn.eval()  # and 52 more"
        )
        fi.assert_frozen(model, "body", stats=False)

    def test_says_that_weights_move(self) -> None:
        model = network()
        model.body[1].requires_grad_(True)
        with pytest.raises(NotFrozen) as error:
            fi.assert_frozen(model, "body")
        assert str(error.value) == (
            "not frozen: weights move, running statistics are still\n\n"
            "module  weights  running stats\n"
            "------  -------  -------------\n"
            "body.1  move     still\n\n"
            "    model.body[1].requires_grad_(True)".replace("True", "False")
        )

    def test_says_that_both_do(self) -> None:
        with pytest.raises(NotFrozen, match="not frozen: weights move, running statistics move"):
            fi.assert_frozen(network().train().requires_grad_(True))

    def test_the_mends_mend(self) -> None:
        model = network().train().requires_grad_(True)
        for _ in range(10):
            try:
                fi.assert_frozen(model, "body")
            except NotFrozen as error:
                exec("\n".join(line.strip() for line in str(error).splitlines() if "model" in line), {"model": model})
        fi.assert_frozen(model, "body")

    def test_a_pattern_that_matches_nothing_fails_and_names_the_nearest(self) -> None:
        model = nn.ModuleDict({"encoder": nn.ModuleDict({"layer1": nn.Linear(2, 2)})}).requires_grad_(False)
        said = r"pattern 'backbone\.layer1' matches nothing; did you mean 'encoder\.layer1'"
        with pytest.raises(NotFrozen, match=said):
            fi.assert_frozen(model, "encoder", "backbone.layer1")

    def test_a_gradient_that_was_left_makes_a_frozen_weight_move(self) -> None:
        model = nn.Linear(2, 2)
        optimizer = SGD(model.parameters(), 0.1)
        model(torch.ones(1, 2)).sum().backward()
        model.requires_grad_(False)
        fi.assert_frozen(model)
        with pytest.raises(NotFrozen, match=r"optimizer\.zero_grad\(\)"):
            fi.assert_frozen(model, optimizer=optimizer)
        optimizer.zero_grad()
        fi.assert_frozen(model, optimizer=optimizer)

    def test_many_lines_are_cut(self) -> None:
        still = nn.Linear(1, 1).requires_grad_(False)
        pairs = ({f"moves{n}": nn.Linear(1, 1), f"still{n}": copy.deepcopy(still)} for n in range(29))
        model = nn.Sequential(*map(nn.ModuleDict, pairs))
        with pytest.raises(NotFrozen, match="… and 9 more lines"):
            fi.assert_frozen(model)


class TestTrainable:
    def test_passes_where_all_parameters_train(self) -> None:
        model = network()
        fi.assert_trainable(model, "head")
        fi.assert_trainable(model, "head", optimizer=SGD(model.head.parameters(), 0.1))
        fi.assert_trainable(model, "head.weight", optimizer=LBFGS(model.head.parameters()))

    def test_says_what_is_in_the_way(self) -> None:
        model = network()
        with pytest.raises(
            NotTrainable, match=r"(?s)not trainable\n\nmodule  requires_grad\n.*\nbody    no\n\n    model\.body\.r"
        ):
            fi.assert_trainable(model, "body")  # fmt: skip
        with pytest.raises(NotTrainable, match=r"(?s)head    yes            no            still\n\n    optimizer\.add"):
            fi.assert_trainable(model, "head", optimizer=SGD(model.body.parameters(), 0.1))
        with pytest.raises(NotTrainable, match=r"head    yes            yes           still"):
            fi.assert_trainable(model, "head", optimizer=SGD(model.parameters(), 0.0))

    def test_a_part_without_parameters_fails(self) -> None:
        with pytest.raises(NotTrainable, match="pattern '1' matches no parameter: there is nothing to train"):
            fi.assert_trainable(nn.Sequential(nn.Linear(2, 2), nn.ReLU()), "1")


class TestSources:
    def test_a_report_and_a_file_do(self, tmp_path: Path) -> None:
        torch.save(network(), tmp_path / "model.pt")
        fi.assert_frozen(tmp_path / "model.pt", "body")
        fi.assert_trainable(fi.inspect(network()), "head")

    def test_what_a_file_does_not_tell_is_not_taken_to_be_frozen(self, tmp_path: Path) -> None:
        torch.save(network().state_dict(), tmp_path / "state.pt")
        said = "not frozen: weights are not known to be still, running statistics are not known to be still"
        with pytest.raises(NotFrozen, match=said):
            fi.assert_frozen(tmp_path / "state.pt", "body")

    def test_of_a_watched_run_it_is_what_moved(self) -> None:
        model = nn.Sequential(OrderedDict(body=nn.BatchNorm1d(2), head=nn.Linear(2, 2)))
        model.body.requires_grad_(False)
        optimizer = SGD(model.head.parameters(), 0.1)
        with fi.watch(model, optimizer) as watch:
            for _ in range(3):
                model(torch.randn(4, 2)).sum().backward()
                optimizer.step()
            model.body.eval()
        fi.assert_frozen(model, "body")
        with pytest.raises(NotFrozen, match="weights are still, running statistics move"):
            fi.assert_frozen(watch, "body")
        fi.assert_trainable(watch, "head")

    def test_what_is_no_pattern_or_no_source_of_an_optimizer_is_refused(self) -> None:
        model = network()
        optimizer = SGD(model.parameters(), 0.1)
        with pytest.raises(TypeError, match="of type SGD: expected text, as 'backbone'; an optimizer goes by its name"):
            fi.assert_trainable(model, optimizer)  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="an optimizer needs a live model, but a report"):
            fi.assert_trainable(fi.inspect(model), "head", optimizer=optimizer)
        with pytest.raises(TypeError, match="policy=5: expected a Policy, or the path of one, as"):
            fi.check(model, policy=5)  # type: ignore[arg-type]
