"""Verdicts on invented times whose truth is known."""

from __future__ import annotations

import math
import random

import pytest

from devkit.bench.verdict import (
    Sample,
    Word,
    alarms,
    bounded_percent,
    compare,
    fit_drift,
    half_width,
    normal,
    percent,
    settled,
    student,
)


def generator_of(seed: int) -> random.Random:
    return random.Random(seed)  # noqa: S311 - invented times need no secrets


def noisy(generator: random.Random, *, rounds: int = 20, sigma: float = 0.01, level: float = 1.0) -> list[float]:
    """Times of rounds: a normal spread, and now and then a round that someone disturbed."""
    return [
        level * math.exp(generator.gauss(0, sigma)) * (1 if generator.random() < 0.95 else 1 + generator.random())
        for _ in range(rounds)
    ]


def pairs(
    count: int, *, drift: float = 0.0, rounds: int = 20, sigma: float = 0.01
) -> list[tuple[list[float], list[float]]]:
    generator = generator_of(1)
    return [
        (
            noisy(generator, rounds=rounds, sigma=sigma, level=math.exp(generator.gauss(0, drift / math.sqrt(2)))),
            noisy(generator, rounds=rounds, sigma=sigma, level=math.exp(generator.gauss(0, drift / math.sqrt(2)))),
        )
        for _ in range(count)
    ]


@pytest.mark.parametrize("rounds", [5, 9, 30])
@pytest.mark.parametrize("sigma", [0.002, 0.05])
def test_the_same_code_is_called_different_in_at_most_one_pair_of_a_hundred(rounds: int, sigma: float) -> None:
    assert alarms(pairs(1000, rounds=rounds, sigma=sigma), drift=0.005) <= 0.01


def test_runs_that_drift_need_their_drift_and_fitting_finds_it() -> None:
    drifting = pairs(1000, drift=0.01, sigma=0.003)
    assert alarms(drifting, 0.0) > 0.2
    found = fit_drift(drifting)
    assert 0.007 < found < 0.016
    assert alarms(pairs(1000, drift=0.01, sigma=0.004), found) <= 0.01


@pytest.mark.parametrize("sigma", [0.003, 0.01, 0.02])
def test_a_planted_five_percent_is_found(sigma: float) -> None:
    assert alarms(pairs(400, sigma=sigma, drift=0.005), 0.006, planted=0.05) >= 0.95


def test_words_have_their_reasons() -> None:
    generator = generator_of(2)
    base = Sample(tuple(noisy(generator, sigma=0.003)))
    slow = compare(base, Sample(tuple(noisy(generator, sigma=0.003, level=1.2))))
    assert slow.word is Word.SLOWER
    assert slow.ratio == pytest.approx(1.2, rel=0.02)
    assert slow.low is not None
    assert slow.low > 1.1
    assert "takes 2" in slow.reason
    fast = compare(base, Sample(tuple(noisy(generator, sigma=0.003, level=0.8))))
    assert fast.word is Word.FASTER
    assert "less time" in fast.reason
    same = compare(base, Sample(tuple(noisy(generator, sigma=0.003))))
    assert same.word is Word.SAME
    assert same.smallest is not None
    assert same.smallest < 0.05
    assert percent(same.smallest) in same.reason
    blurred = compare(base, Sample(tuple(noisy(generator, sigma=0.3))))
    assert blurred.word is Word.UNSURE
    assert "more rounds" in blurred.reason


@pytest.mark.parametrize("which", [0, 1])
def test_a_busy_machine_makes_unsure_whatever_the_times_say(which: int) -> None:
    busy = [0.0, 0.0]
    busy[which] = 0.3
    verdict = compare(Sample((1.0,) * 9, busy[0]), Sample((2.0,) * 9, busy[1]))
    assert verdict.word is Word.UNSURE
    assert "others used 30 %" in verdict.reason
    assert ("baseline", "new run")[which] in verdict.reason


@pytest.mark.parametrize("times", [(), (1.0,) * 4, (1.0, math.nan, 1.0, 1.0, 1.0), (1.0, 0.0, 1.0, 1.0, 1.0)])
def test_what_is_too_little_or_no_number_is_unsure(times: tuple[float, ...]) -> None:
    assert compare(Sample((1.0,) * 9), Sample(times)).word is Word.UNSURE
    assert compare(Sample(times), Sample((1.0,) * 9)).word is Word.UNSURE


def test_a_verdict_turns_round_with_its_samples() -> None:
    generator = generator_of(3)
    a, b = Sample(tuple(noisy(generator))), Sample(tuple(noisy(generator, level=1.3)))
    there, back = compare(a, b), compare(b, a)
    assert (there.word, back.word) == (Word.SLOWER, Word.FASTER)
    assert there.ratio is not None
    assert back.ratio is not None
    assert there.ratio * back.ratio == pytest.approx(1)


def test_rounds_settle_when_their_interval_is_narrow() -> None:
    generator = generator_of(4)
    times = noisy(generator, rounds=200, sigma=0.02)
    assert not settled(times[:4])
    assert not settled(times[:6], within=0.001)
    assert settled(times)
    assert half_width(times) < half_width(times[:20]) < half_width(times[:5])
    assert half_width([1.0, 1.0]) == math.inf


def test_a_rate_over_its_ceiling_has_no_percentage() -> None:
    assert bounded_percent(50, 100) == 50
    assert bounded_percent(473, 100) is None
    assert bounded_percent(None, 100) is None
    assert bounded_percent(50, 0) is None


@pytest.mark.parametrize(
    ("freedom", "quantile"),
    [(1, 63.657), (2, 9.925), (4, 4.604), (9, 3.250), (29, 2.756), (1000, 2.581)],
)
def test_students_quantiles_are_those_of_the_tables(freedom: int, quantile: float) -> None:
    assert student(0.995, freedom) == pytest.approx(quantile, rel=5e-3)
    assert student(0.5, freedom) == pytest.approx(0, abs=1e-9)
    assert normal(0.975) == pytest.approx(1.95996, rel=1e-4)
