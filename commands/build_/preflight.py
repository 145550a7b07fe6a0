"""Check in seconds what would fail an hour into a build: tools, Python, disk, memory, submodules, archives, hosts.

The archives are those that the profile's options take (--profile and -D, as for devkit build). Hosts are tried only
where something must still be fetched from them, as git and CMake would try them: through the configured proxy and
git's insteadOf. The exit status is 4 where something is broken. --fix installs what is missing into the environment,
tells git whose checkout it is, removes broken archives and fetches submodules.

Example:  devkit build preflight --fix
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from devkit.commands._cli.options import DryRun, Env, Json
from devkit.commands.build_._options import BuildDir, Checkout, Defines, JobCount, ProfileName
from devkit.errors import DevkitError, ExitStatus

if TYPE_CHECKING:
    from collections.abc import Sequence

    from devkit.console import Console
    from devkit.doctor.finding import Finding


def command(
    ctx: typer.Context,
    checkout: Checkout = ".",
    build_dir: BuildDir = "build",
    profile: ProfileName = "",
    define: Defines = None,
    env: Env = "",
    jobs: JobCount = 0,
    fix: Annotated[bool, typer.Option("--fix", help="Do what fixes it and is safe.")] = False,
    offline: Annotated[bool, typer.Option("--offline", help="Try no host.")] = False,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> int:
    import shlex

    from uv import find_uv_bin

    from devkit import rights
    from devkit.builds.checkout import find
    from devkit.builds.configure import is_on
    from devkit.builds.findings import judge
    from devkit.builds.preflight import apply, fixes, gather, left_after
    from devkit.builds.projects import judge as judge_project
    from devkit.builds.projects import make, projects
    from devkit.builds.request import configuration, job_counts, prepend_path
    from devkit.doctor.finding import for_user
    from devkit.envs.resolve import resolve

    app = ctx.obj
    if profile in projects():
        asked = make(app, profile, Path(checkout), define=define or [], env=env, job_count=jobs, cuda_arch="")
        return say(app.console, for_user(judge_project(app, asked), rights.here()), as_json=as_json)
    root = find(Path(checkout))
    environment = resolve(app.config, env, directory=root)
    prepend_path(environment)
    _, options = configuration(app, profile, define or [])
    counts = job_counts(app, jobs, gpu=is_on(options.get("WITH_GPU", "OFF")))
    arguments = root, root / build_dir, environment, counts, options
    with app.console.progress("looking at what a build would need"):
        facts = gather(app, *arguments, network=not offline)
    done: list[str] = []
    failed: list[DevkitError] = []
    plan = fixes(facts, find_uv_bin())
    if dry_run:
        app.console.plan([shlex.join(repair.argv) for repair in plan])
        left = left_after(judge(facts), plan if fix else [])
        return ExitStatus.VERDICT if left else ExitStatus.DONE
    if fix:
        for repair in plan:
            with app.console.progress(f"fixing {repair.name}"):
                try:
                    apply(app, repair)
                    done.append(shlex.join(repair.argv))
                except DevkitError as error:
                    failed.append(error)
        with app.console.progress("looking again"):
            facts = gather(app, *arguments, network=not offline)
    findings = for_user(judge(facts), rights.here())
    status = say(app.console, findings, as_json=as_json, fixed=done)
    for line in done:
        app.console.done(line)
    for refused in failed:
        app.console.fail(refused)
    if not fix and fixes(facts, "uv"):
        app.console.next("devkit build preflight --fix   fixes what it safely can")
    return status


def say(console: Console, findings: Sequence[Finding], *, as_json: bool, fixed: Sequence[str] = ()) -> int:
    """Print findings, and return the exit status that follows from them."""
    from devkit.commands.doctor import show
    from devkit.doctor.finding import tally

    tallied = tally(findings)
    if as_json:
        console.json({"checks": [asdict(finding) for finding in findings], "fixed": list(fixed), "summary": tallied})
    else:
        column = max(len(finding.name) for finding in findings) + 6
        for finding in findings:
            show(console, finding, column)
        console.answer(f"  {tallied['fine']} fine, {tallied['warning']} to look at, {tallied['broken']} broken", "dim")
    return ExitStatus.VERDICT if tallied["broken"] else ExitStatus.DONE
