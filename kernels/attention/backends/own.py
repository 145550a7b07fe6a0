"""Implementations from elsewhere: a function of the user's file, and another revision of ours."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable

from ...protocol import Refusal

# Where a revision's kernels lie as a package of another name than ours.
PACKAGE = "devkit_against"


@dataclass(frozen=True)
class Own:
    """Another revision of ours: what it is called, and the folder that holds its package."""

    name: str
    folder: str

    def functional(self) -> Any:
        """Return its module of functions.

        Raises:
            Refusal: it has none.
        """
        sys.path.insert(0, self.folder)
        try:
            return importlib.import_module(f"{PACKAGE}.kernels.attention.functional")
        except ImportError as error:
            raise Refusal(f"{self.name} has no attention that can be imported", str(error)) from error


def load_function(spec: str) -> Callable[..., Any]:
    """Return the function that ``file.py:function`` names, from its file as it is now.

    Raises:
        Refusal: there is no such file or function, or the file fails when it is imported.
    """
    file, _, name = spec.rpartition(":")
    path = Path(file)
    found = importlib.util.spec_from_file_location(path.stem, path)
    if found is None or found.loader is None:
        raise Refusal(f"{file} cannot be imported", "It is not a Python file.")
    module = importlib.util.module_from_spec(found)
    sys.path.insert(0, str(path.parent))
    try:
        found.loader.exec_module(module)
    except Exception as error:
        raise Refusal(f"{file} cannot be imported", f"{type(error).__name__}: {error}") from error
    function = getattr(module, name, None)
    if not callable(function):
        names = [word for word, value in vars(module).items() if callable(value) and not word.startswith("_")]
        raise Refusal(f"{file} has no function {name}", f"It has {', '.join(names) or 'none'}.")
    return function
