"""Send files and folders to other machines over ssh.

SRC… are put into the folder PATH of each host, made if it is missing; a folder that ends in a slash sends what is
in it. One file to a PATH that is not a folder gets that name. Several hosts get the same at once: a:,b:,c:data/. The
remote side needs ssh and Python 3.6 or later (without, sftp does what it can). Stopped anywhere, the same line goes
on from where it was; what is there already is not sent again. A folder that is new there appears when it is whole.

Example:  devkit send dist/*.whl checkpoints gpu7:work/
"""

from __future__ import annotations

import os
from typing import Annotated

import typer

from devkit.commands import _transfer as flags
from devkit.commands._cli.options import Json


def command(
    ctx: typer.Context,
    words: Annotated[list[str], typer.Argument(metavar="SRC… HOST:PATH", help="What is sent, and where to.")],
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
    sources, places = words_of.parse_send(words)
    words_of.check_names(exclude or ())
    patterns = tuple(os.fsencode(pattern) for pattern in exclude or ())
    request = copy.CopyRequest(
        sources,
        Choice(patterns, gitignore, unsafe_links, copy_links, words_of.read_list(files_from)),
        Options(checksum, dry_run, unsafe_links, delete, patterns, update, backup),
        compress=not no_compress,
        rate=words_of.parse_rate(limit),
        retries=retries,
    )
    ssh = flags.ssh_words(app, port, identity)
    hosts = [place.host for place in places]
    with (
        flags.answering(app.console, hosts, as_json=as_json),
        copy.Copies(app.console, ssh, request, places) as copies,
    ):
        offer = copy.offer_of(request)
        with app.start_run("send", sources=list(sources), places=[str(place) for place in places]) as run:
            with flags.watching(app.console, f"sending to {', '.join(hosts)}", app.restored) as watch:
                outcomes = copies.send(offer, watch)
            run.record["result"] = [outcome.as_json() for outcome in outcomes]
            if as_json:
                app.console.json(run.record["result"])
            status = flags.show_outcomes(app.console, outcomes, "sent", dry_run=dry_run)
            run.record["status"] = status
    return status
