"""What the tests run in: an environment with what they need, and the code of both sides, built or laid over a wheel."""

from __future__ import annotations

import os
import shlex
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from devkit.builds import overlay
from devkit.errors import DevkitError
from devkit.process import TimedOut
from devkit.text import counted
from devkit.tryout import ci_wheels, environment, extensions, metadata, running, settings

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from devkit.builds.python import Python
    from devkit.envs.resolve import Environment
    from devkit.tryout import selection
    from devkit.tryout.running import Side
    from devkit.tryout.work import TryWork

VARIABLES = {"FLAGS_init_allocated_mem": "true", "FLAGS_cudnn_deterministic": "true"}
BUILD_LIMIT_S = 3 * 3600.0
COMPILING = ("preflight", "submodules", "configure", "compile")
"""The phases of a build that a trial needs: nothing is packed, and nothing installed into the environment."""


@dataclass(frozen=True)
class Ready:
    """What the tests run in: the environment and both sides.

    Attributes:
        lists: the requirements that the project names, from which a missing module may be installed.
        unbuilt: why neither side has the extension modules that the project declares; empty where they are there.
    """

    environment: Environment
    interpreter: Python
    base: Side
    request: Side
    over: dict[str, Any] | None
    lists: tuple[str, ...] = ()
    unbuilt: str = ""


def prepare(work: TryWork, chosen: Sequence[selection.Chosen], *, alone: bool = False) -> Ready:
    """Make the environment and both sides ready for their tests; with ``alone`` the request's, which stands for both.

    Raises:
        DevkitError: there is no environment, or no wheel of Paddle.
    """
    from devkit.builds import python
    from devkit.envs.resolve import names, resolve

    app, options = work.app, work.options
    name = options.env or f"try-{work.trial.folder.name}"
    if not options.env and name not in names():
        environment.create(app, name, work.run, paddle="" if work.paddle else "none")
    env = resolve(app.config, name)
    folder = work.trial.side("request")
    texts = {test.path: (folder / test.path).read_text("utf-8", "replace") for test in chosen}
    projects = dict.fromkeys([folder, *(running.project_of(folder, path) for path in texts)])
    lists = [row for place in projects for row in environment.listed(place, paddle=work.paddle)]
    needed = environment.needs(
        texts, lists, paddle=work.paddle, own=own_modules(folder, texts), asked=work.config.get("try.requirements")
    )
    if not options.env:
        needed = environment.with_runtime(folder, env, needed) if work.paddle else needed
        work.notes += environment.install(app, env, needed, work.run)
    interpreter = python.gather(app.runner, env)
    if interpreter.complaint:
        raise DevkitError(f"{interpreter.executable} does not answer", interpreter.complaint, "devkit env create")
    over: dict[str, Any] | None = None
    unbuilt = ""
    if work.paddle:
        base, request, over = _paddle_sides(work, env, interpreter, alone=alone)
    else:
        sides, unbuilt = _plain_sides(work, env, ("request",) if alone else ("base", "request"))
        base, request = sides.get("base", sides["request"]), sides["request"]
    return Ready(env, interpreter, base, request, over, tuple(lists), unbuilt)


def own_modules(folder: Path, tests: Iterable[str]) -> set[str]:
    """Return the top-level modules of a tree, and those beside its tests."""
    places = {folder, *(folder / name for name in ("src", "python", "lib", "test", "tests", "test/legacy_test"))}
    places |= {(folder / path).parent for path in tests}
    found = set()
    for place in places:
        for entry in place.iterdir() if place.is_dir() else ():
            if entry.suffix == ".py" or (entry.is_dir() and (entry / "__init__.py").is_file()):
                found.add(entry.stem)
    return found


def _environ(work: TryWork, env: Environment, paths: Sequence[Path]) -> dict[str, str]:
    from devkit.envs.enter import activated

    dropped = {"PYTHONPATH", "PYTHONHOME", "PYTEST_ADDOPTS", "PYTEST_PLUGINS"}
    found = {name: value for name, value in work.app.child_environment().items() if name not in dropped}
    found = activated(env, found)
    found["PYTHONPATH"] = os.pathsep.join(map(str, paths))
    return found


