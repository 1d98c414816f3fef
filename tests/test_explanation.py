"""The pages of docs/explanation: what a block below does not show, a test holds."""

from __future__ import annotations

import copy
import re
import tomllib
from pathlib import Path

import pytest
import torch
from torch import nn

import freezeinspect as fi
from freezeinspect import distributed
from freezeinspect.recorder.attention import SHARE, Attention
from freezeinspect.regimes import REGIMES
from pages import DOCS, FENCED, blocks, read

TESTS = Path(__file__).parent
UNFREEZE, BATCHNORM = "explanation/unfreeze-vs-bn-freeze.md", "explanation/batchnorm.md"
HELD = tomllib.loads((TESTS / "explanation.toml").read_text(encoding="utf-8"))
SENTENCE = re.compile(r"(?<=[.:;])\s+(?=[A-Z*`\[])")
LEADS_ON = re.compile(  # what says only what is asked, how to read the page, and where to go on
    r"All that follows|The blocks below|Below each block|`tell` asks|So there are|Only `unfreeze\(\)` does|"
    r"That is what one does|The two differ where|Two questions|A frozen layer should|freezeinspect says two|"
    r"How to |What else |All formats |The figures |\[what|\[a freeze|\[Train"
)


def plain(text: str) -> str:
    return " ".join(text.split())


def not_shown(page: str) -> list[str]:
    """Give the sentences of a page but for those of a paragraph with code below it, which shows what it says."""
    parts = [part.strip() for part in FENCED.sub(lambda block: f"\n\n<{block[1]}>\n\n", read(page)).split("\n\n")]
    parts = [part for part in parts if part and not part.startswith("#")]
    alone = [
        one for one, below in zip(parts, [*parts[1:], ""], strict=True) if one[0] not in "<|" and below != "<python>"
    ]
    return [sentence for one in alone for sentence in SENTENCE.split(plain(one))]


@pytest.mark.parametrize("page", HELD)
def test_each_sentence_is_shown_by_the_block_below_it_or_held_by_a_test(page: str) -> None:
    held = list(map(plain, HELD[page]))
    loose = [one for one in not_shown(page) if not any(sentence in one or one in sentence for sentence in held)]
    assert [one for one in loose if not LEADS_ON.match(one)] == []


@pytest.mark.parametrize("page", HELD)
def test_each_sentence_that_is_held_stands_on_the_page_and_its_test_is_there(page: str) -> None:
    for sentence, held in HELD[page].items():
        assert plain(sentence) in plain(read(page)), sentence
        file, _, test = held.rpartition("::") if "::" in held else (Path(__file__).name, "", held)
        assert f"def {test}" in (TESTS / file).read_text(encoding="utf-8"), held


def network() -> nn.Sequential:
    torch.manual_seed(0)
    body = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(0.5))
    return nn.Sequential(body, nn.Linear(8, 2))


