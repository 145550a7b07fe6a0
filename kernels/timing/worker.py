"""The user's script in this process: its functions, warmed up, watched and timed."""

from __future__ import annotations

import platform
import runpy
import sys
from pathlib import Path
from typing import Any, Callable

from .. import protocol
from ..attention.clock import host_times_ms, iterations_for
from ..protocol import Refusal, emit
from ..user_code import apart, loading, required, told
from .syncs import watched

MODULE = "__devkit_bench__"
PREFIX = "bench_"

Call = Callable[[], Any]


class Worker(protocol.Worker):
    """The functions of one script."""

    def __init__(self) -> None:
        self._functions: dict[str, Call] = {}
        self._script = ""

    def handle(self, request: dict[str, Any]) -> None:
        """Answer one request.

        Raises:
            Refusal: it makes no sense, or the script cannot be run.
        """
        do = {"load": self._load, "prepare": self._prepare, "time": self._time}
        if request.get("do") not in do:
            raise Refusal(f"the worker cannot do {request.get('do')!r}", f"It knows {', '.join(do)}.")
        do[request["do"]](request)

    def _load(self, request: dict[str, Any]) -> None:
        self._script, name = str(request["script"]), str(request.get("function", ""))
        words = [str(word) for word in request.get("arguments", [])]
        sys.argv = [self._script, *words]
        sys.path.insert(0, str(Path(self._script).resolve().parent))
        with loading(self._script):
            found = runpy.run_path(self._script, run_name=MODULE)
        chosen = [name] if name else [key for key, value in found.items() if key.startswith(PREFIX) and callable(value)]
        self._functions = {key: required(found, self._script, key) for key in chosen}
        emit("loaded", functions=chosen, versions=_versions(), device="gpu" if _gpu() else "cpu")

    def _prepare(self, request: dict[str, Any]) -> None:
        name = str(request.get("function"))
        call = self._function(name)
        answer: dict[str, Any] = {"status": "ok", "reason": "", "syncs": []}
        try:
            with apart():
                for _ in range(int(request.get("warm_up", 3))):
                    call()
                with watched() as found:
                    call()
            answer["syncs"] = [
                {"call": waiting, "where": where, "count": count} for (waiting, where), count in found.most_common()
            ]
        except Exception as error:  # noqa: BLE001 - what the user's function raises is its answer
            answer.update(status="error", reason=told(error, self._script))
        emit("checked", function=name, **answer)

    def _time(self, request: dict[str, Any]) -> None:
        name = str(request.get("function"))
        call = self._function(name)
        times = _gpu_times_ms if _gpu() else host_times_ms
        with apart():
            (one_ms,) = times(call, 1)
            iterations = request.get("iterations") or iterations_for(float(request.get("min_ms", 0)), one_ms)
            found = times(call, int(iterations))
        emit("timed", function=name, time_ms=found)

    def _function(self, name: str) -> Call:
        if name not in self._functions:
            raise Refusal(f"no function {name!r} has been loaded", f"There are {', '.join(self._functions) or 'none'}.")
        return self._functions[name]


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in ("paddle", "torch", "numpy"):
        if name in sys.modules and hasattr(sys.modules[name], "__version__"):
            found[name] = str(sys.modules[name].__version__)
    return found


def _gpu() -> bool:
    paddle = sys.modules.get("paddle")
    return bool(paddle and paddle.device.is_compiled_with_cuda() and paddle.device.get_device().startswith("gpu"))


def _gpu_times_ms(call: Call, iterations: int) -> list[float]:
    """Between two events on the stream; the events are made before the loop. Not yet run on a GPU."""
    cuda = sys.modules["paddle"].device.cuda
    events = [(cuda.Event(enable_timing=True), cuda.Event(enable_timing=True)) for _ in range(iterations)]
    for begin, end in events:
        begin.record()
        call()
        end.record()
    cuda.synchronize()
    return [float(begin.elapsed_time(end)) for begin, end in events]
