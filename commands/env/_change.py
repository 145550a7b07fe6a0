"""What installing, uninstalling and upgrading have in common: flags, the plan, the change, and what is said of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from devkit.commands.env._options import names
from devkit.text import counted

if TYPE_CHECKING:
    from devkit.app import App
    from devkit.envs.packages import PackageChange, PackageRequest

Words = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[NAME] PKG…", autocompletion=names, help="The environment, if not .venv, and the packages."
    ),
]
Files = Annotated[
    list[Path] | None, typer.Option("-r", "--requirements", metavar="FILE", help="A file of requirements.")
]
Editables = Annotated[
    list[Path] | None, typer.Option("-e", "--editable", metavar="PATH", help="A package that is installed in place.")
]
IndexUrl = Annotated[
    str, typer.Option("--index-url", metavar="URL", help="In place of the default index and Paddle's own.")
]
Proxy = Annotated[str, typer.Option("--proxy", metavar="URL", help="The proxy, for this once.")]
Offline = Annotated[bool, typer.Option("--offline", help="Only what uv has in its cache.")]


def change(app: App, words: list[str], request: PackageRequest, *, dry_run: bool, as_json: bool) -> None:
    """Change the packages of the environment that the words name."""
    from devkit.envs import packages
    from devkit.envs.resolve import resolve_virtual

    here = Path.cwd()
    name, wanted = packages.split_name(app, words, here, more=bool(request.files or request.editables))
    environment = resolve_virtual(app.config, name)
    planned = packages.plan(app, name, environment.folder, replace(request, packages=tuple(wanted)), here)
    for note in planned.notes:
        app.console.note(note, "dim")
    if dry_run:
        app.console.plan([planned.line.shown()])
        return
    with app.start_run(f"env {request.action}", name=name, packages=wanted) as run:
        done = packages.execute(app, planned, log=run.log("uv"))
        run.record["result"] = result(name, done)
    if as_json:
        app.console.json(result(name, done))
    say(app, name, done)


def result(name: str, done: PackageChange) -> dict[str, object]:
    """Return what was changed as JSON holds it."""
    return {
        "name": name,
        "changed": {package: {"from": before, "to": after} for package, (before, after) in done.packages.items()},
        "lock": str(done.lock) if done.lock else None,
    }


def say(app: App, name: str, done: PackageChange) -> None:
    """Say what was changed."""
    if not done.packages:
        app.console.done(f"{name} holds that already")
        return
    app.console.done(f"{name}  {counted(len(done.packages), 'package')} changed")
    for package, (before, after) in done.packages.items():
        words = f"{before} → {after}" if before and after else after or f"{before} taken out"
        app.console.note(f"  {package} {words}", "dim")
