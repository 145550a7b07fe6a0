"""Decoding against a cache, contiguous and in pages, beside float64."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import paddle
import pytest

from devkit.kernels.attention import decode_attention
from devkit.kernels.protocol import Refusal

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.usefixtures("compiled")

Array = np.ndarray[Any, Any]
PAGE = 16


def plain(x: Any) -> Array:
    array: Array = x.astype("float32").numpy().astype(np.float64)
    return array


def exact(q: Array, k: Array, v: Array, lengths: Array, left: int | None = None) -> tuple[Array, Array]:
    out, lse = np.zeros_like(q), np.full((q.shape[0], q.shape[2], q.shape[1]), -np.inf)
    for b, i, h in np.ndindex(*q.shape[:3]):
        own = int(lengths[b]) - q.shape[1] + i
        seen = slice(0 if left is None else max(0, own - left), max(own + 1, 0))
        at = h * k.shape[2] // q.shape[2]
        scores = k[b, seen, at] @ q[b, i, h] / np.sqrt(q.shape[3])
        if len(scores):
            weights = np.exp(scores - scores.max())
            out[b, i, h] = weights @ v[b, seen, at] / weights.sum()
            lse[b, h, i] = scores.max() + np.log(weights.sum())
    return out, lse


def case(
    batch: int, queries: int, heads: int, kv_heads: int, head_dim: int, capacity: int, dtype: str = "float32"
) -> tuple[Any, Any, Any, Array]:
    generator = np.random.default_rng(capacity)
    shapes = (batch, queries, heads, head_dim), *[(batch, capacity, kv_heads, head_dim)] * 2
    q, k, v = (paddle.to_tensor(generator.standard_normal(shape, np.float32)).astype(dtype) for shape in shapes)
    lengths = generator.integers(queries, capacity + 1, batch).astype(np.int32)
    lengths[0] = capacity
    return q, k, v, lengths


SHAPES = [(3, 1, 8, 2, 64, 2500), (2, 4, 4, 4, 33, 700), (1, 3, 2, 1, 256, 40), (2, 1, 5, 5, 80, 603)]


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-5), ("float16", 1e-3), ("bfloat16", 8e-3)])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("left", [None, 20])
def test_the_last_queries_see_the_cache_up_to_their_own_position(
    shape: tuple[int, int, int, int, int, int], dtype: str, tolerance: float, left: int | None
) -> None:
    q, k, v, lengths = case(*shape, dtype)
    window = None if left is None else (left, 0)
    out, lse = decode_attention(q, k, v, paddle.to_tensor(lengths), window=window, return_lse=True)
    right, right_lse = exact(plain(q), plain(k), plain(v), lengths, left)
    assert np.abs(plain(out) - right).max() < tolerance
    np.testing.assert_allclose(lse.numpy(), right_lse, atol=1e-4)
    for threads in (1, 3):
        again = decode_attention(q, k, v, paddle.to_tensor(lengths), window=window, threads=threads)
        assert np.array_equal(plain(again), plain(out))


@pytest.mark.parametrize("shape", SHAPES)
def test_pages_and_appending_in_place_give_the_same_bits(shape: tuple[int, int, int, int, int, int]) -> None:
    q, k, v, lengths = case(*shape)
    whole = decode_attention(q, k, v, paddle.to_tensor(lengths)).numpy()
    batch, queries, capacity = shape[0], shape[1], shape[5]
    count = -(-capacity // PAGE)
    table = np.random.default_rng(0).permutation(batch * count + 3)[: batch * count].reshape(batch, count)
    pools = []
    for cache in (k, v):
        padded = np.zeros((batch, count * PAGE, *cache.shape[2:]), np.float32)
        padded[:, :capacity] = cache.numpy()
        pool = np.zeros((batch * count + 3, PAGE, *cache.shape[2:]), np.float32)
        pool[table] = padded.reshape(batch, count, PAGE, *cache.shape[2:])
        pools.append(paddle.to_tensor(pool))
    block_table = paddle.to_tensor(table.astype(np.int32))
    paged = decode_attention(q, *pools, paddle.to_tensor(lengths), block_table=block_table)
    assert np.array_equal(paged.numpy(), whole)

    before = lengths - queries
    news = []
    for cache in (k, v):
        last = [cache.numpy()[b, before[b] : lengths[b]] for b in range(batch)]
        news.append(paddle.to_tensor(np.stack(last)))
    wanted = [pool.numpy().copy() for pool in pools]
    for pool in pools:
        blank = pool.numpy().copy()
        for b in range(batch):
            for j in range(before[b], lengths[b]):
                blank[table[b, j // PAGE], j % PAGE] = 7
        paddle.assign(paddle.to_tensor(blank), output=pool)
    appended = decode_attention(
        q, *pools, paddle.to_tensor(before), block_table=block_table, k_new=news[0], v_new=news[1]
    )
    assert np.array_equal(appended.numpy(), whole)
    assert all(np.array_equal(pool.numpy(), right) for pool, right in zip(pools, wanted, strict=True))


@pytest.mark.parametrize("heads", [1, 6])
def test_what_is_not_a_number_outside_a_window_or_beyond_the_end_is_not_seen(heads: int) -> None:
    q, k, v, _ = case(1, 1, heads, 1, 40, 1300)
    lengths, window = paddle.to_tensor([1201]), (600, 0)
    clean = decode_attention(q, k, v, lengths, window=window).numpy()
    for cache in (k, v):
        cache[:, :600] = float("nan")
        cache[:, 1201:] = float("inf")
    assert np.array_equal(decode_attention(q, k, v, lengths, window=window).numpy(), clean)
    v[:, 600, 0, 3] = float("nan")
    assert np.isnan(decode_attention(q, k, v, lengths, window=window).numpy()[0, 0, :, 3]).all()


def test_an_empty_cache_gives_zero() -> None:
    q, k, v, _ = case(2, 1, 2, 2, 8, 20)
    out, lse = decode_attention(q, k, v, paddle.to_tensor([0, 20]), return_lse=True)
    assert not out[0].any()
    assert np.isneginf(lse[0].numpy()).all()
    assert out[1].all()


@pytest.mark.parametrize(
    ("call", "what"),
    [
        (lambda q, k, v: decode_attention(q, k, v, paddle.to_tensor([21, 3])), "longer than its cache"),
        (lambda q, k, v: decode_attention(q, k, v, paddle.to_tensor([-1, 3])), "cache_seqlens must be 0 or more"),
        (lambda q, k, v: decode_attention(q, k, v, paddle.to_tensor([2**32 + 3, 3])), "cache_seqlens must fit int32"),
        (lambda q, k, v: decode_attention(q.numpy(), k, v, paddle.to_tensor([3, 3])), "q must be a Paddle tensor"),
        (lambda q, k, v: decode_attention(q, k, v, [3, 3]), "cache_seqlens must be a Paddle tensor"),
        (lambda q, k, v: decode_attention(q, k, v, paddle.to_tensor([3])), "cache_seqlens must be [batch]"),
        (
            lambda q, k, v: decode_attention(q, k, v[:, :5], paddle.to_tensor([3, 3])),
            "must be contiguous, of one shape",
        ),
        (lambda q, k, v: decode_attention(q[:, :, :1], k, v, paddle.to_tensor([3, 3])), "do not fit together"),
        (
            lambda q, k, v: decode_attention(
                q, k, v, paddle.to_tensor([3, 3]), block_table=paddle.to_tensor([[0], [9]])
            ),
            "a page that is not there",
        ),
        (lambda q, k, v: decode_attention(q, k, v, paddle.to_tensor([3, 3]), k_new=k[:, :1]), "k_new and v_new"),
        (
            lambda q, k, v: decode_attention(
                paddle.create_parameter(q.shape, "float32"), k, v, paddle.to_tensor([3, 3])
            ),
            "has no gradient",
        ),
    ],
)
def test_what_makes_no_sense_is_refused(call: Callable[[Any, Any, Any], Any], what: str) -> None:
    q, k, v, _ = case(2, 1, 2, 2, 8, 20)
    with pytest.raises(Refusal) as refusal:
        call(q, k, v)
    assert what in refusal.value.what
