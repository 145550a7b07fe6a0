"""What must hold of an operator, whatever it computes. Each check returns findings; an empty list is good.

Gradients are compared with central differences of the operator itself in float64, so that a wrong forward and a wrong
backward are told apart. Checks that need a reference say so where there is none.
"""

from __future__ import annotations

import itertools
import re
import threading
import time
from typing import Any, Callable, Dict, List, NamedTuple, Sequence, Tuple

import numpy as np
import paddle

from .calling import (
    LARGE,
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
    listed,
    outputs_of,
    reshaped,
    run,
    tensors,
    writable,
)  # fmt: skip

FLOATS = ("float32", "float64")
# Of the largest value: a float64 result that was computed in float32 is wrong by 1e-8 or so.
TOLERANCES = {"float32": 2e-5, "float64": 1e-10}
STEP = 1e-6
GRADIENT_TOLERANCE = 1e-5
SHAPES = ((0,), (0, 3), (), (1,), (5,), (19,), (31,), (2, 3, 4), (131077,))
POSITIONS = 8
REPEATS, MOST_REPEATS, REPEAT_S = 6, 100, 1.0
THREADS = 4
ROUNDS = 12


# What Paddle says where code is not for a static program, and what of it.
DYNAMIC_ALONE = (
    (re.compile(r"PyLayer"), "a PyLayer that cannot be converted to a static program"),
    (re.compile(r"API to replace '(\w+)'|Value' object has no attribute '(\w+)'"), "it uses Tensor.{0}"),
    (re.compile(r"(\w+)\(Tensor\) is not supported"), "it calls {0}() of a tensor"),
)


class Finding(NamedTuple):
    """What one check found: its name, whether all is well, and a sentence."""

    check: str
    good: bool
    message: str


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
    wanted = {  # before the call: what it writes in place may want a gradient after it
        place: argument
        for place, argument in enumerate(given)
        if hasattr(argument, "stop_gradient") and not argument.stop_gradient
    }
    outputs = outputs_of(operator, given)
    pairs = [(out, paddle.to_tensor(up)) for out, up in zip(outputs, upstream) if not out.stop_gradient]
    if not pairs:
        return [None] * len(arguments)
    inputs = list(wanted.values())
    grads = dict(zip(wanted, paddle.grad([a for a, _ in pairs], inputs, [b for _, b in pairs], allow_unused=True)))
    return [grads.get(place) for place in range(len(given))]


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
    if any(map(np.iscomplexobj, run(operator, operator.samples[0]))):
        return [Finding("gradients", True, "an output is complex")]
    cases = [(list(sample), False) for sample in operator.samples]
    if operator.elementwise:
        cases.append((large(operator), True))
    for arguments, many in cases:
        generator = np.random.default_rng(3)
        upstream = [generator.uniform(0.5, 1.5, output.shape) for output in run(operator, arguments)]
        grads = analytic(operator, arguments, upstream)
        for place, argument in enumerate(arguments):
            if is_array(argument) and is_floating(argument):
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
    found: List[Finding] = []
    if any(map(np.iscomplexobj, run(operator, operator.samples[0]))):
        return found
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
    held = {place: argument for place, argument in enumerate(given) if hasattr(argument, "stop_gradient")}
    before = {place: tensor.numpy().copy() for place, tensor in held.items()}
    outputs = outputs_of(operator, given)
    results = [output.numpy().copy() for output in outputs]
    for number, out in enumerate(outputs):
        sharing = {place for place, tensor in held.items() if out.size and out.data_ptr() == tensor.data_ptr()}
        own = operator.inplace.get(number)
        if sharing - {own}:
            found.append(Finding("aliasing", False, f"output {number} shares its memory with an input"))
        if own is not None and out.size and own not in sharing:
            text = f"output {number} is in-place by its declaration, and input {own} is not what it is written into"
            found.append(Finding("aliasing", False, text))
    written = set(operator.inplace.values())
    if any((tensor.numpy() != before[place]).any() for place, tensor in held.items() if place not in written):
        found.append(Finding("aliasing", False, "the forward changes an input"))
    before = {place: tensor.numpy().copy() for place, tensor in held.items()}
    able = [output for output in outputs if not output.stop_gradient]
    if able:
        ups: List[Tuple[Any, np.ndarray]] = []
        for output in able:  # paddle.grad copies what it is given: a hook sees what the backward gets
            output.register_hook(lambda grad: ups.append((grad, grad.numpy().copy())))
        sum((output * 0.5).sum() for output in able).backward()
        if any((grad.numpy() != old).any() for grad, old in ups):
            found.append(Finding("aliasing", False, "the backward changes the gradient that it is given"))
        if any((tensor.numpy() != before[place]).any() for place, tensor in held.items()):
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


def check_infer_meta(operator: Operator) -> List[Finding]:
    """What InferMeta says in a static program is what the kernel returns.

    An operator written in Python has no InferMeta of its own; where none can be asked, that is said, and nothing wrong.
    """
    found = []
    for sample in operator.samples[:2]:
        for dtype in FLOATS:
            arguments = cast(sample, dtype)
            got = run(operator, arguments)
            try:
                said = static_meta(operator, arguments)
            except Exception as error:  # noqa: BLE001 - whatever it raises is what is told
                why = needs_values(error)
                text = (
                    f"it works in the dynamic graph alone: {why}"
                    if why
                    else f"in a static program: {first_line(error)}"
                )
                found.append(Finding("InferMeta", bool(why), text))
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
    return list(dict.fromkeys(found))


def needs_values(error: BaseException) -> str:
    """Return what an operator does that the dynamic graph alone can; empty where it failed for another reason.

    It was called in the dynamic graph before, so that an attribute which is missing is not a misspelt one.
    """
    for pattern, text in DYNAMIC_ALONE:
        match = pattern.search(str(error))
        if match:
            return text.format(*filter(None, match.groups()))
    return ""


def static_meta(operator: Operator, arguments: Sequence[Any]) -> List[Tuple[Tuple[int, ...], str]]:
    """Return the shape and the dtype of each output in a static program.

    What cannot be called in one is converted, as an export of a model does: a PyLayer, a branch that looks at values.

    Raises:
        Exception: whatever Paddle raises where it cannot be built.
    """
    paddle.enable_static()
    try:
        with paddle.static.program_guard(paddle.static.Program()):
            names = itertools.count()
            given = [
                each_array(
                    one, lambda array: paddle.static.data(f"x{next(names)}", list(array.shape), str(array.dtype))
                )
                for one in arguments
            ]
            return described(operator.call(*given))
    except Exception as error:
        if not needs_values(error):
            raise
    finally:
        paddle.disable_static()
    specs = [
        each_array(one, lambda array: paddle.static.InputSpec(list(array.shape), str(array.dtype))) for one in arguments
    ]
    call, owner = operator.call, getattr(operator.call, "__self__", None)
    if isinstance(owner, type) and issubclass(owner, paddle.autograd.PyLayer):
        layer: Any = owner
        specs = [specs]

        def call(words: Any) -> Any:  # what is converted is the class, where its attribute is looked up
            return layer.apply(*words)

    # Its values end the process where they outlive their program.
    program = paddle.jit.to_static(call, input_spec=specs, full_graph=True).concrete_program
    return described(program.outputs)


def described(outputs: Any) -> List[Tuple[Tuple[int, ...], str]]:
    """Return the shape and the dtype of outputs in a static program."""
    return [
        (
            tuple(output.shape),
            str(output.dtype).rpartition(".")[2].lower().replace("fp", "float").replace("datatype", ""),
        )
        for output in listed(outputs)
    ]


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
