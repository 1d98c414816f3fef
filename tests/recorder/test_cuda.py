"""A watch on a CUDA device: it sees what clone and compare sees, and never waits for the device."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

import freezeinspect as fi
from loops import Expected, accumulating, plain
from oracle import Oracle
from zoo import ZOO, Specimen

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]

FUSED = {"fused": True, "lr": 0.1}


def on_cuda(name: str) -> Specimen:
    torch.manual_seed(0)
    specimen = ZOO[name]()
    return Specimen(specimen.model.cuda(), tuple(one.cuda() for one in specimen.args or ()), specimen.kwargs)


@pytest.mark.gpu
@pytest.mark.parametrize("loop", [plain, accumulating])
@pytest.mark.parametrize("name", ["residual", "transformer", "tied", "bfloat16", "layouts", "complex_valued"])
def test_it_sees_what_clone_and_compare_sees(name: str, loop: Callable[..., Any]) -> None:
    specimen = on_cuda(name)
    optimizer = torch.optim.AdamW(specimen.model.parameters(), lr=0.1)
    expected = Expected(specimen.model)
    with fi.watch(specimen.model, optimizer, every=1) as watch:
        loop(specimen, optimizer, expected)
    assert [watch.history.moved(number) for number in range(1, len(watch.run) + 1)] == expected.steps


@pytest.mark.gpu
@pytest.mark.parametrize("options", [{}, {"every": 1}, {"evidence": "off"}, {"blame": True}])
def test_it_never_waits_for_the_device(options: dict[str, Any]) -> None:
    specimen = on_cuda("residual")
    optimizer = torch.optim.AdamW(specimen.model.parameters(), **FUSED)
    with fi.watch(specimen.model, optimizer, **options) as watch:
        torch.cuda.synchronize()
        torch.cuda.set_sync_debug_mode("error")
        try:
            for _ in range(20):
                optimizer.zero_grad()
                specimen.loss().backward()
                optimizer.step()
        finally:
            torch.cuda.set_sync_debug_mode("default")
    assert len(watch.run) == 20


@pytest.mark.gpu
def test_a_scaler_s_skipped_step_is_told_when_its_flag_is_there() -> None:
    for options in (FUSED, {"lr": 0.1}):
        specimen = on_cuda("residual")
        optimizer = torch.optim.AdamW(specimen.model.parameters(), **options)
        scaler = torch.amp.GradScaler("cuda", init_scale=2.0)
        with fi.watch(specimen.model, optimizer, every=1) as watch:
            for number in range(4):
                optimizer.zero_grad()
                scaler.scale(specimen.loss() * (torch.inf if number == 2 else 1)).backward()
                scaler.step(optimizer)
                scaler.update()
        assert watch.steps()["outcome"].tolist() == ["taken", "taken", "skipped", "taken"]


def captured(model: torch.nn.Module, optimizer: torch.optim.Optimizer, x: torch.Tensor) -> torch.cuda.CUDAGraph:
    """Capture one training step in a graph."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            optimizer.zero_grad()
            model(x).square().sum().backward()
            optimizer.step()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    optimizer.zero_grad()
    with torch.cuda.graph(graph):
        model(x).square().sum().backward()
        optimizer.step()
    return graph


@pytest.mark.gpu
@pytest.mark.parametrize("is_open_before", [True, False])
def test_the_replay_of_a_graph_is_marked_by_hand(is_open_before: bool) -> None:
    model = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.BatchNorm1d(4), torch.nn.Linear(4, 4)).cuda()
    model[0].requires_grad_(False)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    x = torch.randn(8, 4, device="cuda")
    graph = None if is_open_before else captured(model, optimizer, x)
    with fi.watch(model, optimizer, every=1) as watch:
        graph = graph or captured(model, optimizer, x)
        taken, expected = len(watch.run), []
        oracle = Oracle(model)
        for _ in range(3):
            with watch.step():
                graph.replay()
            expected.append(tuple(map(bool, oracle.moved())))
    seen = [watch.history.moved(taken + number) for number in (1, 2, 3)]
    assert [tuple(map(bool, one)) for one in seen] == expected
    assert expected[0] == (False, False, True, True, True, True, True, True, True)
