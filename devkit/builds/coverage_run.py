"""Measuring what unit tests cover of a change: begun before the first of them, ended after the last."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from devkit.builds import coverage, gcov, python_coverage

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from devkit.app import App
    from devkit.builds.changes import Base
    from devkit.builds.python import Python


@dataclass(frozen=True)
class Counting:
    """A measurement that goes on.

    Attributes:
        root: the checkout.
        build: its build folder.
        base: what the change is counted from.
        changed: changed file → changed lines.
        environ: the environment of its tests.
        python: that of the tree's Python.
        counters: where compiled code's counts go.
    """

    root: Path
    build: Path
    base: Base
    changed: Mapping[str, frozenset[int]]
    environ: Mapping[str, str]
    python: python_coverage.Measurement
    counters: Path


def begin(
    app: App, interpreter: Python, root: Path, build: Path, base: Base, environ: Mapping[str, str], *, folder: Path
) -> Counting:
    """Prepare the measurement of a change.

    Args:
        app: whose runner starts programs.
        interpreter: the environment's Python.
        root: the checkout.
        build: its build folder.
        base: what the change is counted from.
        environ: the environment of a test without it.
        folder: where all that is measured goes.

    Raises:
        DevkitError: the environment has no coverage, or the tests would import other files than the tree's.
    """
    changed = coverage.change(app, root, base)
    python_coverage.require(app, interpreter)
    ours = [path for path in changed if coverage.language(path) == "Python"]
    copies = build / "python" / "paddle" if "PYTHONPATH" in environ else None
    counting = python_coverage.begin(folder, python_coverage.places(ours, root, interpreter, copies))
    counters = folder / "counters"
    counters.mkdir()
    given = {**counting.environ(environ), **gcov.environ(counters)}
    return Counting(root, build, base, changed, given, counting, counters)


def end(app: App, interpreter: Python, counting: Counting, *, minimum: float) -> coverage.CoverageReport:
    """Read what was measured, and judge it.

    Raises:
        DevkitError: the data cannot be read.
    """
    compiled = [path for path in counting.changed if coverage.language(path) == "C++"]
    with app.console.progress("reading what ran"):
        measured, unmeasured = python_coverage.end(app, interpreter, counting.python)
        if compiled:
            found, why = gcov.read(app, counting.root, counting.build, counting.counters, compiled)
            measured, unmeasured = {**measured, **found}, {**unmeasured, **why}
    return coverage.judge(counting.base, minimum, counting.changed, measured, unmeasured)
