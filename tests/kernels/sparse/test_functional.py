"""Every operation and its gradients beside dense float64, by formulas written out in NumPy."""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING, Any

import numpy as np
import paddle
import pytest

from devkit.kernels import sparse
from devkit.kernels.protocol import Refusal

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.usefixtures("compiled")

Array = np.ndarray[Any, Any]
FORMATS = pytest.mark.parametrize("form", ["csr", "coo", "shuffled"])
TOLERANCE = {"float32": 2e-6, "float64": 1e-14}


class Made:
    """A random sparse matrix with empty rows, a full one and a place that occurs twice; its values are a leaf."""

    def __init__(
        self,
        form: str,
        shape: tuple[int, ...] = (37, 23),
        dtype: str = "float64",
        index: str = "int64",
        seed: int = 0,
        density: float = 0.2,
    ) -> None:
        generator = np.random.default_rng(seed)
        full = generator.random(shape) < density
        full[..., ::5, :] = False
        full[..., min(3, shape[-2] - 1), :] = True
        places = np.argwhere(full)
        places = np.concatenate([places, places[len(places) // 2 : len(places) // 2 + 1]])
        places = places[np.lexsort(places.T[::-1])]
        if form == "shuffled":
            places = generator.permutation(places)
        self.places, self.shape, self.form = places.T, shape, form
        self.leaf = paddle.to_tensor(generator.standard_normal(len(places)).astype(dtype), stop_gradient=False)
        if form == "csr":
            counts = np.zeros(shape[:-1], "int64")
            np.add.at(counts, tuple(self.places[:-1]), 1)
            crows = np.concatenate([np.zeros((*shape[:-2], 1), "int64"), counts.cumsum(-1)], -1).reshape(-1)
            pointer, cols = (paddle.to_tensor(array.astype(index)) for array in (crows, self.places[-1]))
            self.tensor = sparse.csr_tensor(pointer, cols, self.leaf, shape)
        else:
            self.tensor = sparse.coo_tensor(paddle.to_tensor(self.places.astype(index)), self.leaf, shape)

    def spread(self, v: Array) -> Array:
        """The dense matrix of values at the places."""
        dense = np.zeros(self.shape)
        np.add.at(dense, tuple(self.places), v.astype("float64"))
        return dense

    def picked(self, dense: Array) -> Array:
        return dense[tuple(self.places)]

    @property
    def dense(self) -> Array:
        return self.spread(self.leaf.numpy())


def random(*shape: int, dtype: str = "float64", seed: int = 1) -> Any:
    array = np.random.default_rng(seed).standard_normal(shape).astype(dtype)
    return paddle.to_tensor(array, stop_gradient=False)


def near(found: Any, wanted: Array, dtype: str = "float64") -> bool:
    found = found.numpy()
    assert found.shape == wanted.shape
    scale = max(float(np.abs(wanted).max(initial=0)), 1.0)
    return bool(np.abs(found - wanted).max(initial=0) <= TOLERANCE[dtype] * scale * 8)


def dense_of(x: Any) -> Array:
    """A sparse tensor of Paddle's as a dense array, by its own indices."""
    array = np.zeros(tuple(x.shape))
    if x.is_sparse_coo():
        places = tuple(x.indices().numpy())
    else:
        crows = x.crows().numpy().reshape(-1, x.shape[-2] + 1)
        rows = [np.repeat(np.arange(x.shape[-2]), np.diff(crow)) for crow in crows]
        places = (np.concatenate(rows), x.cols().numpy())
        if x.ndim == 3:
            places = (np.repeat(np.arange(x.shape[0]), [len(row) for row in rows]), *places)
    np.add.at(array, places, sparse.values(x).numpy())
    return array


@FORMATS
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("index", ["int32", "int64"])
@pytest.mark.parametrize("width", [1, 3, 8, 16, 45, 64, 200])
def test_spmm_and_its_gradients(form: str, dtype: str, index: str, width: int) -> None:
    made, y = Made(form, dtype=dtype, index=index), random(23, width, dtype=dtype)
    out = sparse.matmul(made.tensor, y)
    assert near(out, made.dense @ y.numpy().astype("float64"), dtype)
    g = random(37, width, dtype=dtype, seed=2)
    dv, dy = paddle.grad([out], [made.leaf, y], [g])
    wide = g.numpy().astype("float64")
    assert near(dv, made.picked(wide @ y.numpy().astype("float64").T), dtype)
    assert near(dy, made.dense.T @ wide, dtype)


@FORMATS
def test_a_batch_of_matrices_and_a_vector(form: str) -> None:
    made, y = Made(form, (3, 9, 11)), random(3, 11, 18)
    out = sparse.matmul(made.tensor, y)
    assert near(out, made.dense @ y.numpy())
    dv, dy = paddle.grad([out.sum()], [made.leaf, y])
    ones = np.ones((3, 9, 18))
    assert near(dv, made.picked(ones @ y.numpy().swapaxes(1, 2)))
    assert near(dy, made.dense.swapaxes(1, 2) @ ones)
    flat, vector = Made(form), random(23)
    assert near(sparse.matmul(flat.tensor, vector), flat.dense @ vector.numpy())


@FORMATS
@pytest.mark.parametrize("depth", [1, 7, 64, 100])
@pytest.mark.parametrize("batch", [(), (2,)])
def test_sddmm_and_its_gradients(form: str, depth: int, batch: tuple[int, ...]) -> None:
    made = Made(form, (*batch, 37, 23))
    x, y = random(*batch, 37, depth), random(*batch, depth, 23, seed=2)
    out = sparse.masked_matmul(x, y, made.tensor)
    assert out.is_sparse_coo() == (form != "csr")
    found = sparse.values(out)
    assert near(found, made.picked(x.numpy() @ y.numpy()))
    g = random(found.shape[0], seed=3)
    dx, dy = paddle.grad([found], [x, y], [g])
    spread = made.spread(g.numpy())
    assert near(dx, spread @ y.numpy().swapaxes(-1, -2))
    assert near(dy, x.numpy().swapaxes(-1, -2) @ spread)


def softmax_of(made: Made, v: Array) -> Array:
    out = np.zeros_like(v)
    rows = np.ravel_multi_index(tuple(made.places[:-1]), made.shape[:-1])
    for row in np.unique(rows):
        weights = np.exp(v[rows == row] - v[rows == row].max())
        out[rows == row] = weights / weights.sum()
    return out


@FORMATS
def test_softmax_and_its_gradient(form: str) -> None:
    made = Made(form, (2, 9, 11))
    out = sparse.values(sparse.softmax(made.tensor))
    p = softmax_of(made, made.leaf.numpy())
    assert near(out, p)
    g = random(len(p), seed=4)
    (dv,) = paddle.grad([out], [made.leaf], [g])
    rows = np.ravel_multi_index(tuple(made.places[:-1]), made.shape[:-1])
    sums = np.bincount(rows, p * g.numpy(), 18)
    assert near(dv, p * (g.numpy() - sums[rows]))


def test_softmax_of_what_is_hidden_and_of_what_is_no_number() -> None:
    crows, cols = paddle.to_tensor([0, 2, 4, 6, 7]), paddle.to_tensor([0, 1, 0, 1, 0, 1, 0])
    v = paddle.to_tensor([-math.inf, 0.0, -math.inf, -math.inf, math.nan, 1.0, 5.0], stop_gradient=False)
    out = sparse.values(sparse.softmax(sparse.csr_tensor(crows, cols, v, [4, 2])))
    assert out[:4].tolist() == [0, 1, 0, 0]
    assert bool(paddle.isnan(out[4:6]).all())
    assert float(out[6]) == 1
    (dv,) = paddle.grad([out[:4].sum()], [v])
    assert dv[:4].tolist() == [0, 0, 0, 0]


@FORMATS
@pytest.mark.parametrize("masked", [False, True])
def test_sparse_attention_and_its_gradients(form: str, *, masked: bool) -> None:
    made = Made(form, (6, 19, 19))
    q, k, v = (random(2, 3, 19, 8, seed=seed) for seed in (1, 2, 3))
    padding = np.ones((2, 19))
    padding[1, 15:] = 0
    mask = np.tri(19)
    named = {"key_padding_mask": paddle.to_tensor(padding), "attn_mask": paddle.to_tensor(mask)} if masked else {}
    out = sparse.attention(q, k, v, made.tensor, **named)

    # Each entry weighs, so a place that occurs twice weighs twice: the dense formula counts it by a logarithm.
    counts = made.spread(np.ones(len(made.places[0]))).reshape(2, 3, 19, 19)
    if masked:
        counts = counts * padding[:, None, None, :] * mask
    with np.errstate(divide="ignore"):
        bias = np.log(counts)
    seen = np.isfinite(bias).any(-1, keepdims=True)
    bias = np.where(seen, bias, 0)
    dense = [paddle.to_tensor(x.numpy(), stop_gradient=False) for x in (q, k, v)]
    scores = paddle.matmul(dense[0], dense[1], transpose_y=True) / math.sqrt(8) + paddle.to_tensor(bias)
    wanted = paddle.matmul(paddle.nn.functional.softmax(scores), dense[2]) * paddle.to_tensor(seen.astype("float64"))
    assert near(out, wanted.numpy())
    g = random(*out.shape, seed=5)
    for found, right in zip(paddle.grad([out], [q, k, v], [g]), paddle.grad([wanted], dense, [g]), strict=True):
        assert near(found, right.numpy())


@FORMATS
def test_add_and_its_gradients(form: str) -> None:
    a, b = Made(form, seed=1), Made(form, seed=2, index="int32")
    out = sparse.add(a.tensor, b.tensor)
    assert out.is_sparse_coo() == (form != "csr")
    assert near(paddle.to_tensor(dense_of(out)), a.dense + b.dense)
    found = sparse.values(out)
    assert found.shape[0] == np.count_nonzero(a.spread(np.ones(len(a.places[0]))) + b.spread(np.ones(len(b.places[0]))))
    g = random(found.shape[0], seed=3)
    da, db = paddle.grad([found], [a.leaf, b.leaf], [g])
    spread = np.zeros(a.shape)
    rows, columns = sparse.to_coo(out).indices().numpy()
    spread[rows, columns] = g.numpy()
    assert near(da, a.picked(spread))
    assert near(db, b.picked(spread))


@FORMATS
@pytest.mark.parametrize("shape", [(37, 23), (2, 9, 11)])
def test_conversions_sort_and_join_and_carry_gradients(form: str, shape: tuple[int, ...]) -> None:
    made = Made(form, shape)
    csr = sparse.to_csr(made.tensor)
    assert csr.is_sparse_csr()
    assert near(paddle.to_tensor(dense_of(csr)), made.dense)
    crows = csr.crows().numpy().reshape(-1, shape[-2] + 1)
    starts = np.concatenate([[0], np.cumsum(crows[:, -1])])
    for matrix, pointer in enumerate(crows):
        for begin, end in itertools.pairwise(pointer):
            row = csr.cols().numpy()[starts[matrix] + begin : starts[matrix] + end]
            assert (np.diff(row) > 0).all()
    g = random(csr.cols().shape[0], seed=3)
    (dv,) = paddle.grad([sparse.values(csr)], [made.leaf], [g])
    back = sparse.to_coo(csr)
    spread = np.zeros(shape)
    spread[tuple(back.indices().numpy())] = g.numpy()
    assert near(dv, made.picked(spread))
    assert near(paddle.to_tensor(dense_of(sparse.coalesce(made.tensor))), made.dense)
    assert sparse.coalesce(made.tensor).is_sparse_coo() == (form != "csr")


def test_a_coo_tensor_of_paddles_making_gets_its_gradient() -> None:
    indices = paddle.to_tensor([[1, 0, 1], [2, 1, 0]])
    leaf = paddle.to_tensor([1.0, 2.0, 3.0], stop_gradient=False)
    x = paddle.sparse.sparse_coo_tensor(indices, leaf, [2, 3], stop_gradient=False)
    sparse.matmul(x, paddle.to_tensor([[1.0], [10.0], [100.0]])).sum().backward()
    assert leaf.grad.tolist() == [100, 10, 1]


def test_a_csr_tensor_of_paddles_making_is_taken_without_a_gradient_and_refused_with_one() -> None:
    crows, cols, v = paddle.to_tensor([0, 1, 2]), paddle.to_tensor([1, 0]), paddle.to_tensor([2.0, 3.0])
    plain = paddle.sparse.sparse_csr_tensor(crows, cols, v, [2, 2])
    y = paddle.to_tensor([[1.0], [10.0]])
    assert sparse.matmul(plain, y).tolist() == [[20], [3]]
    asking = paddle.sparse.sparse_csr_tensor(crows, cols, v, [2, 2], stop_gradient=False)
    with pytest.raises(Refusal, match="carries no gradient") as caught:
        sparse.matmul(asking, y)
    assert "csr_tensor" in caught.value.why
    with paddle.no_grad():
        assert sparse.matmul(asking, y).tolist() == [[20], [3]]


def test_no_grad_and_frozen_inputs_record_nothing() -> None:
    made, y = Made("csr"), random(23, 4)
    with paddle.no_grad():
        assert sparse.matmul(made.tensor, y).stop_gradient
        assert sparse.values(sparse.softmax(made.tensor)).stop_gradient
    y.stop_gradient = True
    out = sparse.matmul(made.tensor, y)
    (dv,) = paddle.grad([out.sum()], [made.leaf])
    assert near(dv, made.picked(np.ones((37, 4)) @ y.numpy().T))


def test_a_second_gradient_is_that_of_the_formula() -> None:
    made, y = Made("coo"), random(23, 4)
    out = sparse.matmul(made.tensor, y)
    (dv,) = paddle.grad([(out * out).sum()], [made.leaf], create_graph=True)
    (second,) = paddle.grad([dv.sum()], [y])
    ones = made.spread(np.ones(len(made.places[0])))
    assert near(second, 2 * (ones.T @ (made.dense @ y.numpy()) + made.dense.T @ (ones @ y.numpy())))


def test_one_gradient_is_had_where_the_other_is_not_asked_for() -> None:
    made, y = Made("csr"), random(23, 4)
    out = sparse.matmul(made.tensor, y)
    (dv,) = paddle.grad([out.sum()], [made.leaf], retain_graph=True)
    (dy,) = paddle.grad([out.sum()], [y])
    assert near(dv, made.picked(np.ones((37, 4)) @ y.numpy().T))
    assert near(dy, made.dense.T @ np.ones((37, 4)))


def test_the_softmax_says_that_it_has_no_second_gradient() -> None:
    made = Made("csr")
    p = sparse.values(sparse.softmax(made.tensor))
    (dv,) = paddle.grad([(p * p).sum()], [made.leaf], create_graph=True)
    with pytest.raises(OSError, match="no second gradient"):
        paddle.grad([dv.sum()], [made.leaf])


def test_recomputed_layers_have_the_same_gradients() -> None:
    from paddle.distributed.fleet.utils import recompute

    made, y = Made("csr", dtype="float32"), random(23, 6, dtype="float32")

    def layer(v: Any, dense: Any) -> Any:
        return sparse.matmul(sparse.csr_tensor(made.tensor.crows(), made.tensor.cols(), v, made.shape), dense)

    plain = paddle.grad([layer(made.leaf, y).sum()], [made.leaf, y])
    recompute(layer, made.leaf, y).sum().backward()
    assert np.array_equal(made.leaf.grad.numpy(), plain[0].numpy())
    assert np.array_equal(y.grad.numpy(), plain[1].numpy())


@FORMATS
def test_the_bits_do_not_depend_on_the_threads(form: str) -> None:
    made, y = Made(form, (300, 200), "float32"), random(200, 70, dtype="float32")
    found = []
    for threads in (1, 2, 5):
        out = sparse.matmul(made.tensor, y, threads=threads)
        total = sparse.add(made.tensor, made.tensor, threads=threads)
        found.append([out, *paddle.grad([(out * out).sum()], [made.leaf, y]), sparse.values(total)])
    for others in found[1:]:
        for one, other in zip(found[0], others, strict=True):
            assert one.numpy().tobytes() == other.numpy().tobytes()


@pytest.mark.parametrize("form", ["csr", "coo"])
@pytest.mark.parametrize(("rows", "columns", "width"), [(3, 4, 2), (0, 4, 2), (3, 0, 2), (3, 4, 0)])
def test_matrices_without_entries_rows_columns_or_width(form: str, rows: int, columns: int, width: int) -> None:
    v = paddle.zeros([0], "float32")
    v.stop_gradient = False
    if form == "csr":
        x = sparse.csr_tensor(paddle.zeros([rows + 1], "int64"), paddle.zeros([0], "int64"), v, [rows, columns])
    else:
        x = sparse.coo_tensor(paddle.zeros([2, 0], "int64"), v, [rows, columns])
    y = random(columns, width, dtype="float32")
    out = sparse.matmul(x, y)
    assert out.shape == [rows, width]
    assert not out.numpy().any()
    assert sparse.values(sparse.softmax(x)).shape == [0]
    assert list(sparse.add(x, x).shape) == [rows, columns]
    assert sparse.values(sparse.to_csr(x)).shape == [0]


def test_a_strided_dense_matrix_is_read_as_it_is() -> None:
    made, y = Made("csr"), random(8, 23)
    assert near(sparse.matmul(made.tensor, y.t()), made.dense @ y.numpy().T)


@pytest.mark.parametrize(
    ("crows", "cols"),
    [([0, 1, 2], [0, 3]), ([0, 1, 2], [0, -1]), ([0, 2, 1], [0]), ([0, 1, 2**40], [0, 1]), ([1, 1, 2], [0, 1])],
)
def test_places_outside_the_matrix_are_refused_and_not_read(crows: list[int], cols: list[int]) -> None:
    v = paddle.ones([len(cols)])
    x = sparse.csr_tensor(paddle.to_tensor(crows), paddle.to_tensor(cols), v, [2, 3])
    runs: list[Callable[[], Any]] = [
        lambda: sparse.matmul(x, paddle.ones([3, 2])),
        lambda: sparse.to_csr(x),
        lambda: sparse.add(x, x),
    ]
    for run in runs:
        with pytest.raises(Refusal) as caught:
            run()
        assert "must rise" in caught.value.why


@pytest.mark.parametrize("index", [[[0, 2], [0, 0]], [[0, -1], [0, 0]], [[0, 1], [0, 3]]])
def test_indices_outside_a_coo_matrix_are_refused(index: list[list[int]]) -> None:
    raw = paddle.base.core.eager.sparse_coo_tensor(paddle.to_tensor(index), paddle.ones([2]), [2, 3], True)
    with pytest.raises(Refusal):
        sparse.matmul(raw, paddle.ones([3, 2]))


def test_what_does_not_fit_is_said_with_its_shapes() -> None:
    x = Made("csr").tensor
    refusals: dict[str, Callable[[], Any]] = {
        "x and y do not fit": lambda: sparse.matmul(x, random(22, 4)),
        "y must be float64": lambda: sparse.matmul(x, random(23, 4, dtype="float32")),
        "x must be a sparse tensor": lambda: sparse.matmul(random(3, 3), random(3, 3)),
        "y must be a dense tensor": lambda: sparse.matmul(x, x),
        "one shape and one type": lambda: sparse.add(x, Made("csr", (37, 24)).tensor),
        "the factors and the mask": lambda: sparse.masked_matmul(random(37, 5), random(5, 22), x),
        "last axis": lambda: sparse.softmax(x, axis=0),
        "query must be": lambda: sparse.attention(random(3, 4), random(3, 4), random(3, 4), x),
        "must be float32 or float64": lambda: sparse.matmul(
            sparse.csr_tensor(x.crows(), x.cols(), x.values().astype("float16"), x.shape), random(23, 4)
        ),
    }
    for what, run in refusals.items():
        with pytest.raises(Refusal, match=what):
            run()
