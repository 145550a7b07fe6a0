"""Unit tests as Paddle's CI runs them: image, variables, order, limits and retries, by ``templates/builds/ci.toml``."""

from __future__ import annotations

import os
import shlex
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from devkit import gpus
from devkit.builds import tests
from devkit.builds.templates import table

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from devkit.app import App
    from devkit.builds.python import Python
    from devkit.builds.tests import FileVerdict
    from devkit.process import Runner
    from devkit.runs import Run

ENGINE_LIMIT_S = 20.0
PLAIN_LIMIT_S = 600.0
SYSTEM = {Path("/"), Path("/usr"), Path("/usr/local")}


@dataclass(frozen=True)
class CI:
    """A job of Paddle's CI that runs unit tests; the fields are those of the table."""

    name: str
    image: str
    docker: tuple[str, ...]
    environment: Mapping[str, str]
    added_runs: int
    added_timeout_s: float
    timeout_s: float
    retries: int
    without: str
    parallel: int

    @property
    def ctest(self) -> tuple[str, ...]:
        """What ctest is given besides the test's name."""
        return ("--timeout", f"{self.timeout_s:g}", "-LE", self.without)


@dataclass(frozen=True)
class Turn:
    """One test's turn: how often it runs, how long each run may take, and how often it is run again if it fails."""

    path: str
    runs: int
    limit_s: float
    retries: int


@dataclass(frozen=True)
class Place:
    """Where tests run: what stands before each line, in a container; nothing where that is this machine, and why."""

    prefix: tuple[str, ...] = ()
    why_here: str = ""


def job(*, gpus: bool) -> CI:
    """Return the job that fits this machine."""
    name = "gpu" if gpus else "cpu"
    row: Mapping[str, Any] = table("ci")[name]
    return CI(
        name,
        row["image"],
        tuple(row["docker"]),
        row["environment"],
        row["added"]["runs"],
        row["added"]["timeout_s"],
        row["timeout_s"],
        row["retries"],
        row["without"],
        row["parallel"],
    )


def order(chosen: Sequence[str], added: Collection[str], ci: CI) -> list[Turn]:
    """Return the turns of tests: the added ones first, several times and with little time, then all of them."""
    first = [Turn(path, ci.added_runs, ci.added_timeout_s, 0) for path in chosen if path in added]
    return first + [Turn(path, 1, ci.timeout_s, ci.retries) for path in chosen]


def take(turn: Turn, once: Callable[[int], FileVerdict]) -> FileVerdict:
    """Return how a turn went; ``once`` runs the test, given the number of the run from 1.

    Of several runs each must pass. Where one that failed is run again, the first that passes decides.
    """
    verdict = once(1)
    number = 1
    while verdict.passed and number < turn.runs:
        number += 1
        verdict = once(number)
    while not verdict.passed and not verdict.not_run and number <= turn.retries:
        number += 1
        verdict = once(number)
    return replace(verdict, runs=number)


def place(runner: Runner, ci: CI, interpreter: Python, mounts: Sequence[Path], variables: Mapping[str, str]) -> Place:
    """Return where tests run: in a container of CI's image, where an engine has it and the environment fits in.

    Args:
        runner: what starts docker.
        ci: the job.
        interpreter: the environment's Python, which is seen inside at its own path.
        mounts: the folders that are seen inside at their own paths.
        variables: what the tests' environment has besides.
    """
    python = Path(os.path.realpath(interpreter.executable)).parent.parent
    if shutil.which("docker") is None:
        return Place(why_here="docker is not installed")
    if python in SYSTEM:
        return Place(
            why_here=f"{interpreter.environment} is made of this system's Python, which a container does not have"
        )
    found = runner.run(["docker", "image", "inspect", ci.image], timeout_s=ENGINE_LIMIT_S, check=False)
    if found.status:
        absent = "no such image" in found.complaint.lower()
        why = f"the image is not on this machine: docker pull {ci.image}" if absent else "no docker engine answers"
        return Place(why_here=why)
    seen = [python, Path(interpreter.executable).parent.parent, *mounts]
    volumes = [word for folder in dict.fromkeys(map(str, seen)) for word in ("-v", f"{folder}:{folder}")]
    given = [word for name, value in variables.items() for word in ("-e", f"{name}={value}")]
    user = ("--user", f"{os.getuid()}:{os.getgid()}", "-e", "HOME=/tmp")
    return Place(("docker", "run", "--rm", "--init", *ci.docker, *user, *volumes, *given))


