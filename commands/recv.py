"""Receive files and folders from other machines over ssh.

What the PATHs name on the hosts, wildcards included, is put into the folder DST, made if it is missing; a folder
that ends in a slash gives what is in it. One file to a DST that is not a folder gets that name. Several hosts send at
once; of files that would get one name, the first host's comes. The remote side needs ssh and Python 3.6 or later
(without, sftp does what it can). Stopped anywhere, the same line goes on from where it was; what is here already is
not sent again. A folder that is new here appears when it is whole.

Example:  devkit recv gpu7:work/logs 'gpu8:work/*.whl' .
"""

from __future__ import annotations

import os
from typing import Annotated

import typer

from devkit.commands import _transfer as flags
from devkit.commands._cli.options import Json


def command(
    ctx: typer.Context,
    words: Annotated[list[str], typer.Argument(metavar="HOST:PATH… DST", help="What is fetched, and where to.")],
    exclude: flags.Exclude = None,
    gitignore: flags.Gitignore = False,
    checksum: flags.Checksum = False,
    unsafe_links: flags.UnsafeLinks = False,
    no_compress: flags.NoCompress = False,
    limit: flags.Limit = "",
    delete: flags.Delete = False,
    update: flags.Update = False,
    copy_links: flags.CopyLinks = False,
    backup: flags.Backup = False,
    files_from: flags.FilesFrom = None,
    port: flags.Port = 0,
    identity: flags.Identity = "",
    retries: flags.Retries = 0,
    dry_run: flags.DryRun = False,
    as_json: Json = False,
) -> int:
    from devkit.transfer import copy
    from devkit.transfer import words as words_of
    from devkit.transfer.remote.messages import Choice, Options

    app = ctx.obj
    wanted, destination = words_of.parse_recv(words)
    words_of.check_names(exclude or ())
    patterns = tuple(os.fsencode(pattern) for pattern in exclude or ())
    request = copy.CopyRequest(
        (),
        Choice(patterns, gitignore, unsafe_links, copy_links, words_of.read_list(files_from)),
        Options(checksum, dry_run, unsafe_links, delete, patterns, update, backup),
        compress=not no_compress,
        rate=words_of.parse_rate(limit),
        retries=retries,
    )
    ssh = flags.ssh_words(app, port, identity)
    hosts = [place.host for place, _ in wanted]
    sources = [f"{place.host}:{path}" for place, paths in wanted for path in paths]
    with app.start_run("recv", hosts=hosts, sources=sources, destination=destination) as run:
        with (
            flags.watching(app.console, f"receiving from {', '.join(hosts)}", app.restored) as watch,
            copy.Copies(app.console, ssh, request, [place for place, _ in wanted]) as copies,
        ):
            outcomes = copies.receive([paths for _, paths in wanted], destination, watch)
        run.record["result"] = [outcome.as_json() for outcome in outcomes]
        if as_json:
            app.console.json(run.record["result"])
        status = flags.show_outcomes(app.console, outcomes, "received", dry_run=dry_run)
        run.record["status"] = status
    return status
