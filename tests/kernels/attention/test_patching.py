"""Paddle's own functions with ours behind them."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np
import paddle
import pytest

from devkit.kernels import attention

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.usefixtures("compiled")

F = paddle.nn.functional
THEIRS = F.scaled_dot_product_attention


@pytest.fixture
def enabled(compiled: None) -> Iterator[None]:  # noqa: ARG001 - it says where the operators are
    attention.enable()
    attention.enable()  # a second time changes nothing
    yield
    attention.disable()


def inputs(*shape: int, seed: int = 0) -> Any:
    x = paddle.to_tensor(np.random.default_rng(seed).standard_normal(shape, np.float32))
    x.stop_gradient = False
    return x


@pytest.mark.usefixtures("enabled")
@pytest.mark.parametrize(
    "named", [{}, {"is_causal": True}, {"scale": 0.3}, {"attn_mask": "float"}, {"attn_mask": "bool"}]
)
def test_scaled_dot_product_attention_is_as_paddles(named: dict[str, Any]) -> None:
    q, k, v = inputs(2, 30, 4, 16), inputs(2, 50, 4, 16, seed=1), inputs(2, 50, 4, 16, seed=2)
    if "attn_mask" in named:
        mask = inputs(2, 1, 30, 50, seed=3).detach()
        named = {"attn_mask": mask > -1 if named["attn_mask"] == "bool" else mask}
    ours, theirs = F.scaled_dot_product_attention(q, k, v, **named), THEIRS(q, k, v, **named)
    np.testing.assert_allclose(ours.numpy(), theirs.numpy(), atol=2e-6)
    for one, other in zip(paddle.grad([ours.sum()], [q, v]), paddle.grad([theirs.sum()], [q, v]), strict=True):
        np.testing.assert_allclose(one.numpy(), other.numpy(), atol=1e-5)
    assert "custom" in type(ours.grad_fn).__name__.lower() or "custom" in ours.grad_fn.name().lower()


@pytest.mark.usefixtures("enabled")
def test_what_ours_do_not_take_goes_to_paddles() -> None:
    q = inputs(1, 10, 2, 8).astype("float64")
    assert np.array_equal(F.scaled_dot_product_attention(q, q, q).numpy(), THEIRS(q, q, q).numpy())
    paddle.seed(1)
    dropped = F.scaled_dot_product_attention(*[inputs(1, 10, 2, 8)] * 3, dropout_p=0.9)
    assert (dropped == 0).any()


@pytest.mark.usefixtures("enabled")
def test_packed_and_column_masked_attention_run_on_a_cpu() -> None:
    flash = import_module("paddle.nn.functional.flash_attention")
    x = inputs(40, 2, 8)
    ends = paddle.to_tensor([0, 15, 40], dtype="int32")
    out, nothing = flash.flash_attn_unpadded(x, x, x, ends, ends, 25, 25, 8**-0.5, causal=True)
    assert nothing is None
    one = attention.flash_attention(*[x[15:].unsqueeze(0)] * 3, True)
    assert np.array_equal(out[15:].numpy(), one[0].numpy())
    y = x.unsqueeze(0)
    hidden = paddle.full([1, 1, 40, 1], 40, "int32")
    masked, lse = F.flashmask_attention(y, y, y, hidden, causal=True, return_softmax_lse=True)
    assert np.array_equal(masked.numpy(), attention.flash_attention(y, y, y, True).numpy())
    assert lse.shape == [1, 2, 40]


def test_disabling_gives_paddles_back() -> None:
    attention.enable()
    assert F.scaled_dot_product_attention is not THEIRS
    attention.disable()
    assert F.scaled_dot_product_attention is THEIRS
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        attention.nothing  # noqa: B018 - looking is the test
