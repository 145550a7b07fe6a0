"""The worker behind ``devkit bench attn``: answers requests about one library on one device."""

from __future__ import annotations

import hashlib
import math
import os
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..machine import cores
from ..protocol import Refusal, emit
from .backends.base import DECLINES, Call, Calls, Library, reason
from .case import ITEMSIZE, PASSES, Arrays, Case, arrays, parse_case, trials
from .clock import MOST_COLD, iterations_for
from .reference import FLOOR, NAMES, Expected, Result, compare, expected

GIB = 1024**3
SHARE_OF_MEMORY = 0.9
SIZE_OF_PRODUCT = 2048
SECONDS_OF_FMA = 0.05
# The largest error of few values is a matter of chance in low precision: beyond this it is not.
TRIAL_SLACK = 2
DECODE_WORDS = ("context", "batch", "heads", "kv_heads", "head_dim", "dtype", "paged", "rounds", "seed", "cold")


@dataclass
class Bench:
    """What lives for one case: its inputs, what is right, and the implementations that are."""

    case: Case
    inputs: Arrays
    expected: Expected
    ready: dict[str, Calls] = field(default_factory=dict)


class Worker:
    """Answers requests; what they are is in the package's ``__main__``."""

    def __init__(self) -> None:
        self._library: Library | None = None
        self._bench: Bench | None = None
        self._threads = 0
        self._scratch: Path | None = None
        self._left: Path | None = None
        self._products: dict[tuple[int, str], Call] = {}
        self._trials: dict[tuple[str, Case], str] = {}

    def handle(self, request: dict[str, Any]) -> None:
        """Answer one request with one event (before which ``build`` events may come).

        Raises:
            Refusal: the request makes no sense, or the operator cannot be built here.
        """
        answers = {"describe": self._describe, "prepare": self._prepare, "time": self._time, "ceiling": self._ceiling}
        answers["decode"] = self._decode
        answer = answers.get(str(request.get("do")))
        if answer is None:
            raise Refusal(f"a worker cannot do {request.get('do')!r}", f"It can do {', '.join(answers)}.")
        answer(request)

    def forget(self) -> None:
        """Let go of the case, and of the reference that was left for others."""
        self._bench = None
        if self._left is not None:
            self._left.unlink(missing_ok=True)
            self._left = None

    def _describe(self, request: dict[str, Any]) -> None:
        name, device = request.get("library", "paddle"), request.get("device", "auto")
        if name not in ("paddle", "torch"):
            raise Refusal(f"library {name!r} is unknown", "Known are paddle and torch.")
        if device not in ("auto", "cpu", "gpu"):
            raise Refusal(f"device {device!r} is unknown", "Known are auto, cpu and gpu.")
        self._threads = int(request.get("threads") or cores())
        self._scratch = Path(request["scratch"]) if request.get("scratch") else None
        if request.get("isa"):
            os.environ["DEVKIT_ISA"] = str(request["isa"])
        self._library = _import(name, device, self._threads, request)
        emit(
            "device",
            library=name,
            device=self._library.device,
            threads=self._threads,
            implementations=self._library.implementations,
            memory_available_mib=self._library.bytes_available() // 2**20,
            **self._library.describe(),
        )

    def _prepare(self, request: dict[str, Any]) -> None:
        library, implementation, case = self._subject(request)
        passes = request.get("passes", list(PASSES))
        for which in passes:
            _known_pass(which)
        checked = self._check(library, implementation, case)
        peak_mib = {}
        isa = None
        if checked["status"] == "ok":
            isa = library.isa(implementation, case)
            calls = self._ready(case, implementation)
            for which in passes:
                peak_mib[which] = library.peak_mib(calls.of(which))
        emit("checked", impl=implementation, case=asdict(case), peak_mib=peak_mib, isa=isa, **checked)

    def _check(self, library: Library, implementation: str, case: Case) -> dict[str, Any]:
        why_not = library.declines(implementation, case) or _too_large(library, implementation, case)
        if why_not:
            return {"status": "unsupported", "reason": why_not, "max_error": None}
        bench = self._bench_of(case)
        try:
            calls = library.calls(implementation, case, bench.inputs)
            library.poison(case)
            comparison = compare(calls.result(), bench.expected)
            complaint = comparison.complaint or self._tried(library, implementation, case)
        except Refusal as refusal:
            if implementation == "devkit_cpu":
                raise
            return {"status": "error", "reason": f"{refusal.what}: {refusal.why}", "max_error": None}
        except MemoryError:
            return {"status": "error", "reason": "out of memory", "max_error": None}
        except Exception as error:  # noqa: BLE001 - what a library raises is its answer, and the next one gets its turn
            status = "unsupported" if DECLINES.search(str(error)) else "error"
            return {"status": status, "reason": reason(error), "max_error": None}
        if complaint:
            return {"status": "wrong", "reason": complaint, "max_error": comparison.max_error}
        bench.ready[implementation] = calls
        return {"status": "ok", "reason": "", "max_error": comparison.max_error}

    def _tried(self, library: Library, implementation: str, case: Case) -> str:
        """Return what is wrong on small cases of the same kind that are harder, each tried once a process."""
        for name, trial in trials(case):
            key = implementation, trial
            if key not in self._trials:
                inputs = arrays(trial)
                calls = library.calls(implementation, trial, inputs)
                library.poison(trial)
                exact = expected(trial, inputs)
                slack = TRIAL_SLACK if case.dtype in FLOOR else 1
                allowed = replace(exact, tolerance={part: slack * x for part, x in exact.tolerance.items()})
                complaint = compare(calls.result(), allowed).complaint
                self._trials[key] = f"on {name}, {complaint}" if complaint else ""
            if self._trials[key]:
                return self._trials[key]
        return ""

    def _time(self, request: dict[str, Any]) -> None:
        library, implementation, case = self._subject(request)
        which = _known_pass(request.get("pass"))
        call, cold = self._ready(case, implementation).of(which), bool(request.get("cold"))
        # The first call warms caches that another process has filled since, and says how many calls fill the time.
        (one_ms,) = library.times_ms(call, 1)
        iterations = request.get("iterations") or iterations_for(float(request.get("min_ms", 0)), one_ms)
        if cold:
            iterations = min(int(iterations), MOST_COLD)
        emit(
            "timed",
            impl=implementation,
            case=asdict(case),
            **{"pass": which},
            flops=case.flops(which),
            cold=cold,
            time_ms=library.times_ms(call, int(iterations), cold=cold),
        )

    def _ceiling(self, request: dict[str, Any]) -> None:
        library = self._started()
        size, dtype = int(request.get("size", SIZE_OF_PRODUCT)), request.get("dtype", "float32")
        if dtype not in ITEMSIZE:
            raise Refusal(f"dtype {dtype!r} is unknown", f"Known are {', '.join(ITEMSIZE)}.")
        gflops = None
        try:
            product = self._products.setdefault((size, dtype), library.product(size, dtype))
            library.times_ms(product, 1)
            gflops = 2 * size**3 / min(library.times_ms(product, 2)) / 1e6
        except Exception as error:  # noqa: BLE001 - a dtype without a product has no ceiling
            emit("note", what=f"no ceiling for {dtype}", why=reason(error))
        fma = library.fma_gflops(dtype, SECONDS_OF_FMA) if request.get("fma") else None
        emit("ceiling", dtype=dtype, size=size, gflops=gflops, fma_gflops=fma)

    def _decode(self, request: dict[str, Any]) -> None:
        self._started()
        from .decoding import measure  # of Paddle's process alone

        words = {name: request[name] for name in DECODE_WORDS}
        emit("decoded", context=words["context"], paged=words["paged"], **measure(words, self._threads, emit))

    def _started(self) -> Library:
        if self._library is None:
            raise Refusal("a worker must be asked to describe its device first")
        return self._library

    def _subject(self, request: dict[str, Any]) -> tuple[Library, str, Case]:
        library = self._started()
        implementation = request.get("impl")
        if implementation not in library.implementations:
            raise Refusal(
                f"implementation {implementation!r} is unknown",
                f"{library.name} has {', '.join(library.implementations)}.",
            )
        return library, implementation, parse_case(request.get("case"))

    def _ready(self, case: Case, implementation: str) -> Calls:
        calls = self._bench.ready.get(implementation) if self._bench and self._bench.case == case else None
        if calls is None:
            raise Refusal(
                f"{implementation} has not been found right on this case",
                "Only what was prepared with status ok since the case last changed is timed.",
            )
        return calls

    def _bench_of(self, case: Case) -> Bench:
        if self._bench is None or self._bench.case != case:
            self.forget()  # its tensors go before the next ones come
            inputs = arrays(case)
            self._bench = Bench(case, inputs, self._expected(case, inputs))
        return self._bench

    def _expected(self, case: Case, inputs: Arrays) -> Expected:
        """Return the reference, from the scratch folder where another process has left it there."""
        if self._scratch is None:
            return expected(case, inputs)
        path = self._scratch / f"{hashlib.sha256(repr(case).encode()).hexdigest()[:24]}.npz"
        if path.exists():
            with np.load(path) as stored:
                tolerance = dict(zip(NAMES, stored["tolerance"].tolist()))
                return Expected(Result(*(stored[name] for name in NAMES)), tolerance)
        made = expected(case, inputs)
        partial = path.with_name(f"{path.stem}.{os.getpid()}.partial")
        with partial.open("wb") as stream:
            np.savez(stream, tolerance=[made.tolerance[name] for name in NAMES], **asdict(made.result))
        partial.replace(path)
        self._left = path
        return made


