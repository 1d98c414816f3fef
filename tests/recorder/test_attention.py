"""Which tensors are looked at in each step."""

from __future__ import annotations

import pytest

import freezeinspect as fi
from freezeinspect.recorder.attention import AT_FIRST, SHARE, Attention, ranges
from training import pair, train

SIZES = [1000, 8, 1000, 8]  # two weights, each beside its statistics
STATISTICS = [False, True, False, True]


def attention(evidence: str = "auto", every: int | None = None, members: tuple[set[int], ...] = ({0, 2},)) -> Attention:
    found = Attention(evidence, every)
    found.enrol(SIZES, STATISTICS, members)
    return found


class TestAuto:
    def test_looks_at_everything_at_first_and_then_at_statistics_only_until_it_has_earned_more(self) -> None:
        plans = attention()
        assert [list(plans.plan(0, step)) for step in range(1, AT_FIRST + 1)] == [[0, 1, 2, 3]] * AT_FIRST
        assert plans.plan(0, AT_FIRST + 1) == [1, 3]

    def test_takes_the_weights_in_turn_as_far_as_the_credit_goes(self) -> None:
        plans = attention()
        plans._whole = 0
        plans.took(1.0, [0] * 100)  # 10 µs a byte
        looked = []
        for step in range(1, 5):
            plans.earn(0.021 / SHARE)  # enough for both looks at one weight
            looked.append(plans.plan(0, step))
        assert looked == [[0, 1, 3], [1, 2, 3]] * 2

    def test_looks_at_everything_again_after_a_flip_to_what_it_has_not_seen_yet(self) -> None:
        model, optimizer = pair()
        with fi.watch(model, optimizer) as watch:
            train(model, optimizer, AT_FIRST)
            for number in range(8):  # as a GAN does
                model[0].requires_grad_(number % 2 == 1)
                train(model, optimizer)
            assert watch._attention._whole == 0


def test_every_nth_looks_at_all_in_each_nth_step_and_at_statistics_in_all() -> None:
    plans = attention(every=2)
    assert [list(plans.plan(0, step)) for step in range(1, 4)] == [[0, 1, 2, 3], [1, 3], [0, 1, 2, 3]]


def test_off_looks_at_nothing() -> None:
    assert attention("off").plan(0, 1) == ()


def test_each_optimizer_looks_at_its_own_and_at_what_is_in_none() -> None:
    plans = attention(every=1, members=({0}, {2}))
    assert plans.domains == [[0, 1, 3], [1, 2, 3]]


def test_of_many_optimizers_only_the_first_looks_at_what_is_in_none() -> None:
    plans = attention(every=1, members=({0}, {2}, set(), set(), set()))
    assert plans.domains == [[0, 1, 3], [2], [], [], []]


@pytest.mark.parametrize(
    ("tensors", "said"), [([], ()), ([3], ((3, 4),)), ([0, 1, 2, 5, 7, 8], ((0, 3), (5, 6), (7, 9)))]
)
def test_ranges_end_one_past_the_last(tensors: list[int], said: tuple[tuple[int, int], ...]) -> None:
    assert ranges(tensors) == said
