"""The worker of ``devkit op``: it loads an operator and checks it, or says what is registered for a name."""

from __future__ import annotations

import importlib
import inspect
import re
import sys
from pathlib import Path
from typing import Any, Dict, Tuple

from ..protocol import Refusal, emit, serve
from ..user_code import function_of, loading, told

LOADED: Dict[str, Any] = {}
COMPILING = re.compile(r"Failed to run command|error:|undefined symbol")
NO_SAMPLES = "\nIt was called with matrices of [2, 3]: samples() beside a function, in a file, says with what else."


def load(target: str, function: str) -> Any:
    """Return the operator that a file or a dotted name gives.

    Raises:
        Refusal: there is none, or its file cannot be imported.
    """
    import paddle

    from . import calling

    module: Any = None
    if target.endswith(".py"):
        call, module = function_of(target, function or Path(target).stem, "devkit op check {file} --function {name}")
    else:
        call = find(paddle, target)
        if call is None:
            raise Refusal(f"there is no function {target} in Paddle {paddle.__version__}", "", f"devkit api {target}")
    reference = getattr(module, "reference", None)
    given = samples_of(module, target, call)
    elementwise = getattr(module, "ELEMENTWISE", calling.is_elementwise(reference, given[0]))
    operator = calling.Operator(function or target, call, reference, given, elementwise)
    try:
        calling.run(operator, given[0])
    except Exception as error:
        if not COMPILING.search(str(error)) and takes(operator, calling.cast(given[0], "float32")):
            why = f"In float32 rounding drowns what gradients are compared with. It says: {compile_error(error)}"
            raise Refusal(f"{operator.name} takes no float64", why) from error
        how = "" if hasattr(module, "samples") or COMPILING.search(str(error)) else NO_SAMPLES
        raise Refusal(f"{operator.name} cannot be called", f"{compile_error(error)}{how}") from error
    try:
        [calling.by_reference(reference, sample) for sample in given if reference]
    except Exception as error:
        raise Refusal(f"reference() of {target} cannot compute its sample", told(error, target)) from error
    return operator._replace(inplace=calling.inplace_of(operator))  # a library may be loaded with the first call


def samples_of(module: Any, target: str, call: Any) -> Any:
    """Return the arguments that an operator is called with: those of its file, or a matrix for each that it must have.

    Raises:
        Refusal: the file's are no list of tuples.
    """
    import numpy as np

    from . import calling

    samples = getattr(module, "samples", None)
    if samples is None:
        generator = np.random.default_rng(0)
        return [tuple(generator.uniform(0.2, 0.9, (2, 3)) for _ in range(calling.arity(call)))]
    with loading(target):
        given = samples()
    if not isinstance(given, (list, tuple)) or not given or not all(isinstance(one, (list, tuple)) for one in given):
        kind = f"a {type(given).__name__}" + (" of other things" if isinstance(given, (list, tuple)) and given else "")
        why = f"It returns {kind}; samples() is a list of tuples, the arguments of one call each: [(x, y)]."
        raise Refusal(f"samples() of {target} are no arguments", why)
    return given


def takes(operator: Any, arguments: Any) -> bool:
    """Tell whether an operator can be called with some arguments."""
    from . import calling

    try:
        calling.run(operator, arguments)
    except Exception:  # noqa: BLE001 - whatever it raises, it does not take them
        return False
    return True


def compile_error(error: BaseException) -> str:
    """Return the first true line of a failed compilation, or what the exception says."""
    from .calling import first_line

    rows = str(error).splitlines()
    wrong = [row for row in rows if re.search(r"error:|undefined symbol", row)]
    return (wrong or [first_line(error)])[0]


def find(paddle: Any, name: str) -> Any:
    """Return the function of a dotted name, or of a bare one in Paddle's usual places; None where there is none."""
    words = name.split(".")
    roots = [paddle, paddle.nn.functional, paddle.tensor] if words[0] != "paddle" else [paddle]
    for root in roots:
        found = root
        for word in words[1:] if words[0] == "paddle" else words:
            found = getattr(found, word, None)
            if found is None:
                break
        if callable(found):
            return found
    return None


