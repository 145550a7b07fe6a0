"""Fetch submodules and archives ahead of a build, in parallel, into a cache that all worktrees share.

What is there is left alone, a download goes on where it ended, each archive is verified by its MD5; proxies and git's
insteadOf hold. devkit build --offline then needs no network. --offline fetches nothing: it tells whether the tree and
the cache have all that a build takes, and puts the cache's archives into the tree.

Example:  devkit build deps && devkit build --offline
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from devkit.commands._cli.options import Json
from devkit.commands.build._options import Checkout
from devkit.errors import DevkitError
from devkit.text import counted, duration

if TYPE_CHECKING:
    from devkit.app import App


def command(
    ctx: typer.Context,
    checkout: Checkout = ".",
    at_once: Annotated[int, typer.Option("--jobs", "-j", min=1, max=64, help="How many at once.")] = 8,
    offline: Annotated[bool, typer.Option("--offline", help="Fetch nothing; tell what is missing.")] = False,
    as_json: Json = False,
) -> None:
    from devkit.build.checkout import find
    from devkit.build.deps import Fetcher, Got, home

    app = ctx.obj
    root = find(Path(checkout))
    if offline:
        take_stock(app, root)
        return
    with app.start_run("build deps", checkout=str(root)) as run:
        with app.console.progress("fetching what a build needs", total=1) as progress:

            def on_got(one: Got, done: int, total: int) -> None:
                progress.update(done=done, total=total, text=f"fetching: {one.name}")
                run.event({"event": "got", **asdict(one)})

            got = Fetcher(app, root, at_once).all(on_got)
        failed = [each for each in got if each.state == "failed"]
        result = {"cache": str(home()), "got": [asdict(each) for each in got]}
        run.record["result"] = result
        if as_json:
            app.console.json(result)
        if failed:
            raise DevkitError(
                f"{counted(len(failed), 'thing')} of {len(got)} could not be fetched",
                "\n".join(f"{each.name}: {each.complaint}" for each in failed),
                "devkit build preflight   tries each host through the proxy",
                "devkit build deps   goes on with what is missing",
            )
    fetched = sum(each.state == "fetched" for each in got)
    app.console.done(f"{fetched} fetched, {len(got) - fetched} kept   {duration(run.record['seconds'])}")
    app.console.next("devkit build --offline", "devkit build deps export FILE   for a machine without a network")


def take_stock(app: App, root: Path) -> None:
    """Tell what a build without a network would have, and put the cache's archives into the tree.

    Raises:
        DevkitError: it would lack something.
    """
    from devkit.build import offline
    from devkit.build.deps import home, place_archives

    with app.console.progress("looking what is here"):
        found = offline.stock(app, root)
    if app.console.as_json:
        app.console.json({"cache": str(home()), **found.as_dict()})
    optional = [each for each in found.missing if each.optional]
    if optional:
        app.console.look(f"{counted(len(optional), 'archive')} that only some options take cannot be had:")
        for line in offline.listed(optional).splitlines():
            app.console.note(f"  {line}", "dim")
    offline.refuse(found)
    place_archives(root)
    app.console.done(f"nothing is missing: {len(found.there)} in the tree, {len(found.cached)} in the cache")
    app.console.next("devkit build --offline")
