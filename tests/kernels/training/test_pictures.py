"""That pictures are drawn alike everywhere, and that a model has to look at them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from devkit.kernels.training import pictures
from devkit.kernels.training.models.parameters import SIZES

if TYPE_CHECKING:
    from tests.kernels.training.conftest import Ranks, StartRanks

VISION = SIZES["vl-tiny"].vision
SEES: dict[str, Any] = {"size": "vl-tiny", "batch": 8, "steps": 5, "lr": 5e-3}
BLIND = (math.log(len(pictures.COLOURS)) + math.log(len(pictures.PLACES))) / len("green bottom right")
"""Nats a token of the best guess without looking: colour and place are drawn evenly, and the rest follows."""


def test_a_batch_depends_on_seed_and_step_alone_and_labels_are_the_text() -> None:
    assert VISION is not None
    first, again = (pictures.batch(VISION, 3, 5, 6) for _ in range(2))
    other = pictures.batch(VISION, 3, 6, 6)

    for left, right in zip(first, again, strict=True):
        assert (left == right).all()
    tokens, labels, pixels = first
    assert (tokens != other[0]).any()
    assert tokens.shape == labels.shape == (6, pictures.length(VISION))
    assert pixels.shape == (6 * pictures.SIDE**2, VISION.pixels)
    assert (tokens == VISION.image_token).sum() == 6 * (pictures.SIDE // VISION.merge) ** 2
    for row in labels:
        words = bytes(int(label) for label in row[row >= 0]).decode().split()
        assert words[0] in pictures.COLOURS
        assert " ".join(words[1:]) in pictures.PLACES


def test_the_square_is_where_the_text_says() -> None:
    assert VISION is not None
    _, labels, pixels = pictures.batch(VISION, 0, 1, 16)
    places = VISION.patch_places((pictures.SIDE, pictures.SIDE))
    for row, picture in zip(labels, np.split(pixels, 16), strict=True):
        colour, vertical, horizontal = bytes(int(label) for label in row[row >= 0]).decode().split()
        channel = list(pictures.COLOURS[colour]).index(1)
        bright = picture.reshape(len(places), 3, -1)[:, channel].mean(-1)
        at = (places * bright.clip(0)[:, None]).sum(0) / bright.clip(0).sum()
        assert (at[0] < pictures.SIDE / 2) == (vertical == "top")
        assert (at[1] < pictures.SIDE / 2) == (horizontal == "left")


@pytest.fixture(scope="module")
def trained(start_ranks: StartRanks) -> tuple[Ranks, Ranks]:
    one = start_ranks(1, SEES, {**SEES, "lora": 4})
    two = start_ranks(
        2, {**SEES, "stage": 2}, {**SEES, "stage": 3, "recompute": True, "accumulate": 2}, {**SEES, "lora": 4}
    )
    assert one.wait() == [0], one.said(0)
    assert two.wait() == [0, 0], two.said(0)
    return one, two


@pytest.mark.parametrize(("run", "like"), [(0, 0), (1, 0), (2, 1)])
def test_two_ranks_lose_as_one_process_with_pictures_too(trained: tuple[Ranks, Ranks], run: int, like: int) -> None:
    one, two = trained

    assert two.curves()[run] == pytest.approx(one.curves()[like], abs=1e-5)
    validated = [ranks.events(0, "validation")[at]["loss"] for ranks, at in ((two, run), (one, like))]
    assert validated[0] == pytest.approx(validated[1], abs=1e-5)
    table = two.events(1, "memory")[run]
    assert table["measured_mib"] == pytest.approx(table["predicted_mib"], rel=0.02)


@pytest.mark.slow
def test_what_is_learnt_needs_looking(start_ranks: StartRanks) -> None:
    ranks = start_ranks(1, {**SEES, "batch": 16, "steps": 300, "lr": 4e-3, "warmup": 20})
    assert ranks.wait(300) == [0], ranks.said(0)

    assert ranks.events(0, "validation")[0]["loss"] < BLIND - 0.02