def _plain_sides(work: TryWork, env: Environment, names: Sequence[str]) -> tuple[dict[str, Side], str]:
    """Return the sides of a repository that is not Paddle's, and why neither has its extension modules.

    What stops the build of one side alone is its affair. Without a compiler or an index, and where both fail, the tests
    that do without these modules still run.

    Raises:
        DevkitError: what one side's build needs was there for the other's, and is gone.
    """
    made = {name: _plain_side(work, env, name) for name in names}
    sides = {name: side for name, (side, _) in made.items()}
    failures = {name: failed for name, (_, failed) in made.items() if failed is not None}
    for name, failed in failures.items() if len(failures) < len(names) or len(names) == 1 else ():
        if failed.own:
            sides[name] = replace(sides[name], problem=failed.said)
            return sides, ""
        if len(names) > 1:
            raise DevkitError(f"the extension modules of {name} were not built", failed.said)
    unbuilt = next((failed.said for failed in failures.values()), "")
    if unbuilt:
        work.note(f"its extension modules were not built: {unbuilt}")
    return sides, unbuilt


def _plain_side(work: TryWork, env: Environment, name: str) -> tuple[Side, extensions.Failed | None]:
    """Return a side as ``devkit.toml`` says that it is built, or with its extension modules, and why these are not."""
    folder = work.trial.side(name)
    asked = [folder / path for path in work.config.get("try.path")]
    usual = dict.fromkeys(("src", "python", *sorted(settings.code_folders(settings.reader(folder))), ""))
    paths = asked or [folder / place for place in usual if (folder / place).is_dir()]
    line = shlex.split(work.config.get("try.build"))
    failed = None if line else extensions.build(work, env, name, paths)
    described = work.trial.folder / f"{name}-metadata"
    installed = [path.name for path in env.folder.glob("lib/python*/site-packages/*.dist-info")]
    if metadata.describe(folder, described, installed):
        paths.append(described)
    side = running.Side(name, folder, _environ(work, env, paths))
    return replace(side, problem=_built(work, side, line) if line else ""), failed


def _built(work: TryWork, side: Side, line: Sequence[str]) -> str:
    """Build a side by the line of its ``devkit.toml`` and return why that failed; nothing where it did not."""
    log = work.run.log(f"build-{side.name}")
    with work.app.console.progress(f"building {side.name}"):
        try:
            done = work.app.runner.run(
                line, cwd=side.folder, env=side.environ, timeout_s=BUILD_LIMIT_S, check=False, log=log, keep=None
            )
        except TimedOut as error:
            return error.what
        except DevkitError as error:
            return f"{error.what}: {error.why}".rstrip(": ")
    return extensions.first_error(log) or f"{line[0]} failed with status {done.status}" if done.status else ""


def said(error: DevkitError) -> str:
    """Return an error on one line."""
    return f"{error.what}: {error.why.splitlines()[0] if error.why else ''}".rstrip(": ")


@dataclass
class _Code:
    """Where a side's compiled code comes from: a wheel, a package that was built, or nowhere, with the reason."""

    wheel: overlay.UnpackedWheel | None = None
    package: Path | None = None
    problem: str = ""


def _paddle_sides(
    work: TryWork, env: Environment, interpreter: Python, *, alone: bool
) -> tuple[Side, Side, dict[str, Any]]:
    """Return both sides of a tree of Paddle: its Python over a wheel, or built."""
    compiled = sorted(changed.path for changed in work.changed if overlay.is_compiled(changed.path))
    over: dict[str, Any] = {"compiled": compiled}
    codes = {name: _Code() for name in (("request",) if alone else ("base", "request"))}
    if alone:
        codes["request"].wheel = ci_wheels.find(work.app, 0, work.commits.head, interpreter)[0]
    elif compiled:
        _compiled(work, env, interpreter, compiled, codes)
    sides: dict[str, Side] = {}
    for name, code in codes.items():
        folder = work.trial.side(name)
        try:
            if code.package is None:
                code.wheel = code.wheel or overlay.obtain(
                    work.app, work.options.wheel or overlay.INSTALLED, interpreter
                )
                place = _lay(work, name, code.wheel)
            else:
                place = code.package.parent
        except DevkitError as error:
            if name == "request" and (alone or sides["base"].problem):
                raise
            code.problem, place = code.problem or said(error), folder / "python"
        paths = [place, folder / "test" / "legacy_test", folder / "test"]
        environ = {**_environ(work, env, paths), **VARIABLES}
        sides[name] = running.Side(name, folder, environ, code.problem)
    used = codes["request"].wheel
    if used is not None:
        over |= {"wheel": used.distribution, "version": used.version, "commit": used.commit}
        over["package"] = str(used.package)
    return sides.get("base", sides["request"]), sides["request"], over


