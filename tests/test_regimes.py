"""Each regime comes out as tabled in docs/design.md, section 2.1, on real networks."""

import re
from pathlib import Path

import pandas as pd
import pytest
import torch
from torch import nn

from freezeinspect.regimes import AS_IT_IS, REGIMES, Expected, made_fresh, what_if
from freezeinspect.walk import NotAModule
from witness import unchanged
from zoo import ZOO, Specimen, quiet

BODY_TYPES = ("residual", "resnet", "mobilenet")


def loss_of(model, specimen):
    out = model(*specimen.args, **specimen.kwargs)
    tensor = out if isinstance(out, torch.Tensor) else next(iter(out.values()))
    return tensor.float().square().mean()


def tabled(name):
    """Run what_if over an image model of the zoo whose running statistics fit its images, as a trained one's do."""
    model = ZOO[name]().model.train()
    images = torch.randn(16, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    for module in model.modules():
        if hasattr(module, "running_mean"):
            module.momentum = 0.5
    with torch.no_grad():
        for _ in range(10):
            model(images)
    groups = [module for module in model.children() if any(True for _ in module.parameters())]
    return what_if(model, Specimen(model, (images,)), loss_of, groups=groups)


@pytest.mark.parametrize("name", BODY_TYPES)
def test_every_regime_does_to_the_body_what_the_table_says(name):
    found = tabled(name)
    for regime in REGIMES:
        body = found[regime.name].parts[0]
        assert body.name == "body"
        assert all(count.moved in (0, count.of) and count.of for count in (body.weights, body.affine, body.stats))
        seen = Expected(body.weights.moved > 0, body.affine.moved > 0, body.stats.moved > 0, body.normalised_with)
        assert seen == regime.expected, regime.name


def test_the_table_of_the_design_and_the_data_are_the_same_rows():
    design = (Path(__file__).parents[1] / "docs" / "design.md").read_text(encoding="utf-8")
    table = design.split("| regime:")[1].split("\n\n")[0].splitlines()[2:]
    moves = {"move": True, "**move**": True, "still": False, "**still**": False}
    for line, regime in zip(table, REGIMES, strict=True):
        name, weights, affine, stats, uses = (cell.strip() for cell in line.strip("|").split("|"))
        stats = stats.split(":")[0]
        assert Expected(moves[weights], moves[affine], moves[stats], uses) == regime.expected, name
        assert re.findall(r"\w+(?=\()", name)[:1] == re.findall(r"\w+(?=\()", regime.name)[:1]


@pytest.mark.parametrize("name", BODY_TYPES)
def test_the_users_model_is_left_as_it_was(name):
    specimen = ZOO[name]()
    optimizer = torch.optim.SGD(specimen.model.parameters(), lr=0.1)
    with unchanged(specimen.model, optimizer):
        what_if(specimen.model, specimen, loss_of)


def test_as_it_is_keeps_the_users_flags():
    specimen = ZOO["residual"]()
    specimen.model.requires_grad_(False)
    specimen.model.head.requires_grad_(True)
    body, head = what_if(specimen.model, specimen, loss_of)[AS_IT_IS].parts
    assert (body.weights.moved, body.affine.moved, body.stats.moved) == (0, 0, body.stats.of)
    assert head.weights.moved == head.weights.of > 0


def test_every_copy_starts_from_the_same_random_state():
    seen = []

    def loss(model, batch):
        seen.append(torch.rand(()).item())
        return model(batch).sum()

    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1))
    before = torch.get_rng_state()
    what_if(model, torch.ones(3, 2), loss)
    assert len(seen) == len(REGIMES) + 1
    assert len(set(seen)) == 1
    assert torch.equal(before, torch.get_rng_state())


def test_the_users_optimizer_is_made_for_each_copy():
    made = []

    def adam(parameters):
        made.append(torch.optim.Adam(parameters, lr=0.01))
        return made[-1]

    what_if(
        nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1)), torch.ones(3, 2), lambda m, b: m(b).sum(), make_optimizer=adam
    )
    assert len(made) == len(REGIMES) + 1


def test_a_model_without_norm_layers_says_so():
    found = what_if(nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1)), torch.ones(3, 2), lambda m, b: m(b).sum())
    body = found["freeze()"].parts[0]
    assert (str(body.weights), str(body.affine), str(body.stats), body.normalised_with) == ("0/2", "–", "–", "–")


