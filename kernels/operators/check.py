"""What must hold of an operator, whatever it computes. Each check returns findings; an empty list is good.

Checks that need a reference say so where there is none.
"""

from __future__ import annotations

import contextlib
import threading
import time
from typing import Any, Callable, Dict, List, Sequence, Tuple

import numpy as np
import paddle

from .calling import (
    FLOATS,
    LARGE,
    TOLERANCES,
    Finding,
    Operator,
    cast,
    differs,
    draws_random_numbers,
    each_array,
    expected,
    first_line,
    is_array,
    is_floating,
    large,
    leaves,
    outputs_of,
    reshaped,
    run,
    tensors,
    writable,
)  # fmt: skip
from .gradients import analytic, check_gradient_dtypes, check_gradients, place_of
from .infer_meta import check_infer_meta, fits, static_meta

SHAPES = ((), (1,), (5,), (19,), (31,), (2, 3, 4), (131077,))
REPEATS, MOST_REPEATS, REPEAT_S = 6, 100, 1.0
THREADS = 4
ROUNDS = 12


def check_forward(operator: Operator) -> List[Finding]:
    """Outputs, against the reference, in each dtype."""
    found = []
    for sample in operator.samples:
        for dtype in FLOATS:
            wanted = expected(operator, cast(sample, dtype))
            if wanted is None:
                continue
            outputs = run(operator, cast(sample, dtype))
            if len(outputs) != len(wanted):
                text = f"it returns {len(outputs)} outputs, the reference {len(wanted)}"
                found.append(Finding("forward", False, text))
            for number, (got, right) in enumerate(zip(outputs, wanted)):
                wrong = differs(got, right, TOLERANCES[dtype])
                if wrong:
                    found.append(Finding("forward", False, f"output {number} in {dtype}: {wrong}"))
    return list(dict.fromkeys(found))


def check_shapes(operator: Operator) -> List[Finding]:
    """0-D, odd and large shapes."""
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
            floating = wanted is None or all(
                np.issubdtype(one.dtype, np.floating) for one in wanted[number : number + 1]
            )
            if floating and np.issubdtype(got.dtype, np.floating) and str(got.dtype) != dtype:
                found.append(Finding("dtypes", False, f"inputs of {dtype} give output {number} of {got.dtype}"))
    return found


