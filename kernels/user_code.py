"""Code of the user's that a worker runs in its own process: a script, or a function of a file."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import shlex
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, Iterator

from .protocol import Refusal

if TYPE_CHECKING:
    from types import ModuleType


@contextlib.contextmanager
def loading(file: str) -> Iterator[None]:
    """Run a file's statements apart from the worker's own streams.

    Raises:
        Refusal: it ends the process, or fails.
    """
    try:
        with apart():
            yield
    except SystemExit as error:
        raise Refusal(f"{file} ended while it was loaded", f"Its exit status is {error.code}.") from error
    except Exception as error:
        raise Refusal(f"{file} cannot be run", told(error, file)) from error


@contextlib.contextmanager
def apart() -> Iterator[None]:
    """Keep the worker's requests and events from code that reads standard input or prints."""
    before, sys.stdin = sys.stdin, io.StringIO()
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    finally:
        sys.stdin = before


def told(error: BaseException, file: str) -> str:
    """Return what an error says, with the line of the file that it came from."""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file]
    said = str(error)
    if isinstance(error, SyntaxError) and error.lineno:
        said, lines = error.msg, [error.lineno]
    place = f" ({Path(file).name}:{lines[-1]})" if lines else ""
    return f"{type(error).__name__}: {said}{place}"


def function_of(file: str, name: str, how: str = "") -> tuple[Callable[..., Any], ModuleType]:
    """Return a function of a file, as the file is now, and the file's module.

    Args:
        file: a file of Python.
        name: of the function.
        how: the line that would take another function of it, with ``{file}`` and ``{name}``.

    Raises:
        Refusal: the file fails while it is loaded, or has no such function.
    """
    path = Path(file)
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise Refusal(f"{file} cannot be run", "It is not a Python file.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    sys.path.insert(0, str(path.parent))
    with loading(file):
        spec.loader.exec_module(module)
    return required(vars(module), file, name, how), module


def required(found: dict[str, Any], file: str, name: str, how: str = "") -> Callable[..., Any]:
    """Return the function of a name among what a file holds.

    Raises:
        Refusal: there is none; the file's functions are named.
    """
    if callable(found.get(name)):
        function: Callable[..., Any] = found[name]
        return function
    functions = [key for key, value in found.items() if callable(value) and not key.startswith("_")]
    lines = [how.format(file=shlex.quote(file), name=other) for other in functions[:2] if how]
    raise Refusal(f"{file} has no function {name}", f"It has {', '.join(functions) or 'none'}.", *lines)
