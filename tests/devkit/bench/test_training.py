from __future__ import annotations

import pytest

from devkit.bench.training import result


def test_the_ratio_is_taken_round_by_round() -> None:
    measured = result(2, {"devkit": [100.0, 50.0, 300.0], "torch": [100.0, 40.0, 200.0]})

    assert measured.tokens_per_s["devkit"].median == 100.0
    assert measured.ratio is not None
    assert measured.ratio.median == pytest.approx(1.25)


def test_without_a_peer_there_is_no_ratio() -> None:
    assert result(0, {"devkit": [1.0]}).ratio is None
