"""What must hold of an operator, whatever it computes. Each check returns findings; an empty list is good.

Gradients are compared with central differences of the operator itself in float64, so that a wrong forward and a wrong
backward are told apart. Checks that need a reference say so where there is none.
"""

from __future__ import annotations

import inspect
import threading
import time
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np
import paddle

FLOATS = ("float32", "float64")
# Of the largest value: a float64 result that was computed in float32 is wrong by 1e-8 or so.
TOLERANCES = {"float32": 2e-5, "float64": 1e-10}
STEP = 1e-6
GRADIENT_TOLERANCE = 1e-5
SHAPES = ((0,), (0, 3), (), (1,), (5,), (19,), (31,), (2, 3, 4), (131077,))
LARGE = 131077
POSITIONS = 8
REPEATS, MOST_REPEATS, REPEAT_S = 6, 100, 1.0
THREADS = 4
ROUNDS = 12


Reference = Optional[Callable[..., Any]]
Arrays = Optional[List[np.ndarray]]
Arguments = Optional[List[Any]]


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
    """

    name: str
    call: Callable[..., Any]
    reference: Reference
    samples: Sequence[Tuple[Any, ...]]
    elementwise: bool


def is_array(value: Any) -> bool:
    """Tell whether an argument becomes a tensor."""
    return isinstance(value, np.ndarray)


def cast(arguments: Sequence[Any], dtype: str) -> List[Any]:
    """Return arguments whose floating arrays have a dtype."""
    return [
        argument.astype(dtype) if is_array(argument) and np.issubdtype(argument.dtype, np.floating) else argument
        for argument in arguments
    ]


def tensors(arguments: Sequence[Any], *, differentiable: bool = False) -> List[Any]:
    """Return arguments with tensors in place of arrays."""
    return [
        paddle.to_tensor(argument, stop_gradient=not (differentiable and np.issubdtype(argument.dtype, np.floating)))
        if is_array(argument)
        else argument
        for argument in arguments
    ]


def listed(value: Any) -> List[Any]:
    """Return outputs as a list."""
    return list(value) if isinstance(value, (list, tuple)) else [value]


def run(operator: Operator, arguments: Sequence[Any]) -> List[np.ndarray]:
    """Return the outputs of a call as arrays."""
    with paddle.no_grad():
        return [output.numpy().copy() for output in listed(operator.call(*tensors(arguments)))]


def expected(operator: Operator, arguments: Sequence[Any]) -> Arrays:
    """Return what the reference says in float64; None where there is none, or it takes no such input."""
    if operator.reference is None:
        return None
    try:
        with np.errstate(all="ignore"):
            return [np.asarray(output) for output in listed(operator.reference(*cast(arguments, "float64")))]
    except Exception:  # noqa: BLE001 - a reference may refuse a shape
        return None


def differs(got: np.ndarray, wanted: np.ndarray, tolerance: float) -> str:
    """Return how an array differs from what is wanted; empty where it does not."""
    if got.shape != wanted.shape:
        return f"its shape is {list(got.shape)} and should be {list(wanted.shape)}"
    if not got.size:
        return ""
    a, b = np.asarray(got, "float64"), np.asarray(wanted, "float64")
    for test, word in ((np.isnan, "nan"), (np.isinf, "inf")):
        if (test(a) != test(b)).any():
            place = np.argwhere(np.atleast_1d(test(a) != test(b)))[0].tolist()
            return f"{word} at {place} on one side only"
    fine = np.isfinite(b)
    if not fine.any():
        return ""
    scale = max(float(np.abs(b[fine]).max()), 1e-30)
    error = np.where(fine, np.abs(a - b), 0.0)
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
    return [
        np.asarray(generator.uniform(-2, 2, shape)) if is_array(sample) else sample for sample in operator.samples[0]
    ]


def large(operator: Operator) -> List[Any]:
    """Return large arguments where shapes are free, else the first sample."""
    return reshaped(operator, (LARGE,)) or list(operator.samples[0])


def check_forward(operator: Operator) -> List[Finding]:
    """Outputs, against the reference, in each dtype."""
    found = []
    for sample in operator.samples:
        for dtype in FLOATS:
            wanted = expected(operator, cast(sample, dtype))
            if wanted is None:
                continue
            for number, (got, right) in enumerate(zip(run(operator, cast(sample, dtype)), wanted)):
                wrong = differs(got, right, TOLERANCES[dtype])
                if wrong:
                    found.append(Finding("forward", False, f"output {number} in {dtype}: {wrong}"))
    return found


def check_shapes(operator: Operator) -> List[Finding]:
    """0-size, 0-D, odd and large shapes."""
    found = []
    for shape in SHAPES:
        arguments = reshaped(operator, shape)
        wanted = None if arguments is None else expected(operator, arguments)
        if arguments is None or wanted is None:
            continue
        try:
            got = run(operator, arguments)
        except Exception as error:  # noqa: BLE001 - whatever it raises is what is told
            found.append(Finding("shapes", False, f"{list(shape)}: {first_line(error)}"))
            continue
        for number, (one, right) in enumerate(zip(got, wanted)):
            wrong = differs(one, right, TOLERANCES["float64"])
            if wrong:
                found.append(Finding("shapes", False, f"{list(shape)}, output {number}: {wrong}"))
    return found


def check_dtypes(operator: Operator) -> List[Finding]:
    """A floating input gives an output of its own dtype, where the reference's is floating, too."""
    found = []
    for dtype in FLOATS:
        wanted = expected(operator, operator.samples[0])
        for number, got in enumerate(run(operator, cast(operator.samples[0], dtype))):
            floating = wanted is None or np.issubdtype(wanted[number].dtype, np.floating)
            if floating and np.issubdtype(got.dtype, np.floating) and str(got.dtype) != dtype:
                found.append(Finding("dtypes", False, f"inputs of {dtype} give output {number} of {got.dtype}"))
    return found


