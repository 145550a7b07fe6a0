"""What is right: attention and its gradients in float64, with NumPy alone, a block of one head's queries at a time."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np

from .case import Arrays, Case, rounded

Array = np.ndarray[Any, Any]

NAMES = ("out", "dq", "dk", "dv")
QUERIES = 256
# A float32 or float64 result may differ by this much of the largest value of the reference: room for sums of thousands
# of terms, and a hundredth of what a wrong mask, scale or head does.
SHARE = {"float64": 1e-12, "float32": 1e-5}
# What low precision may differ by beyond twice the error of the plain algorithm in that precision.
FLOOR = {"float16": 1e-4, "bfloat16": 1e-3}


@dataclass(frozen=True)
class Result:
    """An attention's output and gradients."""

    out: Array
    dq: Array
    dk: Array
    dv: Array


@dataclass(frozen=True)
class Expected:
    """The result in float64, and how far from it each part of a right one may be."""

    result: Result
    tolerance: dict[str, float]


@dataclass(frozen=True)
class Comparison:
    """The largest absolute error over the four parts, and what is wrong, if anything is."""

    max_error: float
    complaint: str


def expected(case: Case, inputs: Arrays) -> Expected:
    """Return the reference of a case.

    The rule for low precision is the field's: an error of at most twice that of the plain algorithm carried out in the
    same precision, each intermediate result rounded to it.
    """
    exact = attention(case, inputs, np.float64)
    if case.dtype in SHARE and case.inputs == "normal":
        share = SHARE[case.dtype]
        return Expected(exact, {name: share * max(1.0, _largest(getattr(exact, name))) for name in NAMES})
    wide = np.float64 if case.dtype == "float64" else np.float32
    plain = attention(case, inputs, wide, case.dtype)
    floor = FLOOR.get(case.dtype) or SHARE[case.dtype]
    return Expected(
        exact,
        {
            name: 2 * _largest(getattr(plain, name) - getattr(exact, name)) + floor * _largest(getattr(exact, name))
            for name in NAMES
        },
    )


def compare(result: Result, reference: Expected) -> Comparison:
    """Compare all four parts with the reference; a value that is not a number is wrong whatever the others are."""
    errors = {name: _largest(np.asarray(getattr(result, name)) - getattr(reference.result, name)) for name in NAMES}
    wrong = [name for name in NAMES if not errors[name] <= reference.tolerance[name]]
    complaint = ", ".join(
        f"{name} is off by {errors[name]:.2g} (allowed: {reference.tolerance[name]:.2g})" for name in wrong
    )
    largest = float("nan") if any(np.isnan(error) for error in errors.values()) else max(errors.values())
    return Comparison(largest, complaint)


def attention(case: Case, inputs: Arrays, wide: Any, dtype: str = "float64") -> Result:
    """Return softmax(scale q kᵀ + mask) v and its gradients, computed in ``wide``.

    Every intermediate result is rounded to ``dtype``. A query that sees no key gives 0. Memory: the result and
    one head's seqlen_k x 256 scores a few times over.
    """

    def narrow(x: Array) -> Array:
        return rounded(x, dtype) if dtype in FLOOR else x

    out, dq = np.zeros(case.q_shape, wide), np.zeros(case.q_shape, wide)
    dk, dv = np.zeros(case.k_shape, wide), np.zeros(case.k_shape, wide)
    scale = wide(case.factor)
    bias = case.added()
    for b, first in itertools.product(range(case.batch), range(0, case.seqlen_q, QUERIES)):
        end = min(first + QUERIES, case.seqlen_q)
        visible = case.seen(b, first, end)
        columns = np.flatnonzero(visible.any(axis=0))
        if columns.size == 0:
            continue
        keys = slice(int(columns[0]), int(columns[-1]) + 1)
        visible = visible[:, keys]
        for h in range(case.heads):
            at = b, keys, h // case.group
            k, v = inputs.k[at].astype(wide), inputs.v[at].astype(wide)
            rows = b, slice(first, end), h
            q, dout = inputs.q[rows].astype(wide), inputs.dout[rows].astype(wide)
            scores = narrow((q @ k.T) * scale)
            if bias is not None:
                scores = narrow(scores + bias[first:end, keys])
            scores[~visible] = -np.inf
            top = scores.max(axis=1, keepdims=True)
            p = np.exp(scores - np.where(np.isfinite(top), top, 0))
            total = p.sum(axis=1, keepdims=True)
            p = narrow(p / np.where(total == 0, 1, total))
            out[rows] = narrow(p @ v)
            dp = narrow(dout @ v.T)
            ds = narrow(p * (dp - (p * dp).sum(axis=1, keepdims=True)))
            dq[rows] = narrow((ds @ k) * scale)
            dk[at] += (ds.T @ q) * scale
            dv[at] += p.T @ dout
    return Result(out, dq, narrow(dk), narrow(dv))


def _largest(x: Array) -> float:
    return float(np.max(np.abs(x)))
