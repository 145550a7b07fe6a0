"""A student that learns from a teacher's logits too is better than the same student without, on the same budget."""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from tests.kernels.training.conftest import StartRanks

SEEDS = (1, 2, 3)
TEACHER: dict[str, Any] = {"batch": 16, "steps": 120, "lr": 1e-2}
STUDENT: dict[str, Any] = {"steps": 30, "lr": 5e-3, "warmup": 3}


@pytest.mark.slow
def test_a_student_is_better_with_a_teacher_in_the_median_of_three_seeds(
    start_ranks: StartRanks, tmp_path: Path
) -> None:
    path = tmp_path / "step-00000120"
    taught = {"teacher": str(path), "alpha": 0.1}
    requests = [{**STUDENT, "seed": seed, **more} for seed in SEEDS for more in ({}, taught)]
    ranks = start_ranks(1, {**TEACHER, "save_every": 120, "checkpoints": str(tmp_path)}, *requests)
    assert ranks.wait() == [0], ranks.said(0)

    teacher, *losses = (event["loss"] for event in ranks.events(0, "validation"))
    without, with_teacher = losses[::2], losses[1::2]
    medians = median(without), median(with_teacher)
    print(f"teacher {teacher:.3f}; without {without}, with {with_teacher}; medians {medians}")  # noqa: T201 - the figures
    assert teacher < medians[0]
    assert medians[1] < medians[0]
    assert all(better < worse for better, worse in zip(with_teacher, without, strict=True))