def analytic(operator: Operator, arguments: Sequence[Any], upstream: Sequence[np.ndarray], only: int = -1) -> List[Any]:
    """Return the gradient of each argument (None for those without), for upstream gradients of the outputs."""
    given = tensors(arguments, differentiable=True)
    if only >= 0:
        for place, argument in enumerate(given):
            if hasattr(argument, "stop_gradient") and place != only:
                argument.stop_gradient = True
    outputs = listed(operator.call(*given))
    pairs = [(out, paddle.to_tensor(up)) for out, up in zip(outputs, upstream) if not out.stop_gradient]
    wanted = [argument for argument in given if hasattr(argument, "stop_gradient") and not argument.stop_gradient]
    if not pairs:
        return [None] * len(arguments)
    grads = iter(paddle.grad([a for a, _ in pairs], wanted, [b for _, b in pairs], allow_unused=True))
    return [
        next(grads) if hasattr(argument, "stop_gradient") and not argument.stop_gradient else None for argument in given
    ]


def numeric(
    operator: Operator, arguments: Sequence[Any], upstream: Sequence[np.ndarray], place: int, index: Tuple[int, ...]
) -> float:
    """Return the derivative of the weighted outputs by one element, by central differences."""
    sums = []
    for step in (STEP, -STEP):
        moved = [argument.copy() if is_array(argument) else argument for argument in arguments]
        moved[place][index] += step
        outputs = expected(operator, moved) or run(operator, moved)
        sums.append(sum(float((np.asarray(out, "float64") * up).sum()) for out, up in zip(outputs, upstream)))
    return (sums[0] - sums[1]) / (2 * STEP)


def check_gradients(operator: Operator) -> List[Finding]:
    """Gradients against finite differences: every element of small samples, some of a large one."""
    found: List[Finding] = []
    cases = [(list(sample), False) for sample in operator.samples]
    if operator.elementwise:
        cases.append((large(operator), True))
    for arguments, many in cases:
        generator = np.random.default_rng(3)
        upstream = [generator.uniform(0.5, 1.5, output.shape) for output in run(operator, arguments)]
        grads = analytic(operator, arguments, upstream)
        for place, argument in enumerate(arguments):
            if is_array(argument) and np.issubdtype(argument.dtype, np.floating):
                found += _check_gradient(operator, arguments, upstream, grads, place, many)
    return found


