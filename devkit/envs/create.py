"""Making a virtual environment: look, plan, carry out, prove; and roll back what does not come to its end."""

from __future__ import annotations

import contextlib
import datetime as dt
import os
import re
import shutil
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from devkit.envs import interpreters, pip, pip_settings, store, uv
from devkit.envs import lock as locks
from devkit.envs.paddle import CPU, NONE, WHEEL, PaddleChoice, choose, parse_request, probe_driver
from devkit.envs.places import PROJECT_ENVIRONMENT
from devkit.envs.resolve import Environment
from devkit.errors import DevkitError, Hint, UsageError
from devkit.files import explained
from devkit.paths import user_home
from devkit.text import counted

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from devkit.app import App
    from devkit.envs.bundle import Bundle
    from devkit.envs.interpreters import Interpreter
    from devkit.envs.lock import Lock
    from devkit.envs.suites import Pins
    from devkit.runs import Run


@dataclass(frozen=True)
class EnvironmentRequest:
    """What a user asks for.

    Attributes:
        name: of the environment; empty for ``.venv`` of the project.
        python: a version or a path; empty for the newest suitable.
        paddle: as ``--paddle`` takes it; empty for what suits the machine.
        packages: requirements beside Paddle.
        files: files of requirements.
        editables: folders of packages that are installed in place.
        index_url: in place of the default index.
        proxy: over the configured one.
        offline: only from uv's cache.
        lock: recreates another environment; then it alone says what is installed.
        suite: whose pins are taken too; what it pins of Paddle holds where ``paddle`` says nothing.
        bundle: where the packages of the lock and a Python are, on a machine without a network.
    """

    name: str = ""
    python: str = ""
    paddle: str = ""
    packages: tuple[str, ...] = ()
    files: tuple[Path, ...] = ()
    editables: tuple[Path, ...] = ()
    index_url: str = ""
    proxy: str = ""
    offline: bool = False
    lock: Lock | None = None
    suite: Pins | None = None
    bundle: Bundle | None = None


@dataclass(frozen=True)
class CreatePlan:
    """What will be done: a bundle is unpacked, if there is one; the lines of uv, in order; and what they make."""

    name: str
    folder: Path
    interpreter: Interpreter
    choice: PaddleChoice
    lines: tuple[uv.Line, ...]
    notes: tuple[str, ...] = ()
    bundle: Bundle | None = None

    def shown(self) -> list[str]:
        """Return the lines that make it."""
        return [*(self.bundle.shown() if self.bundle else ()), *(line.shown() for line in self.lines)]


@dataclass(frozen=True)
class Made:
    """An environment that came to its end.

    Attributes:
        new_bytes: what it takes on the disk beyond what uv's cache held already.
        proof: what the computation answered; None if it was not asked to compute.
    """

    plan: CreatePlan
    paddles: tuple[str, ...]
    seconds: float
    new_bytes: int
    proof: dict[str, Any] | None


def words_of(packages: Sequence[str]) -> tuple[str, ...]:
    """Return the requirements in what ``--with`` was given, several in one word too.

    Raises:
        UsageError: one would read as a flag of uv.
    """
    found = tuple(word for package in packages for word in ([package] if _is_one(package) else package.split()))
    for word in found:
        if word.startswith("-"):
            raise UsageError(
                f"--with {word} is not a package", "Flags of uv are not taken.", "devkit env create -r FILE"
            )
    return found


def _is_one(text: str) -> bool:
    return " @ " in text or ";" in text or ("/" in text and Path(text).exists())


def check_files(files: Sequence[Path], editables: Sequence[Path]) -> None:
    """Refuse files of requirements and folders of packages that are not there.

    Raises:
        DevkitError: one is not.
    """
    for file in files:
        if not file.is_file():
            raise DevkitError(f"there is no {file}", "-r was given it.", Hint.of("ls", str(file.parent)))
    for folder in editables:
        if not any((folder / name).is_file() for name in ("pyproject.toml", "setup.py", "setup.cfg")):
            raise DevkitError(
                f"{folder} is not the folder of a package", "It has no pyproject.toml and no setup.py.",
                Hint.of("ls", str(folder)),
            )  # fmt: skip


@contextlib.contextmanager
def naming(name: str, suite: str = "") -> Iterator[None]:
    """Let the remedies of an error make the environment that was asked for, for the suite that was."""
    try:
        yield
    except DevkitError as error:
        if suite and "/" not in suite:
            other = Hint(
                f"devkit env create --for {suite.partition('@')[0]}@COMMIT", "takes another state of the suite"
            )
            error.hints = tuple(other if "--with 'PACKAGE'" in hint.command else hint for hint in error.hints)
        if name not in {"", PROJECT_ENVIRONMENT}:
            again = f"devkit env create {name}"
            error.hints = tuple(
                replace(hint, command=re.sub(r"devkit env create(?=$| --)", again, hint.command))
                for hint in error.hints
            )
        raise


