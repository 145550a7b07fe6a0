from __future__ import annotations

import statistics

import pytest

from devkit.bench.statistics import summarize


@pytest.mark.parametrize("sample", [[3.0], [1.0, 2.0], [5.0, 1.0, 3.0], [0.1 * index**2 for index in range(17)]])
def test_median_and_quartiles_are_those_of_the_standard_library(sample: list[float]) -> None:
    summary = summarize(sample)
    assert summary.median == pytest.approx(statistics.median(sample))
    if len(sample) > 1:
        q1, _, q3 = statistics.quantiles(sample, n=4, method="inclusive")
        assert (summary.q1, summary.q3) == pytest.approx((q1, q3))


def test_one_outlier_leaves_the_median_where_it_is() -> None:
    assert summarize([1.0, 1.0, 1.0, 1.0, 900.0]).median == 1.0