def _check_gradient(
    operator: Operator,
    arguments: Sequence[Any],
    upstream: Sequence[np.ndarray],
    grads: Sequence[Any],
    place: int,
    many: bool,
) -> List[Finding]:
    """Check the gradient of one input: every element, or with ``many`` some of them."""
    argument = arguments[place]
    indices = list(np.ndindex(argument.shape))
    if grads[place] is None:
        # An operator without any gradient is not meant to have one; of a strange one nobody says what its inputs are.
        if operator.reference is None or all(grad is None for grad in grads) or many or not indices:
            return []
        right = numeric(operator, arguments, upstream, place, indices[0])
        missing = abs(right) > GRADIENT_TOLERANCE
        text = f"input {place} gets none, and at {list(indices[0])} it should be {right:.6g}"
        return [Finding("gradients", False, text)] if missing else []
    grad = grads[place].numpy()
    if grad.shape != argument.shape:
        return [Finding("gradients", False, f"input {place}: the gradient's shape is {list(grad.shape)}")]
    if many:
        generator = np.random.default_rng(3)
        rest = [argument.size - 1, *generator.integers(0, argument.size, POSITIONS).tolist()]
        indices = [tuple(map(int, np.unravel_index(flat, argument.shape))) for flat in rest]
    for index in indices:
        # One element of a large sum would drown in its rounding: elements are independent there.
        weights = [np.where(_only(up.shape, index), up, 0.0) for up in upstream] if many else upstream
        right = numeric(operator, arguments, weights, place, index)
        if abs(grad[index] - right) > GRADIENT_TOLERANCE * max(1.0, abs(right)):
            text = f"input {place} at {list(index)}: it is {grad[index]:.6g} and should be {right:.6g}"
            return [Finding("gradients", False, text)]
    return []


def _only(shape: Tuple[int, ...], index: Tuple[int, ...]) -> np.ndarray:
    mask = np.zeros(shape, bool)
    mask[index] = True
    return mask


def check_gradient_dtypes(operator: Operator) -> List[Finding]:
    """Gradients have the dtype of their inputs, and are the same where one input alone wants one."""
    found = []
    for dtype in FLOATS:
        arguments = cast(operator.samples[0], dtype)
        upstream = [np.full(output.shape, 0.5, dtype) for output in run(operator, arguments)]
        every = analytic(operator, arguments, upstream)
        for place, grad in enumerate(every):
            if grad is None:
                continue
            if str(grad.numpy().dtype) != dtype:
                text = f"input {place} of {dtype} has a gradient of {grad.numpy().dtype}"
                found.append(Finding("gradient dtypes", False, text))
            alone = analytic(operator, arguments, upstream, only=place)[place]
            if alone is None or differs(alone.numpy(), grad.numpy(), TOLERANCES[dtype]):
                text = f"input {place} has another gradient where it alone wants one"
                found.append(Finding("gradient dtypes", False, text))
    return found


def check_aliasing(operator: Operator) -> List[Finding]:
    """Nothing that is given is changed, by the forward or the backward, and no output shares memory with an input.

    With ones and zeros for all but one input too: there an operator may hand its input on as it is.
    """
    found = []
    sample = list(operator.samples[0])
    places = [place for place, argument in enumerate(sample) if is_array(argument)]
    neutral = [
        [
            np.full_like(argument, value) if other in places and other != place else argument
            for other, argument in enumerate(sample)
        ]
        for place in places
        for value in (0, 1)
        if len(places) > 1 and operator.elementwise
    ]
    for arguments in [sample, *neutral]:
        for finding in _aliasing(operator, arguments):
            if finding not in found:
                found.append(finding)
    return found