def plan(app: App, request: EnvironmentRequest, directory: Path) -> CreatePlan:
    """Look at the machine and return what will be done; nothing is changed.

    Raises:
        DevkitError: the name is taken, or there is no Python or Paddle as asked for.
    """
    folder = store.place(request.name, directory)
    name = request.name or PROJECT_ENVIRONMENT
    refuse_taken(name, folder)
    check_files(request.files, request.editables)
    if os.pathsep in str(folder):
        raise DevkitError(
            f"an environment cannot be in {folder}", f"PATH is a list with {os.pathsep} between its folders.",
            "devkit env create NAME   makes one in devkit's own folder",
        )  # fmt: skip
    choice, requirements, wanted = _contents(request)
    bundle = request.bundle
    if bundle and not request.python:
        major, minor, *patch = (int(part) for part in bundle.python.split("."))
        interpreter = interpreters.Interpreter(bundle.program, (major, minor, (*patch, 0)[0]), "from the bundle")
    else:
        interpreter = interpreters.find(app.runner, wanted, choice.minors)
    source = uv.source(
        app,
        index_url=request.index_url,
        paddle_index=choice.index,
        proxy=request.proxy,
        offline=request.offline,
        exact=request.lock is not None or any(map(uv.is_pylock, request.files)),
    )
    variables = source.variables()
    if bundle:
        variables = {"UV_PYTHON_DOWNLOADS": "never", "UV_OFFLINE": "1"}
    make = ("venv", "--no-project", "--python", str(interpreter.path), "--prompt", name, "--", str(folder))
    lines = [uv.Line(make, variables, folder.parent)]
    words = _install(request, choice, requirements)
    if words:
        install = ("pip", "install", "--python", str(folder / "bin" / "python"), *words)
        lines.append(uv.Line(install, variables, directory))  # what is named relatively is the user's
    notes = not_followed()
    if request.suite:
        at = f" at {request.suite.commit[:12]}" if request.suite.commit else ""
        notes += (
            f"with what {request.suite.name}{at} asks for: {counted(len(request.suite.requirements), 'requirement')}",
        )
    return CreatePlan(name, folder, interpreter, choice, tuple(lines), notes, bundle)


def not_followed() -> tuple[str, ...]:
    """Return a line on those of pip's settings that do not hold here, if there are some."""
    said = pip_settings.read(os.environ, user_home()).not_followed()
    return (said,) if said else ()


def _install(request: EnvironmentRequest, choice: PaddleChoice, requirements: tuple[str, ...]) -> list[str]:
    """Return what uv is told to install; nothing where there is nothing."""
    suite, bundle = request.suite, request.bundle
    files = (*(suite.files if suite else ()), *request.files)
    in_place = [requirement.removeprefix("-e ") for requirement in requirements if requirement.startswith("-e ")]
    plain = [requirement for requirement in requirements if not requirement.startswith("-e ")]
    if not (requirements or files or request.editables):
        return []
    words = ["--no-deps"] if request.lock else []
    words += [word for file in files for word in ("-r", str(file.absolute()))]
    words += ["--no-index", "--find-links", str(bundle.folder / "wheels")] if bundle else []
    if suite:
        from devkit.envs.suites import excluding

        words += ["--only-binary", "numpy"]  # its source is built for minutes, if at all
        words += [word for file in excluding(suite, choice.requirements) for word in ("--excludes", str(file))]
    words += [
        word for folder in (*(path.absolute() for path in request.editables), *in_place) for word in ("-e", str(folder))
    ]
    return [*words, "--", *plain]


def _contents(request: EnvironmentRequest) -> tuple[PaddleChoice, tuple[str, ...], str]:
    """Return the Paddle, all requirements and the Python that a request comes to."""
    lock = request.lock
    if lock is not None:
        minor = int(lock.python.split(".")[1])
        choice = PaddleChoice(lock.paddle, lock.packages, lock.index, "from a lock", (minor, minor))
        return choice, lock.packages, request.python or f"3.{minor}"
    pinned = request.suite.paddle if request.suite and not request.paddle else ""
    asked = parse_request(request.paddle or (pinned if re.fullmatch(r"==[\w.]+", pinned) else ""))
    driver, why = probe_driver() if asked.device not in {CPU, NONE, WHEEL} else (None, "")
    choice = choose(asked, driver, why_no_driver=why)
    wanted = request.python
    if request.suite:
        from devkit.envs.suites import clashes, newest_python

        if not wanted:
            choice = replace(choice, minors=newest_python(request.suite, choice.minors))
        found = clashes(request.suite, choice.requirements)
        if found:
            raise DevkitError(
                f"{request.suite.name} and this Paddle do not go together", "\n".join(f"{word}." for word in found),
                "devkit env create --paddle VERSION   another Paddle",
                f"devkit env create --for {request.suite.name}@COMMIT   another state of the suite",
                "devkit env create --paddle none   and then: devkit env install",
            )  # fmt: skip
    return choice, (*choice.requirements, *words_of(request.packages)), wanted


