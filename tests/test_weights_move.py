"""Section 2.3 of docs/design.md against what torch does in a real step; then subtrees."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, TypeAlias

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn, optim
from torch.optim import LBFGS, SGD, Adam, AdamW, Optimizer

from freezeinspect.readers.live import read
from freezeinspect.state import ABSENT, MIXED, NO, UNKNOWN, YES, Answer, combine
from freezeinspect.verdicts import judge
from witness import bits

Maker: TypeAlias = Callable[[Any], Optimizer]

PLAIN = "SGD Adam AdamW ASGD Adadelta Adafactor Adagrad Adamax Muon NAdam RAdam RMSprop Rprop".split()
FAST = [("SGD", {}), ("SGD", {"momentum": 0.9}), ("Adam", {}), ("AdamW", {})]
SETTINGS: list[tuple[str, dict[str, Any]]] = [
    *[(kind, {}) for kind in PLAIN],
    *[(kind, {**options, way: True}) for kind, options in FAST for way in ("foreach", "fused")],
    *[("SGD", options) for options in ({"momentum": 0.9}, {"weight_decay": 0.1}, {"lr": torch.tensor(0.1)})],
    *[("Adam", {"amsgrad": True}), ("RMSprop", {"momentum": 0.9}), ("Muon", {"weight_decay": 0.1})],
]
OPTIMIZERS: dict[str, Maker] = {
    " ".join([kind, *options]): partial(getattr(optim, kind), **{"lr": 0.1, **options}) for kind, options in SETTINGS
}
STILL_AT_A_ZERO_GRADIENT = "SGD|SGD foreach|SGD fused|SGD lr|Adadelta|Adafactor|Adagrad|RMSprop|Rprop".split("|")
MOVE_AT_LR_0 = ("Rprop", "ASGD")  # Rprop's steps have a least size; ASGD steps by the lr of the step before

ZEROINGS: dict[str, Callable[[Optimizer], None]] = {
    "no zero_grad": lambda optimizer: None,
    "set_to_none=True": lambda optimizer: optimizer.zero_grad(set_to_none=True),
    "set_to_none=False": lambda optimizer: optimizer.zero_grad(set_to_none=False),
}


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Run on one thread: for layers this small more cost time."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def network() -> nn.Sequential:
    """Build a body, to be frozen, and a head; without biases, which Muon refuses."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(3, 4, bias=False), nn.Tanh(), nn.Linear(4, 2, bias=False))


def backward(model: nn.Module) -> torch.Tensor:
    loss = model(torch.linspace(-1, 1, 15).reshape(5, 3)).square().mean()
    loss.backward()
    return loss


def body(model: nn.Sequential) -> nn.Parameter:
    return model[0].weight


def trained(make: Maker, zeroing: str = "set_to_none=True") -> tuple[nn.Sequential, Optimizer]:
    """Train for three steps, so that momentum and history are there."""
    model = network()
    optimizer = make(model.parameters())
    for _ in range(3):
        ZEROINGS[zeroing](optimizer)
        backward(model)
        optimizer.step()
    return model, optimizer


def predicted(model: nn.Module, optimizer: Any = None) -> list[Answer]:
    """Give the verdict on each parameter."""
    return [answer for answer in judge(read(model, optimizer)).weights if answer is not ABSENT]


def moved(model: nn.Module, step: Callable[[], Any]) -> list[Answer]:
    """Step, and tell for each parameter whether a bit changed."""
    before = [bits(parameter) for parameter in model.parameters()]
    step()
    after = [bits(parameter) for parameter in model.parameters()]
    return [YES if was != now else NO for was, now in zip(before, after, strict=True)]


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("zeroing", ZEROINGS)
def test_weights_frozen_after_a_step_move_as_what_is_left_of_their_gradient_says(zeroing: str, name: str) -> None:
    model, optimizer = trained(OPTIMIZERS[name], zeroing)
    body(model).requires_grad_(False)
    ZEROINGS[zeroing](optimizer)
    backward(model)
    verdict, happened = predicted(model, optimizer), moved(model, optimizer.step)
    assert verdict == [NO if zeroing == "set_to_none=True" else YES, YES]
    if zeroing == "set_to_none=False" and name in STILL_AT_A_ZERO_GRADIENT:
        assert happened == [NO, YES]  # the exception: the flags say `can`, and the zeros that are left say `does not`
    else:
        assert happened == verdict


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("zeroing", ZEROINGS)
def test_weights_frozen_between_backward_and_step_still_move(zeroing: str, name: str) -> None:
    model, optimizer = trained(OPTIMIZERS[name], zeroing)
    ZEROINGS[zeroing](optimizer)
    backward(model)
    body(model).requires_grad_(False)
    assert predicted(model, optimizer) == [YES, YES]
    assert moved(model, optimizer.step) == [YES, YES]


