"""Show this machine's network as collectives meet it, and how fast the way to another machine is.

Without HOST it shows interfaces, routes and free ports. It names the interface for Gloo and NCCL
(NCCL_SOCKET_IFNAME and GLOO_SOCKET_IFNAME, where they are set) and whether the machine's own name leads to an address
that others can reach: 127.0.1.1 there makes ranks of other machines wait for ever. With HOST, as ssh knows it, it
measures a plain connection to that machine: latency of a byte there and back, and bandwidth each way over 64 MiB. The
other end is a program of ours that ssh starts (python3 is all that it needs) and that ends with the measurement; the
connection itself goes straight to the machine, as ranks' do.

Example:  devkit net

Example:  devkit net gpu7
"""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from devkit.commands._cli.options import DryRun, Json
from devkit.console import Cell, Column

if TYPE_CHECKING:
    from collections.abc import Sequence

    from devkit.app import App
    from devkit.interfaces import Interface

ROUTES = 4


def command(
    ctx: typer.Context,
    host: Annotated[str, typer.Argument(metavar="[HOST]", help="A machine to measure the way to.")] = "",
    address: Annotated[
        str, typer.Option("--address", metavar="ADDRESS", help="Where ranks reach it; where ssh does, by default.")
    ] = "",
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    from devkit import interfaces
    from devkit.errors import UsageError

    app = ctx.obj
    if host:
        _measure(app, host, address, dry_run=dry_run, as_json=as_json)
        return
    if address:
        raise UsageError("--address goes with HOST", "", "devkit net HOST --address ADDRESS")
    if dry_run:
        app.console.plan([])
        return
    found = interfaces.interfaces()
    chosen, why = interfaces.for_collectives(found)
    ports = interfaces.free_ports()
    routes = interfaces.routes()
    host, own = interfaces.own_name()
    if as_json:
        app.console.json(
            {
                "host": host,
                "address": own,
                "interfaces": [asdict(interface) for interface in found],
                "collectives": {"interface": chosen, "reason": why},
                "free_ports": ports,
                "routes": [asdict(route) for route in routes],
            }
        )
    _show_interfaces(app, found)
    named = "; ".join(map(str, routes[:ROUTES])) + (f"; {len(routes) - ROUTES} more" if routes[ROUTES:] else "")
    app.console.answer(f"  routes: {named or 'none'}")
    app.console.answer(f"  collectives: {chosen} ({why})")
    app.console.answer(f"  free ports for a launcher: {', '.join(map(str, ports)) or 'none'}")
    if own.startswith("127."):
        app.console.warn(f"{host} is {own} here: other machines' ranks cannot reach it by that name")
        app.console.next(f"grep -w {host} /etc/hosts   shows the line")
    app.console.next(f"NCCL_SOCKET_IFNAME={chosen} GLOO_SOCKET_IFNAME={chosen} devkit launch -- SCRIPT")


def _show_interfaces(app: App, found: Sequence[Interface]) -> None:
    """Print a row for each interface."""
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
                interface.name,
                ", ".join(interface.addresses),
                str(interface.speed_mbps or ""),
                str(interface.mtu),
                Cell(
                    ("up" if interface.up else "down") + (", default route" if interface.default else ""),
                    "" if interface.up else "dim",
                ),
            )
            for interface in found
        ],
    )


def _measure(app: App, host: str, address: str, *, dry_run: bool, as_json: bool) -> None:
    """Measure the way to another machine."""
    from devkit import bandwidth

    planned = bandwidth.plan(app, host, address)
    if dry_run:
        app.console.plan(bandwidth.shown(planned))
        return
    with app.start_run("net", host=host) as run:
        with app.console.progress(f"measuring {host}"):
            found = bandwidth.execute(app, planned)
        run.record["result"] = asdict(found)
    if as_json:
        app.console.json(asdict(found))
    app.console.answer(f"  {found.host}, {found.address}, connected in {found.connect_ms:.3g} ms")
    latency = f"{found.latency_ms:.3g} ms there and back ({found.latency_p90_ms:.3g} ms at the ninth decile)"
    app.console.answer(f"  latency: {latency}")
    there, back = (f"{rate:,.0f} MiB/s" for rate in (found.send_mib_per_s, found.receive_mib_per_s))
    app.console.answer(f"  bandwidth: {there} there, {back} back")
