from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from devkit.bench.cases import attention_cases, attention_passes, window_of
from devkit.bench.options import AttentionOptions
from devkit.bench.presets import PRESETS
from devkit.errors import UsageError
from devkit.kernels.attention.case import parse_case


def test_every_combination_of_lists_is_a_case_once() -> None:
    options = AttentionOptions(batch="1,2", heads="8,4", kv_heads="1,2", seqlen="64,128", case="dense,mask")
    cases = attention_cases(options)
    assert len(cases) == len(set(cases)) == 2 * (2 * 2) * 2 * 2 * 2


def test_key_heads_and_key_length_follow_the_query_unless_said() -> None:
    case, *_ = attention_cases(AttentionOptions())
    assert (case.kv_heads, case.seqlen_k, case.head_dim, case.case, case.window) == (8, 512, 64, "dense", None)


def test_a_preset_is_a_models_shape_and_what_is_given_beside_it_comes_first() -> None:
    first, second = attention_cases(AttentionOptions(preset="llama-3-8b"))
    assert (first.heads, first.kv_heads, first.head_dim, first.causal) == (32, 8, 128, True)
    assert (first.seqlen_q, second.seqlen_q) == (1024, 4096)
    (case,) = attention_cases(AttentionOptions(preset="qwen2-vl-vision", seqlen="77", heads="4"))
    assert (case.heads, case.kv_heads, case.head_dim, case.causal, case.case) == (4, 4, 80, False, "varlen")
    assert {
        attention_case.causal for attention_case in attention_cases(AttentionOptions(preset="gpt-2", both=True))
    } == {True, False}


def test_every_preset_is_a_case_that_the_device_side_takes() -> None:
    for preset in PRESETS:
        for case in attention_cases(AttentionOptions(preset=preset)):
            assert parse_case(case.as_request(0)).heads == case.heads


@pytest.mark.parametrize(
    ("text", "window"), [("", None), ("256", (256, 256)), ("256,0", (256, 0)), ("-1,5", (-1, 5)), ("0", (0, 0))]
)
def test_a_window_has_two_sides(text: str, window: tuple[int, int] | None) -> None:
    assert window_of(text) == window
    case, *_ = attention_cases(AttentionOptions(window=text))
    assert case.case == ("window" if window else "dense")


def test_a_window_without_a_size_is_an_eighth_of_the_keys() -> None:
    case, *_ = attention_cases(AttentionOptions(case="window", seqlen="800"))
    assert case.window == (100, 100)
    words = case.as_request(3)
    assert (words["left"], words["right"], words["kind"], words["seed"]) == (100, 100, "window", 3)


@pytest.mark.parametrize(
    ("flag", "value", "what"),
    [
        ("kv_heads", "3", "--heads 8 cannot share --kv-heads 3"),
        ("head_dim", "0", "--head-dim must be at least 1, not 0"),
        ("head_dim", "512", "--head-dim 512 is too large"),
        ("seqlen", "-5", "--seqlen must be at least 1, not -5"),
        ("seqlen", "1k", "--seqlen is a whole number or a list of them, not '1k'"),
        ("batch", " ", "--batch is a whole number or a list of them, not ' '"),
        ("dtype", "fp8", "there is no dtype 'fp8'"),
        ("preset", "gpt-9", "there is no preset 'gpt-9'"),
        ("case", "ragged", "there is no case 'ragged'"),
        ("window", "a,b", "--window 'a,b' is not LEFT,RIGHT"),
        ("window", "-1", "--window -1 limits nothing"),
        ("align", "middle", "there is no align 'middle'"),
        ("scale", float("nan"), "--scale nan is not finite"),
    ],
)
def test_bad_shapes_are_refused_in_the_words_of_the_flag(flag: str, value: Any, what: str) -> None:
    with pytest.raises(UsageError) as refused:
        attention_cases(replace(AttentionOptions(), **{flag: value}))
    assert refused.value.what == what
    assert refused.value.remedies


@pytest.mark.parametrize("case", ["varlen", "flashmask"])
def test_documents_have_one_length(case: str) -> None:
    with pytest.raises(UsageError, match="has no --seqlen-k of its own"):
        attention_cases(AttentionOptions(case=case, seqlen="64", seqlen_k="32"))


def test_passes_come_in_the_order_of_the_table_and_unknown_ones_are_refused() -> None:
    assert attention_passes("fwdbwd,fwd") == ("fwd", "fwdbwd")
    with pytest.raises(UsageError, match="there is no pass 'backward'"):
        attention_passes("backward")