def test_a_gradient_left_at_exactly_zero_is_the_one_that_the_verdict_cannot_see() -> None:
    for gradient, happens in ((0.0, NO), (1e-3, YES)):
        model, optimizer = trained(OPTIMIZERS["SGD"])
        body(model).requires_grad_(False).grad.fill_(gradient)
        assert predicted(model, optimizer)[0] is YES
        assert moved(model, optimizer.step)[0] is happens


def test_weights_that_were_frozen_from_the_start_stay() -> None:
    for name, make in OPTIMIZERS.items():
        model = network()
        body(model).requires_grad_(False)
        optimizer = make(model.parameters())
        backward(model)
        assert predicted(model, optimizer) == [NO, YES], name
        assert moved(model, optimizer.step) == [NO, YES], name


def test_weight_decay_does_not_move_a_weight_without_a_gradient() -> None:
    model = network()
    model.unused = nn.Linear(2, 2, bias=False)
    body(model).requires_grad_(False)
    optimizer = AdamW(model.parameters(), lr=0.1, weight_decay=0.5)
    model.forward = lambda x: model[2](model[1](model[0](x)))
    backward(model)
    assert predicted(model, optimizer) == [NO, YES, YES]  # the unused one can move: a backward may give it a gradient
    assert moved(model, optimizer.step) == [NO, YES, NO]


# lr 0.


def at_lr_0(optimizer: Optimizer) -> Optimizer:
    for group in optimizer.param_groups:
        group["lr"] = group["lr"] * 0
    return optimizer


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("when", ["from the start", "after three steps"])
def test_at_lr_0_nothing_moves_but_under_rprop_and_asgd(when: str, name: str) -> None:
    if when == "from the start":
        model = network()
        optimizer = at_lr_0(OPTIMIZERS[name](model.parameters()))
        backward(model)
    else:
        model, optimizer = trained(OPTIMIZERS[name])
        at_lr_0(optimizer)
    verdict, happened = predicted(model, optimizer), moved(model, optimizer.step)
    assert verdict == [UNKNOWN if name in MOVE_AT_LR_0 else NO] * 2
    moves = name == "Rprop" or (name == "ASGD" and when == "after three steps")
    assert happened == [YES if moves else NO] * 2


@pytest.mark.parametrize("name", ["SGD", "SGD foreach", "SGD fused", "Adam", "AdamW", "AdamW fused"])
@pytest.mark.parametrize(("weight", "gradient"), [(1.0, float("nan")), (1.0, float("inf")), (-0.0, -1.0)])
def test_at_lr_0_only_values_that_no_flag_shows_change_bits(name: str, weight: float, gradient: float) -> None:
    model = nn.Linear(1, 1, bias=False)
    optimizer = at_lr_0(OPTIMIZERS[name](model.parameters()))
    model.weight.data.fill_(weight)
    model.weight.grad = torch.full((1, 1), gradient)
    assert predicted(model, optimizer) == [NO]
    assert moved(model, optimizer.step) == [YES]


@pytest.mark.parametrize("lr", [torch.tensor(0.1, device="meta"), float("nan"), float("inf")], ids=str)
def test_an_lr_that_is_not_read_leaves_the_verdict_unknown_where_it_matters(lr: Any) -> None:
    model, optimizer = trained(OPTIMIZERS["SGD"])
    body(model).requires_grad_(False)
    optimizer.param_groups[0]["lr"] = lr
    assert predicted(model, optimizer) == [UNKNOWN, UNKNOWN]
    optimizer.zero_grad()
    assert predicted(model, optimizer) == [NO, UNKNOWN]


