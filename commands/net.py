"""Show this machine's network as collectives meet it: interfaces, the default route, free ports.

It names the interface that Gloo and NCCL should take (NCCL_SOCKET_IFNAME and GLOO_SOCKET_IFNAME, where they are set)
and whether the machine's own name leads to an address that others can reach: 127.0.1.1 there makes ranks of other
machines wait for ever.

Example:  devkit net
"""

from __future__ import annotations

import typer

from devkit.commands._cli.options import Json
from devkit.console import Cell, Column


def command(ctx: typer.Context, as_json: Json = False) -> None:
    from dataclasses import asdict

    from devkit import interfaces

    app = ctx.obj
    found = interfaces.interfaces()
    chosen, why = interfaces.for_collectives(found)
    ports = interfaces.free_ports()
    host, own = interfaces.own_name()
    if as_json:
        app.console.json(
            {
                "host": host,
                "address": own,
                "interfaces": [asdict(each) for each in found],
                "collectives": {"interface": chosen, "reason": why},
                "free_ports": ports,
            }
        )
    columns = [
        Column("interface", "left", importance=20),
        Column("addresses", "left", importance=19),
        Column("Mbit/s"),
        Column("MTU"),
        Column("state", "left"),
    ]
    app.console.table(
        columns,
        [
            (
                each.name,
                ", ".join(each.addresses),
                str(each.speed_mbps or ""),
                str(each.mtu),
                Cell(
                    ("up" if each.up else "down") + (", default route" if each.default else ""),
                    "" if each.up else "dim",
                ),
            )
            for each in found
        ],
    )
    app.console.answer(f"  collectives: {chosen} ({why})")
    app.console.answer(f"  free ports for a launcher: {', '.join(map(str, ports)) or 'none'}")
    if own.startswith("127."):
        app.console.look(f"{host} is {own} here: other machines' ranks cannot reach it by that name")
        app.console.next(f"grep -w {host} /etc/hosts   shows the line")
    app.console.next(f"NCCL_SOCKET_IFNAME={chosen} GLOO_SOCKET_IFNAME={chosen} devkit launch -- SCRIPT")
