"""Explain each profile of a build: what it is for, and the line of CMake that it makes here.

A profile of your own is [build.profiles.NAME] in devkit.toml: purpose, extends, options. The last three are for what is
built on an installed Paddle: custom operators, a plugin of PaddleCustomDevice, FastDeploy.

Example:  devkit build profiles
"""

from __future__ import annotations

import typer

from devkit.commands._cli.options import Env, Json


def command(ctx: typer.Context, env: Env = "", as_json: Json = False) -> None:
    import shlex
    from pathlib import Path

    from devkit.builds import configure, python
    from devkit.builds.profiles import profiles
    from devkit.builds.projects import projects
    from devkit.builds.request import architectures, job_counts
    from devkit.envs.resolve import resolve

    app = ctx.obj
    found = python.gather(app.runner, resolve(app.config, env))
    interpreter = configure.ConfiguredPython(found.executable, found.short, found.include, found.library)
    answer = {}
    for profile in profiles(app.config).values():
        gpu = configure.is_on(profile.options.get("WITH_GPU", "OFF"))
        given = configure.options(
            profile.options,
            {},
            interpreter,
            link_jobs=job_counts(app, 0, gpu=gpu).link,
            cuda_arch=architectures("") if gpu else (),
        )
        line = shlex.join(configure.line(Path(), Path("build"), given))
        answer[profile.name] = {
            "purpose": profile.purpose, "from": profile.origin, "options": dict(profile.options), "line": line
        }  # fmt: skip
        app.console.answer_parts(
            (profile.name, "strong"), (f"   {profile.purpose}", ""), (f"   {profile.origin}", "dim")
        )
        app.console.answer(f"  {line}", "type")
    for project in projects().values():
        options = " ".join(f"-D{name}={value}" for name, value in project.options.items())
        line = " && ".join(" ".join(words) for words in project.lines)
        line = line.replace("{python}", found.executable).replace("{options}", options)
        answer[project.name] = {
            "purpose": project.purpose, "from": "devkit", "options": dict(project.options), "line": line
        }  # fmt: skip
        app.console.answer_parts((project.name, "strong"), (f"   {project.purpose}", ""), ("   devkit", "dim"))
        app.console.answer(f"  {line}", "type")
    if as_json:
        app.console.json(answer)