# The ones that nobody can predict.


class FullBatchLBFGS(LBFGS):
    """Be an LBFGS that its name tells."""


@pytest.mark.parametrize("kind", [LBFGS, FullBatchLBFGS])
def test_lbfgs_moves_a_frozen_weight_without_a_gradient_so_its_verdict_is_unknown(kind: type[LBFGS]) -> None:
    model = network()
    optimizer = kind(model.parameters(), lr=0.1, max_iter=3)

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        return backward(model)

    optimizer.step(closure)
    optimizer.zero_grad()
    body(model).requires_grad_(False)
    verdict = predicted(model, optimizer)
    assert moved(model, lambda: optimizer.step(closure)) == [YES, YES]
    assert body(model).grad is None
    assert verdict == [UNKNOWN, UNKNOWN]


# Groups.


def test_without_an_optimizer_every_weight_that_requires_a_gradient_is_taken_to_be_in_one() -> None:
    model = network()
    body(model).requires_grad_(False)
    assert predicted(model) == predicted(model, []) == [NO, YES]
    backward(model)
    body(model).grad = torch.ones(4, 3)
    assert predicted(model) == [NO, YES]


def test_a_trainable_weight_in_no_group_gathers_gradients_and_never_moves() -> None:
    model = network()
    optimizer = SGD(model[2].parameters(), lr=0.1)
    backward(model)
    first = body(model).grad.clone()
    optimizer.zero_grad()
    backward(model)
    torch.testing.assert_close(body(model).grad, 2 * first)
    assert predicted(model, optimizer) == [NO, YES]
    assert moved(model, optimizer.step) == [NO, YES]


def test_each_weight_goes_by_its_own_group() -> None:
    model = network()
    optimizer = SGD([{"params": [body(model)], "lr": 0.0}, {"params": [model[2].weight]}], lr=0.1)
    backward(model)
    assert predicted(model, optimizer) == [NO, YES]
    assert moved(model, optimizer.step) == [NO, YES]


def test_groups_count_across_optimizers_and_any_of_them_can_move_a_weight() -> None:
    model = network()
    still, moving = SGD(model.parameters(), lr=0.0), Adam(model[2].parameters(), lr=0.1)
    backward(model)
    assert read(model, [still, moving]).groups == ((0,), (0, 1))
    for both in ([still, moving], [moving, still]):
        assert predicted(model, both) == [NO, YES]
        assert moved(model, lambda both=both: [one.step() for one in both]) == [NO, YES]


def test_a_weight_that_one_optimizer_moves_and_another_may_move_moves() -> None:
    model = network()
    backward(model)
    optimizers = [LBFGS(model.parameters()), SGD(model[2].parameters(), lr=0.1)]
    assert predicted(model, optimizers) == [UNKNOWN, YES]


def test_tied_weights_move_together() -> None:
    model = nn.Sequential(nn.Linear(3, 3, bias=False), nn.Linear(3, 3, bias=False))
    model[1].weight = model[0].weight
    optimizer = SGD(model.parameters(), lr=0.1)
    backward(model)
    assert predicted(model, optimizer) == [YES, YES]
    assert predicted(model, SGD([torch.zeros(1, requires_grad=True)], lr=0.1)) == [NO, NO]


ACTIONS = st.one_of(
    st.sampled_from([*ZEROINGS, "backward", "step", "lr 0", "lr 0.1"]),
    st.tuples(st.sampled_from(["freeze", "thaw"]), st.integers(0, 1)),
)


@given(
    st.sampled_from(sorted(set(OPTIMIZERS) - set(MOVE_AT_LR_0))),
    st.lists(ACTIONS, max_size=12).map(lambda some: [*some, "step"]),
)
@settings(max_examples=150, deadline=None)
def test_in_any_loop_a_no_stays_and_a_yes_with_a_gradient_moves(name: str, actions: list[Any]) -> None:
    model = network()
    optimizer = OPTIMIZERS[name](model.parameters())
    for action in actions:
        if action == "step":
            verdict = predicted(model, optimizer)
            gradients = [p.grad is not None and bool(p.grad.any()) for p in model.parameters()]
            happened = moved(model, optimizer.step)
            for said, gradient, seen in zip(verdict, gradients, happened, strict=True):
                assert said in (YES, NO)
                assert seen is NO or said is YES
                assert seen is YES or said is NO or not gradient
        elif action == "backward":
            if any(p.requires_grad for p in model.parameters()):
                backward(model)
        elif action in ZEROINGS:
            ZEROINGS[action](optimizer)
        elif isinstance(action, tuple):
            model[2 * action[1]].weight.requires_grad_(action[0] == "thaw")
        else:
            optimizer.param_groups[0]["lr"] = float(action.removeprefix("lr "))


