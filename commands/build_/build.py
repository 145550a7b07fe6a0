"""Build Paddle: preflight, submodules, configure, compile, wheel, install into the environment, verify.

Run again it does only what is needed; options that changed since the last configure are seen and applied, and an
interrupted build goes on. A build that fails has its log read (devkit build doctor); --retry does about it what changes
this build alone (fewer jobs, more open files, submodules, git's trust, CMake's old policies, half objects) and goes on.
The profile gpu and --cuda-arch have not yet been run on a GPU.

The profiles custom-operators, custom-device (PaddleCustomDevice) and fastdeploy build a project of that kind over the
Paddle of the environment, by the project's own lines: what it needs is looked at first, what it leaves is installed.

Example:  devkit build --profile cpu -D WITH_TESTING=ON
"""

from __future__ import annotations

import contextlib
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from devkit.commands._cli.options import DryRun, Env, Json
from devkit.commands.build_._options import BuildDir, Checkout, Defines, JobCount, ProfileName
from devkit.text import duration

if TYPE_CHECKING:
    from devkit.app import App
    from devkit.builds.pipeline import PhaseOutcome
    from devkit.builds.request import BuildRequest
    from devkit.runs import Run

TRIES = 10


def _phases(incomplete: str) -> list[str]:
    from devkit.builds.request import PHASES

    return [name for name in PHASES if name.startswith(incomplete)]


def command(
    ctx: typer.Context,
    checkout: Checkout = ".",
    build_dir: BuildDir = "build",
    profile: ProfileName = "",
    define: Defines = None,
    env: Env = "",
    jobs: JobCount = 0,
    cuda_arch: Annotated[
        str, typer.Option("--cuda-arch", metavar="N.N,…", help="GPU architectures; those of the GPUs present.")
    ] = "",
    target: Annotated[
        list[str] | None, typer.Option("--target", metavar="NAME", help="Only this; then no wheel.")
    ] = None,
    begin: Annotated[
        str, typer.Option("--from", metavar="PHASE", autocompletion=_phases, help="Begin with this phase.")
    ] = "",
    only: Annotated[
        str, typer.Option("--only", metavar="PHASE", autocompletion=_phases, help="Do only this phase.")
    ] = "",
    offline: Annotated[
        bool, typer.Option("--offline", help="Take nothing from a network (see devkit build deps).")
    ] = False,
    fresh: Annotated[bool, typer.Option("--fresh", help="Forget what CMake holds, and configure again.")] = False,
    retry: Annotated[bool, typer.Option("--retry", help="Fix what broke it, where that is safe, and go on.")] = False,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    from devkit.builds.inventory import Inventory
    from devkit.builds.pipeline import make_plan
    from devkit.builds.projects import projects
    from devkit.builds.request import make, phases

    app = ctx.obj
    if profile in projects():
        words = ProjectWords(checkout, define or [], env, jobs, cuda_arch)
        build_project(app, profile, words, dry_run=dry_run, as_json=as_json)
        return
    request = make(
        app,
        checkout=checkout,
        build_dir=build_dir,
        profile=profile,
        define=define or [],
        env=env,
        job_count=jobs,
        cuda_arch=cuda_arch,
        phases=phases(begin=begin, only=only, targets=bool(target)),
        targets=target or [],
        offline=offline,
        fresh=fresh,
    )
    if dry_run:
        plan = make_plan(Inventory(app, request))
        app.console.plan(plan.lines)
        for step in plan.steps:
            if step.skip:
                app.console.note(f"· {step.phase.ljust(11)}{step.skip}", "dim")
        return
    with app.start_run("build", **request.arguments()) as run:
        result: dict[str, Any] = {"run": run.id, **request.arguments(), "outcomes": [], "causes": [], "mended": []}
        try:
            go(app, request, run, result, retry=retry)
        finally:
            result["usage"] = run.record.get("usage")
            run.record["result"] = result
            if as_json:
                app.console.json(result)
    app.console.note(f"  {duration(run.record['seconds'])}, saved as run {run.id}", "dim")


@dataclass(frozen=True)
class ProjectWords:
    """What the command line says of a project's build."""

    folder: str
    define: list[str]
    env: str
    jobs: int
    cuda_arch: str


def build_project(app: App, name: str, words: ProjectWords, *, dry_run: bool, as_json: bool) -> None:
    """Build what is built on an installed Paddle.

    Raises:
        DevkitError: something that it needs is missing, or a line of it failed.
    """
    import shlex
    from pathlib import Path

    from devkit.builds import projects

    request = projects.make(
        app, name, Path(words.folder), define=words.define, env=words.env, job_count=words.jobs,
        cuda_arch=words.cuda_arch,
    )  # fmt: skip
    projects.check(projects.judge(app, request))
    if dry_run:
        app.console.plan([shlex.join(line) for line in projects.lines(request)])
        return
    with app.start_run("build", **request.arguments()) as run:
        result: dict[str, Any] = {"run": run.id, **request.arguments(), "outcomes": [], "causes": []}

        def show(line: str, seconds: float) -> None:
            result["outcomes"].append({"phase": line, "state": "done", "text": "", "seconds": seconds})
            app.console.done(f"{line}   {duration(seconds)}")

        try:
            projects.build(app, request, run, show)
        finally:
            result["causes"] = run.record.pop("causes", [])
            run.record["result"] = result
            if as_json:
                app.console.json(result)


def go(app: App, request: BuildRequest, run: Run, result: dict[str, Any], *, retry: bool) -> None:
    """Build, and with ``retry`` fix what broke it and go on.

    Raises:
        DevkitError: the build failed.
    """
    from devkit.builds.pipeline import BuildFailed, build
    from devkit.builds.retry import apply_fix

    def show(outcome: PhaseOutcome) -> None:
        result["outcomes"].append(asdict(outcome))
        line = f"{outcome.phase.ljust(11)}{outcome.text}"
        if outcome.state == "done":
            app.console.done(f"{line}   {duration(outcome.seconds)}")
        else:
            app.console.note(f"· {line}", "dim")

    def attempt(request: BuildRequest) -> BuildFailed | None:
        try:
            build(app, request, run, show)
        except BuildFailed as error:
            return error
        return None

    tries = TRIES if retry else 1
    while True:
        tries -= 1
        failed = attempt(request)
        if failed is None:
            result["causes"] = []
            return
        result["causes"] = [asdict(cause) for cause in failed.causes]
        fixed = apply_fix(app, request, failed.causes[0]) if tries and failed.causes else None
        if fixed is None:
            raise failed
        with contextlib.suppress(OSError):  # the next try's log is read by itself
            run.log(failed.phase).rename(run.log(f"{failed.phase}-{TRIES - tries}"))
        result["mended"].append({"cause": failed.causes[0].id, "did": fixed.did})
        app.console.warn(f"{failed.what}; fixed, going on: {fixed.did}")
        phases = request.phases[request.phases.index(failed.phase) :]
        request = replace(fixed.request, phases=phases)