def _aliasing(operator: Operator, arguments: Sequence[Any]) -> List[Finding]:
    """Return what a call with some arguments changes that it should not."""
    found = []
    given = tensors(arguments, differentiable=True)
    held = [argument for argument in given if hasattr(argument, "stop_gradient")]
    before = [tensor.numpy().copy() for tensor in held]
    outputs = listed(operator.call(*given))
    results = [output.numpy().copy() for output in outputs]
    for number, out in enumerate(outputs):
        if any(out.size and out.data_ptr() == tensor.data_ptr() for tensor in held):
            found.append(Finding("aliasing", False, f"output {number} shares its memory with an input"))
    if any((tensor.numpy() != old).any() for tensor, old in zip(held, before)):
        found.append(Finding("aliasing", False, "the forward changes an input"))
    able = [output for output in outputs if not output.stop_gradient]
    if able:
        ups: List[Tuple[Any, np.ndarray]] = []
        for output in able:  # paddle.grad copies what it is given: a hook sees what the backward gets
            output.register_hook(lambda grad: ups.append((grad, grad.numpy().copy())))
        sum((output * 0.5).sum() for output in able).backward()
        if any((grad.numpy() != old).any() for grad, old in ups):
            found.append(Finding("aliasing", False, "the backward changes the gradient that it is given"))
        if any((tensor.numpy() != kept).any() for tensor, kept in zip(held, before)):
            found.append(Finding("aliasing", False, "the backward changes an input"))
        if any((output.numpy() != kept).any() for output, kept in zip(outputs, results)):
            found.append(Finding("aliasing", False, "the backward changes an output"))
    return found


def check_contiguous(operator: Operator) -> List[Finding]:
    """Transposed and strided inputs give what contiguous ones give."""
    found = []
    arguments = reshaped(operator, (3, 4)) or list(operator.samples[0])
    arrays = [argument for argument in arguments if is_array(argument)]
    if not arrays or any(array.ndim != 2 for array in arrays):  # noqa: PLR2004 - a matrix is what is transposed
        return []
    plain = run(operator, arguments)
    with paddle.no_grad():
        strided = [
            paddle.to_tensor(np.ascontiguousarray(argument.T)).transpose([1, 0]) if is_array(argument) else argument
            for argument in arguments
        ]
        got = [output.numpy() for output in listed(operator.call(*strided))]
    for number, (one, right) in enumerate(zip(got, plain)):
        wrong = differs(one, right, TOLERANCES["float64"])
        if wrong:
            found.append(Finding("non-contiguous", False, f"output {number} of transposed inputs: {wrong}"))
    return found


def check_infer_meta(operator: Operator) -> List[Finding]:
    """What InferMeta says in a static program is what the kernel returns."""
    found = []
    for sample in operator.samples[:2]:
        for dtype in FLOATS:
            arguments = cast(sample, dtype)
            got = run(operator, arguments)
            try:
                said = static_meta(operator, arguments)
            except Exception as error:  # noqa: BLE001 - whatever it raises is what is told
                found.append(Finding("InferMeta", False, f"in a static program: {first_line(error)}"))
                break
            if len(said) != len(got):
                text = f"InferMeta says {len(said)} outputs, the kernel returns {len(got)}"
                found.append(Finding("InferMeta", False, text))
                continue
            for number, ((shape, kind), array) in enumerate(zip(said, got)):
                fits = len(shape) == array.ndim and all(a in (-1, b) for a, b in zip(shape, array.shape))
                if not fits:
                    text = f"output {number}: InferMeta says {list(shape)}, the kernel returns {list(array.shape)}"
                    found.append(Finding("InferMeta", False, text))
                if kind != str(array.dtype):
                    text = f"output {number} of {dtype}: InferMeta says {kind}, the kernel returns {array.dtype}"
                    found.append(Finding("InferMeta", False, text))
    return found


def static_meta(operator: Operator, arguments: Sequence[Any]) -> List[Tuple[Tuple[int, ...], str]]:
    """Return the shape and the dtype of each output in a static program."""
    paddle.enable_static()
    try:
        with paddle.static.program_guard(paddle.static.Program()):
            given = [
                paddle.static.data(f"x{place}", list(argument.shape), str(argument.dtype))
                if is_array(argument)
                else argument
                for place, argument in enumerate(arguments)
            ]
            outputs = listed(operator.call(*given))
            return [
                (
                    tuple(output.shape),
                    str(output.dtype).rpartition(".")[2].lower().replace("fp", "float").replace("datatype", ""),
                )
                for output in outputs
            ]
    finally:
        paddle.disable_static()


def check_determinism(operator: Operator) -> List[Finding]:
    """The same inputs give the same bits, whatever was computed between."""
    arguments, other = large(operator), reshaped(operator, (LARGE,), seed=9)
    first = run(operator, arguments)
    end = time.monotonic() + REPEAT_S
    for number in range(MOST_REPEATS):
        if number >= REPEATS and time.monotonic() > end:
            break
        if other is not None and number % 2:
            run(operator, other)
        if any(a.tobytes() != b.tobytes() for a, b in zip(run(operator, arguments), first)):
            return [Finding("determinism", False, f"call {number + 2} with the same inputs gives other bits")]
    return []


