"""What the two ends tell each other beside bytes: what is asked for, meant and done; each is proven when it comes.

Named tuples, since Python 3.6 has no dataclasses. Names are bytes here, and letters on the wire.
"""

from typing import Any, Callable, Dict, NamedTuple, Optional, Sequence, Tuple

from . import wire

Names = Sequence[bytes]
Reasons = Sequence[Tuple[bytes, str]]
NAMED = 100
REMARKS = 20


class Choice(NamedTuple):
    """What of the sources is offered."""

    exclude: Names = ()  # patterns, as gitignore has them, of what is left out; of the sources too
    gitignore: bool = False  # whether .gitignore files of the folders, and of the repository around, leave things out
    unsafe_links: bool = False  # whether symbolic links that point out of what is offered are offered
    copy_links: bool = False  # whether what symbolic links lead to is offered in their place
    only: Optional[Names] = None  # paths in the one folder that is the source; None is all of it


class Options(NamedTuple):
    """How to take."""

    checksum: bool = False  # compare the content of files whose size and time are the same
    dry_run: bool = False  # stop after the plan
    unsafe_links: bool = False  # make symbolic links that point out of the destination
    delete: bool = False  # remove what is not offered from the folders that are offered whole
    keep: Names = ()  # patterns, as gitignore has them, of what is not removed
    update: bool = False  # leave what is newer here
    backup: bool = False  # keep what is replaced or removed, under its name and a tilde


class About(NamedTuple):
    """What is said at a manifest's end."""

    one_file: bool = False
    left_out: Reasons = ()
    left_out_count: int = 0
    whole: bool = False  # whether a source was a folder's content, which is all of the destination
    moves: bool = False  # whether the sender finds chunks that moved within a file
    by_version: bool = False  # whether it compares nothing: a file's size and time, in whole seconds, say what is in it


class Plan(NamedTuple):
    """What a receiver means to do; sizes in bytes, of the names the first."""

    files: int  # files, bytes: what is to come
    bytes: int
    begun_bytes: int  # what of it an earlier transfer left here
    have_files: int  # have_files, have_bytes: what is here already
    have_bytes: int
    left_out_count: int
    entries: int = 0
    names: Names = ()
    left_out: Reasons = ()  # what the sender does not offer, and why
    failed: Reasons = ()  # what cannot be put here, and why, as far as that shows before it is tried
    deletes: Names = ()  # what is to be removed
    deletes_count: int = 0
    replaces: Names = ()  # files of which another version is here
    replaces_count: int = 0
    remarks: Names = ()
    seconds: float = 0.0


class Result(NamedTuple):
    """What a receiver did; ``bytes`` came over, ``again_bytes`` of them twice, and ``same_bytes`` were here."""

    files: int
    bytes: int
    same_bytes: int
    again_bytes: int
    failed_count: int
    have_files: int = 0
    have_bytes: int = 0
    failed: Reasons = ()
    left_out: Reasons = ()
    names: Names = ()
    deletes: Names = ()
    deleted: int = 0
    remarks: Names = ()
    seconds: float = 0.0


def encoded(message: Any, text: Callable[[bytes], str] = wire.text) -> Dict[str, Any]:
    """Return a message as plain data."""
    return {key: _plain(value, text) for key, value in message._asdict().items()}


def _plain(value: Any, text: Callable[[bytes], str]) -> Any:
    if isinstance(value, bytes):
        return text(value)
    return [_plain(item, text) for item in value] if isinstance(value, (list, tuple)) else value


def proven(kind: Any, said: Any) -> Any:
    """Return the message that the other end sent.

    Raises:
        ProtocolError: something of it is not of the kind that belongs there.
    """
    if not isinstance(said, dict):
        raise wire.ProtocolError("a message that is none")
    known = kind._field_defaults
    return kind(
        **{n: _READ[hint](said.get(n)) for n, hint in kind.__annotations__.items() if n in said or n not in known}
    )


def _count(said: Any) -> int:
    if type(said) is not int or not 0 <= said < 1 << 63:
        raise wire.ProtocolError("a count that is none")
    return said


def _seconds(said: Any) -> float:
    if not isinstance(said, (int, float)) or not 0 <= said < 1 << 40:
        raise wire.ProtocolError("a time that is none")
    return said


def _list(said: Any) -> Sequence[Any]:
    if not isinstance(said, list):
        raise wire.ProtocolError("a list that is none")
    return said


def _reason(said: Any) -> Tuple[bytes, str]:
    if len(_list(said)) != 2 or not isinstance(said[1], str):  # noqa: PLR2004 - a pair
        raise wire.ProtocolError("a reason that is none")
    return wire.raw(said[0]), said[1]


def _names(said: Any) -> Names:
    return tuple(wire.raw(name) for name in _list(said))


_READ: Dict[Any, Callable[[Any], Any]] = {
    bool: bool,
    int: _count,
    float: _seconds,
    Names: _names,
    Reasons: lambda said: tuple(_reason(pair) for pair in _list(said)),
    Optional[Names]: lambda said: None if said is None else _names(said),
}