def _import(name: str, device: str, threads: int, request: dict[str, Any]) -> Library:
    try:
        if name == "torch":
            from .backends.torch import TorchLibrary

            return TorchLibrary(device, threads)
        from .backends.own import Own
        from .backends.paddle import PaddleLibrary

        against = Own(**request["against"]) if request.get("against") else None
        return PaddleLibrary(device, threads, tuple(request.get("own") or ()), against)
    except ImportError as error:
        package = {"paddle": "paddlepaddle", "torch": "torch"}[name]
        raise Refusal(
            f"this environment has no {package} that can be imported",
            str(error),
            f"devkit env install {package}",
        ) from error


def _known_pass(which: Any) -> str:
    if which not in PASSES:
        raise Refusal(f"pass {which!r} is unknown", f"Known are {', '.join(PASSES)}.")
    return str(which)


def _too_large(library: Library, implementation: str, case: Case) -> str:
    """Return why the case does not fit, before anything of it is allocated."""
    wide = 2 * case.linear_bytes() * 8 // ITEMSIZE[case.dtype]
    host, device = wide, library.bytes_needed(implementation, case)
    available = library.bytes_available()
    needed = device + (host if library.device == "cpu" else 0)
    if needed <= available * SHARE_OF_MEMORY:
        return ""
    return f"{implementation} would need about {_gib(needed)} of memory, and {_gib(available)} are available."


def _gib(count: float) -> str:
    return f"{count / GIB:.{max(0, 1 - math.floor(math.log10(max(count / GIB, 0.01))))}f} GiB"