def check_threads(operator: Operator) -> List[Finding]:
    """Calls from several threads at once give what calls in a row give."""
    cases = [reshaped(operator, (LARGE // 8,), seed=seed) or list(operator.samples[0]) for seed in range(THREADS)]
    right = [run(operator, case) for case in cases]
    wrong: List[str] = []
    gate = threading.Barrier(THREADS)

    def work(number: int) -> None:
        gate.wait()
        for _ in range(ROUNDS):
            try:
                got = run(operator, cases[number])
            except Exception as error:  # noqa: BLE001 - whatever it raises is what is told
                wrong.append(first_line(error))
                return
            if any(differs(a, b, TOLERANCES["float64"]) for a, b in zip(got, right[number])):
                wrong.append("another result than alone")
                return

    running = [threading.Thread(target=work, args=(number,)) for number in range(THREADS)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    return [Finding("threads", False, f"{THREADS} threads at once: {wrong[0]}")] if wrong else []


def check_special(operator: Operator) -> List[Finding]:
    """NaN and infinity come through as they do in the reference."""
    if not operator.elementwise or operator.reference is None:
        return []
    values = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 1e300, 700.0, -700.0])
    arguments = [np.ones_like(values) if is_array(sample) else sample for sample in operator.samples[0]]
    found = []
    for place, argument in enumerate(arguments):
        if not is_array(argument):
            continue
        special = [values if number == place else one for number, one in enumerate(arguments)]
        wanted = expected(operator, special)
        for number, got in enumerate(run(operator, special)):
            wrong = differs(got, wanted[number], 1e-6) if wanted is not None else ""
            if wrong:
                found.append(Finding("special values", False, f"input {place}, output {number}: {wrong}"))
    return found


CHECKS: Dict[str, Callable[[Operator], List[Finding]]] = {
    "forward": check_forward,
    "dtypes": check_dtypes,
    "InferMeta": check_infer_meta,
    "gradients": check_gradients,
    "gradient dtypes": check_gradient_dtypes,
    "aliasing": check_aliasing,
    "non-contiguous": check_contiguous,
    "special values": check_special,
    "determinism": check_determinism,
    "threads": check_threads,
    "shapes": check_shapes,  # a kernel that cannot take 0 elements may end the process: last
}
NEED_REFERENCE = frozenset({"forward", "shapes", "special values"})


def first_line(error: BaseException) -> str:
    """Return the line of an exception that says what happened: Paddle's stand below a long trace."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    marked = [line for line in lines if "Error:" in line or line.startswith("[")]
    return (marked or lines or [type(error).__name__])[-1 if marked else 0][:300]


def speed(operator: Operator) -> float:
    """Return the median time of a call on a large input, in ms."""
    given = tensors(large(operator))
    times = []
    with paddle.no_grad():
        for _ in range(9):
            begin = time.perf_counter()
            for output in listed(operator.call(*given)):
                float(output.flatten()[0]) if output.size else None
            times.append((time.perf_counter() - begin) * 1e3)
    return sorted(times[2:])[len(times[2:]) // 2]


def check(operator: Operator, name: str) -> List[Finding]:
    """Run one check."""
    if name in NEED_REFERENCE and operator.reference is None:
        return []
    try:
        found = CHECKS[name](operator)
    except Exception as error:  # noqa: BLE001 - an operator that raises is what is told
        return [Finding(name, False, f"{type(error).__name__}: {first_line(error)}")]
    return found


def is_elementwise(reference: Reference, sample: Sequence[Any]) -> bool:
    """Tell whether an operator takes any common shape of its arrays and returns it, as far as its reference says."""
    arrays = [argument for argument in sample if is_array(argument)]
    if not arrays or len({array.shape for array in arrays}) != 1:
        return False
    if reference is None:
        return False
    try:
        for shape in ((7,), (2, 3, 2)):
            given = [np.full(shape, 0.5) if is_array(argument) else argument for argument in sample]
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
