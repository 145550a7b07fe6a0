"""Implementations from elsewhere: a function of the user's file, and another revision of ours."""

from __future__ import annotations

import importlib
import sys
from dataclasses import dataclass
from typing import Any, Callable

from ...protocol import Refusal
from ...user_code import function_of

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
    return function_of(file, name)[0]