def kernels(name: str) -> Dict[str, Any]:
    """Return what is registered for an operator: kernels by name, and the operators near it."""
    import difflib

    import paddle

    core = paddle.base.core
    registered = core._get_registered_phi_kernels("all")  # noqa: SLF001 - Paddle's only list of them
    wanted = [
        variant for variant in (name, f"{name}_grad", f"{name}_double_grad", f"{name}_raw") if variant in registered
    ]
    found = find(paddle, name)
    module = getattr(found, "__module__", "") or ""
    package = Path(paddle.__file__).parent
    file, line = source_of(found)
    header, header_line = header_of(package / "include" / "paddle" / "phi", name)
    return {
        "version": paddle.__version__,
        "package": str(package),
        "kernels": {variant: sorted(registered[variant]) for variant in wanted},
        "near": difflib.get_close_matches(name, registered, n=5),
        "api": f"{module}.{getattr(found, '__name__', name)}" if found else "",
        "file": file,
        "line": line,
        "header": header,
        "header_line": header_line,
    }


def source_of(found: Any) -> Tuple[str, int]:
    """Return the file and the line of a function or class; nothing and 0 where it is none of Python's."""
    try:
        plain = inspect.unwrap(found)
        return inspect.getsourcefile(plain) or "", inspect.getsourcelines(plain)[1]
    except (TypeError, OSError):
        return "", 0


def header_of(include: Path, name: str) -> Tuple[str, int]:
    """Return the header and the line that declare an operator's kernel, or its C++ function; nothing and 0 for none."""
    camel = name.replace("_", "")
    kernel = re.compile(rf"^(?:void {camel}Kernel\(|DECLARE_\w*KERNEL\w*\({camel}\b)", re.MULTILINE | re.IGNORECASE)
    function = re.compile(rf"^PADDLE_API .*\b{re.escape(name)}\(", re.MULTILINE)
    declaring = sorted((include / "kernels").glob("*.h"), key=lambda path: ("_grad_" in path.name, path.name))
    headers = [(kernel, path) for path in declaring]
    for pattern, path in [*headers, (function, include / "api" / "include" / "api.h")]:
        text = path.read_text("utf-8", "replace") if path.is_file() else ""
        match = pattern.search(text)
        if match:
            return str(path), text.count("\n", 0, match.start()) + 1
    return "", 0


def api(name: str) -> Dict[str, Any]:
    """Return the signature, the place and the documentation of an API.

    Raises:
        Refusal: there is none of that name.
    """
    import difflib

    import paddle

    words = name.split(".")
    words = words[1:] if words[0] == "paddle" else words
    found: Any = paddle
    for place, word in enumerate(words):
        before = found
        found = getattr(found, word, None)
        if found is None:
            try:
                found = importlib.import_module(".".join(["paddle", *words[: place + 1]]))
            except ImportError:
                near = difflib.get_close_matches(word, dir(before), n=3)
                at = ".".join(["paddle", *words[:place]])
                raise Refusal(
                    f"{at} has no {word}",
                    f"Near are {', '.join(near)}." if near else "",
                    *[f"devkit api {at}.{similar}" for similar in near],
                ) from None
    try:
        signature = str(inspect.signature(found))
    except (TypeError, ValueError):
        signature = ""
    file, line = source_of(found)
    return {
        "name": ".".join(["paddle", *words]),
        "version": paddle.__version__,
        "kind": type(found).__name__,
        "signature": signature,
        "file": file,
        "line": line,
        "doc": inspect.getdoc(found) or "",
        "members": [public for public in dir(found) if not public.startswith("_")] if inspect.ismodule(found) else [],
    }


def handle(request: Dict[str, Any]) -> None:
    """Answer ``load``, ``check``, ``speed``, ``kernels`` and ``api``.

    Raises:
        Refusal: the operator cannot be loaded, or the request is none of these.
    """
    do = request.get("do")
    if do == "kernels":
        emit("kernels", **kernels(request["name"]))
    elif do == "api":
        emit("api", **api(request["name"]))
    elif do == "load":
        from . import check

        operator = LOADED["operator"] = load(request["target"], request["function"])
        emit(
            "loaded",
            name=operator.name,
            reference=operator.reference is not None,
            elementwise=operator.elementwise,
            checks=[kind for kind in check.CHECKS if operator.reference or kind not in check.NEED_REFERENCE],
        )
    elif do == "check":
        from . import check

        found = check.check(LOADED["operator"], request["check"])
        emit("checked", check=request["check"], findings=[finding._asdict() for finding in found])
    elif do == "speed":
        from . import check

        emit("speed", time_ms=check.speed(LOADED["operator"]))
    else:
        raise Refusal(f"the operators' worker cannot do {do!r}")


if __name__ == "__main__":
    sys.exit(serve(handle))
