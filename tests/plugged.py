"""Run pytest inside pytest, with the plugin as an install has it: by the entry point that pyproject.toml declares."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from typing import Any

import pytest
import torch

import freezeinspect

ROOT = Path(__file__).parents[1]
# pytester takes away what a run imported, and torch cannot be imported twice: what the runs need of it is here before
freezeinspect.watch(torch.nn.Linear(1, 1), torch.optim.SGD([torch.ones(1)], 0.1)).close()
MODEL = """
    from torch import nn
    from torch.optim import SGD
    import torch

    def network():
        model = nn.Sequential()
        model.add_module("body", nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2)))
        model.add_module("head", nn.Linear(2, 2))
        model.body.requires_grad_(False).eval()
        return model

    def train(model, optimizer, steps=3):
        for _ in range(steps):
            optimizer.zero_grad()
            model(torch.randn(4, 2)).sum().backward()
            optimizer.step()
"""


def with_entry_point(site: Path) -> Path:
    """Make a folder that tells, as an install does, of the entry points that pyproject.toml declares."""
    points = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]
    about = site / "freezeinspect-0.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: freezeinspect\nVersion: 0\n")
    lines = [f"[{group}]\n" + "".join(f"{k} = {v}\n" for k, v in some.items()) for group, some in points.items()]
    (about / "entry_points.txt").write_text("\n".join(lines))
    return site


@pytest.fixture
def installed(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: Any) -> pytest.Pytester:
    """Give a project in which freezeinspect is installed, as far as pytest can tell, and a module of a model."""
    site = with_entry_point(tmp_path_factory.mktemp("site"))
    tree = Path(freezeinspect.__file__).parents[1]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(map(str, (site, tree))))
    pytester.syspathinsert(site)
    monkeypatch.setenv("PYTHONWARNINGS", "ignore")
    monkeypatch.setenv("COLUMNS", "200")
    pytester.makepyfile(model=MODEL)
    return pytester


def run(project: pytest.Pytester, *options: str) -> pytest.RunResult:
    """Run its tests here; under xdist, its workers are processes of their own."""
    return project.runpytest_inprocess("-p", "no:cacheprovider", *options)


def run_apart(project: pytest.Pytester, *options: str) -> pytest.RunResult:
    """Run its tests in a process of their own."""
    return project.runpytest_subprocess("-p", "no:cacheprovider", *options, timeout=120)


def policies(project: pytest.Pytester) -> list[str]:
    """Name the policy files that there are."""
    return sorted(str(path.relative_to(project.path)) for path in project.path.rglob("*.toml"))
