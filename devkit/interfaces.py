"""The machine's network as collectives meet it: interfaces, the default route, names, ports that are free."""

from __future__ import annotations

import os
import socket
import struct
from dataclasses import dataclass
from pathlib import Path

ROUTES = Path("/proc/net/route")
LAUNCH_PORTS = range(37777, 37877)
VIRTUAL = ("lo", "docker", "veth", "br-", "virbr", "cni", "flannel", "cali", "tun", "tap")


@dataclass(frozen=True)
class Interface:
    """A network interface.

    Attributes:
        speed_mbps: as the driver says; 0 where it does not.
        default: whether the default route leads through it.
    """

    name: str
    addresses: tuple[str, ...]
    up: bool
    speed_mbps: int
    mtu: int
    default: bool

    @property
    def virtual(self) -> bool:
        """Whether it leads nowhere outside this machine, by its name."""
        return self.name.startswith(VIRTUAL)


@dataclass(frozen=True)
class Route:
    """A route: where to (``default``, or ``10.0.0.0/24``), by which gateway (none where it is on the link), and how."""

    destination: str
    gateway: str
    interface: str
    metric: int

    def __str__(self) -> str:
        return f"{self.destination}{f' via {self.gateway}' if self.gateway else ''} on {self.interface}"


def parse_routes(text: str) -> list[Route]:
    """Return the routes in /proc/net/route that are up, the one that is taken first before the others."""
    found = []
    for row in text.splitlines()[1:]:
        fields = row.split()
        if len(fields) < 8 or not int(fields[3], 16) & 1:  # noqa: PLR2004 - its eight columns
            continue
        destination, gateway = (socket.inet_ntoa(struct.pack("<L", int(fields[at], 16))) for at in (1, 2))
        length = int(fields[7], 16).bit_count()
        found.append(
            Route(
                f"{destination}/{length}" if length else "default",
                "" if gateway == "0.0.0.0" else gateway,  # noqa: S104 - no gateway is written so
                fields[0],
                int(fields[6]),
            )
        )
    return sorted(found, key=lambda route: (route.destination != "default", route.metric))


def routes() -> list[Route]:
    """Return this machine's routes; none where the system does not tell."""
    try:
        return parse_routes(ROUTES.read_text("utf-8"))
    except OSError:
        return []


def interfaces() -> list[Interface]:
    """Return the interfaces, the default route's first."""
    import psutil

    default = next((route.interface for route in routes() if route.destination == "default"), "")
    stats = psutil.net_if_stats()
    found = []
    for name, addresses in psutil.net_if_addrs().items():
        stat = stats.get(name)
        internet = tuple(
            address.address.partition("%")[0]
            for address in addresses
            if address.family in {socket.AF_INET, socket.AF_INET6}
        )
        found.append(
            Interface(
                name,
                internet,
                bool(stat and stat.isup),
                stat.speed if stat else 0,
                stat.mtu if stat else 0,
                name == default,
            )
        )
    return sorted(
        found, key=lambda interface: (not interface.default, interface.virtual, not interface.up, interface.name)
    )


def for_collectives(found: list[Interface], environ: dict[str, str] | None = None) -> tuple[str, str]:
    """Return the interface that Gloo and NCCL should take, and why: what is named for them, or the default route's."""
    named = os.environ if environ is None else environ
    for variable in ("NCCL_SOCKET_IFNAME", "GLOO_SOCKET_IFNAME"):
        if named.get(variable):
            return named[variable], variable
    usable = [interface for interface in found if interface.up and interface.addresses]
    chosen = next((interface for interface in usable if interface.default), None) or next(
        (interface for interface in usable if not interface.virtual), None
    )
    if chosen is None:
        return "lo", "nothing else is up: ranks of this machine alone"
    return chosen.name, "the default route leads through it" if chosen.default else "it is up"


def own_name() -> tuple[str, str]:
    """Return the machine's name, and the address that it leads to; empty where it leads nowhere."""
    host = socket.gethostname()
    try:
        return host, socket.gethostbyname(host)
    except OSError:
        return host, ""


def free_ports(count: int = 3, ports: range = LAUNCH_PORTS) -> list[int]:
    """Return ports on which a launcher can listen here."""
    found = []
    for port in ports:
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            try:
                probe.bind(("", port))
            except OSError:
                continue
            found.append(port)
        if len(found) == count:
            break
    return found
