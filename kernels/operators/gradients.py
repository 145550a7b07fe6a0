"""Gradients of an operator, against central differences of its reference (its own where it has none) in float64."""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, Sequence, Tuple

import numpy as np
import paddle

from .calling import (
    FLOATS,
    LARGE,
    TOLERANCES,
    Finding,
    Operator,
    Path,
    cast,
    differs,
    each_array,
    expected,
    is_floating,
    large,
    leaves,
    outputs_of,
    run,
    tensors,
)  # fmt: skip

STEP = 1e-6
GRADIENT_TOLERANCE = 1e-5
POSITIONS = 8


def analytic(
    operator: Operator, arguments: Sequence[Any], upstream: Sequence[np.ndarray], only: Path | None = None
) -> Dict[Path, Any]:
    """Return the gradient of each tensor (None for those without), for upstream gradients of the outputs."""
    given = tensors(arguments, differentiable=True)
    held = leaves(given, paddle.Tensor)
    for path, tensor in held.items():
        if only is not None and path != only:
            tensor.stop_gradient = True
    # Before the call: what it writes in place may want a gradient after it.
    wanted = {path: tensor for path, tensor in held.items() if not tensor.stop_gradient}
    outputs = outputs_of(operator, given)
    pairs = [(out, paddle.to_tensor(up)) for out, up in zip(outputs, upstream) if not out.stop_gradient]
    found: Dict[Path, Any] = dict.fromkeys(held)
    if pairs and wanted:
        inputs = list(wanted.values())
        grads = paddle.grad([out for out, _ in pairs], inputs, [up for _, up in pairs], allow_unused=True)
        found.update(zip(wanted, grads))
    return found


def numeric(
    operator: Operator, arguments: Sequence[Any], upstream: Sequence[np.ndarray], path: Path, index: Tuple[int, ...]
) -> float:
    """Return the derivative of the weighted outputs by one element, by central differences."""
    sums = []
    for step in (STEP, -STEP):
        moved = [each_array(argument, np.copy) for argument in arguments]
        leaves(moved, np.ndarray)[path][index] += step
        outputs = expected(operator, moved) or run(operator, moved)
        sums.append(sum(float((np.asarray(out, "float64") * up).sum()) for out, up in zip(outputs, upstream)))
    return (sums[0] - sums[1]) / (2 * STEP)


def place_of(path: Path) -> str:
    """Return how an input is named: ``input 2``, or ``input 2[0]`` for the first of a list."""
    return f"input {path[0]}" + "".join(f"[{number}]" for number in path[1:])


def check_gradients(operator: Operator) -> List[Finding]:
    """Gradients against finite differences: every element of small samples, some of a large one."""
    found: List[Finding] = []
    if any(map(np.iscomplexobj, run(operator, operator.samples[0]))):
        return [Finding("gradients", True, "an output is complex")]
    cases = [(list(sample), False) for sample in operator.samples]
    if operator.elementwise and all(output.shape == (LARGE,) for output in run(operator, large(operator))):
        cases.append((large(operator), True))
    for arguments, many in cases:
        generator = np.random.default_rng(3)
        upstream = [generator.uniform(0.5, 1.5, output.shape) for output in run(operator, arguments)]
        grads = analytic(operator, arguments, upstream)
        for path, array in leaves(arguments, np.ndarray).items():
            if is_floating(array):
                found += _check_gradient(operator, arguments, upstream, grads, path, many)
    return found


def _check_gradient(
    operator: Operator,
    arguments: Sequence[Any],
    upstream: Sequence[np.ndarray],
    grads: Mapping[Path, Any],
    path: Path,
    many: bool,
) -> List[Finding]:
    """Check the gradient of one input: every element, or with ``many`` some of them."""
    array = leaves(arguments, np.ndarray)[path]
    indices = list(np.ndindex(array.shape))
    if grads[path] is None:
        # An operator without any gradient is not meant to have one; of a strange one nobody says what its inputs are.
        if operator.reference is None or all(grad is None for grad in grads.values()) or many or not indices:
            return []
        right = numeric(operator, arguments, upstream, path, indices[0])
        missing = abs(right) > GRADIENT_TOLERANCE
        text = f"{place_of(path)} gets none, and at {list(indices[0])} it should be {right:.6g}"
        return [Finding("gradients", False, text)] if missing else []
    grad = grads[path].numpy()
    if grad.shape != array.shape:
        return [Finding("gradients", False, f"{place_of(path)}: the gradient's shape is {list(grad.shape)}")]
    if many:
        generator = np.random.default_rng(3)
        rest = [array.size - 1, *generator.integers(0, array.size, POSITIONS).tolist()]
        indices = [tuple(map(int, np.unravel_index(flat, array.shape))) for flat in rest]
    for index in indices:
        # One element of a large sum would drown in its rounding: elements are independent there.
        weights = [np.where(_only(up.shape, index), up, 0.0) for up in upstream] if many else upstream
        right = numeric(operator, arguments, weights, path, index)
        if abs(grad[index] - right) > GRADIENT_TOLERANCE * max(1.0, abs(right)):
            text = f"{place_of(path)} at {list(index)}: it is {grad[index]:.6g} and should be {right:.6g}"
            return [Finding("gradients", False, text)]
    return []


def _only(shape: Tuple[int, ...], index: Tuple[int, ...]) -> np.ndarray:
    mask = np.zeros(shape, bool)
    mask[index] = True
    return mask


def check_gradient_dtypes(operator: Operator) -> List[Finding]:
    """Gradients have the dtype of their inputs, and are the same where one input alone wants one."""
    found: List[Finding] = []
    if any(map(np.iscomplexobj, run(operator, operator.samples[0]))):
        return found
    for dtype in FLOATS:
        arguments = cast(operator.samples[0], dtype)
        upstream = [np.full(output.shape, 0.5, dtype) for output in run(operator, arguments)]
        for path, grad in analytic(operator, arguments, upstream).items():
            if grad is None:
                continue
            if str(grad.numpy().dtype) != dtype:
                text = f"{place_of(path)} of {dtype} has a gradient of {grad.numpy().dtype}"
                found.append(Finding("gradient dtypes", False, text))
            alone = analytic(operator, arguments, upstream, only=path)[path]
            if alone is None or differs(alone.numpy(), grad.numpy(), TOLERANCES[dtype]):
                text = f"{place_of(path)} has another gradient where it alone wants one"
                found.append(Finding("gradient dtypes", False, text))
    return found