def check_aliasing(operator: Operator) -> List[Finding]:
    """Nothing that is given is changed, by the forward or the backward, and no output shares memory with an input.

    What is declared in-place is excepted, and must be in-place. With ones and zeros for all but one input too: there an
    operator may hand its input on as it is.
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
    given = writable(operator, tensors(arguments, differentiable=True))
    held = leaves(given, paddle.Tensor)
    before = {path: tensor.numpy().copy() for path, tensor in held.items()}
    outputs = outputs_of(operator, given)
    results = [output.numpy().copy() for output in outputs]
    for number, out in enumerate(outputs):
        sharing = {path for path, tensor in held.items() if out.size and out.data_ptr() == tensor.data_ptr()}
        own = operator.inplace.get(number)
        if sharing - {(own,)}:
            found.append(Finding("aliasing", False, f"output {number} shares its memory with an input"))
        if own is not None and out.size and (own,) not in sharing:
            text = f"output {number} is in-place by its declaration, and input {own} is not what it is written into"
            found.append(Finding("aliasing", False, text))
    written = {(place,) for place in operator.inplace.values()}
    if any((tensor.numpy() != before[path]).any() for path, tensor in held.items() if path not in written):
        found.append(Finding("aliasing", False, "the forward changes an input"))
    before = {path: tensor.numpy().copy() for path, tensor in held.items()}
    able = [output for output in outputs if not output.stop_gradient]
    if able:
        ups: List[Tuple[Any, np.ndarray]] = []
        for output in able:  # paddle.grad copies what it is given: a hook sees what the backward gets
            output.register_hook(lambda grad: ups.append((grad, grad.numpy().copy())))
        sum((output * 0.5).sum() for output in able).backward()
        if any((grad.numpy() != old).any() for grad, old in ups):
            found.append(Finding("aliasing", False, "the backward changes the gradient that it is given"))
        if any((tensor.numpy() != before[path]).any() for path, tensor in held.items()):
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
        got = [output.numpy() for output in outputs_of(operator, strided)]
    for number, (one, right) in enumerate(zip(got, plain)):
        wrong = differs(one, right, TOLERANCES["float64"])
        if wrong:
            found.append(Finding("non-contiguous", False, f"output {number} of transposed inputs: {wrong}"))
    return found


def check_empty(operator: Operator) -> List[Finding]:
    """Inputs without elements, forward and backward: the first sample, cut to nothing in its first or last dimension.

    Without a reference nobody says that an operator must take them, so that only what it returns is compared: with
    InferMeta, and each gradient's shape with its input's.
    """
    found = []
    for end in ((), (Ellipsis,)):

        def cut(array: np.ndarray, end: Any = end) -> np.ndarray:
            return np.asarray(array[(*end, slice(0))]) if array.ndim else array

        arguments = [each_array(argument, cut) for argument in operator.samples[0]]
        shapes = [list(array.shape) for array in leaves(arguments, np.ndarray).values()]
        messages = _empty_forward(operator, arguments)
        found += [Finding("0-size", False, f"{shapes}: {message}") for message in dict.fromkeys(messages)]
    return found


def _empty_forward(operator: Operator, arguments: Sequence[Any]) -> List[str]:
    """Return what is wrong with what an operator returns for inputs without elements, and with their gradients."""
    wanted = expected(operator, arguments)
    try:
        got = run(operator, arguments)
    except Exception as error:  # noqa: BLE001 - whatever it raises is what is told
        return [] if wanted is None else [first_line(error)]
    right = [one.shape for one in wanted] if wanted is not None else []
    if not right:
        with contextlib.suppress(Exception):  # there may be no InferMeta that could be asked
            right = [shape for shape, _ in static_meta(operator, arguments)]
    wrong = [
        f"output {number} is {list(one.shape)} and should be {list(shape)}"
        for number, (one, shape) in enumerate(zip(got, right))
        if not fits(shape, one.shape)
    ]
    if wrong or any(map(np.iscomplexobj, got)):
        return wrong
    try:
        grads = analytic(operator, arguments, [np.ones(one.shape, one.dtype) for one in got])
    except Exception as error:  # noqa: BLE001 - whatever it raises is what is told
        return [f"the backward: {first_line(error)}"]
    shapes = {path: array.shape for path, array in leaves(arguments, np.ndarray).items()}
    return [
        f"{place_of(path)} has a gradient of {list(grad.shape)}"
        for path, grad in grads.items()
        if grad is not None and tuple(grad.shape) != shapes[path]
    ]


def check_determinism(operator: Operator) -> List[Finding]:
    """The same inputs give the same bits, whatever was computed between."""
    arguments, other = large(operator), reshaped(operator, (LARGE,), seed=9)
    first = run(operator, arguments)
    end = time.process_time() + REPEAT_S  # of work: a busy machine makes no fewer calls
    for number in range(MOST_REPEATS):
        if number >= REPEATS and time.process_time() > end:
            break
        if other is not None and number % 2:
            run(operator, other)
        if any(a.tobytes() != b.tobytes() for a, b in zip(run(operator, arguments), first)):
            return [Finding("determinism", False, f"call {number + 2} with the same inputs gives other bits")]
    return []


def check_threads(operator: Operator) -> List[Finding]:
    """Calls from several threads at once give what calls in a row give."""
    if draws_random_numbers(operator):
        return [Finding("threads", True, "it draws random numbers, in the order of its calls")]
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
    arguments = [
        np.ones(values.shape, sample.dtype) if is_array(sample) else sample
        for sample in cast(operator.samples[0], "float64")
    ]
    found = []
    for place, argument in enumerate(arguments):
        if not is_array(argument) or not is_floating(argument):
            continue
        special = [values if number == place else one for number, one in enumerate(arguments)]
        wanted = expected(operator, special)
        for number, (got, right) in enumerate(zip(run(operator, special), wanted or [])):
            wrong = differs(got, right, 1e-6)
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
    "shapes": check_shapes,
    "0-size": check_empty,  # a kernel that cannot take 0 elements may end the process: last
}
NEED_REFERENCE = frozenset({"forward", "shapes", "special values"})


def speed(operator: Operator) -> float:
    """Return the median time of a call on a large input, in ms."""
    given = tensors(large(operator))
    times = []
    with paddle.no_grad():
        for _ in range(9):
            begin = time.perf_counter()
            for output in outputs_of(operator, given):
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
