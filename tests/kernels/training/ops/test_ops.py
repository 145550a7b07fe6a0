"""That our operators and Paddle's are the same functions, gradients included, and that neither hides a nan."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.kernels.training.conftest import StartRanks


@pytest.fixture(scope="module")
def compared(start_ranks: StartRanks) -> list[dict[str, Any]]:
    ranks = start_ranks(1, {"op": "compare_ops"})
    assert ranks.wait() == [0], ranks.said(0)
    return ranks.events(0)


def test_ours_are_built_and_used_here(compared: list[dict[str, Any]]) -> None:
    assert next(event for event in compared if event["event"] == "operators")["name"] == "devkit"


def test_ours_and_paddles_agree_forward_and_backward(compared: list[dict[str, Any]]) -> None:
    errors = {event["name"]: event["error"] for event in compared if event["event"] == "compared"}

    assert len(errors) == 3 * 5 + 3 * 2 + 4 + 2
    assert {name: error for name, error in errors.items() if not error < 1e-5} == {}


def test_neither_hides_a_nan(compared: list[dict[str, Any]]) -> None:
    assert [event["finite"] for event in compared if event["event"] == "nan"] == [False] * 4


def test_a_label_outside_of_the_vocabulary_is_refused(compared: list[dict[str, Any]]) -> None:
    said = [event["said"] for event in compared if event["event"] == "outside"]

    assert len(said) == 3
    assert "the label 8 is outside of the vocabulary of 8" in said[1]


def test_no_grad_records_nothing(compared: list[dict[str, Any]]) -> None:
    assert [event["stop_gradient"] for event in compared if event["event"] == "no_grad"] == [True]


def test_no_position_sees_a_later_one(compared: list[dict[str, Any]]) -> None:
    looked = [event for event in compared if event["event"] == "looked"]

    assert [event["earlier"] for event in looked] == [0.0, 0.0]
    assert all(event["last"] > 0.1 for event in looked)


WITHOUT = """
import os
from devkit.kernels.training import __main__ as rank
from devkit.kernels.protocol import serve
os.environ["CXX"] = "/missing/g++"
os._exit(serve(rank.handle))
"""


def test_without_a_compiler_paddles_own_are_used_and_the_reason_told(start_ranks: StartRanks) -> None:
    ours = start_ranks(1, {"steps": 5})
    paddles = start_ranks(1, {"steps": 5}, script=WITHOUT)
    assert paddles.wait() == [0], paddles.said(0)
    assert ours.wait() == [0], ours.said(0)

    start = paddles.events(0, "start")[0]
    assert (start["operators"], start["attention"]) == ("paddle", "paddle_sdpa")
    assert "compiler" in start["why_not_ours"]
    assert paddles.curves()[0] == pytest.approx(ours.curves()[0], abs=1e-4)
