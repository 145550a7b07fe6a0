"""Try a pull request: in a worktree and an environment of its own, its Python over a wheel, with the tests it touches.

Your checkout and your environments stay as they are. It carries out lines that you could type; --dry-run prints them.
With a command after -- that is run in the request's folder in place of the tests. Where a request changes compiled code
it says so, and devkit build makes that. Run again, it takes what the author has pushed since. The exit status is 4
where a test fails.

Example:  devkit pr try 1007

Example:  devkit pr try 1007 -- python demo.py
"""

from __future__ import annotations

import os
import shlex
from typing import TYPE_CHECKING, Annotated

import typer

from devkit.commands._cli.options import DryRun, Json
from devkit.errors import DevkitError, UsageError

if TYPE_CHECKING:
    from devkit.app import App


def command(
    ctx: typer.Context,
    *,
    request: Annotated[str, typer.Argument(metavar="REQUEST", help="A number, or the address of its page.")],
    words: Annotated[list[str] | None, typer.Argument(metavar="-- CMD…", help="In place of the tests.")] = None,
    remote: Annotated[str, typer.Option("--remote", metavar="NAME", help="Another remote than the project's.")] = "",
    env: Annotated[
        str, typer.Option("--env", metavar="NAME", help="An environment that is there; try-N is made by default.")
    ] = "",
    wheel: Annotated[
        str, typer.Option("--wheel", metavar="VERSION|PATH", help="Another wheel than the environment's own.")
    ] = "",
    near: Annotated[
        bool, typer.Option("--near", help="Take a wheel whose compiled code is not quite the tree's.")
    ] = False,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> int:
    from devkit.builds.checkout import find
    from devkit.commands._cli.compose import carry_out
    from devkit.envs.resolve import names
    from devkit.git.roles import parse_request
    from devkit.git.session import open_session
    from devkit.pr.fetch import FetchOptions, worktree_folder

    app: App = ctx.obj
    if as_json and words:
        raise UsageError("--json goes with the tests", "What a command says is its own.")
    with open_session(app, changes=False) as session:
        state = session.state(status=False)
        wanted = parse_request(request, state, app.config, remote=remote)
        here = state.branch == wanted.branch
        folder = state.checkout if here else worktree_folder(wanted.branch, FetchOptions((wanted,), "worktree"), state)
    number, name = str(wanted.number), env or f"try-{wanted.number}"
    fetch = ["pr", "fetch", number, *([] if here else ["--worktree"])]
    create = [] if env or name in names() else ["env", "create", name]
    overlay = ["build", "overlay", "-C", str(folder), "--env", name]
    test = ["build", "test", "-C", str(folder), "--env", name, "--changed"]
    fetch += ["--remote", wanted.remote] if remote or not request.isdigit() else []
    overlay += [*(["--wheel", wheel] if wheel else []), *(["--near"] if near else [])]
    last = ["env", "run", name, "--", *words] if words else test
    if dry_run:
        lines = [shlex.join(["devkit", *each]) for each in (fetch, create, overlay, last) if each]
        app.console.plan([*lines[:-1], f"cd {shlex.quote(str(folder))} && {lines[-1]}" if words else lines[-1]])
        return 0
    answer = ["--json"] if as_json else []
    _, fetched = carry_out(app, [*fetch, *answer])
    find(folder)  # what is no Paddle gets no environment
    if create:
        carry_out(app, [*create, *answer])
    try:
        _, laid = carry_out(app, [*overlay, *answer])
    except DevkitError as error:
        remedies = [_elsewhere(each, number, str(folder), name) for each in error.remedies]
        raise DevkitError(error.what, error.why, *remedies) from error
    if words:
        os.chdir(folder)
    status, tested = carry_out(app, [*last, *answer])
    if as_json:
        app.console.json(
            {
                "number": wanted.number,
                "folder": str(folder),
                "environment": name,
                "fetch": fetched[0],
                "overlay": laid,
                "test": tested,
            }
        )
    app.console.next(
        f"devkit env shell {name}",
        f"devkit pr drop {number}   removes the worktree",
        *([] if env else [f"devkit env remove {name}"]),
    )
    return status


def _elsewhere(remedy: str, number: str, folder: str, name: str) -> str:
    """Return a remedy of the overlay's as it is typed from here."""
    if remedy.startswith("devkit build overlay"):
        return remedy.replace("devkit build overlay", f"devkit pr try {number}", 1)
    if remedy.partition("   ")[0] == "devkit build":
        built = shlex.join(["devkit", "build", "-C", folder, "--env", name])
        return f"{built}   builds it; then devkit build test -C {shlex.quote(folder)} --changed"
    return f"cd {shlex.quote(folder)} && {remedy}" if remedy.startswith("git ") else remedy
