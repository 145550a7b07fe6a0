"""That pictures are drawn alike everywhere, and that a model has to look at them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from devkit.kernels.training import pictures
from devkit.kernels.training.models.parameters import SIZES

if TYPE_CHECKING:
    from pathlib import Path

    from tests.kernels.training.conftest import Ranks, StartRanks

VISION = SIZES["vl-tiny"].vision
SEES: dict[str, Any] = {"data": None, "size": "vl-tiny", "batch": 8, "steps": 5, "lr": 5e-3}
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


LAYOUTS: list[dict[str, Any]] = [
    {"stage": 3, "recompute": True, "accumulate": 2},
    {"lora": 4},
    {"mp": 2, "sequence_parallel": True},
    {"pp": 2, "accumulate": 2, "recompute": True},
    {"sep": 2},
    {"lora": 4, "mp": 2},
]
MORE: list[dict[str, Any]] = [
    {"stage": 2},
    {"mp": 2},
    {"pp": 2, "stage": 3, "accumulate": 4},
    {"lora": 4, "pp": 2, "accumulate": 2},
    {"lora": 4, "sep": 2, "stage": 2},
    {"engine": "auto"},
    {"engine": "auto", "lora": 4, "mp": 2, "accumulate": 2},
    {"lora": 4, "quick_lora": True, "mp": 2, "sequence_parallel": True},
]
OF_FOUR: list[dict[str, Any]] = [
    {"mp": 2, "pp": 2, "accumulate": 2},
    {"mp": 2, "sep": 2, "sequence_parallel": True, "stage": 3},
    {"pp": 2, "sep": 2, "accumulate": 4, "stage": 2, "recompute": True},
    {"mp": 2, "stage": 3, "sequence_parallel": True},
    {"sep": 4, "stage": 1},
    {"lora": 4, "mp": 2, "pp": 2, "accumulate": 2, "sequence_parallel": True},
]


@pytest.fixture(scope="module")
def one(start_ranks: StartRanks) -> Ranks:
    ranks = start_ranks(1, SEES, {**SEES, "lora": 4})
    assert ranks.wait() == [0], ranks.said(0)
    return ranks


def lose_as_one_process(one: Ranks, ranks: Ranks, layouts: list[dict[str, Any]]) -> None:
    """With pictures too, and in the memory that was planned."""
    validated, tables = ranks.events(0, "validation"), ranks.events(len(ranks.processes) - 1, "memory")
    assert len(ranks.curves()) == len(layouts)
    for run, layout in enumerate(layouts):
        like = int("lora" in layout)
        assert ranks.curves()[run] == pytest.approx(one.curves()[like], abs=1e-5), layout
        assert validated[run]["loss"] == pytest.approx(one.events(0, "validation")[like]["loss"], abs=1e-5), layout
        assert tables[run]["measured_mib"] == pytest.approx(tables[run]["predicted_mib"], rel=0.02), layout


@pytest.mark.slow
def test_two_ranks_that_see_lose_as_one_process_on_every_axis(start_ranks: StartRanks, one: Ranks) -> None:
    ranks = start_ranks(2, *({**SEES, **layout} for layout in LAYOUTS))
    assert ranks.wait() == [0, 0], ranks.said(0) + ranks.said(1)

    lose_as_one_process(one, ranks, LAYOUTS)


@pytest.mark.slow
@pytest.mark.parametrize(("count", "layouts"), [(2, MORE), (4, OF_FOUR)])
def test_ranks_that_see_lose_as_one_process_in_every_layout(
    start_ranks: StartRanks, one: Ranks, count: int, layouts: list[dict[str, Any]]
) -> None:
    ranks = start_ranks(count, *({**SEES, **layout} for layout in layouts))
    assert ranks.wait(300) == [0] * count, "".join(ranks.said(rank) for rank in range(count))

    lose_as_one_process(one, ranks, layouts)


def test_a_model_that_sees_goes_on_from_text_alone(start_ranks: StartRanks, tmp_path: Path) -> None:
    saving = {**SEES, "steps": 1, "save_every": 1, "checkpoints": str(tmp_path)}
    ranks = start_ranks(1, saving, {"op": "sample_both", "model": str(tmp_path / "step-00000001")})
    assert ranks.wait() == [0], ranks.said(0)

    both = ranks.events(0, "both")
    assert len(both) == 2
    for event in both:
        assert event["cached"] == event["computed"]
    assert len(set(both[1]["cached"])) > 3


def test_a_later_stage_that_takes_images_for_text_is_seen(start_ranks: StartRanks, one: Ranks) -> None:
    ranks = start_ranks(2, {**SEES, "pp": 2, "cut": "images have no rows and columns"})
    assert ranks.wait() == [0, 0], ranks.said(0) + ranks.said(1)

    assert max(abs(left - right) for left, right in zip(ranks.curves()[0], one.curves()[0], strict=True)) > 1e-5


@pytest.mark.slow
def test_a_student_that_sees_learns_alike_on_every_axis(start_ranks: StartRanks, tmp_path: Path) -> None:
    learns = {**SEES, "seed": 3, "teacher": str(tmp_path / "step-00000008"), "alpha": 0.2}
    alone = start_ranks(1, {**SEES, "steps": 8, "save_every": 8, "checkpoints": str(tmp_path)}, learns)
    assert alone.wait() == [0], alone.said(0)
    layouts: list[dict[str, Any]] = [{"accumulate": 2}, {"mp": 2}, {"pp": 2, "accumulate": 2}, {"sep": 2}]
    ranks = start_ranks(2, *({**learns, **layout} for layout in layouts))
    assert ranks.wait() == [0, 0], ranks.said(0) + ranks.said(1)

    for layout, curve in zip(layouts, ranks.curves(), strict=True):
        assert curve == pytest.approx(alone.curves()[1], abs=1e-5), layout


@pytest.mark.slow
def test_what_is_learnt_needs_looking(start_ranks: StartRanks) -> None:
    ranks = start_ranks(1, {**SEES, "batch": 16, "steps": 300, "lr": 4e-3, "warmup": 20})
    assert ranks.wait(300) == [0], ranks.said(0)

    assert ranks.events(0, "validation")[0]["loss"] < BLIND - 0.02
