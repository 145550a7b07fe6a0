"""``devkit bench run``: the user's own code, timed by the rules of the other benchmarks.

A script with functions whose names begin with ``bench_``, or one that is named, is loaded once in a process of its own,
and its functions take turns. Any other script is a program: a round is one run of it, from its start to its end.
"""

from __future__ import annotations

import ast
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from devkit.bench.machine import Watch
from devkit.bench.rounds import interleave
from devkit.bench.statistics import summarize
from devkit.bench.verdict import half_width
from devkit.errors import DevkitError, UsageError
from devkit.kernels.machine import cores, processor
from devkit.launch import Worker, device_environment

if TYPE_CHECKING:
    from collections.abc import Callable

    from devkit.app import App
    from devkit.bench.rounds import Timed, Until
    from devkit.bench.statistics import Summary
    from devkit.console import Progress
    from devkit.envs.resolve import Environment
    from devkit.runs import Run

PREFIX = "bench_"
ROUND_MS = 40.0
WARM_UP = 3


@dataclass(frozen=True)
class ScriptRequest:
    """What to time.

    Attributes:
        environment: whose Python runs it.
        script: the file.
        function: of it; all that begin with ``bench_`` by default.
        arguments: of the script.
        until: when the rounds end.
        threads: of its libraries; None leaves that to them.
    """

    environment: Environment
    script: Path
    function: str
    arguments: tuple[str, ...]
    until: Until
    threads: int | None

    def recorded(self) -> dict[str, Any]:
        """Return the request as a run record keeps it."""
        return {
            "environment": self.environment.name,
            "script": str(self.script),
            "function": self.function,
            "words": list(self.arguments),
            "until": asdict(self.until),
            "threads": self.threads,
        }


@dataclass(frozen=True)
class ScriptResult:
    """One function, or the whole script."""

    impl: str
    status: Literal["ok", "error"]
    reason: str = ""
    time: Summary | None = None
    round_ms: tuple[float, ...] = ()
    syncs: tuple[dict[str, Any], ...] = ()

    @property
    def half_width(self) -> float | None:
        """Half the median's 95 % interval, as a fraction of it."""
        width = half_width(self.round_ms) if self.round_ms else float("inf")
        return width if width != float("inf") else None

    def as_json(self) -> dict[str, Any]:
        """Return the result with the keys that scripts read."""
        return {
            "impl": self.impl,
            "status": self.status,
            "reason": self.reason,
            "median_ms": self.time.median if self.time else None,
            "q1_ms": self.time.q1 if self.time else None,
            "q3_ms": self.time.q3 if self.time else None,
            "round_ms": list(self.round_ms),
            "syncs": list(self.syncs),
        }


def parse_script(word: str) -> tuple[Path, str]:
    """Return the file and the function of ``SCRIPT`` or ``SCRIPT:FUNCTION``.

    Raises:
        UsageError: there is no such file.
    """
    path, colon, function = word.rpartition(":")
    if colon and function.isidentifier() and Path(path).is_file():
        return Path(path).resolve(), function
    if Path(word).is_file():
        return Path(word).resolve(), ""
    raise UsageError(
        f"there is no script {word}", "It is a Python file, or FILE.py:FUNCTION.", "devkit bench run -- FILE.py"
    )


def has_functions(script: Path) -> bool:
    """Tell whether a script has functions whose names begin with ``bench_``, without running it."""
    try:
        tree = ast.parse(script.read_bytes())
    except (SyntaxError, ValueError, OSError):
        return False
    return any(isinstance(node, ast.FunctionDef) and node.name.startswith(PREFIX) for node in tree.body)


def measure(app: App, request: ScriptRequest, run: Run) -> dict[str, Any]:
    """Time the script, and return the report as ``--json`` prints it and the record keeps it.

    Raises:
        DevkitError: the script cannot be run, or every function failed.
    """
    in_process = bool(request.function) or has_functions(request.script)
    watch = Watch()
    with app.console.progress("starting the script", total=None) as progress:
        session = _functions if in_process else _program
        results, versions, kind = session(app, request, run, progress, watch)
    threads = request.threads or cores()
    report = {
        "device": {"kind": kind, "name": processor(), "threads": threads},
        "versions": versions,
        "busy": watch.busy,
        "results": [result.as_json() for result in results],
    }
    run.record["versions"].update(versions)
    run.record["result"] = report
    if all(result.status == "error" for result in results):
        raise DevkitError(
            "nothing could be timed",
            "\n".join(f"{result.impl}: {result.reason}" for result in results),
            f"less {run.folder}",
        )
    return report


Found = tuple[list[ScriptResult], dict[str, str], str]


def _functions(app: App, request: ScriptRequest, run: Run, progress: Progress, watch: Watch) -> Found:
    environ = device_environment(app, threads=request.threads)
    with Worker(app, request.environment, "timing", folder=run.folder, name="script", environ=environ) as worker:
        ask = {
            "do": "load",
            "script": str(request.script),
            "function": request.function,
            "arguments": list(request.arguments),
        }
        loaded = worker.ask(ask, "loaded")
        checked = {}
        for name in loaded["functions"]:
            progress.update(text=f"warming up {name}")
            checked[name] = worker.ask({"do": "prepare", "function": name, "warm_up": WARM_UP}, "checked")
            run.event(checked[name])

        def timer(name: str) -> Callable[[], list[float]]:
            def once() -> list[float]:
                event = worker.ask({"do": "time", "function": name, "min_ms": ROUND_MS}, "timed")
                run.event(event)
                return [float(time_ms) for time_ms in event["time_ms"]]

            return once

        good = {name: timer(name) for name, event in checked.items() if event["status"] == "ok"}
        watch.start()
        timed = interleave(good, request.until, on_round=lambda number: progress.update(text=f"round {number + 1}"))
    results = [
        _result(name, event["status"], event["reason"], timed.get(name), tuple(event["syncs"]))
        for name, event in checked.items()
    ]
    return results, loaded["versions"], loaded["device"]


def _program(app: App, request: ScriptRequest, run: Run, progress: Progress, watch: Watch) -> Found:
    argv = [str(request.environment.python), str(request.script), *request.arguments]
    environ = device_environment(app, threads=request.threads)
    environ.pop("PYTHONPATH", None)

    def once() -> list[float]:
        started = time.perf_counter()
        app.runner.run(argv, env=environ, log=run.log("script"))
        elapsed = (time.perf_counter() - started) * 1e3
        run.event({"event": "timed", "impl": request.script.name, "time_ms": [elapsed]})
        return [elapsed]

    progress.update(text=f"warming up {request.script.name}")
    once()
    watch.start()
    timed = interleave(
        {request.script.name: once},
        request.until,
        on_round=lambda number: progress.update(text=f"{request.script.name}: run {number + 1}"),
    )
    return [_result(request.script.name, "ok", "", timed[request.script.name], ())], {}, "cpu"


def _result(
    name: str, status: Literal["ok", "error"], reason: str, timed: Timed | None, syncs: tuple[dict[str, Any], ...]
) -> ScriptResult:
    if timed is None:
        return ScriptResult(name, status, reason, syncs=syncs)
    return ScriptResult(name, status, reason, summarize(timed.times), timed.rounds, syncs)
