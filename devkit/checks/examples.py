"""Run the examples of changed docstrings by xdoctest, as Paddle's documentation job does.

``python examples.py LIST``: the file is JSON, ``[{"file", "module", "name", "line", "text"}]``. An answer is a line on
standard output, after the word EXAMPLE: ``{"file", "name", "line", "ran", "failed", "said"}``. An expression whose
value no line awaits is not a failure; numbers are compared to 5 digits, and a tensor's place counts for nothing. What
needs a GPU (``+REQUIRES(env:GPU)``) is passed over.
"""

from __future__ import annotations

import importlib
import json
import os
import re
import signal
import sys
import warnings
from typing import Any

from xdoctest import checker, core

LIMIT_S = 60
DIGITS = 5
PLACE = re.compile(r"(Tensor\(.*?place=)Place\([^)]*\)", re.DOTALL)
NUMBER = re.compile(r"(?<![\w.])[+-]?(?:\d+\.\d*|\.\d+)(?:[eE][+-]?\d+)?")
TIMEOUT = re.compile(r"doctest:\s*\+TIMEOUT\((\d+)\)")
RUNTIME = {"IGNORE_WHITESPACE": True, "NORMALIZE_WHITESPACE": True, "ELLIPSIS": True}
compare = checker.check_output


def plain(text: str) -> str:
    """Return an answer without what differs from machine to machine: a tensor's place, and digits past the fifth."""
    placed = PLACE.sub(r"\1Place(cpu)", text)
    return NUMBER.sub(lambda match: repr(round(float(match[0]), DIGITS) + 0.0), placed)


def check_output(got: str, want: str, runstate: Any = None) -> bool:
    """Tell whether an answer is the one that the docstring shows."""
    return not want or compare(got, want, runstate) or compare(plain(got), plain(want), runstate)


def names_of(module: str) -> dict[str, Any]:
    """Return the names that an example may use without importing them: its module's, where that can be imported."""
    try:
        return dict(vars(importlib.import_module(module)))
    except Exception:  # noqa: BLE001 - an example may well import what it needs
        return {"__name__": "__main__"}


def as_begun() -> None:
    """Set back what an example before may have set in Paddle."""
    paddle = sys.modules.get("paddle")
    if paddle is not None:
        paddle.disable_static()
        paddle.set_default_dtype("float32")


def too_long(*_: object) -> None:
    """End an example that takes all its time."""
    raise TimeoutError("it took too long")


def run(docstring: dict[str, Any]) -> dict[str, Any]:
    """Run the examples of a docstring, one after another, until one fails."""
    text = re.sub(r"#\s*doctest:", "# xdoctest:", docstring["text"])
    limit = TIMEOUT.search(text)
    ran = 0
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)  # what does not parse is warned of, and left out
        try:
            examples = list(
                core.parse_docstr_examples(text, docstring["name"], lineno=docstring["line"], style="freeform")
            )
        except UserWarning:
            return {"ran": 0, "failed": 1, "said": "the example is not valid Python"}
    for example in examples:
        as_begun()
        example.mode = "native"
        example.config["default_runtime_state"] = dict(RUNTIME)
        example.global_namespace.update(names_of(docstring["module"]))
        signal.alarm(max(LIMIT_S, int(limit[1]) if limit else 0))
        try:
            outcome = example.run(verbose=0, on_error="return")
        finally:
            signal.alarm(0)
        ran += not outcome["skipped"]
        if outcome["failed"]:
            return {"ran": ran, "failed": 1, "said": said(example)}
    return {"ran": ran, "failed": 0, "said": "" if ran else "skipped: it needs what is not here"}


def said(example: Any) -> str:
    """Return what went wrong in an example, on one line: the error, or what came and what was awaited."""
    kind, error = example.exc_info[:2]
    if isinstance(error, checker.GotWantException):
        first = [(word.strip() or "nothing").split("\n")[0][:90] for word in (str(error.got), error.want)]
        return f"got {first[0]}, not {first[1]}"
    return f"{kind.__name__}: {error}".split("\n")[0]


def main(path: str) -> None:
    """Run every example of the list."""
    with open(path, encoding="utf-8") as file:
        wanted = json.load(file)
    checker.check_output = check_output
    os.environ.setdefault("CPU", "True")
    signal.signal(signal.SIGALRM, too_long)
    for docstring in wanted:
        try:
            answer = run(docstring)
        except Exception as error:  # noqa: BLE001 - what does not parse as an example
            answer = {"ran": 0, "failed": 1, "said": f"{type(error).__name__}: {error}".split("\n")[0]}
        answer.update({key: docstring[key] for key in ("file", "name", "line")})
        sys.stdout.write(f"\nEXAMPLE {json.dumps(answer)}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1])
