"""Fetch submodules and archives ahead of a build, in parallel, into a cache that all worktrees share.

The archives are those that the profile's options take (--profile and -D, as for devkit build). What is there is left
alone, a download goes on where it ended, each archive is verified by the MD5 that the tree names; proxies and git's
insteadOf hold. devkit build --offline then needs no network. --offline fetches nothing: it tells whether the tree and
the cache have all that such a build takes, and puts the cache's archives into the tree.

Example:  devkit build deps && devkit build --offline
"""

from __future__ import annotations

import shlex
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from devkit.commands._cli.options import Json
from devkit.commands.build_._options import BuildDir, Checkout, Defines, ProfileName
from devkit.errors import DevkitError
from devkit.text import counted, duration

if TYPE_CHECKING:
    from collections.abc import Sequence

    from devkit.app import App
    from devkit.builds.archives import Archive


def command(
    ctx: typer.Context,
    checkout: Checkout = ".",
    build_dir: BuildDir = "build",
    profile: ProfileName = "",
    define: Defines = None,
    at_once: Annotated[int, typer.Option("--jobs", "-j", min=1, max=64, help="How many at once.")] = 8,
    offline: Annotated[bool, typer.Option("--offline", help="Fetch nothing; tell what is missing.")] = False,
    as_json: Json = False,
) -> None:
    from devkit.builds.archives import archives, wget_shim
    from devkit.builds.checkout import find
    from devkit.builds.deps import Fetcher, Got, home
    from devkit.builds.request import configuration, flags

    app = ctx.obj
    root = find(Path(checkout))
    chosen, options = configuration(app, profile, define or [])
    taken = archives(root, root / build_dir, options)
    words = flags(profile, define or [])
    if offline:
        take_stock(app, root, taken, words)
        return
    with app.start_run("build deps", checkout=str(root), profile=chosen.name, options=options) as run:
        with app.console.progress("fetching what a build needs", total=1) as progress:

            def on_got(one: Got, done: int, total: int) -> None:
                progress.update(done=done, total=total, text=f"fetching: {one.name}")
                run.event({"event": "got", **asdict(one)})

            got = Fetcher(app, root, at_once, taken).all(on_got)
        if (root / build_dir).is_dir():
            wget_shim(root / build_dir, taken)
        failed = [outcome for outcome in got if outcome.state == "failed" and not outcome.optional]
        result = {"cache": str(home()), "profile": chosen.name, "got": [asdict(outcome) for outcome in got]}
        run.record["result"] = result
        if as_json:
            app.console.json(result)
        for outcome in got:
            said = outcome.note or (outcome.complaint if outcome.optional else "")
            if said:
                app.console.warn(f"{outcome.name}: {said}")
        if failed:
            raise DevkitError(
                f"{counted(len(failed), 'thing')} of {len(got)} could not be fetched",
                "\n".join(f"{outcome.name}: {outcome.complaint}" for outcome in failed),
                f"{again(words, 'preflight')}   tries each host through the proxy",
                f"{again(words, 'deps')}   goes on with what is missing",
            )
    states = [outcome.state for outcome in got]
    summary = f"{states.count('fetched')} fetched, {states.count('kept')} kept"
    app.console.done(f"{summary}, for the profile {chosen.name}   {duration(run.record['seconds'])}")
    app.console.next(
        f"{again(words)} --offline", f"{again(words, 'deps', 'export')} FILE   for a machine without a network"
    )


def again(words: Sequence[str], *command: str) -> str:
    """Return a line to type for the same options."""
    return shlex.join(["devkit", "build", *command, *words])


def take_stock(app: App, root: Path, taken: Sequence[Archive], words: Sequence[str]) -> None:
    """Tell what a build without a network would have, and put the cache's archives into the tree.

    Raises:
        DevkitError: it would lack something.
    """
    from devkit.builds import offline
    from devkit.builds.archives import put
    from devkit.builds.deps import home

    with app.console.progress("looking what is here"):
        found = offline.stock(app, root, taken)
    if app.console.as_json:
        app.console.json({"cache": str(home()), **found.as_dict()})
    optional = [archive for archive in found.missing if archive.optional]
    if optional:
        app.console.warn(f"{counted(len(optional), 'archive')} that the build may do without cannot be downloaded:")
        for line in offline.listed(optional).splitlines():
            app.console.note(f"  {line}", "dim")
    offline.refuse(found, words)
    for archive in taken:
        if archive.keepable and archive.kept.is_file():
            put(archive)
    app.console.done(f"nothing is missing: {len(found.there)} in the tree, {len(found.cached)} in the cache")
    app.console.next(f"{again(words)} --offline")
