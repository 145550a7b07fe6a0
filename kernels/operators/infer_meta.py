"""What InferMeta says of an operator's outputs in a static program, against what the kernel returns."""

from __future__ import annotations

import itertools
import re
from typing import Any, List, Sequence, Tuple

import paddle

from .calling import FLOATS, Finding, Operator, cast, each_array, first_line, listed, run

# What Paddle says where code is not for a static program, and what of it.
DYNAMIC_ALONE = (
    (re.compile(r"PyLayer"), "a PyLayer that cannot be converted to a static program"),
    (re.compile(r"API to replace '(\w+)'|Value' object has no attribute '(\w+)'"), "it uses Tensor.{0}"),
    (re.compile(r"(\w+)\(Tensor\) is not supported"), "it calls {0}() of a tensor"),
)


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
                if not fits(shape, array.shape):
                    text = f"output {number}: InferMeta says {list(shape)}, the kernel returns {list(array.shape)}"
                    found.append(Finding("InferMeta", False, text))
                if kind != str(array.dtype):
                    text = f"output {number} of {dtype}: InferMeta says {kind}, the kernel returns {array.dtype}"
                    found.append(Finding("InferMeta", False, text))
    return list(dict.fromkeys(found))


def fits(said: Sequence[int], shape: Sequence[int]) -> bool:
    """Tell whether a shape is what was said of it, -1 standing for any size."""
    return len(said) == len(shape) and all(a in {-1, b} for a, b in zip(said, shape))


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
