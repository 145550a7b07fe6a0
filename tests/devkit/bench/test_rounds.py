from __future__ import annotations

import itertools
import random

import pytest

from devkit.bench.rounds import Until, interleave


def test_each_round_times_every_subject_once_and_begins_with_another() -> None:
    order: list[str] = []

    def subject(name: str) -> list[float]:
        order.append(name)
        return [1.0, 2.0, 3.0]

    timed = interleave({"a": lambda: subject("a"), "b": lambda: subject("b")}, Until(rounds=3))
    assert "".join(order) == "abbaab"
    assert timed["a"].rounds == (2.0, 2.0, 2.0)
    assert len(timed["b"].times) == 9


@pytest.mark.parametrize(("sigma", "settles"), [(0.001, True), (0.3, False)])
def test_rounds_go_on_until_they_settle_or_the_budget_is_spent(sigma: float, *, settles: bool) -> None:
    generator = random.Random(1)  # noqa: S311 - invented times need no secrets
    seconds = itertools.count()
    until = Until(budget_s=40)
    timed = interleave({"a": lambda: [generator.lognormvariate(0, sigma)]}, until, clock=lambda: float(next(seconds)))
    assert (len(timed["a"].rounds) < 40) == settles
    assert 5 <= len(timed["a"].rounds) <= 41


def test_nothing_to_time_takes_no_round() -> None:
    assert interleave({}, Until()) == {}
