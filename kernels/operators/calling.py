"""An operator, calls of it with arrays for tensors, and what its outputs should be."""

from __future__ import annotations

import contextlib
import inspect
import re
from types import MappingProxyType
from typing import Any, Callable, Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple

import numpy as np
import paddle

LARGE = 131077
FLOATS = ("float32", "float64")
# Of the largest value: a float64 result that was computed in float32 is wrong by 1e-8 or so.
TOLERANCES = {"float32": 2e-5, "float64": 1e-10}
SEED = 2024
PADDLE_ERROR = re.compile(r"Error: |^\((?:[A-Z][a-z]+)+\) ")
Reference = Optional[Callable[..., Any]]
Arrays = Optional[List[np.ndarray]]
Arguments = Optional[List[Any]]
Path = Tuple[int, ...]


class Finding(NamedTuple):
    """What one check found: its name, whether all is well, and a sentence."""

    check: str
    good: bool
    message: str


class Operator(NamedTuple):
    """An operator to check.

    Attributes:
        name: what it is called.
        call: the Paddle function.
        reference: the same by NumPy on float64 arrays, or None.
        samples: positional arguments; arrays become tensors.
        elementwise: whether every array may have another common shape.
        inplace: the places of the inputs that are written in place, by the output that each becomes.
    """

    name: str
    call: Callable[..., Any]
    reference: Reference
    samples: Sequence[Tuple[Any, ...]]
    elementwise: bool
    inplace: Mapping[int, int] = MappingProxyType({})


def is_array(value: Any) -> bool:
    """Tell whether an argument becomes a tensor."""
    return isinstance(value, np.ndarray)


def is_floating(array: np.ndarray) -> bool:
    """Tell whether an array holds real floating-point numbers."""
    return bool(np.issubdtype(array.dtype, np.floating))


def each_array(argument: Any, change: Callable[[np.ndarray], Any]) -> Any:
    """Return an argument changed where it is an array, or a list of arrays."""
    if is_array(argument):
        return change(argument)
    if isinstance(argument, (list, tuple)) and argument and all(map(is_array, argument)):
        return [change(array) for array in argument]
    return argument


def cast(arguments: Sequence[Any], dtype: str) -> List[Any]:
    """Return arguments whose floating arrays have a dtype."""
    return [
        each_array(argument, lambda array: array.astype(dtype) if is_floating(array) else array)
        for argument in arguments
    ]


def tensors(arguments: Sequence[Any], *, differentiable: bool = False) -> List[Any]:
    """Return arguments with tensors in place of arrays."""

    def tensor(array: np.ndarray) -> Any:
        return paddle.to_tensor(array, stop_gradient=not (differentiable and is_floating(array)))

    return [each_array(argument, tensor) for argument in arguments]


def leaves(arguments: Sequence[Any], kind: type) -> Dict[Path, Any]:
    """Return the arguments of a kind by their places: ``(2,)``, or ``(2, 0)`` for the first of a list."""
    found: Dict[Path, Any] = {}
    for place, argument in enumerate(arguments):
        if isinstance(argument, (list, tuple)):
            found.update({(place, number): one for number, one in enumerate(argument)})
        else:
            found[(place,)] = argument
    return {path: one for path, one in found.items() if isinstance(one, kind)}


def listed(value: Any) -> List[Any]:
    """Return outputs as a list, without those that are left out."""
    outputs = list(value) if isinstance(value, (list, tuple)) else [value]
    return [output for output in outputs if output is not None]


def inplace_of(operator: Operator) -> Dict[int, int]:
    """Return which input each output is written into: as SetInplaceMap says, or a name that ends in ``_``."""
    names = {operator.name, getattr(operator.call, "__name__", operator.name)}
    for name in names:
        with contextlib.suppress(RuntimeError):  # it is no operator of an extension
            declared: Dict[int, int] = paddle.base.core.eager._get_custom_operator_inplace_map(name)  # noqa: SLF001
            if declared:
                return declared
    return {0: 0} if any(re.search(r"[^_]_$", name) for name in names) else {}


def writable(operator: Operator, given: Sequence[Any]) -> List[Any]:
    """Return arguments with copies in place of leaves that want a gradient and are written: Paddle refuses those."""
    return [
        one.clone()
        if place in operator.inplace.values()
        and isinstance(one, paddle.Tensor)
        and one.is_leaf
        and not one.stop_gradient
        else one
        for place, one in enumerate(given)
    ]


def outputs_of(operator: Operator, given: Sequence[Any]) -> List[Any]:
    """Return the tensors that a call returns; each call draws the same random numbers.

    Raises:
        TypeError: it returns something else.
    """
    paddle.seed(SEED)
    outputs = listed(operator.call(*writable(operator, given)))
    for output in outputs:
        if not isinstance(output, paddle.Tensor):
            raise TypeError(f"it returns a {type(output).__name__}: only tensors, or a list of them, can be checked")
    return outputs


def run(operator: Operator, arguments: Sequence[Any]) -> List[np.ndarray]:
    """Return the outputs of a call as arrays."""
    with paddle.no_grad():
        return [output.numpy().copy() for output in outputs_of(operator, tensors(arguments))]