def _compiled(
    work: TryWork, env: Environment, interpreter: Python, compiled: Sequence[str], codes: dict[str, _Code]
) -> None:
    """Find or build the compiled code of both sides."""
    number = int(work.trial.folder.name) if work.trial.folder.name.isdigit() else 0
    for name, of, sha in (("request", number, work.commits.head), ("base", 0, work.commits.base)):
        wheel, notes = ci_wheels.find(work.app, of, sha, interpreter)
        if wheel is not None:
            codes[name].wheel = wheel
            work.notes.append(f"{name}: the wheel that the project's CI built of {sha[:10]}; not used for speed")
        elif work.app.console.verbose:
            work.notes += notes
    if codes["request"].wheel is not None:
        return
    if work.options.build:
        for name, code in codes.items():
            code.wheel = None
            try:
                code.package = compile_side(work, env, name)
            except DevkitError as error:
                code.problem = said(error)
        return
    few = ", ".join(compiled[:3]) + (f" and {len(compiled) - 3} more" if len(compiled) > 3 else "")  # noqa: PLR2004
    codes["request"].problem = f"{few} must be compiled, and no wheel of it was found (--build compiles both sides)"


def compile_side(work: TryWork, env: Environment, name: str) -> Path:
    """Compile a side of a tree of Paddle in place and return the folder of its package; what was there is kept.

    Raises:
        DevkitError: it does not build: the compiler's first error.
    """
    from devkit.builds import pipeline, request, sync

    app, folder = work.app, work.trial.side(name)
    wanted = request.make(
        app, checkout=str(folder), build_dir="build", profile="", define=[], env=str(env.folder), job_count=0,
        cuda_arch="", phases=COMPILING, targets=[],
    )  # fmt: skip
    app.console.note(f"building {name}", "dim")
    try:
        pipeline.build(
            app, wanted, work.run, lambda outcome: app.console.note(f"· {outcome.phase}  {outcome.text}", "dim")
        )
    except pipeline.BuildFailed as failed:
        first = extensions.first_error(work.run.log(failed.phase))
        raise DevkitError(first or failed.what, "" if first else failed.why) from failed
    finally:
        for phase in COMPILING:  # the other side's are written under the same names
            log = work.run.log(phase)
            if log.is_file():
                log.rename(work.run.log(f"{name}-{phase}"))
    package = folder / "build" / "python" / "paddle"
    tree = folder / overlay.PACKAGE
    stale = sync.compare(overlay.tree_files(app.runner, folder), tree, package)
    sync.apply((*stale.copy, *stale.edited), tree, package)  # the tree's own rule watches but a few of its files
    return package


def _lay(work: TryWork, name: str, wheel: overlay.UnpackedWheel) -> Path:
    """Lay a side's Python over a wheel's compiled files, and return the folder to import from."""
    app, folder = work.app, work.trial.side(name)
    near = overlay.nearness(app.runner, folder, wheel.commit, ())
    if name == "request" and near.drifted:
        count = counted(len(near.drifted), "compiled file")
        work.notes.append(f"{count} differ from {wheel.distribution} {wheel.version}; both sides run over it")
    links = overlay.wanted(
        overlay.tree_files(app.runner, folder),
        overlay.wheel_files(wheel.package),
        near.then,
        root=folder / overlay.PACKAGE,
        package=wheel.package,
    )
    place = work.trial.folder / f"{name}-overlay"
    overlay.apply(place, overlay.step(links, overlay.present(place)))
    return place
