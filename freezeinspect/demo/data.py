"""The handwritten digits of the experiment; DIGITS.md says where they come from."""

from __future__ import annotations

import csv
import gzip
from collections.abc import Iterable, Iterator
from functools import cache
from importlib.resources import files

import torch
from torch import Tensor

SOURCE = (0, 1, 2, 3, 4)  # the digits that the network is trained on first
TARGET = (5, 6, 7, 8, 9)  # the digits that it is then fine-tuned on
FOLDS = 5  # of each digit, one image in so many is kept for testing
INK = 16  # the value of a black pixel in the file


def load(digits: Iterable[int], train: bool) -> tuple[Tensor, Tensor]:
    """Give the images and labels of some digits, from one side of a fixed split.

    Images are float32 (N, 1, 8, 8), from 0 for paper to 1 for ink. Labels are int64 (N,) and count from 0 in the
    order of `digits`.
    """
    images, shown = _read()
    rows = [_side((shown == digit).nonzero().flatten(), train) for digit in digits]
    labels = [torch.full_like(of_one, label) for label, of_one in enumerate(rows)]
    return images[torch.cat(rows)], torch.cat(labels)


def faint(images: Tensor) -> Tensor:
    """Print the images with a fifth of the ink, as those of the target digits are.

    Their variance falls to a 25th, so running statistics brought from the source digits no longer fit, and drift far
    wherever they are let go.
    """
    return images / 5


def batches(images: Tensor, labels: Tensor, size: int, generator: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
    """Give shuffled batches of one size without end; each pass drops what is left over.

    Where there are fewer images than `size`, a batch is all of them. The generator is one of the CPU.
    """
    whole = max(1, len(labels) // size)
    while True:
        order = torch.randperm(len(labels), generator=generator)
        for rows in torch.split(order, size)[:whole]:
            yield images[rows], labels[rows]


def _side(rows: Tensor, train: bool) -> Tensor:
    test = torch.arange(len(rows)) % FOLDS == 0
    return rows[test != train]


@cache
def _read() -> tuple[Tensor, Tensor]:
    """Read all images (1797, 1, 8, 8) and the digits (1797,) that they show."""
    with files(__package__).joinpath("digits.csv.gz").open("rb") as packed, gzip.open(packed, "rt") as lines:
        rows = torch.tensor([[int(value) for value in row] for row in csv.reader(lines)])
    return rows[:, :-1].reshape(-1, 1, 8, 8) / INK, rows[:, -1]
