"""flash_attention as one calls it, beside float64."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import paddle
import pytest

from devkit.kernels.attention import flash_attention, flash_attention_varlen, flashmask_attention
from devkit.kernels.attention.case import Arrays, Case, arrays, rounded
from devkit.kernels.attention.clock import host_peak_mib
from devkit.kernels.attention.functional import attention_part, attention_part_backward
from devkit.kernels.attention.reference import NAMES, Result, compare, expected
from devkit.kernels.protocol import Refusal

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.usefixtures("compiled")

SMALL = Case(batch=1, heads=4, kv_heads=2, seqlen_q=130, seqlen_k=130, head_dim=64, causal=True)


@dataclass(frozen=True)
class Tensors:
    q: Any
    k: Any
    v: Any
    dout: Any


def tensors(inputs: Arrays, dtype: str = "float32") -> Tensors:
    made = Tensors(*(paddle.to_tensor(x).astype(dtype) for x in (inputs.q, inputs.k, inputs.v, inputs.dout)))
    for x in (made.q, made.k, made.v):
        x.stop_gradient = False
    return made


def result(x: Tensors, *, causal: bool, threads: int = 2) -> Result:
    out = flash_attention(x.q, x.k, x.v, causal, threads=threads)
    return Result(*(tensor.numpy() for tensor in (out, *paddle.grad([out], [x.q, x.k, x.v], [x.dout]))))


@pytest.mark.parametrize("causal", [True, False], ids=["causal", "full"])
@pytest.mark.parametrize(
    ("seqlen_q", "seqlen_k"), [(1, 1), (63, 63), (65, 65), (513, 513), (1, 77), (65, 200), (200, 65), (97, 500)]
)
@pytest.mark.parametrize(("heads", "kv_heads"), [(2, 2), (4, 1), (8, 2)])
@pytest.mark.parametrize("head_dim", [1, 33, 64, 80, 128, 256])
def test_values_and_gradients_are_those_of_float64(
    *, head_dim: int, heads: int, kv_heads: int, seqlen_q: int, seqlen_k: int, causal: bool
) -> None:
    batch = 3 if seqlen_q == 65 else 1
    case = Case(batch, heads, kv_heads, seqlen_q, seqlen_k, head_dim, causal)
    inputs = arrays(case)
    assert compare(result(tensors(inputs), causal=causal), expected(case, inputs)).complaint == ""


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize(
    "change", [{}, {"head_dim": 33, "seqlen_q": 65}, {"seqlen_k": 300, "heads": 8, "causal": False}]
)
def test_low_precision_is_as_right_as_its_rounding(change: dict[str, Any], dtype: str) -> None:
    case = replace(SMALL, dtype=dtype, **change)
    inputs = arrays(case)
    x = tensors(inputs, dtype)
    out = flash_attention(x.q, x.k, x.v, case.causal)
    gradients = paddle.grad([out], [x.q, x.k, x.v], [x.dout])
    found = Result(*(tensor.astype("float32").numpy() for tensor in (out, *gradients)))
    assert compare(found, expected(case, inputs)).complaint == ""
    assert np.array_equal(found.out, rounded(found.out, dtype))
    inexact = np.abs(found.out - expected(case, inputs).result.out).max()
    assert 1e-5 < inexact < 2e-2


def test_gradients_are_the_slopes_of_the_output() -> None:
    inputs = arrays(SMALL)
    gradients = result(tensors(inputs), causal=True)
    generator = np.random.default_rng(1)
    step = 1e-2

    def loss(changed: Arrays) -> float:
        out = flash_attention(
            paddle.to_tensor(changed.q), paddle.to_tensor(changed.k), paddle.to_tensor(changed.v), True
        )
        return float(np.sum(out.numpy().astype(np.float64) * inputs.dout))

    for name in ("q", "k", "v"):
        x, gradient = getattr(inputs, name), getattr(gradients, f"d{name}")
        direction = generator.standard_normal(x.shape, np.float32)
        ahead, behind = (loss(replace(inputs, **{name: x + sign * step * direction})) for sign in (1, -1))
        assert (ahead - behind) / (2 * step) == pytest.approx(float(np.sum(gradient * direction)), rel=1e-2)


def test_a_query_that_sees_no_key_gives_zero_and_moves_nothing() -> None:
    case = replace(SMALL, seqlen_q=100, seqlen_k=30)
    found = result(tensors(arrays(case)), causal=True)
    assert not found.out[:, :70].any()
    assert not found.dq[:, :70].any()
    assert found.out[:, 70:].all()


def test_tensors_need_not_be_contiguous() -> None:
    inputs = arrays(SMALL)
    plain = tensors(inputs)
    turned = Tensors(*(paddle.to_tensor(x.transpose(0, 2, 1, 3).copy()) for x in vars(inputs).values()))
    for x in (turned.q, turned.k, turned.v):
        x.stop_gradient = False
    q, k, v = (x.transpose([0, 2, 1, 3]) for x in (turned.q, turned.k, turned.v))
    assert not q.is_contiguous()
    out = flash_attention(q, k, v, causal=True)
    gradients = paddle.grad([out], [turned.q, turned.k, turned.v], [turned.dout.transpose([0, 2, 1, 3])])
    expectation = result(plain, causal=True)
    assert np.array_equal(out.numpy(), expectation.out)
    for gradient, name in zip(gradients, ("dq", "dk", "dv"), strict=True):
        assert np.array_equal(gradient.numpy().transpose(0, 2, 1, 3), getattr(expectation, name))


@pytest.mark.parametrize("heads", [(1, 1), (4, 2)])
def test_two_runs_and_any_number_of_threads_agree_to_the_bit(heads: tuple[int, int]) -> None:
    case = Case(1, *heads, 700, 900, 40, causal=True)
    x = tensors(arrays(case))
    first = result(x, causal=True, threads=1)
    for threads in (1, 2, 2, 5):
        again = result(x, causal=True, threads=threads)
        assert all(np.array_equal(getattr(first, name), getattr(again, name)) for name in NAMES)


def test_large_scores_neither_overflow_nor_vanish() -> None:
    inputs = arrays(SMALL)
    steep = replace(inputs, q=inputs.q * np.float32(40))
    found = result(tensors(steep), causal=True)
    exact = expected(SMALL, steep)
    assert np.abs(found.out - exact.result.out).max() < 1e-3
    assert all(np.isfinite(getattr(found, name)).all() for name in NAMES)


def test_what_is_not_a_number_stays_so() -> None:
    inputs = arrays(SMALL)
    inputs.q[0, 7, 1, 3] = np.nan
    out = result(tensors(inputs), causal=True).out
    assert np.isnan(out[0, 7, 1]).all()
    assert np.isfinite(np.delete(out[0, :, 1], 7, axis=0)).all()


def test_memory_grows_with_the_length_and_not_with_its_square() -> None:
    def peak(seqlen: int) -> float:
        x = tensors(arrays(replace(SMALL, seqlen_q=seqlen, seqlen_k=seqlen)))
        result(x, causal=True)
        return host_peak_mib(lambda: result(x, causal=True))

    short, long = peak(1024), peak(4096)
    assert long < 6 * short
    assert long < 4 * 4096 * 4096 * 4 / 2**20 / 4  # a quarter of one tensor of all scores


@pytest.mark.parametrize(
    ("q", "k", "dtype", "what"),
    [
        ([1, 5, 7, 8], [1, 5, 2, 8], "float32", "heads must be a multiple of kv_heads"),
        ([1, 5, 2, 8], [1, 5, 2, 16], "float32", "q and k must agree on batch and head_dim"),
        ([2, 5, 2, 8], [1, 5, 2, 8], "float32", "q and k must agree on batch and head_dim"),
        ([1, 5, 2, 257], [1, 5, 2, 257], "float32", "head_dim must be 1 to 256"),
        ([1, 5, 2, 8], [1, 0, 2, 8], "float32", "k is empty"),
        ([1, 5, 2, 0], [1, 5, 2, 0], "float32", "q is empty"),
        ([5, 2, 8], [5, 2, 8], "float32", "q must be [batch, seqlen, heads, head_dim]"),
        (
            [1, 5, 2, 8],
            [1, 5, 2, 8],
            "float64",
            "q, k and v must be float32, bfloat16 or float16, all the same, on the CPU",
        ),
    ],
)
def test_shapes_that_make_no_attention_are_refused(q: list[int], k: list[int], dtype: str, what: str) -> None:
    query, key = paddle.zeros(q, dtype), paddle.zeros(k, dtype)
    with pytest.raises(Refusal) as refusal:
        flash_attention(query, key, key)
    assert refusal.value.what == what
    assert refusal.value.why


def test_keys_and_values_of_two_shapes_are_refused() -> None:
    with pytest.raises(Refusal, match="k and v must have one shape"):
        flash_attention(paddle.zeros([1, 5, 2, 8]), paddle.zeros([1, 5, 2, 8]), paddle.zeros([1, 6, 2, 8]))


def test_no_grad_keeps_no_history() -> None:
    x = tensors(arrays(SMALL))
    with paddle.no_grad():
        out = flash_attention(x.q, x.k, x.v, causal=True)
    assert out.stop_gradient
    assert not flash_attention(x.q, x.k, x.v, causal=True).stop_gradient


def test_what_asks_for_no_gradient_gets_none_and_the_others_theirs() -> None:
    expectation = result(tensors(arrays(SMALL)), causal=True)
    x = tensors(arrays(SMALL))
    x.k.stop_gradient = True
    (flash_attention(x.q, x.k, x.v, causal=True) * x.dout).sum().backward()
    assert x.k.grad is None
    assert np.array_equal(x.q.grad.numpy(), expectation.dq)
    assert np.array_equal(x.v.grad.numpy(), expectation.dv)
    frozen = tensors(arrays(SMALL))
    for tensor in (frozen.q, frozen.k, frozen.v):
        tensor.stop_gradient = True
    assert flash_attention(frozen.q, frozen.k, frozen.v).stop_gradient


def test_recompute_gives_the_same_gradients() -> None:
    from paddle.distributed.fleet.utils import recompute

    expectation = result(tensors(arrays(SMALL)), causal=True)
    x = tensors(arrays(SMALL))
    (recompute(lambda *qkv: flash_attention(*qkv, causal=True), x.q, x.k, x.v) * x.dout).sum().backward()
    for tensor, name in ((x.q, "dq"), (x.k, "dk"), (x.v, "dv")):
        assert np.array_equal(tensor.grad.numpy(), getattr(expectation, name))


def test_a_gradient_of_the_second_order_is_refused_and_not_taken_for_nothing() -> None:
    x = tensors(arrays(SMALL))
    out = flash_attention(x.q, x.k, x.v, causal=True)
    (dq,) = paddle.grad([out], [x.q], [x.dout], create_graph=True)
    assert np.array_equal(dq.numpy(), result(tensors(arrays(SMALL)), causal=True).dq)
    with pytest.raises(Exception, match="no gradient of the second order"):
        paddle.grad([(dq * dq).sum()], [x.q])


@pytest.mark.filterwarnings("ignore:Tensor do not have 'place':UserWarning")  # Paddle's own doing
def test_a_static_graph_of_it_gives_the_same_bits_and_gradients() -> None:
    class Layer(paddle.nn.Layer):
        def forward(self, q: Any, k: Any, v: Any) -> Any:
            return flash_attention(q, k, v, causal=True)

    x = tensors(arrays(SMALL))
    spec = [paddle.static.InputSpec(list(tensor.shape), "float32") for tensor in (x.q, x.k, x.v)]
    out = paddle.jit.to_static(Layer(), input_spec=spec, full_graph=True)(x.q, x.k, x.v)
    found = Result(*(tensor.numpy() for tensor in (out, *paddle.grad([out], [x.q, x.k, x.v], [x.dout]))))
    expectation = result(tensors(arrays(SMALL)), causal=True)
    assert all(np.array_equal(getattr(found, name), getattr(expectation, name)) for name in NAMES)


Array = np.ndarray[Any, Any]


def plain(
    x: Tensors, *, scale: float | None = None, added: Array | None = None, hidden: Array | None = None
) -> tuple[Result, Array]:
    """Return attention, its gradients and its logsumexp by the formula in float64; added and hidden are whole."""
    q, k, v, dout = (tensor.astype("float32").numpy().astype(np.float64) for tensor in (x.q, x.k, x.v, x.dout))
    batch, _, heads, head_dim = q.shape
    scale = head_dim**-0.5 if scale is None else scale
    out, dq, dk, dv = (np.zeros_like(tensor) for tensor in (q, q, k, v))
    lse = np.zeros((batch, heads, q.shape[1]))
    for b, h in np.ndindex(batch, heads):
        at = h * k.shape[2] // heads
        scores = q[b, :, h] @ k[b, :, at].T * scale
        scores += 0 if added is None else added[b, h]
        scores[np.zeros_like(scores, bool) if hidden is None else hidden[b, h]] = -np.inf
        top = scores.max(axis=1, keepdims=True, initial=-1e300)
        weights = np.exp(scores - top)
        total = weights.sum(axis=1, keepdims=True)
        with np.errstate(divide="ignore"):
            lse[b, h] = (top + np.log(total))[:, 0]
        weights /= np.where(total == 0, 1, total)
        out[b, :, h] = weights @ v[b, :, at]
        weighed = dout[b, :, h] @ v[b, :, at].T
        slopes = weights * (weighed - (weights * weighed).sum(axis=1, keepdims=True))
        dq[b, :, h] = slopes @ k[b, :, at] * scale
        dk[b, :, at] += slopes.T @ q[b, :, h] * scale
        dv[b, :, at] += weights.T @ dout[b, :, h]
    return Result(out, dq, dk, dv), lse


def assert_right(out: Any, x: Tensors, exact: Result, tolerance: float = 1e-5) -> None:
    found = Result(
        *(tensor.astype("float32").numpy() for tensor in (out, *paddle.grad([out], [x.q, x.k, x.v], [x.dout])))
    )
    for name in NAMES:
        right = getattr(exact, name)
        assert np.abs(getattr(found, name) - right).max() < tolerance * max(1.0, np.abs(right).max()), name


ODD = Case(batch=2, heads=4, kv_heads=2, seqlen_q=77, seqlen_k=301, head_dim=40, causal=False)


@pytest.mark.parametrize("scale", [0.3, -0.2, 0.0, 5.0])
def test_the_scale_is_the_callers(scale: float) -> None:
    x = tensors(arrays(ODD))
    assert_right(flash_attention(x.q, x.k, x.v, scale=scale), x, plain(x, scale=scale)[0])


@pytest.mark.parametrize("align", ["bottom_right", "top_left"])
@pytest.mark.parametrize("lengths", [(77, 301), (301, 77), (90, 90)])
@pytest.mark.parametrize(
    ("causal", "window"), [(True, None), (True, (20, -1)), (False, 30), (False, (-1, 5)), (True, 0)]
)
def test_a_query_sees_its_window_counted_from_the_key_opposite_to_it(
    align: str, lengths: tuple[int, int], causal: bool, window: Any
) -> None:
    x = tensors(arrays(replace(ODD, seqlen_q=lengths[0], seqlen_k=lengths[1])))
    left, right = (window, window) if isinstance(window, int) else window or (-1, -1)
    distance = np.arange(lengths[1]) - np.arange(lengths[0])[:, None]
    distance -= lengths[1] - lengths[0] if align == "bottom_right" else 0
    hidden = ((distance < -left) if left >= 0 else False) | ((distance > right) if right >= 0 else False)
    hidden = hidden | (distance > 0 if causal else False)
    exact, lse = plain(x, hidden=np.broadcast_to(hidden, (2, 4, *lengths)))
    out, found = flash_attention(x.q, x.k, x.v, causal, window=window, align=align, return_lse=True)
    assert_right(out, x, exact)
    np.testing.assert_allclose(found.numpy(), lse, atol=1e-5)


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16", "bool"])
@pytest.mark.parametrize("shape", [(2, 4, 77, 301), (1, 4, 1, 301), (2, 1, 77, 1), (77, 301), (301,)])
def test_a_mask_is_broadcast_and_added_or_hides(dtype: str, shape: tuple[int, ...]) -> None:
    x = tensors(arrays(ODD))
    values = np.random.default_rng(2).standard_normal(shape)
    mask = paddle.to_tensor(values > -1 if dtype == "bool" else values).astype(dtype)
    whole = np.broadcast_to(mask.astype("float32").numpy(), (2, 4, 77, 301))
    exact = plain(x, **({"hidden": whole == 0} if dtype == "bool" else {"added": whole}))[0]
    assert_right(flash_attention(x.q, x.k, x.v, mask=mask), x, exact)


def plain_attention(q: Any, k: Any, v: Any, mask: Any, hidden: np.ndarray[Any, Any]) -> Any:
    """Attention of [batch, seqlen, heads, head_dim] by Paddle's own operators, in float64."""
    q, k, v = (x.astype("float64").transpose([0, 2, 1, 3]) for x in (q, k, v))
    k, v = (x.repeat_interleave(q.shape[1] // k.shape[1], axis=1) for x in (k, v))
    scores = q.matmul(k, transpose_y=True) * q.shape[-1] ** -0.5 + mask.astype("float64")
    weights = paddle.nn.functional.softmax(
        paddle.where(paddle.to_tensor(hidden), paddle.full([], -1e300, "float64"), scores)
    )
    return weights.matmul(v).transpose([0, 2, 1, 3])


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize(
    "shape", [(2, 4, 77, 301), (1, 4, 77, 301), (2, 1, 77, 301), (77, 301), (4, 1, 301), (301,), (2, 1, 77, 1)]
)
def test_a_mask_that_is_added_has_a_gradient(dtype: str, shape: tuple[int, ...]) -> None:
    x = tensors(arrays(ODD))
    mask = paddle.to_tensor(np.random.default_rng(2).standard_normal(shape)).astype(dtype)
    mask.stop_gradient = False
    hidden = np.arange(301) > np.arange(77)[:, None] + 301 - 77
    inputs = [x.q, x.k, x.v, mask]
    found = paddle.grad([flash_attention(x.q, x.k, x.v, True, mask=mask)], inputs, [x.dout])
    exact = paddle.grad([plain_attention(x.q, x.k, x.v, mask, hidden)], inputs, [x.dout.astype("float64")])
    for gradient, expectation in zip(found, exact, strict=True):
        assert gradient.dtype == expectation.dtype
        wanted = expectation.astype("float64").numpy()
        rounding = {"float32": 1e-5, "float16": 2e-3, "bfloat16": 1e-2}[dtype if gradient is found[3] else "float32"]
        assert np.abs(gradient.astype("float64").numpy() - wanted).max() <= rounding * max(np.abs(wanted).max(), 1)


def test_the_gradient_of_a_shared_mask_is_the_same_bits_whatever_the_threads() -> None:
    x = tensors(arrays(ODD))
    mask = paddle.create_parameter([77, 301], "float32")
    gradients = [
        paddle.grad([flash_attention(x.q, x.k, x.v, mask=mask, threads=threads)], [mask], [x.dout])[0].numpy()
        for threads in (1, 2, 5)
    ]
    assert np.array_equal(gradients[0], gradients[1])
    assert np.array_equal(gradients[0], gradients[2])


def test_a_mask_has_no_gradient_where_none_is_recorded_or_it_is_of_bool() -> None:
    x = tensors(arrays(ODD))
    mask = paddle.create_parameter([77, 301], "float32")
    with paddle.no_grad():
        assert flash_attention(x.q, x.k, x.v, mask=mask).stop_gradient
    seen = paddle.ones([77, 301], "bool")
    seen.stop_gradient = False
    flash_attention(x.q, x.k, x.v, mask=seen).sum().backward()
    assert x.q.grad is not None
    (slope,) = paddle.grad([flash_attention(x.q, x.k, x.v, mask=mask)], [mask], [x.dout], create_graph=True)
    with pytest.raises(Exception, match="no gradient of the second order"):
        paddle.grad([slope.sum()], [x.q])


@pytest.mark.parametrize(("causal", "columns"), [(True, 1), (True, 2), (False, 2), (False, 4)])
@pytest.mark.parametrize("heads", [1, 2, 4])
def test_flashmask_hides_the_rows_that_each_column_names(causal: bool, columns: int, heads: int) -> None:
    x = tensors(arrays(replace(ODD, seqlen_q=301, seqlen_k=301)))
    generator = np.random.default_rng(3)
    ends = np.sort(generator.integers(0, 302, (2, heads, 301, 4)), axis=-1)
    lower, upper = ends[..., 2:], ends[..., :2]
    indices = {1: lower[..., :1], 2: lower if causal else np.stack([lower[..., 0], upper[..., 1]], -1)}.get(
        columns, np.concatenate([lower, upper], -1)
    )
    hidden = np.zeros((2, heads, 301, 301), bool)
    for b, h, j in np.ndindex(2, heads, 301):
        rows = hidden[b, h, :, j]
        bounds = indices[b, h, j]
        rows[bounds[0] : bounds[1] if columns == 4 or (causal and columns == 2) else None] = True
        rows[bounds[2] if columns == 4 else 0 : bounds[-1] if not causal else 0] = True
        rows[: j if causal else 0] = True
    exact, lse = plain(x, hidden=hidden[:, np.arange(4) * heads // 4])
    out, found = flashmask_attention(x.q, x.k, x.v, paddle.to_tensor(indices.astype(np.int32)), causal, return_lse=True)
    assert_right(out, x, exact)
    np.testing.assert_allclose(found.numpy(), lse, atol=1e-5)


@pytest.mark.parametrize("causal", [True, False])
def test_documents_of_a_flashmask_leave_each_other_alone(causal: bool) -> None:
    x = tensors(arrays(replace(ODD, seqlen_q=301, seqlen_k=301)))
    ends = np.array([7, 100, 131, 290, 301], np.int32)
    document = np.searchsorted(ends, np.arange(301), side="right")
    first, end = np.concatenate([[0], ends])[document], ends[document]
    indices = np.broadcast_to(end[:, None] if causal else np.stack([end, first], -1), (2, 1, 301, 2 - causal))
    hidden = document[:, None] != document
    if causal:
        hidden |= np.arange(301)[:, None] < np.arange(301)
    exact, _ = plain(x, hidden=np.broadcast_to(hidden, (2, 4, 301, 301)))
    out = flashmask_attention(x.q, x.k, x.v, paddle.to_tensor(indices.astype(np.int32)), causal)
    assert_right(out, x, exact)


@pytest.mark.parametrize("causal", [True, False])
def test_packed_sequences_are_what_each_is_alone_to_the_bit(causal: bool) -> None:
    generator = np.random.default_rng(4)
    q, dout = (paddle.to_tensor(generator.standard_normal((240, 4, 24), np.float32)) for _ in range(2))
    k, v = (paddle.to_tensor(generator.standard_normal((320, 2, 24), np.float32)) for _ in range(2))
    for tensor in (q, k, v):
        tensor.stop_gradient = False
    ends_q, ends_k = [0, 5, 5, 100, 230, 230], [0, 9, 20, 215, 300, 310]  # one sequence without queries, one empty
    out, lse = flash_attention_varlen(q, k, v, *map(paddle.to_tensor, (ends_q, ends_k)), causal, return_lse=True)
    found = Result(*(tensor.numpy() for tensor in (out, *paddle.grad([out], [q, k, v], [dout]))))
    assert not found.out[230:].any()
    assert not found.dq[230:].any()
    assert not found.dk[9:20].any()
    assert not found.dk[300:].any()
    for b in (0, 2, 3):
        rows, keys = slice(ends_q[b], ends_q[b + 1]), slice(ends_k[b], ends_k[b + 1])
        alone = Tensors(
            *(tensor[at].unsqueeze(0).detach() for tensor, at in ((q, rows), (k, keys), (v, keys), (dout, rows)))
        )
        for tensor in (alone.q, alone.k, alone.v):
            tensor.stop_gradient = False
        one = result(alone, causal=causal)
        for name, at in (("out", rows), ("dq", rows), ("dk", keys), ("dv", keys)):
            assert np.array_equal(getattr(found, name)[at], getattr(one, name)[0]), name
    assert lse.shape == [4, 240]


def test_backward_finds_the_very_weights_of_forward_whatever_their_size() -> None:
    x = tensors(arrays(replace(SMALL, seqlen_q=200, seqlen_k=200, causal=False)))
    q, k = x.q.detach() * 1e3, x.k.detach() * 1e3  # products of some 1e6 and more
    q.stop_gradient = k.stop_gradient = False
    out = flash_attention(q, k, x.v)
    (dv,) = paddle.grad([out.sum()], [x.v])
    assert float(dv.sum()) == pytest.approx(200 * 4 * 64, rel=1e-6)  # each row's weights have the sum 1


def test_the_logsumexp_has_a_gradient_with_and_without_that_of_the_output() -> None:
    x = tensors(arrays(SMALL))
    out, lse = flash_attention(x.q, x.k, x.v, return_lse=True)
    q, k = (tensor.detach() for tensor in (x.q, x.k))
    q.stop_gradient = k.stop_gradient = False
    scores = paddle.matmul(q.transpose([0, 2, 1, 3]), k.repeat_interleave(2, axis=2).transpose([0, 2, 3, 1])) / 8
    exact = paddle.grad([paddle.logsumexp(scores, axis=-1).sum()], [q, k])
    for found, right in zip(paddle.grad([lse.sum()], [x.q, x.k], retain_graph=True), exact, strict=True):
        np.testing.assert_allclose(found.numpy(), right.numpy(), atol=2e-5)
    both = paddle.grad([(out * x.dout).sum() + lse.sum()], [x.q], retain_graph=True)[0]
    alone = paddle.grad([out], [x.q], [x.dout])[0]
    np.testing.assert_allclose((both - alone).numpy(), exact[0].numpy(), atol=2e-5)


def test_what_is_not_a_number_reaches_only_the_rows_that_see_it() -> None:
    inputs = arrays(replace(SMALL, seqlen_q=40, seqlen_k=40))
    inputs.v[0, 20, 0, 3] = np.nan
    out = result(tensors(inputs), causal=True).out
    assert np.isfinite(out[0, :20]).all()
    assert np.isnan(out[0, 20:, :2, 3]).all()


@pytest.mark.parametrize("seqlens", [(60, 90), (90, 60)])  # with the second, queries that see no key
def test_sinks_take_their_share_of_each_softmax_and_have_gradients(seqlens: tuple[int, int]) -> None:
    case = replace(SMALL, seqlen_q=seqlens[0], seqlen_k=seqlens[1])
    x = tensors(arrays(case))
    sinks = paddle.to_tensor([0.5, -1.0, 3.0, 200.0], stop_gradient=False)
    out, lse = flash_attention(x.q, x.k, x.v, causal=True, sinks=sinks, return_lse=True)
    # The formula: a column of sinks beside the scores, whose weights are dropped.
    plain_x = tensors(arrays(case))
    logits = paddle.to_tensor([0.5, -1.0, 3.0, 200.0], stop_gradient=False)
    keys, values = (tensor.repeat_interleave(2, axis=2).transpose([0, 2, 1, 3]) for tensor in (plain_x.k, plain_x.v))
    scores = paddle.matmul(plain_x.q.transpose([0, 2, 1, 3]), keys, transpose_y=True) / 8
    hidden = ~np.tri(*seqlens, seqlens[1] - seqlens[0], dtype=bool)
    scores = scores + paddle.to_tensor(np.where(hidden, np.float32(-1e30), np.float32(0)))
    column = logits.reshape([1, 4, 1, 1]).expand([1, 4, seqlens[0], 1])
    whole = paddle.concat([scores, column], axis=-1)
    weights = paddle.nn.functional.softmax(whole)[..., :-1]
    right = paddle.matmul(weights, values).transpose([0, 2, 1, 3])
    np.testing.assert_allclose(out.numpy(), right.numpy(), atol=2e-6)
    np.testing.assert_allclose(lse.numpy(), paddle.logsumexp(whole, axis=-1).numpy(), rtol=1e-6, atol=1e-5)
    found = paddle.grad([out], [x.q, x.k, x.v, sinks], [x.dout])
    exact = paddle.grad([right], [plain_x.q, plain_x.k, plain_x.v, logits], [plain_x.dout])
    for one, other in zip(found, exact, strict=True):
        np.testing.assert_allclose(one.numpy(), other.numpy(), atol=2e-5)


def test_sinks_of_packed_sequences_are_those_of_each_alone() -> None:
    x = tensors(arrays(SMALL))
    sinks = paddle.to_tensor([0.5, -1.0, 3.0, 0.0])
    ends = paddle.to_tensor([0, 130], "int32")
    alone = flash_attention(x.q, x.k, x.v, causal=True, sinks=sinks)
    packed = flash_attention_varlen(x.q[0], x.k[0], x.v[0], ends, ends, True, sinks=sinks)
    assert np.array_equal(alone[0].numpy(), packed.numpy())


def test_gradients_that_are_not_contiguous_are_taken_as_they_are_meant() -> None:
    weight = paddle.arange(130).astype("float32")
    found = []
    for turned in (True, False):
        x = tensors(arrays(SMALL))
        out, lse = flash_attention(x.q, x.k, x.v, causal=True, return_lse=True)
        total = (lse.transpose([2, 0, 1]) * weight.reshape([130, 1, 1])) if turned else lse * weight
        spread = out.mean() if turned else (out * paddle.full_like(out, 1 / out.size)).sum()
        found.append(paddle.grad([total.sum() + spread], [x.q, x.k, x.v]))
    for one, other in zip(*found, strict=True):
        np.testing.assert_allclose(one.numpy(), other.numpy(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("value", [float("-inf"), float("nan"), float("inf")])
def test_a_mask_without_one_finite_value_gives_nothing_or_what_is_not_a_number(value: float) -> None:
    x = tensors(arrays(SMALL))
    out = flash_attention(x.q, x.k, x.v, mask=paddle.full([130, 130], value)).numpy()
    assert not out.any() if value == float("-inf") else np.isnan(out).all()


def test_windows_wider_than_any_length_hide_nothing() -> None:
    x = tensors(arrays(SMALL))
    wide = flash_attention(x.q, x.k, x.v, window=(2**70, 2**62))
    assert np.array_equal(wide.numpy(), flash_attention(x.q, x.k, x.v).numpy())


def test_an_empty_result_is_empty() -> None:
    k = paddle.zeros([2, 8, 2, 16])
    for shape in ([2, 0, 4, 16], [0, 8, 4, 16]):
        keys = k[:0] if shape[0] == 0 else k
        out, lse = flash_attention(paddle.zeros(shape), keys, keys, return_lse=True)
        assert (out.shape, lse.shape) == (shape, [shape[0], 4, shape[1]])


@pytest.mark.parametrize(
    ("call", "what"),
    [
        (lambda x: flash_attention(x, x, x, mask=paddle.zeros([3, 5])), "a mask must fit"),
        (lambda x: flash_attention(x, x, x, mask=paddle.zeros([5, 5], "int32")), "a mask must be bool"),
        (lambda x: flash_attention(x, x, x, align="middle"), "align must be"),
        (lambda x: flash_attention(x, x, x, scale=float("nan")), "scale must be finite"),
        (lambda x: flash_attention(x, x, x, window=(-2, 0)), "a window is of 0 keys or more"),
        (lambda x: flash_attention(x, x, x, threads=0), "threads must be at least 1"),
        (lambda x: flash_attention(x, x, x, threads=2**40), "threads must be at least 1 and at most 1024"),
        (lambda x: flash_attention(x, x, x, scale=1e300), "scale must be finite"),
        (lambda x: flash_attention(x, x, x, scale="0.1"), "scale must be finite"),
        (lambda x: flash_attention(x, x, x, window=(1, 2, 3)), "a window is of 0 keys or more"),
        (lambda x: flash_attention(x, x, x, window=("a", 1)), "a window is of 0 keys or more"),
        (lambda x: flash_attention(x.numpy(), x, x), "q must be a Paddle tensor"),
        (lambda x: flash_attention(x, None, x), "k must be a Paddle tensor"),
        (lambda x: flash_attention_varlen(x[0], x[0], x[0], *[paddle.to_tensor([0, 2**32 + 5])] * 2), "must fit int32"),
        (lambda x: flash_attention_varlen(x[0], x[0], x[0], *[paddle.to_tensor([0, 4, 2])] * 2), "cu_seqlens_q must"),
        (lambda x: flash_attention_varlen(x[0], x[0], x[0], [0, 5], [0, 5]), "cu_seqlens_q must be a Paddle tensor"),
        (lambda x: flashmask_attention(x, x, x, paddle.full([1, 1, 5, 1], 2**40, "int64"), True), "must fit int32"),
        (lambda x: flash_attention(x, x, x, mask=paddle.zeros([1, 1, 1, 5, 5])), "a mask must fit"),
        (lambda x: flash_attention(x, x, x, sinks=paddle.zeros([3])), "sinks must be [heads]"),
        (lambda x: flash_attention(x, x, x, sinks=paddle.zeros([2], "int32")), "sinks must be float32"),
        (lambda x: flashmask_attention(x, x, x, paddle.zeros([1, 1, 5, 4], "int32"), True), "startend_row_indices"),
        (lambda x: flashmask_attention(x, x, x, paddle.zeros([1, 1, 5, 2])), "startend_row_indices must be int32"),
        (lambda x: flash_attention_varlen(x[0], x[0], x[0], *[paddle.to_tensor([0, 9])] * 2), "cu_seqlens_q must rise"),
        (lambda x: flash_attention_varlen(x, x, x, *[paddle.to_tensor([0, 5])] * 2), "q must be [total, heads"),
    ],
)
def test_what_makes_no_sense_is_refused_in_the_words_of_the_argument(call: Callable[[Any], Any], what: str) -> None:
    with pytest.raises(Refusal) as refusal:
        call(paddle.zeros([1, 5, 2, 8]))
    assert what in refusal.value.what
    assert refusal.value.why


def test_the_gradients_of_parts_of_the_keys_add_up_to_those_of_the_whole() -> None:
    x = tensors(arrays(replace(SMALL, causal=False)))
    whole, lse = flash_attention(x.q, x.k, x.v, return_lse=True)
    exact = result(x, causal=False)
    halves = [(x.k[:, at], x.v[:, at]) for at in (slice(0, 50), slice(50, None))]
    parts = [attention_part_backward(x.q, *half, whole, lse, x.dout, causal=False) for half in halves]
    np.testing.assert_allclose(sum(part[0] for part in parts).numpy(), exact.dq, atol=1e-5)
    for at, name in ((1, "dk"), (2, "dv")):
        joined = np.concatenate([part[at].numpy() for part in parts], axis=1)
        np.testing.assert_allclose(joined, getattr(exact, name), atol=1e-5)
    assert attention_part(x.q, x.k, x.v, causal=True)[0].stop_gradient
