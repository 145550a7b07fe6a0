from __future__ import annotations

from typing import Any

import pytest

from devkit.bench.cases import attention_cases, attention_passes
from devkit.errors import UsageError

FLAGS: dict[str, Any] = {
    "masks": [False, True],
    "dtype": "fp32",
    "batch": "1",
    "heads": "8",
    "kv_heads": "",
    "seqlen": "512",
    "seqlen_k": "",
    "head_dim": "64",
}


def test_every_combination_of_lists_is_a_case_once() -> None:
    cases = attention_cases(**{**FLAGS, "batch": "1,2", "heads": "8,4", "kv_heads": "1,2", "seqlen": "64,128"})
    assert len(cases) == len(set(cases)) == 2 * (2 * 2) * 2 * 2


def test_key_heads_and_key_length_follow_the_query_unless_said() -> None:
    case, _ = attention_cases(**FLAGS)
    assert (case.kv_heads, case.seqlen_k) == (8, 512)


@pytest.mark.parametrize(
    ("flag", "value", "what"),
    [
        ("kv_heads", "3", "--heads 8 cannot share --kv-heads 3"),
        ("head_dim", "0", "--head-dim must be at least 1, not 0"),
        ("head_dim", "512", "--head-dim 512 is too large"),
        ("seqlen", "-5", "--seqlen must be at least 1, not -5"),
        ("seqlen", "1k", "--seqlen is a whole number or a list of them, not '1k'"),
        ("batch", "", "--batch is a whole number or a list of them, not ''"),
        ("dtype", "fp8", "there is no dtype 'fp8'"),
    ],
)
def test_bad_shapes_are_refused_in_the_words_of_the_flag(flag: str, value: str, what: str) -> None:
    with pytest.raises(UsageError) as refused:
        attention_cases(**{**FLAGS, flag: value})
    assert refused.value.what == what
    assert refused.value.remedies


def test_passes_come_in_the_order_of_the_table_and_unknown_ones_are_refused() -> None:
    assert attention_passes("fwdbwd,fwd") == ("fwd", "fwdbwd")
    with pytest.raises(UsageError, match="there is no pass 'backward'"):
        attention_passes("backward")
