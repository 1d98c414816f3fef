"""Fine-tune one network under each regime, and look before and after every step."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from freezeinspect.chapters import part_of
from freezeinspect.demo.data import SOURCE, TARGET, batches, faint, load
from freezeinspect.demo.network import Network, accuracy, with_fresh_head
from freezeinspect.history import History
from freezeinspect.recorder.opening import watch
from freezeinspect.regimes import Expected, Regime, Verb, WhatIf, made_fresh, what_if
from freezeinspect.state import Snapshot, Structure
from freezeinspect.verdicts import judge
from freezeinspect.walk import children

BATCH = 64
LR = 0.01
MOMENTUM = 0.9
EPOCHS = 3


class Step(NamedTuple):
    """One step of the loop: what was called since the step before, the state at both ends, and what moved."""

    number: int
    calls: tuple[str, ...]
    before: Snapshot  # as the step before left it
    after: Snapshot  # as this step left it
    moved: tuple[int, ...]  # where each tensor did, as bits

    @property
    def flips(self) -> bool:
        """Tell whether any flag differs between the two ends."""
        return self.before != self.after


@dataclass(frozen=True)
class Run:
    """One regime's fine-tuning, step by step, and what came of it.

    `accuracy` on the new digits' test side is from 0 to 1; `drift` is how far the body's output on the old digits
    moved, against its size.
    """

    regime: Regime
    steps: tuple[Step, ...]
    accuracy: float
    drift: float

    @property
    def shown(self) -> list[Step]:
        """Give the first two steps and those with a flip."""
        return [step for step in self.steps if step.number <= 2 or step.flips]

    def moved_in(self, what: str, part: str = "body") -> list[int]:
        """Give the steps in which any weight, affine or stats tensor of body or head moved."""
        tensors = [i for i, place in enumerate(self.places) if place == (part, what)]
        return [step.number for step in self.steps if any(step.moved[i] for i in tensors)]

    @cached_property
    def places(self) -> list[tuple[str, str]]:
        """Say of each tensor where it is, body or head, and what: weights, affine (γ and β), stats or buffers."""
        structure, uses = self.steps[0].after.structure, judge(self.steps[0].after).normalises_with
        found = []
        for i, tensor in enumerate(structure.tensors):
            what = part_of(structure, i)
            affine = what == "weights" and uses[tensor.owner] != "none"
            found.append((_side(structure, tensor.owner), "affine" if affine else what))
        return found

    @property
    def outcome(self) -> Expected:
        """Say what the last step did to the body, in the words of the regime's row."""
        last = len(self.steps)
        after = self.steps[-1].after
        uses = {use for use in judge(after).normalises_with if use != "none"}  # every norm layer is in the body
        weights, affine, stats = (last in self.moved_in(what) for what in ("weights", "affine", "stats"))
        return Expected(weights, affine, stats, ", ".join(sorted(uses)))


def _side(structure: Structure, module: int) -> str:
    return "head" if structure.paths[module] == "head" else "body"


def run(regime: Regime, network: Network, steps: int, tick: Callable[[], object] = lambda: None) -> Run:
    """Fine-tune a copy of the network for some steps under one regime, on the network's device; AMP on CUDA."""
    model = with_fresh_head(network)
    made_fresh(model)
    optimizer = torch.optim.SGD(model.parameters(), LR, MOMENTUM)
    taken = _steps(regime, model, optimizer, steps, tick)
    images, labels = load(TARGET, train=False)
    device = model.head.weight.device
    found = accuracy(model, faint(images).to(device), labels.to(device))
    return Run(regime, tuple(taken), found, drift(network, model))


def side_by_side(network: Network) -> WhatIf:
    """Take one step on the target digits under each regime, on copies of the network with a fresh head."""
    images, labels = load(TARGET, train=True)
    device = network.head.weight.device
    batch = faint(images[:: len(images) // BATCH]).to(device), labels[:: len(labels) // BATCH].to(device)
    return what_if(with_fresh_head(network), batch, lambda model, batch: cross_entropy(model(batch[0]), batch[1]))


@torch.no_grad()
def drift(before: Network, after: Network) -> float:
    """Measure how far the body's output on the old digits' test side moved, against its size: 0 is not at all.

    Both are compared in eval mode: as the functions that the two networks would be in use.
    """
    images, _ = load(SOURCE, train=False)
    device = before.head.weight.device
    old, new = (copy.deepcopy(one).eval() for one in (before, after))
    was, became = (one.blocks(one.stem(images.to(device))) for one in (old, new))
    return float((became - was).norm() / was.norm())


def _steps(
    regime: Regime, model: nn.Module, optimizer: torch.optim.Optimizer, steps: int, tick: Callable[[], object]
) -> list[Step]:
    device = next(model.parameters()).device
    scaler = torch.amp.GradScaler(device.type, init_scale=2.0**10, enabled=device.type == "cuda")
    images, labels = load(TARGET, train=True)
    data = batches(faint(images).to(device), labels.to(device), BATCH, torch.Generator().manual_seed(0))
    calls = [_calls(regime, number, steps) for number in range(1, steps + 1)]
    with watch(model, optimizer, every=1) as watched:
        for verbs in calls:
            for verb in verbs:
                verb.act(model, children(model))
            batch, truth = next(data)
            optimizer.zero_grad()
            with torch.autocast(device.type, enabled=device.type == "cuda"):
                loss = cross_entropy(model(batch), truth)
            scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
            scaler.step(optimizer)
            scaler.update()
            tick()
    return [_step(watched.history, number, verbs) for number, verbs in enumerate(calls, 1)]


def _step(history: History, number: int, verbs: list[Verb]) -> Step:
    before, after = (history.last.state_at(n, within=True).snapshot for n in (number - 1, number))
    return Step(number, tuple(verb.says for verb in verbs), before, after, history.moved(number))


def _calls(regime: Regime, number: int, steps: int) -> list[Verb]:
    """Give what is called before a step: verbs at the start, a later one halfway, and what each epoch calls."""
    halfway = steps // 2 + 1
    verbs = list(regime.verbs[: len(regime.verbs) - regime.later]) if number == 1 else []
    if regime.later and number == halfway:
        verbs.append(regime.verbs[-1])
    if regime.epoch and (number - 1) % max(steps // EPOCHS, 1) == 0:
        verbs.append(regime.epoch)
    return verbs