# Subtrees.


def half_frozen() -> nn.Module:
    linear = nn.Linear(4, 4)
    linear.bias.requires_grad = False
    return linear


PARTS: dict[str, Callable[[], nn.Module]] = {
    "moves": lambda: nn.BatchNorm1d(4),
    "still": lambda: nn.BatchNorm1d(4).eval().requires_grad_(False),
    "nobody knows": lambda: nn.BatchNorm1d(4, momentum=torch.tensor(0.1), affine=False),
    "nothing": nn.ReLU,
    "half frozen": half_frozen,
}


@pytest.mark.parametrize(
    ("parts", "stats", "required"),
    [
        (["moves", "moves"], YES, YES),
        (["still", "nothing"], NO, NO),
        (["moves", "still"], MIXED, MIXED),
        (["moves", "nobody knows"], UNKNOWN, YES),
        (["still", "nobody knows"], UNKNOWN, NO),
        (["moves", "still", "nobody knows"], MIXED, MIXED),
        (["half frozen"], ABSENT, MIXED),
        (["moves", "half frozen"], YES, MIXED),
        (["nothing"], ABSENT, ABSENT),
        ([], ABSENT, ABSENT),
    ],
)
def test_a_container_says_what_its_parts_say_together(parts: list[str], stats: Answer, required: Answer) -> None:
    verdicts = judge(read(nn.Sequential(*[PARTS[part]() for part in parts])))
    assert (verdicts.stats_move[0], verdicts.requires_grad[0]) == (stats, required)
    assert verdicts.weights_move == verdicts.requires_grad


@st.composite
def graphs(draw: st.DrawFn) -> nn.Module:
    """Connect modules at random: shared ones, twice under one parent, and cycles."""
    pool = [draw(st.sampled_from([nn.Module, *PARTS.values()]))() for _ in range(draw(st.integers(1, 7)))]
    numbers = st.integers(0, len(pool) - 1)
    for source, target in draw(st.lists(st.tuples(numbers, numbers), max_size=14)):
        pool[source].add_module(f"child{len(pool[source]._modules)}", pool[target])
    return pool[0]


def reached(module: nn.Module) -> dict[int, nn.Module]:
    """Give all that lies below a module, itself included, by identity."""
    found, stack = {}, [module]
    while stack:
        here = stack.pop()
        if id(here) not in found:
            found[id(here)] = here
            stack += here._modules.values()
    return found


@given(graphs(), st.sampled_from([None, 0.0, 0.1, torch.tensor(0.1, device="meta")]))
@settings(max_examples=150, deadline=None)
def test_a_subtree_reaches_through_shared_modules_and_cycles(model: nn.Module, lr: Any) -> None:
    optimizer = SGD([*list(model.parameters())[::2], nn.Parameter(torch.zeros(1))])
    optimizer.param_groups[0]["lr"] = lr
    snapshot = read(model, None if lr is None else optimizer)
    verdicts = judge(snapshot)
    weights = [[verdicts.weights[i] for i in own] for own in snapshot.structure.own]
    places = {id(one): here for here, one in enumerate(model.modules())}  # pre-order, each once, as in the record
    for top, here in zip(model.modules(), range(len(snapshot.structure)), strict=True):
        below = reached(top)
        required = {YES if p.requires_grad else NO for one in below.values() for p in one.parameters(recurse=False)}
        assert verdicts.requires_grad[here] is combine(required)
        assert verdicts.weights_move[here] is combine({said for key in below for said in weights[places[key]]})
        assert verdicts.stats_move[here] is combine({verdicts.stats[places[key]] for key in below})