def draws_random_numbers(operator: Operator) -> bool:
    """Tell whether a call takes numbers from Paddle's generator."""
    run(operator, operator.samples[0])
    after = paddle.rand([4]).numpy()
    paddle.seed(SEED)
    return bool((after != paddle.rand([4]).numpy()).any())


def by_reference(reference: Callable[..., Any], arguments: Sequence[Any]) -> List[np.ndarray]:
    """Return what a reference says in float64."""
    with np.errstate(all="ignore"):
        return [np.asarray(output) for output in listed(reference(*cast(arguments, "float64")))]


def expected(operator: Operator, arguments: Sequence[Any]) -> Arrays:
    """Return what the reference says in float64; None where there is none, or it takes no such input."""
    if operator.reference is None:
        return None
    try:
        return by_reference(operator.reference, arguments)
    except Exception:  # noqa: BLE001 - a reference may refuse a shape
        return None


def differs(got: np.ndarray, wanted: np.ndarray, tolerance: float) -> str:
    """Return how an array differs from what is wanted; empty where it does not."""
    if got.shape != wanted.shape:
        return f"its shape is {list(got.shape)} and should be {list(wanted.shape)}"
    if not got.size:
        return ""
    wide = "complex128" if np.iscomplexobj(got) or np.iscomplexobj(wanted) else "float64"
    a, b = np.asarray(got, wide), np.asarray(wanted, wide)
    for test, word in ((np.isnan, "nan"), (np.isinf, "inf")):
        if (test(a) != test(b)).any():
            place = np.argwhere(np.atleast_1d(test(a) != test(b)))[0].tolist()
            return f"{word} at {place} on one side only"
    fine = np.isfinite(b)
    if not fine.any():
        return ""
    scale = max(float(np.abs(b[fine]).max()), 1e-30)
    error = np.abs(np.subtract(a, b, out=np.zeros_like(a), where=fine))
    worst = float(error.max()) / scale
    if worst <= tolerance:
        return ""
    place = np.unravel_index(int(error.argmax()), error.shape) if error.ndim else ()
    return f"at {list(map(int, place))} it is {a[place]:.8g} and should be {b[place]:.8g} (error {worst:.2g})"


def reshaped(operator: Operator, shape: Tuple[int, ...], seed: int = 1) -> Arguments:
    """Return the first sample's arguments with other values in another shape; None where shapes are not free."""
    if not operator.elementwise:
        return None
    generator = np.random.default_rng(seed)
    return [alike(sample, shape, generator) if is_array(sample) else sample for sample in operator.samples[0]]


def alike(array: np.ndarray, shape: Tuple[int, ...], generator: np.random.Generator) -> np.ndarray:
    """Return random values of an array's kind: truth values, integers of its range, complex or real numbers."""
    if array.dtype == bool:
        return np.asarray(generator.random(shape) < 0.5)  # noqa: PLR2004 - as often as not
    if np.issubdtype(array.dtype, np.integer):
        low, high = (int(array.min()), int(array.max())) if array.size else (0, 1)
        return np.asarray(generator.integers(low, high + 1, shape)).astype(array.dtype)
    if np.iscomplexobj(array):
        return np.asarray(generator.uniform(-2, 2, shape) + 1j * generator.uniform(-2, 2, shape))
    return np.asarray(generator.uniform(-2, 2, shape))


def large(operator: Operator) -> List[Any]:
    """Return large arguments where shapes are free, else the first sample."""
    return reshaped(operator, (LARGE,)) or list(operator.samples[0])


def first_line(error: BaseException) -> str:
    """Return the line of an exception that says what happened: Paddle's stands below a long trace, above its hint."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    said = [line for line in lines if PADDLE_ERROR.search(line)]
    hints = [line for line in lines if line.startswith("[")]
    return (said[-1:] or hints[-1:] or lines or [type(error).__name__])[0][:300]


def is_elementwise(reference: Reference, sample: Sequence[Any]) -> bool:
    """Tell whether an operator takes any common shape of its arrays and returns it, as far as its reference says."""
    arrays = [argument for argument in sample if is_array(argument)]
    if not arrays or len({array.shape for array in arrays}) != 1:
        return False
    if reference is None:
        return False
    try:
        for shape in ((7,), (2, 3, 2)):
            given = [
                argument if not is_array(argument) else np.full(shape, 0.5) if is_floating(argument)
                else alike(argument, shape, np.random.default_rng(0))
                for argument in sample
            ]  # fmt: skip
            if any(np.asarray(output).shape != shape for output in listed(reference(*given))):
                return False
    except Exception:  # noqa: BLE001 - a reference may refuse a shape
        return False
    return True


def arity(call: Callable[..., Any]) -> int:
    """Return how many arguments without a default a function takes before those with one; at least one."""
    try:
        parameters = inspect.signature(call).parameters.values()
    except (TypeError, ValueError):
        return 1
    return max(
        sum(
            parameter.default is parameter.empty and parameter.kind == parameter.POSITIONAL_OR_KEYWORD
            for parameter in parameters
        ),
        1,
    )
