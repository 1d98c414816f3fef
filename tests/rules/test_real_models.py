"""Real models of transformers, frozen as people freeze them: exactly these findings."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM

import freezeinspect as fi
from freezeinspect.state import YES
from zoo import ZOO, quiet


def counted(found: fi.Findings) -> dict[str, int]:
    return dict(Counter(one.code for one in found))


def norms(model: nn.Module) -> int:
    return sum(isinstance(module, nn.BatchNorm2d) for module in model.modules())


@pytest.mark.parametrize("name", ["resnet", "mobilenet", "segformer"])
def test_a_backbone_that_is_frozen_and_then_trained_in_train_mode_leaks(name: str) -> None:
    model = ZOO[name]().model.train()
    backbone = next(iter(model.children()))
    backbone.requires_grad_(False)
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], 0.1)
    found = fi.check(model, optimizer)
    assert counted(found.at_least("error")) == ({"FI101": norms(backbone)} if norms(backbone) else {})


def test_one_that_comes_in_eval_mode_and_is_trained_so_keeps_its_statistics() -> None:
    model = ZOO["resnet"]().model.eval()  # as from_pretrained gives it
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    found = fi.check(model, optimizer)
    assert counted(found) == {"FI102": norms(model)}


def test_a_head_that_is_tied_to_a_frozen_embedding_is_frozen_with_it() -> None:
    shape = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
    model = LlamaForCausalLM(LlamaConfig(vocab_size=10, tie_word_embeddings=True, **shape)).train()
    model.model.requires_grad_(False)  # the body, and with its embedding the head
    found = fi.check(model, torch.optim.SGD(model.lm_head.parameters(), 0.1))
    assert counted(found.at_least("warning")) == {"FI109": 1}


def test_a_frozen_language_model_with_adapters_of_its_own_has_nothing_wrong() -> None:
    model = ZOO["llama"]().model.train()
    model.requires_grad_(False)
    model.model.layers[0].self_attn.q_proj.weight.requires_grad_(True)
    found = fi.check(model, torch.optim.SGD([model.model.layers[0].self_attn.q_proj.weight], 0.1))
    assert not found.at_least("warning")


PEFT_WARNS = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning")


def with_adapters() -> nn.Module:
    kind = LoraConfig(r=2, target_modules=r".*layer\.\d\.convolution", modules_to_save=["classifier"])
    return get_peft_model(ZOO["resnet"]().model, kind)


@PEFT_WARNS
def test_adapters_of_peft_over_a_base_with_batchnorm_leave_its_statistics_moving() -> None:
    model = with_adapters().train()
    found = fi.check(model, torch.optim.AdamW([p for p in model.parameters() if p.requires_grad]))
    assert counted(found) == {"FI101": norms(model)}
    assert all(one.path.startswith("base_model.model.resnet.") for one in found)


@PEFT_WARNS
def test_they_are_silent_where_its_norms_are_in_eval_and_a_run_proves_it() -> None:
    model = with_adapters().train()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=0.1)
    with fi.watch(model, optimizer, every=1) as watch:
        for _ in range(3):
            optimizer.zero_grad()
            model(torch.randn(2, 3, 32, 32)).logits.sum().backward()
            optimizer.step()
    assert not fi.check(watch).at_least("warning")
    moved = {module.path for module in watch.report() if module.weights_move is YES and module.tensors}
    assert moved
    assert all("lora_" in path or "modules_to_save" in path for path in moved)


def test_gradient_checkpointing_updates_the_statistics_twice() -> None:
    specimen = ZOO["residual"]()
    optimizer = torch.optim.SGD(specimen.model.parameters(), 0.1)
    with fi.watch(specimen.model, optimizer, every=1) as watch, quiet():
        for _ in range(3):
            optimizer.zero_grad()
            torch.utils.checkpoint.checkpoint(specimen.loss, use_reentrant=False).backward()
            optimizer.step()
    assert counted(fi.check(watch).at_least("warning")) == {"FI306": norms(specimen.model)}


def test_a_state_dict_of_any_of_them_says_only_that_it_does_not_say(tmp_path: Path) -> None:
    for name in ("resnet", "llama"):
        torch.save(ZOO[name]().model.state_dict(), tmp_path / "model.pt")
        assert counted(fi.check(tmp_path / "model.pt")) == {"FI501": 1}
