"""Lay the tree's Python over the compiled files of a wheel: changes in Python run in seconds, without a build.

Without --wheel it is the nearest of those at hand: the environment's own, those unpacked before, those built in this
checkout and its other worktrees, and those of the setting build.wheels. It is refused where the change touches compiled
code, and, without --near, where compiled code changed upstream since the wheel was built. The environment then imports
the overlay; edits are seen at once, files that came or went on the next run.

Example:  devkit build overlay && devkit env run -- python test/a.py
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from devkit.commands._cli.options import DryRun, Env, Json
from devkit.commands.build_._options import Checkout
from devkit.errors import DevkitError
from devkit.text import counted, duration

if TYPE_CHECKING:
    from devkit.app import App
    from devkit.builds.wheel_choice import Settled
    from devkit.console import Console
    from devkit.envs.resolve import Environment
    from devkit.runs import Run

OWN = "devkit's own"
PASSED_SHOWN = 4


def command(
    ctx: typer.Context,
    checkout: Checkout = ".",
    wheel: Annotated[
        str, typer.Option("--wheel", metavar="VERSION|PATH", help="This wheel; installed is the environment's own.")
    ] = "",
    env: Env = "",
    near: Annotated[
        bool, typer.Option("--near", help="Take a wheel whose compiled code is not quite the tree's.")
    ] = False,
    remove: Annotated[bool, typer.Option("--remove", help="Remove the environment's overlay.")] = False,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    import shlex

    from devkit.builds import overlay, python, wheel_choice
    from devkit.builds.checkout import find
    from devkit.envs.resolve import resolve

    app = ctx.obj
    root = find(Path(checkout)) if not remove else Path.cwd()
    environment = resolve(app.config, env, directory=root)
    interpreter = python.gather(app.runner, environment)
    if interpreter.complaint:
        raise DevkitError(f"{interpreter.executable} does not answer", interpreter.complaint, "devkit env create")
    if remove and dry_run:
        app.console.plan([shlex.join(["rm", "-r", str(path)]) for path in overlay.removal(interpreter)])
        return
    if remove:
        gone = overlay.turn_off(interpreter)
        app.console.done(f"{environment.name} imports its own Paddle again" if gone else "there was no overlay")
        if as_json:
            app.console.json({"removed": str(gone) if gone else None})
        return
    settled = wheel_choice.settle(app, root, interpreter, wheel, accept=near)
    source, close = settled.wheel, settled.near
    with app.console.progress("comparing the tree with the wheel"):
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
        app.console.plan(overlay.lines(folder, change, interpreter if environment.name != OWN else None))
        return
    with app.start_run("build overlay", checkout=str(root), environment=environment.name) as run:
        overlay.apply(folder, change)
        if environment.name != OWN:
            overlay.turn_on(interpreter, folder)
        proof = check(app, environment, folder, run) if change.make or change.drop else None
        ours = sum(target.is_relative_to(root / overlay.PACKAGE) for target in links.values())
        result: dict[str, Any] = {
            "folder": str(folder),
            "environment": environment.name,
            "wheel": {**asdict(source), "package": str(source.package), "from": settled.origin},
            "near": {"known": close.known, "ahead": close.ahead, "behind": close.behind, "drifted": close.drifted},
            "passed_over": [
                {
                    "from": candidate.origin,
                    "path": str(candidate.path),
                    "version": candidate.version,
                    "commit": candidate.commit,
                    "why": why,
                }
                for candidate, why in settled.passed
            ],
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
    show_wheel(app.console, settled)
    if proof:
        app.console.note(f"  checked: 1 + 1 = {proof['sum']:g} on {proof['device']}", "dim")
    if environment.name == OWN:
        app.console.next(f"PYTHONPATH={folder} python …")
    else:
        app.console.next("devkit build overlay --remove   gives the environment its own Paddle back")


def show_wheel(console: Console, settled: Settled) -> None:
    """Say where the wheel is from, how near it is, and which were passed over."""
    from devkit.builds.wheel_choice import distance

    console.note(f"  the wheel, from {settled.origin}: {distance(settled.near)}", "dim")
    for candidate, why in settled.passed[:PASSED_SHOWN]:
        console.note(f"  passed over {candidate.name}: {why}", "dim")
    if len(settled.passed) > PASSED_SHOWN:
        console.note(f"  and {len(settled.passed) - PASSED_SHOWN} more (--json names all)", "dim")


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
