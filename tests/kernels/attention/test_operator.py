"""flash_attention as one calls it, beside float64."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import paddle
import pytest

from devkit.kernels.attention import flash_attention
from devkit.kernels.attention.case import Arrays, Case, arrays, rounded
from devkit.kernels.attention.clock import host_peak_mib
from devkit.kernels.attention.reference import NAMES, Result, compare, expected
from devkit.kernels.protocol import Refusal

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
    return Result(*(each.numpy() for each in (out, *paddle.grad([out], [x.q, x.k, x.v], [x.dout]))))


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


@pytest.mark.parametrize(
    "change", [{}, {"head_dim": 33, "seqlen_q": 65}, {"seqlen_k": 300, "heads": 8, "causal": False}]
)
def test_bfloat16_is_as_right_as_its_rounding(change: dict[str, Any]) -> None:
    case = replace(SMALL, dtype="bfloat16", **change)
    inputs = arrays(case)
    x = tensors(inputs, "bfloat16")
    out = flash_attention(x.q, x.k, x.v, case.causal)
    gradients = paddle.grad([out], [x.q, x.k, x.v], [x.dout])
    found = Result(*(each.astype("float32").numpy() for each in (out, *gradients)))
    assert compare(found, expected(case, inputs)).complaint == ""
    assert np.array_equal(found.out, rounded(found.out, "bfloat16"))
    inexact = np.abs(found.out - expected(case, inputs).result.out).max()
    assert 1e-4 < inexact < 2e-2


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
        ([1, 0, 2, 8], [1, 5, 2, 8], "float32", "q is empty"),
        ([5, 2, 8], [5, 2, 8], "float32", "q must be [batch, seqlen, heads, head_dim]"),
        ([1, 5, 2, 8], [1, 5, 2, 8], "float64", "q, k and v must be float32 or bfloat16, all the same, on the CPU"),
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
    plain = result(tensors(arrays(SMALL)), causal=True)
    x = tensors(arrays(SMALL))
    x.k.stop_gradient = True
    (flash_attention(x.q, x.k, x.v, causal=True) * x.dout).sum().backward()
    assert x.k.grad is None
    assert np.array_equal(x.q.grad.numpy(), plain.dq)
    assert np.array_equal(x.v.grad.numpy(), plain.dv)
    frozen = tensors(arrays(SMALL))
    for tensor in (frozen.q, frozen.k, frozen.v):
        tensor.stop_gradient = True
    assert flash_attention(frozen.q, frozen.k, frozen.v).stop_gradient


def test_recompute_gives_the_same_gradients() -> None:
    from paddle.distributed.fleet.utils import recompute

    plain = result(tensors(arrays(SMALL)), causal=True)
    x = tensors(arrays(SMALL))
    (recompute(lambda *qkv: flash_attention(*qkv, causal=True), x.q, x.k, x.v) * x.dout).sum().backward()
    for tensor, name in ((x.q, "dq"), (x.k, "dk"), (x.v, "dv")):
        assert np.array_equal(tensor.grad.numpy(), getattr(plain, name))


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
    found = Result(*(each.numpy() for each in (out, *paddle.grad([out], [x.q, x.k, x.v], [x.dout]))))
    plain = result(tensors(arrays(SMALL)), causal=True)
    assert all(np.array_equal(getattr(found, name), getattr(plain, name)) for name in NAMES)
