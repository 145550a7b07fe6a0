"""The network as collectives meet it."""

from __future__ import annotations

import socket

from devkit.interfaces import Interface, for_collectives, free_ports, interfaces, parse_routes

ROUTES = """Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT
wlan0\t00000000\t0101A8C0\t0003\t0\t0\t600\t00000000\t0\t0\t0
eth0\t00000000\t0100000A\t0003\t0\t0\t100\t00000000\t0\t0\t0
eth0\t0000000A\t00000000\t0001\t0\t0\t100\t00FFFFFF\t0\t0\t0
"""


def test_the_default_route_is_the_one_of_the_least_metric() -> None:
    said = ["default via 10.0.0.1 on eth0", "default via 192.168.1.1 on wlan0", "10.0.0.0/24 on eth0"]
    assert [str(route) for route in parse_routes(ROUTES)] == said
    assert parse_routes(ROUTES.split("\n", maxsplit=1)[0]) == []


def test_collectives_take_what_is_named_or_the_default_routes_interface() -> None:
    docker = Interface("docker0", ("172.17.0.1",), True, 0, 1500, False)
    eth = Interface("eth0", ("10.0.0.2",), True, 1000, 1500, True)
    assert for_collectives([docker, eth], {}) == ("eth0", "the default route leads through it")
    assert for_collectives([docker, eth], {"NCCL_SOCKET_IFNAME": "ib0"}) == ("ib0", "NCCL_SOCKET_IFNAME")
    assert for_collectives([], {})[0] == "lo"


def test_the_loopback_is_there_and_a_taken_port_is_not_free() -> None:
    assert any("127.0.0.1" in interface.addresses for interface in interfaces())
    with socket.socket() as taken:
        taken.bind(("", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert port not in free_ports(ports=range(port, port + 20))
