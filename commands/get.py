"""Fetch a file from a web server, or a file or folder that devkit serve shares.

A file comes in parallel ranges, one from devkit serve verified block by block; a folder in one stream, of which
only what is not here is sent. It is put into the folder DST, or gets that name. Stopped anywhere, the same line
goes on from where it was, if the server answers ranges and says which version they are of. With - for ADDRESS it
is read from standard input, and stands on no command line; - for DST is standard output. A file that is here under
the name that the server chose, and was not fetched by devkit, stays: on a terminal you are asked.

Example:  devkit get https://HOST:PORT/SECRET/model.tar#sha256=HASH there/
"""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from devkit.commands import _transfer as flags
from devkit.commands._cli.options import Json


def command(
    ctx: typer.Context,
    address: Annotated[str, typer.Argument(metavar="ADDRESS", help="http or https; - reads it from standard input.")],
    destination: Annotated[str, typer.Argument(metavar="DST", help="A folder, the file's new name, or -.")] = ".",
    connections: Annotated[int, typer.Option("--connections", "-j", min=1, max=16, help="Ranges at a time.")] = 4,
    sha256: Annotated[
        str | None, typer.Option("--sha256", metavar="HEX", help="Refuse a file that hashes to anything else.")
    ] = None,
    checksum: flags.Checksum = False,
    limit: flags.Limit = "",
    header: Annotated[
        list[str] | None,
        typer.Option("--header", "-H", metavar="HEADER", help="Name: value, or @FILE of such lines; repeatable."),
    ] = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="Replace a file of the name that the server chose.")
    ] = False,
    dry_run: flags.DryRun = False,
    as_json: Json = False,
) -> int:
    from devkit.errors import UsageError
    from devkit.transfer.http_download.address import parse_address
    from devkit.transfer.http_download.get import fetch
    from devkit.transfer.http_download.options import TO_STDOUT, FetchOptions, parse_header, parse_sha256
    from devkit.transfer.words import check_names, parse_rate

    app = ctx.obj
    where = parse_address(sys.stdin.readline() if address == "-" else address)
    check_names([destination])
    console = app.console
    options = FetchOptions(
        destination,
        connections,
        parse_rate(limit),
        checksum,
        parse_sha256(sha256),
        dry_run,
        replace,
        {name: value for word in header or () for name, value in parse_header(word).items()},
        app.child_environment(),
        (lambda path: bool(console.confirm(f"{path} is here already. Replace it?"))) if console.interactive else None,
    )
    if as_json and destination == TO_STDOUT:
        raise UsageError("--json and the file cannot both go to standard output")
    stays = f"{flags.STAYS}, if the server answers ranges" if options.keeps_what_came else "the same line begins anew"
    with app.start_run("get", address=where.url, destination=destination) as run:
        with (
            flags.answering(app.console, [""], as_json=as_json, several=False),
            flags.watching(app.console, f"fetching from {where.netloc}", app.restored, stays) as watch,
        ):
            outcome = fetch(where, options, watch)
        run.record["result"] = outcome.as_json()
        if as_json:
            app.console.json(run.record["result"])
        status = flags.show_outcomes(app.console, [outcome], "fetched", dry_run=dry_run)
        run.record["status"] = status
    return status
