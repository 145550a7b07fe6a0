"""What is told of an answer."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Served:
    """An answer that was given.

    Attributes:
        peer: the client's address.
        what: the path, without the secret, or what was uploaded.
        sent: the bytes that went out, or came in.
        complete: whether that was all of what was asked for.
        uploaded: whether it came in.
    """

    peer: str
    what: str
    sent: int
    seconds: float
    complete: bool
    uploaded: bool = False