def test_a_batch_of_one_fails_only_where_the_batch_normalises():
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2), nn.Linear(2, 1))
    found = what_if(model, torch.ones(1, 2), lambda m, b: m(b).sum())
    failed = {outcome.regime for outcome in found if not outcome.parts}
    assert failed == {AS_IT_IS} | {r.name for r in REGIMES if r.expected.normalises_with == "batch"}
    assert found["unfreeze()"].note == (
        "ValueError: Expected more than 1 value per channel when training, got input size torch.Size([1, 2])"
    )


def test_a_failing_batch_is_said_once_for_all_rows():
    found = what_if(nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1)), torch.ones(3, 5), lambda m, b: m(b).sum())
    assert str(found).count("mat1 and mat2 shapes cannot be multiplied") == 1
    assert "\nall: RuntimeError: mat1" in str(found)


def test_a_loss_without_gradient_still_shows_what_the_forward_moved():
    model = nn.Sequential(nn.BatchNorm1d(2), nn.ReLU())
    outcome = what_if(model, torch.rand(3, 2), lambda m, b: m(b).sum())["plain: requires_grad_(False), train()"]
    assert outcome.parts[0].stats.moved == 2
    assert outcome.note == "the loss has no gradient, so nothing but the forward pass could move anything"


@pytest.mark.parametrize(
    ("loss", "seen"), [(lambda m, b: m(b), "shape (3, 1)"), (lambda m, b: 1.0, "float")], ids=["vector", "float"]
)
def test_a_loss_that_is_no_scalar_tensor_is_refused(loss, seen):
    found = what_if(nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1)), torch.ones(3, 2), loss)
    assert {one.note for one in found} == {f"TypeError: loss_fn returned {seen}; expected a tensor with one element"}


def test_a_model_that_cannot_be_copied_says_why():
    with quiet():
        specimen = ZOO["weight_norm_hook"]()
    with unchanged(specimen.model):
        found = what_if(specimen.model, specimen, loss_of)
    assert all(one.note.startswith("the model cannot be copied: RuntimeError: Only Tensors created") for one in found)


def test_a_single_layer_has_no_groups_for_the_verbs():
    found = what_if(nn.Linear(2, 1), torch.ones(3, 2), lambda m, b: m(b).sum())
    assert "expected a model with children" in found["freeze()"].note
    assert found["fresh model"].parts[-1].name == "root"


def test_a_parameter_shared_by_body_and_head_counts_in_both():
    specimen = ZOO["llama"]()
    body, head = what_if(specimen.model, specimen, loss_of)["freeze()"].parts
    assert body.weights.moved == 1  # the embedding, tied to the head
    assert head.weights == (1, 1)


def test_groups_may_be_given():
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2), nn.Linear(2, 1))
    found = what_if(model, torch.ones(3, 2), lambda m, b: m(b).sum(), groups=[model[0], [model[1], model[2]]])
    assert [part.weights for part in found["freeze()"].parts] == [(0, 2), (4, 4)]


def test_it_works_where_the_caller_takes_no_gradients():
    with torch.no_grad():
        found = what_if(nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1)), torch.ones(3, 2), lambda m, b: m(b).sum())
    assert found["unfreeze()"].parts[0].weights == (2, 2)


def test_made_fresh_takes_every_freeze_off():
    model = ZOO["residual"]().model
    model.requires_grad_(False).eval()
    model.stem.bn_freeze = model.trainable = True
    made_fresh(model)
    assert all(p.requires_grad for p in model.parameters())
    assert all(m.training and not {"trainable", "bn_freeze"} & set(vars(m)) for m in model.modules())


def test_no_module_is_an_error():
    with pytest.raises(NotAModule, match=r"expected a torch\.nn\.Module but got str"):
        what_if("model.pt", None, lambda m, b: m)


def test_the_result_as_a_frame_as_text_and_as_html(snapshot, tmp_path):
    found = tabled("residual")
    frame = found.to_frame()
    assert isinstance(frame, pd.DataFrame)
    assert len(frame) == 2 * (len(REGIMES) + 1)
    row = frame[(frame.regime == "plain: requires_grad_(False), train()") & (frame.part == "body")].iloc[0]
    assert (row.weights_moved, row.stats_moved, row.normalised_with) == (0, row.stats, "batch")
    assert str(found) == snapshot
    assert max(map(len, str(found).splitlines())) <= 80
    page = found.to_html(tmp_path / "what_if.html")
    assert (tmp_path / "what_if.html").read_text(encoding="utf-8") == page
    assert '<th scope="row">freeze()</th>' in page
    assert "<td>freeze()" in found._repr_html_().partition("<script>")[0]


def test_an_unknown_regime_lists_those_there_are():
    with pytest.raises(KeyError, match="there are: as it is, fresh model, freeze"):
        tabled("residual")["thaw()"]