def inside(place: Place, ci: CI, argv: Sequence[str], cwd: Path) -> list[str]:
    """Return a test's line as it runs at a place."""
    return [*place.prefix, "-w", str(cwd), ci.image, *argv] if place.prefix else list(argv)


def differences(place: Place, ci: CI, *, by_ctest: bool) -> list[str]:
    """Return in what a run is not as CI's, a sentence each."""
    found = [f"not in CI's image: {place.why_here}"] if place.why_here else []
    if not by_ctest:
        found.append("Python files run by themselves: CI starts them by ctest (devkit build --profile test)")
    return [*found, f"one test at a time: CI runs {ci.parallel} at once"]


@dataclass(frozen=True)
class UnitTests:
    """How tests run: plainly, or as a job of CI's, at its place.

    Attributes:
        environ: what they see.
        job: the job; None for a plain run.
        place: where.
        ctest: the tests that ctest runs in the build folder, by their names.
        added: the tests that the change adds.
    """

    app: App
    interpreter: Python
    root: Path
    build: Path
    environ: Mapping[str, str]
    job: CI | None = None
    place: Place = Place()
    ctest: tuple[str, ...] = ()
    added: tuple[str, ...] = ()

    @property
    def variables(self) -> dict[str, str]:
        """What the tests see that this process does not."""
        return {name: value for name, value in self.environ.items() if os.environ.get(name) != value}

    def as_ci(self, chosen: Sequence[str], commit: str) -> UnitTests:
        """Return how CI runs tests that were chosen, as far as that can be had here, and say what is not as there.

        Args:
            chosen: the tests.
            commit: what the change is counted from.
        """
        runner = self.app.runner
        found = job(gpus=bool(gpus.architectures()))
        environ = {**self.environ, **found.environment}
        seen = replace(self, environ=environ).variables
        where = place(runner, found, self.interpreter, [self.root, self.build, self.app.runs.root], seen)
        known = tuple(tests.compiled_tests(runner, self.build))
        added = set(tests.added_files(runner, self.root, commit))
        files = {_name(path) for path in chosen if path.endswith(".py")}
        for text in differences(where, found, by_ctest=files <= set(known)):
            self.app.console.note(f"  {text}", "dim")
        new = tuple(path for path in chosen if path in added)
        return replace(self, environ=environ, job=found, place=where, ctest=known, added=new)

    def turns(self, chosen: Sequence[str], limit_s: float | None) -> list[Turn]:
        """Return the turns of tests; ``limit_s`` is what each run may take, where that was asked for."""
        if self.job is None:
            return [Turn(path, 1, limit_s or PLAIN_LIMIT_S, 0) for path in chosen]
        found = order(chosen, self.added, self.job)
        return [replace(turn, limit_s=limit_s) for turn in found] if limit_s else found

    def line(self, turn: Turn, log: Path) -> tuple[list[str], Path]:
        """Return the line that runs a test, and the folder where."""
        flags = self.job.ctest if self.job else ()
        argv, cwd = tests.line(self.interpreter, self.root, self.build, turn.path, log, ctest=self.ctest, flags=flags)
        return (inside(self.place, self.job, argv, cwd) if self.job else argv), cwd

    def lines(self, turns: Sequence[Turn]) -> list[str]:
        """Return what turns run, to be typed; what CI only runs where one failed is not among it."""
        found: list[str] = []
        words = [] if self.place.prefix else ["env", *(f"{name}={value}" for name, value in self.variables.items())]
        for turn in turns:
            argv, _ = self.line(turn, Path())
            found += [shlex.join([*words, *argv])] * turn.runs
        return found

    def run(self, run: Run, turn: Turn, environ: Mapping[str, str], *, stack: bool) -> FileVerdict:
        """Run a test's turn, and with ``stack`` once more under gdb where it crashed."""
        name = _name(turn.path) + ("-added" if turn.runs > 1 else "")
        argv, cwd = self.line(turn, run.log(name))

        def once(number: int) -> FileVerdict:
            log = run.log(name if number == 1 else f"{name}-{number}")
            return tests.run(self.app, turn.path, argv, cwd, environ, log=log, limit_s=turn.limit_s)

        verdict = take(turn, once)
        if not (stack and verdict.crashed):
            return verdict
        log = run.log(f"{name}-gdb")
        return replace(verdict, stack=tests.stack(self.app, argv, cwd, environ, log=log, limit_s=turn.limit_s))


def _name(path: str) -> str:
    return Path(path).stem if path.endswith(".py") else path
