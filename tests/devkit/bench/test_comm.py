from __future__ import annotations

import pytest

from devkit.bench.comm import bus_factor, parse_sizes
from devkit.errors import UsageError


def test_sizes_are_read_with_their_units() -> None:
    assert parse_sizes("4KiB, 1MiB,512,2g") == (4096, 2**20, 512, 2**31)
    assert parse_sizes("1.5k,1k,1KiB") == (1536, 1024)
    for wrong in ("", "0", "1b", "5GiB", "-4k", "4T", "k", "nan", "1e3"):
        with pytest.raises(UsageError, match="is not a size"):
            parse_sizes(wrong)


@pytest.mark.parametrize(
    ("op", "factor"), [("all_reduce", 1.5), ("all_gather", 3.0), ("broadcast", 1.0), ("alltoall", 0.75)]
)
def test_what_a_rank_must_send_at_least(op: str, factor: float) -> None:
    assert bus_factor(op, 4) == factor
