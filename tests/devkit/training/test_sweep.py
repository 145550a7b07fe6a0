from __future__ import annotations

import pytest

from devkit.errors import UsageError
from devkit.kernels.training.options import Options
from devkit.training.sweep import layouts, parse_size, possible, smallest_change, worst

GIB = 2**30
LARGE = Options(world_size=8, size="qwen2-7b", batch=8, seqlen=2048, dtype="bf16", device="gpu")


def test_every_layout_that_a_run_can_have_is_listed_once() -> None:
    found = [candidate.options for candidate in layouts(Options(world_size=4))]

    assert len(found) == len({(o.stage, o.mp, o.pp, o.sep, o.sequence_parallel) for o in found})
    assert all(possible(options) for options in found)
    assert any(options.pp > 1 and options.stage == 3 for options in found)
    assert {(options.mp, options.pp) for options in found} == {(1, 1), (1, 2), (1, 4), (2, 1), (2, 2), (4, 1)}


def test_the_smallest_change_that_fits_is_one_flag_where_one_is_enough() -> None:
    assert worst(LARGE).peak > 80 * GIB
    one = smallest_change(LARGE, 80 * GIB)

    assert one is not None
    assert one.flags == ("--stage 1",)
    assert one.peak <= 80 * GIB


def test_more_flags_are_named_where_one_does_not_do() -> None:
    change = smallest_change(LARGE, 24 * GIB)

    assert change is not None
    assert len(change.flags) > 1
    assert smallest_change(LARGE, GIB) is None


@pytest.mark.parametrize(
    ("text", "wanted"),
    [("80G", 80 * GIB), ("80", 80 * GIB), ("24576M", 24 * GIB), ("1.5GiB", 3 * GIB // 2), ("80GB", 80 * GIB)],
)
def test_a_size_is_read(text: str, wanted: int) -> None:
    assert parse_size(text) == wanted


@pytest.mark.parametrize("text", ["", "much", "-1G", "0G", "80X", "80G;"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--gpu-memory"):
        parse_size(text)
