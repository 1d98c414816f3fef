"""The digits: the file as published, its split, its labels, its batches."""

from __future__ import annotations

import gzip
import hashlib
from importlib.resources import files
from itertools import islice

import pytest
import torch

from freezeinspect.demo.data import SOURCE, TARGET, batches, faint, load

EVERY = range(10)
PUBLISHED = {0: 178, 1: 182, 2: 177, 3: 183, 4: 181, 5: 182, 6: 181, 7: 179, 8: 174, 9: 180}  # as UCI counts them


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def as_rows(images: torch.Tensor) -> list[tuple[float, ...]]:
    return [tuple(image.flatten().tolist()) for image in images]


def test_the_file_is_the_one_that_its_page_names_and_says_nothing_of_when_it_was_made() -> None:
    packed = files("freezeinspect.demo").joinpath("digits.csv.gz").read_bytes()
    page = files("freezeinspect.demo").joinpath("DIGITS.md").read_text(encoding="utf-8")
    assert hashlib.sha256(gzip.decompress(packed)).hexdigest() in page
    assert packed[3:8] == bytes(5), "no file name, no time stamp"
    assert len(packed) < 200_000


@pytest.mark.parametrize("digit", EVERY)
def test_the_two_sides_of_the_split_are_all_images_of_a_digit(digit: int) -> None:
    train, test = (len(load([digit], side)[1]) for side in (True, False))
    assert train + test == PUBLISHED[digit]
    assert test == -(-PUBLISHED[digit] // 5)


def test_no_image_is_on_both_sides() -> None:
    train, test = (set(as_rows(load(EVERY, side)[0])) for side in (True, False))
    assert train & test == set()
    assert len(train | test) == 1797, "every image is there, and no two are alike"


def test_source_and_target_are_all_digits_once() -> None:
    assert sorted(SOURCE + TARGET) == list(EVERY)


@pytest.mark.parametrize("train", [True, False])
def test_images_are_float32_from_0_to_1_and_labels_int64(train: bool) -> None:
    images, labels = load(TARGET, train)
    assert (images.dtype, labels.dtype) == (torch.float32, torch.int64)
    assert images.shape == (len(labels), 1, 8, 8)
    assert (images.min().item(), images.max().item()) == (0, 1)


def test_labels_count_from_0_in_the_order_asked_for() -> None:
    images, labels = load((7, 3), train=False)
    sevens, threes = load([7], train=False)[0], load([3], train=False)[0]
    assert torch.equal(images, torch.cat([sevens, threes]))
    assert labels.tolist() == [0] * len(sevens) + [1] * len(threes)


def test_an_image_shows_the_digit_that_its_label_names() -> None:
    middle = {digit: load([digit], train=True)[0].mean(0)[0, 3:5, 3:5].mean() for digit in (0, 1)}
    assert middle[0] < 0.2 < 0.8 < middle[1], "a 0 is hollow and a 1 is not"


def test_what_is_loaded_may_be_written_to() -> None:
    first, again = load(SOURCE, train=True), load(SOURCE, train=True)
    first[0].zero_()
    first[1].zero_()
    assert all(tensor.any() for tensor in load(SOURCE, train=True))
    assert all(map(torch.equal, again, load(SOURCE, train=True)))


def test_faint_images_have_a_fifth_of_the_ink() -> None:
    images, _ = load(TARGET, train=False)
    assert torch.allclose(faint(images) * 5, images)


def test_a_pass_gives_no_image_twice_and_the_next_goes_on() -> None:
    images = torch.arange(10.0).reshape(-1, 1)
    passes = list(islice(batches(images, torch.arange(10), 4, generator()), 6))
    for first, second in zip(passes[::2], passes[1::2], strict=True):
        seen = torch.cat([first[0], second[0]]).flatten().tolist()
        assert len(set(seen)) == 8
    assert len({tuple(labels.tolist()) for _, labels in passes}) == 6, "each pass is shuffled anew"


def test_a_batch_keeps_images_beside_their_labels() -> None:
    images, labels = load(TARGET, train=True)
    known = dict(zip(as_rows(images), labels.tolist(), strict=True))
    batch, truth = next(batches(images, labels, 64, generator()))
    assert len(batch) == 64
    assert [known[row] for row in as_rows(batch)] == truth.tolist()


def test_where_images_are_few_a_batch_is_all_of_them() -> None:
    feed = batches(torch.zeros(3, 1), torch.arange(3), 64, generator())
    assert [sorted(labels.tolist()) for _, labels in islice(feed, 2)] == [[0, 1, 2], [0, 1, 2]]


def test_batches_follow_their_generator_and_leave_the_global_one_alone() -> None:
    before = torch.get_rng_state()
    once, again, other = (
        next(batches(torch.arange(99), torch.arange(99), 64, generator(seed)))[1] for seed in (1, 1, 2)
    )
    assert torch.equal(once, again)
    assert not torch.equal(once, other)
    assert torch.equal(before, torch.get_rng_state())
