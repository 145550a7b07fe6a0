"""One library's answers: what is right, how long it takes, and what the machine could do at most."""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from ..attention.backends.base import DECLINES, reason
from ..attention.clock import MOST_COLD, host_times_ms, iterations_for, sweep_caches
from ..machine import cores
from ..protocol import Refusal, emit
from .case import Inputs, SparseCase, expected, inputs, parse_case
from .libraries import Calls, Unsupported, library
from .op import load

# Of the reference's largest value: what sums of some thousand products may lose in fp32.
TOLERANCE = 1e-5
PARTS = ("crows", "row", "cols", "values", "left", "right", "third")


class Worker:
    """One library with a number of threads, and the case at hand."""

    def __init__(self) -> None:
        self._library: Any = None
        self._scratch: Path | None = None
        self._matrix: tuple[SparseCase, Any, Any] | None = None
        self._ready: dict[tuple[str, SparseCase], Calls] = {}

    def handle(self, request: dict[str, Any]) -> None:
        """Answer one request.

        Raises:
            Refusal: it makes no sense, or the operators cannot be built.
        """
        do = {"describe": self._describe, "prepare": self._prepare, "time": self._time, "ceiling": self._ceiling}
        if request.get("do") not in do:
            raise Refusal(f"the worker cannot do {request.get('do')!r}", f"It knows {', '.join(do)}.")
        do[request["do"]](request)

    def _describe(self, request: dict[str, Any]) -> None:
        name, threads = (
            str(request.get("library", "paddle")),
            int(request.get("threads") or cores()),
        )
        self._library = library(name, threads)
        self._scratch = Path(request["scratch"]) if request.get("scratch") else None
        made = self._library
        emit("device", library=name, threads=threads, implementations=made.implementations, versions=made.versions)

    def _prepare(self, request: dict[str, Any]) -> None:
        case, implementation = self._subject(request)
        data, right = self._inputs(case)
        answer: dict[str, Any] = {"status": "ok", "reason": "", "max_error": None}
        try:
            calls = self._library.calls(implementation, case, data)
            found = calls.result(calls.call())
            answer.update(compared(found, right))
            if answer["status"] == "ok":
                self._ready[implementation, case] = calls
        except Refusal:
            raise
        except Unsupported as error:
            answer.update(status="unsupported", reason=str(error))
        except MemoryError:
            answer.update(status="error", reason="out of memory")
        except Exception as error:  # noqa: BLE001 - what a library raises is its answer
            answer.update(
                status="unsupported" if DECLINES.search(str(error)) else "error", reason=_without_place(reason(error))
            )
        both = right.shape[1] if case.op == "add" else 0
        emit("checked", impl=implementation, case=asdict(case), nnz=len(data.values), nnz_out=both, **answer)

    def _time(self, request: dict[str, Any]) -> None:
        case, implementation = self._subject(request)
        calls = self._ready.get((implementation, case))
        if calls is None:
            raise Refusal(f"{implementation} has not been found right on this case", "Only what was prepared is timed.")
        (one_ms,) = host_times_ms(calls.call, 1)
        iterations = int(request.get("iterations") or iterations_for(float(request.get("min_ms", 0)), one_ms))
        if request.get("cold"):
            times = host_times_ms(calls.call, min(iterations, MOST_COLD), before=sweep_caches)
        else:
            times = host_times_ms(calls.call, iterations)
        emit("timed", impl=implementation, case=asdict(case), time_ms=times)

    def _ceiling(self, request: dict[str, Any]) -> None:
        threads = self._library.threads
        functions = ctypes.CDLL(str(load(emit)))
        peak, read = functions.devkit_sparse_peak_gflops, functions.devkit_sparse_read_gbps
        peak.restype = read.restype = ctypes.c_double
        seconds = ctypes.c_double(float(request.get("seconds", 0.05)))
        gbps = [read(ctypes.c_int64(int(count)), ctypes.c_int(threads), seconds) for count in request["bytes"]]
        gflops = peak(ctypes.c_int(threads), seconds)
        emit("ceiling", bytes=request["bytes"], gb_per_s=gbps, peak_gflops=gflops, threads=threads)

    def _subject(self, request: dict[str, Any]) -> tuple[SparseCase, str]:
        if self._library is None:
            raise Refusal("a worker must be asked to describe its device first")
        implementation = request.get("impl")
        if implementation not in self._library.implementations:
            known = ", ".join(self._library.implementations)
            raise Refusal(f"implementation {implementation!r} is unknown", f"Known are {known}.")
        return parse_case(request.get("case")), str(implementation)

    def _inputs(self, case: SparseCase) -> tuple[Any, Any]:
        """Return the case's matrices and its reference; the same for every format, so they are kept until the next."""
        key = SparseCase(**{**asdict(case), "format": "csr"})
        if self._matrix is None or self._matrix[0] != key:
            self._matrix = None
            self._ready.clear()
            self._matrix = (key, *self._made(key))
        return self._matrix[1], self._matrix[2]

    def _made(self, case: SparseCase) -> tuple[Inputs, Any]:
        """Return the matrices and the reference, from the scratch folder where another process has left them there."""
        if self._scratch is None:
            data = inputs(case)
            return data, expected(case, data)
        path = self._scratch / "matrix.npz"
        name = repr(case)
        with contextlib.suppress(OSError, KeyError, ValueError), np.load(path) as stored:
            if str(stored["case"]) == name:
                other = tuple(stored[f"other{part}"] for part in range(4))
                return Inputs(**{part: stored[part] for part in PARTS}, other=other), stored["expected"]
        data = inputs(case)
        right = expected(case, data)
        partial = path.with_name(f"matrix.{os.getpid()}.partial")
        with partial.open("wb") as stream:
            others = {f"other{part}": array for part, array in enumerate(data.other)}
            np.savez(stream, case=name, expected=right, **others, **{part: getattr(data, part) for part in PARTS})
        partial.replace(path)
        return data, right

    def forget(self) -> None:
        """Take away what other processes may have read."""
        if self._scratch is not None:
            (self._scratch / "matrix.npz").unlink(missing_ok=True)


def _without_place(words: str) -> str:
    """Return a library's reason without where in its sources it says so."""
    return re.sub(r"\s*\(at /.*\)$", "", words)


def compared(found: Any, right: Any) -> dict[str, Any]:
    """Return status, reason and max_error of a result beside the reference. What is not a number is never right."""
    if found.shape != right.shape:
        why = f"its shape is {list(found.shape)}, and {list(right.shape)} is right"
        return {"status": "wrong", "reason": why, "max_error": None}
    with np.errstate(invalid="ignore"):
        error = float(np.abs(found - right).max(initial=0.0))
    allowed = TOLERANCE * float(np.abs(right).max(initial=0.0))
    if error <= allowed:
        return {"status": "ok", "reason": "", "max_error": error}
    return {"status": "wrong", "reason": f"off by {error:.2g}, and {allowed:.2g} is allowed", "max_error": error}
