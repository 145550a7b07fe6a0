from __future__ import annotations

import pytest

from devkit.bench.machine import Usage, Watch, busy_share, usage


@pytest.mark.parametrize(
    ("after", "share"),
    [
        (Usage(120, 60, 20), 0.0),  # all that was used is ours
        (Usage(120, 60, 10), 0.5),
        (Usage(120, 50, 10), 0.0),
        (Usage(100, 50, 10), 0.0),  # no time has passed
        (Usage(120, 60, 90), 0.0),  # a child that ended is counted when it is waited for
    ],
)
def test_what_others_used_is_what_is_neither_idle_nor_ours(after: Usage, share: float) -> None:
    assert busy_share(Usage(100, 50, 10), after) == pytest.approx(share)


def test_a_watch_counts_from_its_start() -> None:
    readings = iter([Usage(0, 0, 0), Usage(100, 50, 0), Usage(200, 60, 0)])
    watch = Watch(lambda: next(readings))
    watch.start()
    assert watch.busy == pytest.approx(0.1)


def test_the_machines_usage_grows_with_our_work() -> None:
    before = usage()
    for _ in range(2_000_000):
        pass
    after = usage()
    assert after.ours > before.ours
    assert 0 <= busy_share(before, after) <= 1