def refuse_taken(name: str, folder: Path) -> None:
    """Refuse to make what is there already; the rest of an interrupted making does not count.

    Raises:
        DevkitError: it is there.
    """
    if not os.path.lexists(folder) or store.unfinished(folder):
        if name != PROJECT_ENVIRONMENT and store.container_note(name).exists():
            from devkit.envs.containers import has_name

            if has_name(name):
                raise DevkitError(
                    f"the name {name} is taken", "A container has it.", f"devkit env remove {name}   makes room"
                )
        return
    store.check_not_of_windows(folder)
    if store.read(folder) is None and name == PROJECT_ENVIRONMENT:
        way_out = Hint.of("mv", str(folder), f"{folder}.old", purpose="makes room")
        if (folder / "bin" / "python").exists():
            way_out = Hint.of("devkit", "env", "adopt", str(folder), purpose="lets devkit use it as it is")
        raise DevkitError(
            f"{folder} is there already",
            "devkit did not make it.",
            way_out,
            "devkit env create NAME   makes another beside it",
        )
    raise DevkitError(
        f"the name {name} is taken",
        f"{folder} is there.",
        f"devkit env show {name}",
        f"devkit env remove {name}   makes room",
    )


def execute(app: App, planned: CreatePlan, run: Run, *, verify: bool) -> Made:
    """Make the environment; whatever stops that, its folder is gone again.

    Raises:
        DevkitError: another devkit makes it, uv failed, or it does not compute.
    """
    begin = time.monotonic()
    folder = planned.folder
    with store.creating(folder, app.console.warn) as cut_off:
        if cut_off and os.path.lexists(folder):
            app.console.warn(f"{planned.name} was left half-made; starting over")
            shutil.rmtree(folder)
        refuse_taken_now(planned)
        store.begin(folder)
        try:
            with explained(folder):
                folder.parent.mkdir(parents=True, exist_ok=True)
            with _unpacked(app, planned):
                made = _make(app, planned, run, verify=verify, begin=begin)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            app.restored.append(f"{planned.name} was rolled back")
            raise
    return made


def _unpacked(app: App, planned: CreatePlan) -> contextlib.AbstractContextManager[None]:
    if planned.bundle is None:
        return contextlib.nullcontext()
    from devkit.envs.bundle import unpacked

    return unpacked(app, planned.bundle, python=planned.interpreter.path == planned.bundle.program)


def refuse_taken_now(planned: CreatePlan) -> None:
    """Refuse again below the lock: another devkit may have made it since the plan.

    Raises:
        DevkitError: it is there.
    """
    if os.path.lexists(planned.folder):
        raise DevkitError(f"the name {planned.name} is taken", f"{planned.folder} was made a moment ago.")


def _make(app: App, planned: CreatePlan, run: Run, *, verify: bool, begin: float) -> Made:
    from devkit.envs.uv_progress import install

    folder = planned.folder
    uv.run(app, planned.lines[0], log=run.log("uv"))
    for line in planned.lines[1:]:
        install(app, line, log=run.log("uv"))
    store.put_device_side(folder)
    pip.put(folder)
    paddles = tuple(store.installed_paddles(folder))
    proof = prove(app, folder, planned.name, run) if verify and paddles else None
    store.write(
        folder,
        store.Record(
            planned.name,
            dt.datetime.now(dt.timezone.utc).isoformat(timespec="seconds"),
            planned.interpreter.dotted,
            str(planned.interpreter.path),
            planned.choice.build,
            planned.choice.reason,
            planned.choice.requirements,
            planned.choice.index,
            proof=proof,
        ),
    )
    locks.write(app, folder)
    return Made(planned, paddles, time.monotonic() - begin, store.own_size(folder), proof)


def prove(app: App, folder: Path, name: str, run: Run) -> dict[str, Any]:
    """Let the environment compute, and return what it answered.

    Raises:
        DevkitError: it cannot.
    """
    from devkit.launch import Worker, device_environment

    environment = Environment(name, folder / "bin" / "python", "just made")
    with (
        app.console.progress(f"computing in {name}"),
        Worker(app, environment, "probe", folder=run.folder, name="probe", environ=device_environment(app)) as worker,
    ):
        return {key: value for key, value in worker.ask({"do": "probe"}, "probe").items() if key != "event"}
