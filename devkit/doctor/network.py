"""Addresses, the default route, and which interface Gloo and NCCL will pick."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from devkit.doctor.finding import Finding

if TYPE_CHECKING:
    from collections.abc import Mapping

ROUTE_UP = 0x1
VARIABLES = ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME")


@dataclass(frozen=True)
class Interface:
    """A network interface that is up, with its addresses in the kernel's order."""

    name: str
    addresses: tuple[str, ...]
    loopback: bool = False


@dataclass(frozen=True)
class Network:
    """Interfaces in the kernel's order, the default route, and the addresses that the host's own name leads to."""

    interfaces: tuple[Interface, ...]
    default: str = ""
    gateway: str = ""
    host: str = ""
    host_addresses: tuple[str, ...] = ()
    environ: Mapping[str, str] = field(default_factory=dict)


def gather() -> Network:
    """Read the interfaces, the route table and the resolver's answer for this host's own name."""
    import psutil

    up = {name for name, interface in psutil.net_if_stats().items() if interface.isup}
    interfaces = tuple(
        Interface(name, addresses, all(_is_loopback(address) for address in addresses))
        for name, listed in psutil.net_if_addrs().items()
        if name in up
        and (
            addresses := tuple(
                address.address.partition("%")[0]
                for address in listed
                if address.family in (socket.AF_INET, socket.AF_INET6)
            )
        )
    )
    try:
        default, gateway = default_route(Path("/proc/net/route").read_text("ascii"))
    except OSError:
        default = gateway = ""
    host = socket.gethostname()
    environ = {name: os.environ[name] for name in VARIABLES if name in os.environ}
    return Network(interfaces, default, gateway, host, _resolved(host), environ)


def _resolved(host: str) -> tuple[str, ...]:
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError:
        return ()
    return tuple(dict.fromkeys(str(info[4][0]).partition("%")[0] for info in found))


def _is_loopback(address: str) -> bool:
    return address.startswith("127.") or address == "::1"


def default_route(table: str) -> tuple[str, str]:
    """Return the interface and the gateway of the default route in ``/proc/net/route``, empty where there is none.

    Of several the one with the smallest metric counts. Addresses in the table are hexadecimal and little-endian.
    """
    best: tuple[int, str, str] | None = None
    for line in table.splitlines()[1:]:
        name, destination, gateway, flags, _, _, metric, mask = line.split()[:8]
        if destination == mask == "00000000" and int(flags, 16) & ROUTE_UP:
            address = ".".join(str(byte) for byte in reversed(bytes.fromhex(gateway)))
            if best is None or int(metric) < best[0]:
                best = int(metric), name, address
    return best[1:] if best else ("", "")


def gloo_interface(facts: Network) -> str:
    """Return the interface that Paddle's Gloo binds.

    It takes GLOO_SOCKET_IFNAME; else the first of the host name's addresses that this machine can bind; else loopback
    (``ProcessGroupGloo::createDefaultDevice``).
    """
    asked = facts.environ.get("GLOO_SOCKET_IFNAME", "")
    if asked:
        return asked
    for address in facts.host_addresses:
        for interface in facts.interfaces:
            if address in interface.addresses or (interface.loopback and _is_loopback(address)):
                return interface.name
    return next((interface.name for interface in facts.interfaces if interface.loopback), "")


def nccl_interface(facts: Network) -> str:
    """Return the interface that NCCL binds: NCCL_SOCKET_IFNAME's; else ``ib*``, then any, then docker's, then loopback.

    In the variable, ``eth,ib`` are prefixes, ``=eth0`` is a whole name and ``^docker`` excludes.
    """
    names = [interface.name for interface in facts.interfaces]
    asked = facts.environ.get("NCCL_SOCKET_IFNAME", "")
    if asked:
        return next((name for name in names if _matches(asked, name)), "")
    kinds = (
        lambda name: name.startswith("ib"),
        lambda name: not name.startswith(("lo", "docker", "virbr")),
        lambda name: name.startswith("docker"),
        lambda name: name.startswith("lo"),
        lambda name: name.startswith("virbr"),
    )
    return next((name for kind in kinds for name in names if kind(name)), "")


def _matches(asked: str, name: str) -> bool:
    exclude, rest = asked.startswith("^"), asked.removeprefix("^")
    exact, rest = rest.startswith("="), rest.removeprefix("=")
    words = [word for word in rest.split(",") if word]
    return (name in words if exact else name.startswith(tuple(words))) != exclude


def check_addresses(facts: Network) -> Finding:
    """Judge the addresses and the route."""
    others = [interface for interface in facts.interfaces if not interface.loopback]
    text = ", ".join(
        f"{other.name} {' '.join(a for a in other.addresses if not a.startswith('fe80:'))}" for other in others
    )
    if facts.default:
        return Finding("network", f"{text}; default route {facts.gateway} on {facts.default}")
    if others:
        return Finding(
            "network", text, "warning", "there is no default route: only neighbours can be reached", "ip route"
        )
    return Finding("network", "loopback only", "warning", "no other machine can be reached", "ip addr")


def check_ranks(facts: Network) -> Finding:
    """Judge what the ranks of one job would talk over."""
    gloo, nccl = gloo_interface(facts), nccl_interface(facts)
    names = {interface.name: interface for interface in facts.interfaces}
    others = [interface.name for interface in facts.interfaces if not interface.loopback]
    text = f"Gloo picks {gloo or 'none'}, NCCL {nccl or 'none'}"
    best = facts.default or next(iter(others), "")
    for variable, chosen in (("GLOO_SOCKET_IFNAME", gloo), ("NCCL_SOCKET_IFNAME", nccl)):
        if chosen not in names:
            asked = facts.environ.get(variable)
            why = f"{variable}={asked} names no interface that is up" if asked else "there is no interface"
            return Finding("ranks", text, "broken", why, f"export {variable}={best or 'lo'}")
    if names[gloo].loopback and others:
        why = (
            f"{facts.host} resolves to {facts.host_addresses[0]}"
            if facts.host_addresses
            else f"{facts.host} does not resolve"
        )
        why += ": ranks on other machines cannot reach this one"
        return Finding("ranks", text, "warning", why, f"export GLOO_SOCKET_IFNAME={best}")
    return Finding("ranks", text)
