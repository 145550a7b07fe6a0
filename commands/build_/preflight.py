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
from typing import Annotated

import typer

from devkit.commands._cli.options import DryRun, Env, Json
from devkit.commands.build_._options import BuildDir, Checkout, Defines, JobCount, ProfileName
from devkit.errors import DevkitError, ExitStatus


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
    from devkit.builds.preflight import apply, fixes, gather, judge, left_after
    from devkit.builds.request import configuration, job_counts, prepend_path
    from devkit.commands.doctor import show
    from devkit.doctor.finding import for_user, tally
    from devkit.envs.resolve import resolve

    app = ctx.obj
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
        app.console.plan([shlex.join(each.argv) for each in plan])
        left = left_after(judge(facts), plan if fix else [])
        return ExitStatus.VERDICT if left else ExitStatus.DONE
    if fix:
        for each in plan:
            with app.console.progress(f"fixing {each.name}"):
                try:
                    apply(app, each)
                    done.append(shlex.join(each.argv))
                except DevkitError as error:
                    failed.append(error)
        with app.console.progress("looking again"):
            facts = gather(app, *arguments, network=not offline)
    findings = for_user(judge(facts), rights.here())
    tallied = tally(findings)
    if as_json:
        app.console.json({"checks": [asdict(each) for each in findings], "fixed": done, "summary": tallied})
    else:
        column = max(len(each.name) for each in findings) + 6
        for finding in findings:
            show(app.console, finding, column)
        app.console.answer(
            f"  {tallied['fine']} fine, {tallied['warning']} to look at, {tallied['broken']} broken", "dim"
        )
    for line in done:
        app.console.done(line)
    for refused in failed:
        app.console.fail(refused)
    if not fix and fixes(facts, "uv"):
        app.console.next("devkit build preflight --fix   fixes what it safely can")
    return ExitStatus.VERDICT if tallied["broken"] else ExitStatus.DONE
