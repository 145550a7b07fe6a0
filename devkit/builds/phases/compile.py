"""Let ninja build what is asked for."""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from typing import TYPE_CHECKING

from devkit.builds import build_usage, checkout, ninja, state, wheel
from devkit.builds.phases.step import BuildWork, Said, Step, brief, lines
from devkit.errors import DevkitError
from devkit.text import counted, duration

if TYPE_CHECKING:
    from collections.abc import Sequence
    from collections.abc import Set as AbstractSet
    from pathlib import Path

    from devkit.builds.inventory import Inventory
    from devkit.builds.request import BuildRequest


def plan(inventory: Inventory, will: AbstractSet[str]) -> Step:
    """Return ninja's line; ninja itself finds out what of it must be built.

    Raises:
        DevkitError: nothing is configured, and nothing will be.
    """
    request = inventory.request
    if "configure" not in will and not (request.build / "build.ninja").is_file():
        raise DevkitError(f"{request.build} is not configured", "", "devkit build --from configure")
    return Step("compile", lines(ninja_line(request, request.targets)))


def execute(work: BuildWork, step: Step) -> Said:
    """Run ninja."""
    if not work.request.targets:
        copy_python_again(work)
    edges = run_ninja(work, "compile", step.lines[0], "compiling")
    saved, _ = build_usage.of_record(work.run.record)
    hits = f", {saved.hits} of {counted(saved.compilations, 'compilation')} from ccache" if saved else ""
    work.inventory.changed("compile_is_done", "facts")
    return ("done", counted(edges, "edge") + hits) if edges else ("skipped", "nothing to do")


def ninja_line(request: BuildRequest, targets: Sequence[str]) -> list[str]:
    """Return the line of ninja."""
    return ["ninja", "-C", str(request.build), "-j", str(request.jobs.compile), *targets]


def launchers(root: Path) -> dict[str, str]:
    """Return the variables by which third-party projects go through ccache, where the tree's own code does.

    They are configured while ninja runs, and inherit nothing of the tree's but by the environment.
    """
    text = checkout.text_of(root / "cmake" / "ccache.cmake")
    names = [name for name in ("CMAKE_C_COMPILER_LAUNCHER", "CMAKE_CXX_COMPILER_LAUNCHER") if name not in os.environ]
    if shutil.which("ccache") and "CMAKE_CXX_COMPILER_LAUNCHER" in text:
        return dict.fromkeys(names, "ccache")
    return {}


def run_ninja(work: BuildWork, phase: str, line: Sequence[str], text: str) -> int:
    """Run ninja for a phase, and return how many edges it built."""
    request = work.request
    log = request.build / ".ninja_log"
    before_s = ninja.seconds_an_edge(ninja.parse_log(log.read_text("utf-8", "replace"))) if log.is_file() else 0.0
    known = log.stat().st_size if log.is_file() else 0
    begin, done = time.monotonic(), 0
    with work.app.console.progress(text, total=1) as progress:

        def on_line(said: str) -> None:
            nonlocal done
            tick = ninja.parse_tick(said)
            if tick is None:
                return
            done = max(done, tick.done)
            left = ninja.remaining_s(
                tick, elapsed_s=time.monotonic() - begin, jobs=request.jobs.compile, before_s=before_s
            )
            about = f", about {duration(left)} left" if left else ""
            progress.update(done=tick.done, total=tick.total, text=f"{text}{about}: {brief(tick.what)}")

        extra = {**launchers(request.root), **build_usage.variables(work.run)}
        environ = {**work.inventory.environ, **extra}
        try:
            with build_usage.recorded(work.app, work.run, environ, request.build) as on_start:
                work.run_line(phase, line, extra=extra, on_line=on_line, on_start=on_start)
        finally:
            if phase == "compile":
                keep_edges(log, known, work.run.folder / "ninja_log")
    return done


def keep_edges(log: Path, known: int, kept: Path) -> None:
    """Keep what a build added to ninja's log since it was ``known`` bytes long, for ``devkit build stats RUN``."""
    with contextlib.suppress(OSError):
        text = log.read_bytes()
        header, _, rest = text.partition(b"\n")
        kept.write_bytes(header + b"\n" + (text[known:] if known else rest))


def python_state(inventory: Inventory) -> dict[str, object]:
    """Return what the tree's Python and the configuration are now, as the wheel's memory holds them."""
    configured = state.mark(inventory.request.build / state.STATE / state.STAMP)
    return {"python": inventory.python_digest, "configured": configured}


def copy_python_again(work: BuildWork) -> bool:
    """Let the tree's Python be copied again where it or the configuration changed; tell whether anything did.

    Paddle's own rule only watches a few files, so that an edit elsewhere, or an option, would not reach the wheel.
    """
    work.inventory.changed("python_digest")
    tree = python_state(work.inventory)
    before = work.inventory.remembered("wheel")
    changed = any(before.get(name) != value for name, value in tree.items())
    if changed and tree != work.tree:
        wheel.forget_copied(work.request.build)
    work.tree = tree
    return changed
