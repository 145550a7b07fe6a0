"""How connections of a share are controlled: without a clock within this machine, as the machine has it beyond."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest

from devkit.transfer.sockets import pace_as_usual, pace_less, within_this_machine

if TYPE_CHECKING:
    from collections.abc import Iterator


class FromAway(socket.socket):
    """The taking side of a connection that came from another machine, as far as its address tells."""

    def getpeername(self) -> tuple[str, int]:
        return "192.0.2.7", 4242


def control(connection: socket.socket) -> bytes:
    return connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, 16).rstrip(b"\0")


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as found:
        yield found


def test_connections_within_this_machine_are_not_paced(listener: socket.socket) -> None:
    usual = control(listener)
    assert pace_less(listener) == usual
    with socket.create_connection(listener.getsockname()), listener.accept()[0] as taken:
        pace_as_usual(taken, usual)
        assert control(taken) == b"reno"


def test_connections_from_elsewhere_are_controlled_as_the_machine_has_it(listener: socket.socket) -> None:
    usual = pace_less(listener)
    with socket.create_connection(listener.getsockname()), listener.accept()[0] as taken:
        away = FromAway(fileno=taken.detach())
        with away:
            assert control(away) == b"reno"
            pace_as_usual(away, usual)
            assert control(away) == usual


@pytest.mark.parametrize(
    ("here", "peer", "within"),
    [
        ("127.0.0.1", "127.0.0.1", True),
        ("127.0.0.2", "127.0.0.1", True),
        ("::1", "::1", True),
        ("::ffff:127.0.0.1", "::ffff:127.0.0.1", True),
        ("10.0.0.5", "10.0.0.5", True),
        ("10.0.0.5", "10.0.0.6", False),
        ("fe80::1%eth0", "fe80::2%eth0", False),
        ("::ffff:10.0.0.5", "::ffff:10.0.0.6", False),
    ],
)
def test_both_addresses_tell_whether_a_connection_stays_here(here: str, peer: str, within: bool) -> None:
    assert within_this_machine(here, peer) is within
