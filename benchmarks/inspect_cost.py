"""Time `inspect` beside a bare loop, torchinfo and Lightning: `python -m benchmarks.inspect_cost --json costs.json`."""

from __future__ import annotations

import gc
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import quantiles
from time import monotonic, thread_time_ns
from typing import Any, TypeAlias

import click
import torch
import torchinfo
from tabulate import tabulate
from torch import nn

import freezeinspect as fi
from benchmarks.machine import describe
from benchmarks.resnet import ResNet

Call: TypeAlias = Callable[[], object]

FEWEST, MOST = 3, 2000  # rounds of one call


class Expert(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(width, 2 * width, bias=False)
        self.up_proj = nn.Linear(width, 2 * width, bias=False)
        self.down_proj = nn.Linear(2 * width, width, bias=False)


class Attention(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.q_proj = nn.Linear(width, width, bias=False)
        self.k_proj = nn.Linear(width, width, bias=False)
        self.v_proj = nn.Linear(width, width, bias=False)
        self.o_proj = nn.Linear(width, width, bias=False)


class SparseLayer(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.input_norm = nn.RMSNorm(width)
        self.attention = Attention(width)
        self.expert_norm = nn.RMSNorm(width)
        self.router = nn.Linear(width, 256, bias=False)
        self.experts = nn.ModuleList([Expert(width) for _ in range(256)])


class MixtureOfExperts(nn.Module):
    """60 layers of 256 experts: 62,045 modules without a forward."""

    def __init__(self, width: int = 2048) -> None:
        super().__init__()
        self.embedding = nn.Embedding(128_000, width)
        self.layers = nn.ModuleList([SparseLayer(width) for _ in range(60)])
        self.norm = nn.RMSNorm(width)
        self.head = nn.Linear(width, 128_000, bias=False)


def transformers_resnet() -> nn.Module:
    from transformers import ResNetConfig, ResNetForImageClassification

    return ResNetForImageClassification(ResNetConfig())  # its defaults are the 50 layers


def llama() -> nn.Module:
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        hidden_size=8192,
        intermediate_size=28672,
        num_hidden_layers=80,
        num_attention_heads=64,
        num_key_value_heads=8,
    )
    with torch.device("meta"):
        return LlamaForCausalLM(config)


def mixture_of_experts() -> nn.Module:
    with torch.device("meta"):
        return MixtureOfExperts()


MODELS: dict[str, Callable[[], nn.Module]] = {
    "ResNet-50 of transformers": transformers_resnet,
    "ResNet-50 in torchvision's layout": ResNet,
    "Llama-70B on meta": llama,
    "Mixture of experts on meta": mixture_of_experts,
}


def bare_loop(model: nn.Module) -> Call:
    return lambda: (
        [(n, m.training) for n, m in model.named_modules()],
        [(n, p.requires_grad) for n, p in model.named_parameters()],
    )


def inspect_with_optimizer(model: nn.Module) -> Call:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    return lambda: fi.inspect(model, optimizer)


def lightning_summary(model: nn.Module) -> Call:
    from lightning.pytorch import LightningModule
    from lightning.pytorch.utilities.model_summary import ModelSummary

    wrapper = LightningModule()
    wrapper.model = model
    return lambda: ModelSummary(wrapper, max_depth=-1)


def peft_count(model: nn.Module) -> Call:
    """Count what trains as PEFT does, in two numbers."""
    from peft import PeftModel

    return lambda: PeftModel.get_nb_trainable_parameters(model)


def printed(prepare: Callable[[nn.Module], Call]) -> Callable[[nn.Module], Call]:
    def prepare_printed(model: nn.Module) -> Call:
        call = prepare(model)
        return lambda: str(call())

    return prepare_printed


def inspect(model: nn.Module) -> Call:
    return lambda: fi.inspect(model)


def torchinfo_summary(model: nn.Module) -> Call:
    return lambda: torchinfo.summary(model, verbose=0)


CALLS: dict[str, Callable[[nn.Module], Call]] = {
    "the bare loop itself": bare_loop,
    "inspect(model)": inspect,
    "inspect(model, optimizer)": inspect_with_optimizer,
    "torchinfo.summary": torchinfo_summary,
    "Lightning's ModelSummary": lightning_summary,
    "PEFT's get_nb_trainable_parameters": peft_count,
    "str(inspect(model))": printed(inspect),
    "str(torchinfo.summary)": printed(torchinfo_summary),
    "str(ModelSummary)": printed(lightning_summary),
}


def nanoseconds(call: Call) -> int:
    """Time one call and the release of what it gave: this thread's processor time, whoever else is on the machine."""
    start = thread_time_ns()
    call()
    return thread_time_ns() - start


def alternated(loop: Call, call: Call, seconds: float) -> dict[str, Any]:
    """Time the bare loop and a call in turn; a round is one of each, and whoever was second goes first in the next.

    The clock of a machine may change from moment to moment: within a round it hardly does.
    """
    for warm_up in (loop, call):
        warm_up()
    gc.collect()
    end, times = monotonic() + seconds, []
    while len(times) < FEWEST or (len(times) < MOST and monotonic() < end):
        if len(times) % 2:
            own = nanoseconds(call)
            times.append((nanoseconds(loop), own))
        else:
            times.append((nanoseconds(loop), nanoseconds(call)))
    return {
        "rounds": len(times),
        "milliseconds": spread([own / 1e6 for _, own in times]),
        "loop_milliseconds": spread([bare / 1e6 for bare, _ in times]),
        "ratio": spread([own / bare for bare, own in times]),
    }


def spread(values: list[float]) -> dict[str, float]:
    lower, median, upper = quantiles(values, n=4, method="inclusive")
    return {"median": median, "lower_quartile": lower, "upper_quartile": upper}


def measured(model: nn.Module, seconds: float) -> Iterator[dict[str, Any]]:
    for name, prepare in CALLS.items():
        try:
            yield {"call": name, **alternated(bare_loop(model), prepare(model), seconds)}
        except Exception as error:
            yield {"call": name, "skipped": f"{type(error).__name__}: {error}"}


def table(results: list[dict[str, Any]]) -> str:
    done = [result for result in results if "skipped" not in result]
    rows = [
        (
            result["call"],
            result["rounds"],
            written(result["milliseconds"], 3),
            written(result["loop_milliseconds"], 3),
            written(result["ratio"], 2),
        )
        for result in done
    ]
    heads = ("call", "rounds", "ms", "bare loop, ms", "ratio")
    lines = [tabulate(rows, heads, tablefmt="github", colalign=("left", "right", "right", "right", "right"))]
    lines += [f"\n{result['call']} skipped: {result['skipped']}" for result in results if "skipped" in result]
    return "\n".join(lines)


def written(values: dict[str, float], digits: int) -> str:
    median, lower, upper = (f"{values[key]:.{digits}f}" for key in ("median", "lower_quartile", "upper_quartile"))
    return f"{median} ({lower}–{upper})"


def machine() -> dict[str, Any]:
    """Add the processor's name and the cores to what every benchmark says."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {**describe(), "processor": names[0] if names else None, "cores": os.cpu_count()}


@click.command()
@click.option("--json", "target", type=click.Path(dir_okay=False, path_type=Path), help="Write the figures here.")
@click.option("--seconds", default=8.0, help="About how long to time each call on each model.")
def main(target: Path | None, seconds: float) -> None:
    """Print, for each model, what each call costs beside a bare loop: medians, and in brackets quartiles."""
    about = machine()
    click.echo("\n".join(f"{key}: {value}" for key, value in about.items()))
    models: list[dict[str, Any]] = []
    for name, build in MODELS.items():
        try:
            model = build()
        except ImportError as error:
            click.echo(f"\n{name} skipped: {error}")
            models.append({"model": name, "skipped": str(error)})
            continue
        modules, parameters = len(list(model.modules())), len(list(model.parameters()))
        click.echo(f"\n{name}: {modules:,} modules, {parameters:,} parameters\n")
        calls = list(measured(model, seconds))
        click.echo(table(calls))
        models.append({"model": name, "modules": modules, "parameters": parameters, "calls": calls})
    if target:
        target.write_text(json.dumps({"machine": about, "models": models}, indent=2) + "\n")


if __name__ == "__main__":
    main()
