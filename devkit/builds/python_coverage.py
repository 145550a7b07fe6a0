"""Which lines of the tree's Python the unit tests run, measured by coverage in the environment's own Python.

Each Python that a test starts finds our ``sitecustomize`` first, which starts coverage: a test runs by the same line as
without it, and so do the processes that it starts. Nothing is put into the environment.
"""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from devkit.builds import overlay
from devkit.builds.coverage import Lines
from devkit.errors import DevkitError, Hint
from devkit.files import write_atomically
from devkit.text import counted

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from devkit.app import App
    from devkit.builds.python import Python

LIMIT_S = 600.0
OLDEST = 6
SHOWN = 3
VERSION = "import coverage; print(coverage.__version__)"
START = """\
import importlib.machinery
import importlib.util
import os
import sys

here = os.path.dirname(os.path.abspath(__file__))
try:
    import coverage
except ImportError:  # another Python, which a test started
    pass
else:
    coverage.process_startup()
others = [path for path in sys.path if os.path.abspath(path) != here]
found = importlib.machinery.PathFinder.find_spec("sitecustomize", others)
if found is not None and found.loader is not None:
    found.loader.exec_module(importlib.util.module_from_spec(found))
"""
SETTINGS = """\
[run]
parallel = true
concurrency = thread,multiprocessing
disable_warnings = no-data-collected,module-not-imported,module-not-measured,include-ignored,no-ctracer
include =
"""
REPORT = """\
import json
import sys

import coverage

asked = json.load(sys.stdin)
data = coverage.Coverage(data_file=asked["combined"], config_file=False)
data.combine(asked["data"], strict=False, keep=True)
found = {}
for path in asked["files"]:
    try:
        _, statements, _, missing, _ = data.analysis2(path)
        found[path] = {"executable": statements, "executed": sorted(set(statements) - set(missing))}
    except coverage.CoverageException as error:
        found[path] = {"complaint": str(error)}
json.dump(found, sys.stdout)
"""


@dataclass(frozen=True)
class Measurement:
    """A measurement that goes on.

    Attributes:
        folder: where its data are.
        places: changed file → the file that the tests import for it.
    """

    folder: Path
    places: Mapping[str, Path]

    def environ(self, given: Mapping[str, str]) -> dict[str, str]:
        """Return a test's environment with what starts coverage in it."""
        paths = filter(None, [str(self.folder / "site"), given.get("PYTHONPATH")])
        return {
            **given,
            "PYTHONPATH": os.pathsep.join(paths),
            "COVERAGE_PROCESS_START": str(self.folder / "coveragerc"),
            "COVERAGE_FILE": str(self.folder / "data" / "python"),
        }


def require(app: App, interpreter: Python) -> None:
    """Refuse an environment without coverage.

    Raises:
        DevkitError: it has none, or one that is too old.
    """
    done = app.runner.run([interpreter.executable, "-c", VERSION], env=_environ(app), timeout_s=LIMIT_S, check=False)
    version = done.text.strip()
    if done.status or int(version.partition(".")[0]) < OLDEST:
        has = f"its coverage is {version}" if not done.status else "it has no coverage"
        raise DevkitError(
            f"lines cannot be counted in {interpreter.environment}: {has}",
            f"The Python package coverage, {OLDEST} or later, counts them in the Python that the tests run in.",
            Hint.of("devkit", "env", "install", str(Path(interpreter.executable).parent.parent), f"coverage>={OLDEST}"),
        )


def begin(folder: Path, places: Mapping[str, Path]) -> Measurement:
    """Prepare a measurement of some files.

    Raises:
        DevkitError: the folder cannot be written.
    """
    patterns = [re.sub(r"[^\w./ -]", "?", os.path.realpath(path), flags=re.ASCII) for path in places.values()]
    settings = SETTINGS + "".join(f"    {pattern}\n" for pattern in patterns or ["/nothing"])
    write_atomically(folder / "site" / "sitecustomize.py", START.encode())
    write_atomically(folder / "coveragerc", settings.encode())
    (folder / "data").mkdir(parents=True, exist_ok=True)
    return Measurement(folder, places)


def places(paths: Iterable[str], root: Path, interpreter: Python, copies: Path | None) -> dict[str, Path]:
    """Return changed file → the file that the tests import for it, which must be the same.

    Args:
        paths: changed files of ``python/paddle``.
        root: the checkout.
        interpreter: the environment's Python.
        copies: the build folder's package, where the tests run over it.

    Raises:
        DevkitError: one is another, or is not there: its lines would not be the tree's.
    """
    laid = overlay.active(interpreter)
    if laid is not None:
        package, where, remedy = laid / "paddle", "the overlay", "devkit build overlay   brings it in step"
    elif copies is not None:
        package, where, remedy = copies, "the build folder", "devkit build sync"
    else:
        package, where, remedy = Path(interpreter.purelib) / "paddle", interpreter.environment, "devkit build overlay"
    found = {path: package / path.removeprefix(f"{overlay.PACKAGE}/") for path in paths}
    other = [path for path, place in found.items() if not _same(root / path, place)]
    if other:
        more = f" and {len(other) - SHOWN} more" if len(other) > SHOWN else ""
        what = counted(len(other), "changed file is", "changed files are")
        raise DevkitError(
            f"{what} not what the tests would import", f"In {where}: {', '.join(other[:SHOWN])}{more}.", remedy
        )
    return found


def _same(ours: Path, theirs: Path) -> bool:
    try:
        return ours.samefile(theirs) or ours.read_bytes() == theirs.read_bytes()
    except OSError:
        return False


def end(app: App, interpreter: Python, measurement: Measurement) -> tuple[dict[str, Lines], dict[str, str]]:
    """Return changed file → its lines, and changed file → why nothing is known of them.

    Raises:
        DevkitError: the environment's Python cannot read the data.
    """
    asked = {
        "data": [str(file) for file in sorted((measurement.folder / "data").iterdir())],
        "combined": str(measurement.folder / "combined"),
        "files": [os.path.realpath(place) for place in measurement.places.values()],
    }
    done = app.runner.run(
        [interpreter.executable, "-c", REPORT],
        cwd=measurement.folder,
        env=_environ(app),
        data=json.dumps(asked).encode(),
        timeout_s=LIMIT_S,
    )
    answers = json.loads(done.text)
    measured: dict[str, Lines] = {}
    unmeasured: dict[str, str] = {}
    for path, place in measurement.places.items():
        answer = answers[os.path.realpath(place)]
        if "complaint" in answer:
            unmeasured[path] = str(answer["complaint"])
        else:
            measured[path] = Lines(frozenset(answer["executable"]), frozenset(answer["executed"]))
    return measured, unmeasured


def _environ(app: App) -> dict[str, str]:
    return {name: value for name, value in app.child_environment().items() if not name.startswith(("PYTHON", "COV"))}
