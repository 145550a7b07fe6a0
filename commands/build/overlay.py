"""Lay the tree's Python over the compiled files of a wheel: changes in Python run in seconds, without a build.

The wheel is the environment's own, a version or a file. It is refused where the change touches compiled code, and,
without --near, where compiled code changed upstream since the wheel was built. The environment then imports the
overlay; edits are seen at once, files that came or went on the next run.

Example:  devkit build overlay && devkit env run python test/legacy_test/test_diff_op.py
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from devkit.commands._cli.options import DryRun, Env, Json
from devkit.commands.build._options import Checkout
from devkit.errors import DevkitError
from devkit.text import counted, duration

if TYPE_CHECKING:
    from devkit.app import App
    from devkit.envs.resolve import Environment
    from devkit.runs import Run

OWN = "devkit's own"


def command(
    ctx: typer.Context,
    checkout: Checkout = ".",
    wheel: Annotated[
        str, typer.Option("--wheel", metavar="VERSION|PATH", help="Another wheel than the environment's own.")
    ] = "",
    env: Env = "",
    near: Annotated[
        bool, typer.Option("--near", help="Take a wheel whose compiled code is not quite the tree's.")
    ] = False,
    remove: Annotated[bool, typer.Option("--remove", help="Take the environment's overlay away.")] = False,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    from devkit.build import changes, overlay, python
    from devkit.build.checkout import find
    from devkit.envs.resolve import resolve

    app = ctx.obj
    root = find(Path(checkout)) if not remove else Path.cwd()
    environment = resolve(app.config, env, directory=root)
    told = python.gather(app.runner, environment)
    if told.complaint:
        raise DevkitError(f"{told.executable} does not answer", told.complaint, "devkit env create")
    if remove:
        gone = overlay.turn_off(told)
        app.console.done(f"{environment.name} imports its own Paddle again" if gone else "there was no overlay")
        if as_json:
            app.console.json({"removed": str(gone) if gone else None})
        return
    source = overlay.obtain(app, wheel, told)
    with app.console.progress("comparing the tree with the wheel"):
        own = overlay.own_changes(app.runner, root, changes.base(app, root).commit)
        close = overlay.nearness(app.runner, root, source.commit, own)
        overlay.refuse(close, source, accept=near)
        links = overlay.wanted(
            overlay.tree_files(app.runner, root),
            overlay.wheel_files(source.package),
            close.then,
            root=root / overlay.PACKAGE,
            package=source.package,
        )
    folder = overlay.place(root, source.package)
    change = overlay.step(links, overlay.present(folder))
    if dry_run:
        app.console.plan([f"ln -sfn {target} {folder}/paddle/{name}" for name, target in change.make.items()])
        app.console.plan([f"rm {folder}/paddle/{name}" for name in change.drop])
        return
    with app.start_run("build overlay", checkout=str(root), environment=environment.name) as run:
        overlay.carry_out(folder, change)
        if environment.name != OWN:
            overlay.turn_on(told, folder)
        proof = check(app, environment, folder, run) if change.make or change.drop else None
        ours = sum(target.is_relative_to(root / overlay.PACKAGE) for target in links.values())
        result: dict[str, Any] = {
            "folder": str(folder),
            "environment": environment.name,
            "wheel": {**asdict(source), "package": str(source.package)},
            "near": {"known": close.known, "ahead": close.ahead, "behind": close.behind, "drifted": close.drifted},
            "files": {"tree": ours, "wheel": len(links) - ours, "made": len(change.make), "dropped": len(change.drop)},
            "check": proof,
        }
        run.record["result"] = result
    if as_json:
        app.console.json(result)
    changed = f"{len(change.make)} linked, {len(change.drop)} dropped" if proof else "in step already"
    app.console.done(
        f"{counted(ours, 'file')} of the tree over {source.distribution} {source.version}: {changed}"
        f"   {duration(run.record['seconds'])}"
    )
    app.console.note(f"  {distance(close.known, close.ahead, close.behind, len(close.drifted))}", "dim")
    if proof:
        app.console.note(f"  checked: 1 + 1 = {proof['sum']:g} on {proof['device']}", "dim")
    if environment.name == OWN:
        app.console.next(f"PYTHONPATH={folder} python …")
    else:
        app.console.next("devkit build overlay --remove   gives the environment its own Paddle back")


def distance(known: bool, ahead: int, behind: int, drifted: int) -> str:
    """Say how near a wheel's commit is to the tree."""
    if not known:
        return "the wheel's commit is not in this clone: its compiled code may be another's"
    where = (
        "the wheel is of this commit"
        if not ahead + behind
        else f"the wheel's commit is {counted(ahead, 'commit')} back"
    )
    if behind:
        where += f" and has {behind} that the tree has not"
    return f"{where}; {counted(drifted, 'compiled file differs', 'compiled files differ')}" if drifted else where


def check(app: App, environment: Environment, folder: Path, run: Run) -> dict[str, Any]:
    """Prove that the overlay imports and computes.

    Raises:
        DevkitError: it does not; the wheel is too far from the tree.
    """
    import os

    from devkit.launch import Worker, device_environment

    environ = device_environment(app)
    environ["PYTHONPATH"] = os.pathsep.join([str(folder), environ["PYTHONPATH"]])
    worker = Worker(app, environment, "probe", folder=run.folder, name="overlay", environ=environ)
    try:
        with app.console.progress("importing the overlay"), worker:
            return worker.ask({"do": "probe"}, "probe")
    except DevkitError as error:
        raise DevkitError(
            "the tree's Python does not run over this wheel's compiled files",
            error.why or error.what,
            "devkit build overlay --wheel VERSION   with a nearer wheel",
            "devkit build overlay --remove",
        ) from error
