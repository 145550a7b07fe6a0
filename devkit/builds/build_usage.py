"""What a build used, kept in its run's record: its cache hits, and the memory at its fullest."""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from devkit.builds import ccache, memory
from devkit.builds.state import mark, remember, remembered

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from devkit.app import App
    from devkit.runs import Run

KEY = "usage"
LIMIT_S = 20.0


def variables(run: Run) -> dict[str, str]:
    """Return the variables that let ccache write down what it does in a run."""
    return {ccache.VARIABLE: str(run.log(ccache.LOG))}


@contextlib.contextmanager
def recorded(app: App, run: Run, environ: Mapping[str, str], build: Path) -> Iterator[Callable[[int], None]]:
    """Measure a part of a build; what is yielded must be told the process that it starts.

    What other parts of the same run used is in the record already, and is added to.
    """
    program = mark(Path(shutil.which("ccache", path=environ.get("PATH")) or "nowhere"))
    logs = remembered(build, "ccache").get("logs") == program  # such a one need not be asked for its counters
    before = _counters(app, environ, build) if program and not logs else None
    parts: list[list[memory.BuildMemory]] = []
    try:
        with contextlib.ExitStack() as stack:
            yield lambda pid: parts.append(stack.enter_context(memory.sampled(pid)))
    finally:
        held = run.record.setdefault(KEY, {"ccache": None, "memory": None})
        for found in [build_memory for part in parts for build_memory in part]:
            earlier = memory.from_dict(held["memory"]) if held["memory"] else memory.BuildMemory()
            held["memory"] = memory.fuller(earlier, found).as_dict()
        log = run.log(ccache.LOG)
        if log.is_file():
            held["ccache"] = ccache.parse_log(log.read_text("utf-8", "replace")).as_dict()
            if not logs:
                remember(build, "ccache", {"logs": program})
        elif before is not None:
            change = ccache.between(before, _counters(app, environ, build) or before)
            if change.calls:
                earlier_part = ccache.from_dict(held["ccache"]) if held["ccache"] else ccache.Ccache(alone=False)
                held["ccache"] = ccache.added(earlier_part, change).as_dict()


def _counters(app: App, environ: Mapping[str, str], directory: Path) -> dict[str, int] | None:
    """Return the counters of the whole cache; None where ccache does not tell them."""
    done = app.runner.run(["ccache", "--print-stats"], cwd=directory, env=environ, timeout_s=LIMIT_S, check=False)
    return None if done.status else ccache.parse_counters(done.text)


def of_record(record: Mapping[str, Any]) -> tuple[ccache.Ccache | None, memory.BuildMemory | None]:
    """Return what a run's record holds of both; None where it has none."""
    held = record.get(KEY) or {}
    cached, took = held.get("ccache"), held.get("memory")
    return (ccache.from_dict(cached) if cached else None), (memory.from_dict(took) if took else None)
