"""The operators as they are called: built once, on Paddle's CPU tensors, without gradients."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..cpp_extension import Report, library
from ..protocol import Refusal, emit

SOURCES = Path(__file__).parent / "csrc"
LIBRARY = "devkit_sparse.so"

_loaded: list[Path] = []


@dataclass(frozen=True)
class Places:
    """Where the entries of a batch of matrices are, in CSR.

    Attributes:
        crows: [batch * (rows + 1)], each matrix's own row pointer after the other.
        cols: [nnz], in any order within a row; one that occurs twice counts twice.
        rows: of a matrix.
        columns: of a matrix.
        threads: how many threads the operators use.
    """

    crows: Any
    cols: Any
    rows: int
    columns: int
    threads: int

    @property
    def arguments(self) -> tuple[int, int, int]:
        """What every operator is told of the shape."""
        return self.rows, self.columns, self.threads


def load(report: Report) -> Path:
    """Build the operators if need be and make them known to Paddle, once a process; return their library's path.

    Raises:
        Refusal: they cannot be built here.
    """
    if not _loaded:
        path = library(report, SOURCES, LIBRARY)
        from paddle.utils.cpp_extension import load_op_meta_info_and_register_op

        load_op_meta_info_and_register_op(str(path))
        _loaded.append(path)
    return _loaded[0]


def call(name: str, *arguments: Any) -> Any:
    """Run an operator: its one result, or the list of them.

    Raises:
        Refusal: row pointers or columns point outside the matrix, or the operators cannot be built here.
    """
    import paddle

    if not _loaded:
        load(emit if "DEVKIT_EVENTS_FD" in os.environ else _silent)
    try:
        results = paddle._C_ops._run_custom_op(f"devkit_sparse_{name}", *arguments)  # noqa: SLF001 - as Paddle's wrappers do
    except OSError as error:
        raise Refusal("the sparse matrix is not one", _reason(error)) from error
    return results[0] if len(results) == 1 else results


def _reason(error: OSError) -> str:
    """Return what PD_CHECK said, without the stack around it."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    telling = [re.sub(r"^\(\w+\) ", "", line) for line in lines if re.match(r"\(\w+\) ", line)]
    return (telling or lines or ["It said nothing."])[0]


def _silent(event: str, **fields: Any) -> None:
    """Report to nobody."""
