"""Share files and folders over HTTP: a page for people, and lines for curl and devkit get.

The address holds a secret: who has it may read what is shared, nobody else. It listens on this machine alone
unless --bind says otherwise, and beyond this machine it speaks TLS with a certificate of its own, whose
fingerprint is in the address for devkit get. It ends with Ctrl-C.

Example:  devkit serve dist --bind 0.0.0.0 --expire 2h
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from devkit.commands._cli.options import Json

if TYPE_CHECKING:
    from devkit.console import Console
    from devkit.transfer.http_server.announce import Announcement, Served
    from devkit.transfer.http_server.server import Server


def command(
    ctx: typer.Context,
    paths: Annotated[
        list[str] | None, typer.Argument(metavar="PATH", help="What is shared; the current folder by default.")
    ] = None,
    bind: Annotated[str, typer.Option(metavar="ADDRESS", help="Listen on this address; 0.0.0.0 is all.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Listen on this port; a free one by default.")] = 0,
    upload: Annotated[
        str | None, typer.Option("--upload", metavar="FOLDER", help="Let others put files into this folder.")
    ] = None,
    quota: Annotated[str, typer.Option(metavar="SIZE", help="What uploads may take together.")] = "10G",
    reserve: Annotated[str, typer.Option(metavar="SIZE", help="What uploads leave free on the disk.")] = "1G",
    once: Annotated[
        bool, typer.Option("--once", help="End after one file, archive or folder was fetched whole.")
    ] = False,
    expire: Annotated[
        str, typer.Option("--expire", metavar="TIME", help="End after this time: 90s, 30m, 2h, 1d.")
    ] = "",
    tls: Annotated[
        bool | None, typer.Option("--tls/--no-tls", help="Encrypt; the default where --bind leaves this machine.")
    ] = None,
    limit: Annotated[str, typer.Option("--limit", metavar="RATE", help="Bytes a second at most, a connection.")] = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be shared, and share nothing.")] = False,
    as_json: Json = False,
) -> None:
    from devkit.text import counted, duration, size
    from devkit.transfer.http_server.announce import Announcement, is_loopback, parse_time
    from devkit.transfer.http_server.server import Server
    from devkit.transfer.words import check_names, parse_rate, parse_size

    app = ctx.obj
    console = app.console
    check_names([*(paths or ()), *([] if upload is None else [upload])])
    shared = [Path(word) for word in paths or ["."]]
    expire_s = parse_time(expire)
    served: list[Served] = []

    def on_served(one: Served) -> None:
        served.append(one)
        verb = "put" if one.uploaded else "fetched"
        line = f"{one.peer} {verb} {one.what}   {size(one.sent)}   {duration(one.seconds)}"
        if one.complete:
            console.done(line)
        else:
            console.warn(f"{line}   broke off")

    share = Server(
        shared,
        address=bind,
        port=port,
        upload=None if upload is None else Path(upload),
        quota=parse_size(quota),
        reserve=parse_size(reserve),
        once=once,
        encrypted=not is_loopback(bind) if tls is None else tls,
        rate=parse_rate(limit),
        on_served=on_served,
    )
    if dry_run:
        with share as server:
            _would_share(console, shared, server, as_json=as_json)
        return
    with share as server, app.start_run("serve", paths=list(paths or ()), bind=bind) as run:
        announcement = Announcement.of(server)
        if as_json:
            console.json(announcement.as_json(), one_line=True)
        else:
            _announce(console, announcement, server, plain=tls is False and not is_loopback(bind))
        announcement.forget()
        try:
            server.run(expire_s)
        except KeyboardInterrupt:
            console.note("")
        run.record["result"] = {
            "fetched": sum(not one.uploaded and one.complete for one in served),
            "uploaded": sum(one.uploaded for one in served),
            "bytes": sum(one.sent for one in served),
        }
        console.note(
            f"  no longer shared; {counted(len(served), 'answer')}, {size(sum(one.sent for one in served))}", "dim"
        )


def _would_share(console: Console, paths: list[Path], server: Server, *, as_json: bool) -> None:
    """Say where a share would be reached; its secret is made anew each time."""
    url = server.url().replace(server.secret, "***")
    names = [path.resolve().name or "/" for path in paths]
    if as_json:
        console.json({"url": url, "lines": [], "others": [], "names": names}, one_line=True)
        return
    console.answer(url, "strong")
    console.note(f"  would share {', '.join(names)}", "dim")


def _announce(console: Console, announcement: Announcement, server: Server, *, plain: bool) -> None:
    console.answer(announcement.url, "strong")
    if plain:
        console.warn("not encrypted: whoever is on the way can read the address and the files")
    if console.interactive:
        for line in announcement.qr_code():
            console.note(f"  {line}")
    for line in announcement.lines:
        console.note(f"  {line}", "type")
    if announcement.others:
        console.note("  this machine's other addresses, where that one is out of reach:", "dim")
        for other in announcement.others:
            console.note(f"  {other}", "dim")
    if server.inbox is not None:
        console.note("  uploads are welcome on the page", "dim")
    console.note("  Ctrl-C ends it", "dim")