def trained(model: nn.Module, steps: int = 3) -> dict[str, torch.Tensor]:
    """Train a few steps, each from the same random state, and give what came of it."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    for step in range(steps):
        torch.manual_seed(step)
        optimizer.zero_grad()
        model(torch.randn(8, 4)).square().sum().backward()
        optimizer.step()
    return dict(model.state_dict())


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(one[name], other[name]) for name in one)


def test_the_eight_ways_come_out_as_the_page_and_the_code_say() -> None:
    ways = re.findall(r"^### \d\. (.+)\n(?:.|\n)*?```text\n(.*)\n", read(UNFREEZE), re.MULTILINE)
    assert [name for name, _ in ways] == [regime.name for regime in REGIMES]
    for (_, said), regime in zip(ways, REGIMES, strict=True):
        moves = [("move" if one else "still") for one in regime.expected[:3]]
        weights, affine, stats = moves
        uses = regime.expected.normalises_with
        assert said == (f"weights: {weights}; γ: {affine}; β: {affine}; running mean: {stats}; normalises with: {uses}")


def test_bn_freeze_false_acts_at_the_next_set_train_mode_on_what_is_trainable() -> None:
    for trainable in (True, False):
        model = network()
        fi.set_trainable(model, trainable)
        fi.bn_freeze(model, True)
        fi.set_train_mode(model)
        fi.bn_freeze(model, False)
        with torch.no_grad():
            for _ in range(5):
                model(torch.randn(8, 4))
        assert model[0][1].training is False
        assert torch.equal(model[0][1].running_mean, torch.zeros(8))
        fi.set_train_mode(model)
        assert model[0][1].training is trainable


def test_after_unfreeze_bn_freeze_false_changes_nothing() -> None:
    results = []
    for verbs in ([fi.unfreeze], [fi.unfreeze, lambda model: fi.bn_freeze(model, False)]):
        model = network()
        for verb in verbs:
            verb(model)
        fi.set_train_mode(model)
        results.append(trained(model))
    assert same(*results)


def test_statistics_are_buffers_that_get_no_gradient() -> None:
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    trained(model)
    held = {id(one) for group in optimizer.param_groups for one in group["params"]}
    for statistic in (model[0][1].running_mean, model[0][1].running_var):
        assert not statistic.requires_grad
        assert statistic.grad is None
        assert id(statistic) not in held


def test_no_verb_but_set_train_mode_sets_a_mode() -> None:
    for modes in (True, False):
        model = network().train(modes)
        for verb in (fi.freeze, fi.unfreeze, lambda model: fi.bn_freeze(model, True)):
            verb(model)
            assert {module.training for module in model.modules()} == {modes}


def test_groups_are_the_children_or_the_list_that_is_given() -> None:
    model = network()
    fi.freeze(model)
    assert [one.weight.requires_grad for one in (model[0][0], model[1])] == [False, True]
    fi.freeze([model[1], model[0]])
    assert [one.weight.requires_grad for one in (model[0][0], model[1])] == [True, False]


@pytest.mark.parametrize("attributes", [{"trainable": False}, {"bn_freeze": True}, {"drop_freeze": True}])
def test_training_by_pytorch_is_the_same_to_the_bit_whatever_the_attributes_say(attributes: dict[str, bool]) -> None:
    plain_one, marked = network(), network()
    for module in marked.modules():
        for name, value in attributes.items():
            setattr(module, name, value)
    assert same(trained(plain_one.train()), trained(marked.train()))


def test_copies_and_files_of_a_whole_module_keep_the_attributes(tmp_path: Path) -> None:
    model = network()
    fi.freeze(model)
    fi.bn_freeze(model, True)
    torch.save(model, tmp_path / "model.pt")
    for one in (copy.deepcopy(model), torch.load(tmp_path / "model.pt", weights_only=False)):
        assert (one[0].trainable, one[1].trainable, one[0][1].bn_freeze) == (False, True, True)


def test_the_table_of_the_page_is_the_design_s() -> None:
    rows = [re.findall(r"^\| .* \|$", read(page), re.MULTILINE) for page in (BATCHNORM, "design.md")]
    assert len(rows[0]) == 15
    assert set(rows[0]) <= set(rows[1])


def test_the_mean_is_averaged_as_the_page_says() -> None:
    norm, x = nn.BatchNorm1d(4, momentum=0.3), torch.randn(8, 4)
    norm.running_mean.fill_(2.0)
    norm(x)
    torch.testing.assert_close(norm.running_mean, 0.7 * torch.full((4,), 2.0) + 0.3 * x.mean(0))
    assert nn.BatchNorm1d(4).momentum == 0.1


def test_momentum_none_is_the_average_over_all_batches() -> None:
    norm, several = nn.BatchNorm1d(4, momentum=None), torch.randn(5, 8, 4)
    for x in several:
        norm(x)
    torch.testing.assert_close(norm.running_mean, several.mean((0, 1)))


def test_auto_looks_when_the_page_says() -> None:
    attention = Attention("auto", None)
    attention.enrol(sizes=[10**9, 8, 10**9], statistics=[False, True, False], members=[{0, 1, 2}])
    assert [len(attention.plan(0, step)) for step in range(1, 6)] == [3, 3, 3, 1, 1]
    attention.flipped()
    assert [len(attention.plan(0, step)) for step in range(6, 10)] == [3, 3, 1, 1]
    assert SHARE == 0.005


def test_a_rank_sends_16_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[bytes] = []
    gathered = distributed._gathered
    monkeypatch.setattr(distributed, "_gathered", lambda mine, group: sent.append(mine) or gathered(mine, group))
    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    try:
        fi.compare_ranks(network())
    finally:
        torch.distributed.destroy_process_group()
    assert [len(one) for one in sent] == [16]


def test_every_page_of_explanation_is_held() -> None:
    pages = {f"explanation/{page.name}" for page in (DOCS / "explanation").glob("*.md")}
    assert pages == {*HELD, "explanation/safety.md"}  # which tests/hostile and tests/readers hold
    assert not blocks(read("explanation/safety.md"))
