"""``send`` and ``recv``: what is asked for, and the transfer that does it."""

from __future__ import annotations

import contextlib
import os
import re
import sys
import threading
from dataclasses import dataclass, field, replace
from glob import has_magic
from pathlib import Path
from typing import TYPE_CHECKING, Any

from devkit.errors import DevkitError, UsageError
from devkit.transfer.remote import wire
from devkit.transfer.remote.manifest import FILE, FOLDER, Choice, Offer, describe
from devkit.transfer.remote.reading import Changed, Reader, is_small
from devkit.transfer.remote.receiver import Options, Receiver
from devkit.transfer.remote.sender import Sender
from devkit.transfer.shown import shown
from devkit.transfer.ssh import Connection, NoPython, RemotePath, parse_place

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from devkit.console import Console


AHEAD_BYTES = 1 << 26
AHEAD_AT_ONCE = 8
REMARKS = 20
ADDED_COUNTS = ("deletes_count", "deleted")  # what older versions do not say
PLAN_COUNTS = ("files", "bytes", "begun_bytes", "have_files", "have_bytes", "left_out_count")
RESULT_COUNTS = ("files", "bytes", "same_bytes", "again_bytes", "failed_count")


@dataclass(frozen=True)
class CopyRequest:
    """What a transfer is asked to do.

    Attributes:
        sources: paths, here for ``send`` and there for ``recv``.
        exclude: patterns, as gitignore has them, of what is left out.
        gitignore: whether .gitignore files leave things out too.
        checksum: whether the content of files whose size and time are the same is compared.
        unsafe_links: whether symbolic links that point out are copied.
        compress: whether blocks may be deflated where that is sooner.
        rate: the most bytes a second, all hosts together; 0 is not a limit.
        dry_run: stop after the plan.
        delete: remove what is not offered from the folders that are offered whole.
        update: leave what is newer at the destination.
        copy_links: copy what symbolic links lead to in their place.
        backup: keep what is replaced or removed, under its name and a tilde.
        only: paths in the one source, a folder, of which nothing else is copied; None is all of it.
    """

    sources: tuple[str, ...]
    exclude: tuple[str, ...] = ()
    gitignore: bool = False
    checksum: bool = False
    unsafe_links: bool = False
    compress: bool = True
    rate: int = 0
    dry_run: bool = False
    delete: bool = False
    update: bool = False
    copy_links: bool = False
    backup: bool = False
    only: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        if self.delete and self.gitignore:
            why = "What .gitignore files leave out there cannot be told from what is not here any more."
            raise UsageError("--delete and --gitignore do not go together", why, "--exclude PATTERN")
        if self.delete and self.only is not None:
            raise UsageError("--delete and --files-from do not go together", "All that is not listed would go.")

    @property
    def choice(self) -> Choice:
        """What of the sources is offered."""
        return Choice(
            [os.fsencode(pattern) for pattern in self.exclude],
            self.gitignore,
            self.unsafe_links,
            self.copy_links,
            None if self.only is None else [os.fsencode(path) for path in self.only],
        )


@dataclass
class CopyOutcome:
    """What came of a transfer with one host; sizes in bytes.

    Attributes:
        plan: what was to be done: files, bytes, have_files, have_bytes, begun_bytes, names, left_out.
        result: what was done: files, bytes (that came over), same_bytes, again_bytes, failed, seconds.
        remarks: what deserves a look.
    """

    host: str
    plan: dict[str, Any] = field(default_factory=dict)
    result: dict[str, Any] = field(default_factory=dict)
    wire_bytes: int = 0
    error: DevkitError | None = None
    remarks: tuple[str, ...] = ()

    def take_remarks(self) -> None:
        """Take over what the receiver remarked, as text that is fit to be shown."""
        said = [shown(wire.raw(line)) for line in self.result.pop("remarks", [])[:REMARKS]]
        self.remarks = (*self.remarks, *said)

    def as_json(self) -> dict[str, Any]:
        """Return it as plain data."""
        error = {"what": self.error.what, "why": self.error.why} if self.error else None
        return {
            "host": self.host,
            "plan": _readable(self.plan),
            "result": _readable(self.result),
            "wire_bytes": self.wire_bytes,
            "error": error,
            "remarks": list(self.remarks),
        }


def _readable(said: dict[str, Any]) -> dict[str, Any]:
    """Return what an end says of its work, with names as text: what is not UTF-8 in them is written out."""

    def name(word: str) -> str:
        return wire.raw(word).decode("utf-8", "backslashreplace")

    found = dict(said)
    for key in ("names", "deletes"):
        if key in found:
            found[key] = [name(word) for word in found[key]]
    for key in ("failed", "left_out"):
        if key in found:
            found[key] = [[name(word), reason] for word, reason in found[key]]
    return found


@dataclass(frozen=True)
class Watch:
    """Who is told how a transfer goes: its plan once, then bytes as they are done."""

    plan: Callable[[dict[str, Any]], None]
    done: Callable[[int], None]


def _places(word: str) -> list[RemotePath]:
    """Return the places that ``HOST:PATH`` or ``a:,b:PATH`` names; none where it is a path of this machine."""
    parts = word.split(",") if "," in word and all(":" in part for part in word.split(",")) else [word]
    found = [place for part in parts if (place := parse_place(part)) is not None]
    return found if len(found) == len(parts) else []


def parse_send(words: Sequence[str]) -> tuple[tuple[str, ...], list[RemotePath]]:
    """Return the sources and the places of ``send SRC… HOST:PATH``; ``a:,b:x`` are several hosts.

    Raises:
        UsageError: the words make no transfer.
    """
    *sources, target = words
    check_names(words)
    found = _places(target)
    if not sources or not found:
        why = f"{target} names no host." if not found else f"Nothing stands before {target}."
        raise UsageError("send takes sources and then HOST:PATH", why, "devkit send file host:folder/")
    for source in sources:
        if not os.path.lexists(source) and parse_place(source):
            raise UsageError(f"{source} is on another host", "send takes files of this machine.", "devkit recv --help")
    if len({str(place) for place in found}) != len(found):
        raise UsageError("one host and path is named twice", "Two transfers would write the same files.")
    return tuple(sources), found


def parse_recv(words: Sequence[str]) -> tuple[list[tuple[RemotePath, tuple[str, ...]]], str]:
    """Return each host's first place and its paths, and the destination here, of ``recv HOST:PATH… DST``.

    Raises:
        UsageError: the words make no transfer.
    """
    *sources, destination = words
    check_names(words)
    found = [_places(source) for source in sources]
    is_elsewhere = not os.path.lexists(destination) and parse_place(destination) is not None
    if not found or not all(found) or is_elsewhere:
        why = f"{destination} is on another host." if is_elsewhere else ""
        why = next((f"{word} names no host." for word, places in zip(sources, found, strict=True) if not places), why)
        raise UsageError("recv takes HOST:PATH… and then a folder here", why, "devkit recv host:file .")
    hosts: dict[str, list[RemotePath]] = {}
    for place in (place for places in found for place in places):
        hosts.setdefault(place.host, []).append(place)
    return [(places[0], tuple(place.path for place in places)) for places in hosts.values()], destination


def read_list(name: str) -> tuple[str, ...] | None:
    """Return the paths that a file lists, one a line or ended by NUL; ``-`` is standard input; None for no name.

    Raises:
        UsageError: it cannot be read, or a path leads out.
    """
    if not name:
        return None
    try:
        data = sys.stdin.buffer.read() if name == "-" else Path(name).read_bytes()
    except OSError as error:
        raise UsageError(f"{name} cannot be read", f"{error.strerror}.") from error
    paths = [os.fsdecode(path) for path in data.split(b"\0" if b"\0" in data else b"\n") if path.strip()]
    for path in paths:
        if path.startswith("/") or ".." in path.split("/"):
            raise UsageError(f"{path!r} leads out", "Paths of --files-from are in the folder that is copied.")
    return tuple(path.rstrip("\r") for path in paths)


def check_names(words: Sequence[str]) -> None:
    """Refuse words that name nothing: an empty one would be taken for the folder that one stands in.

    Raises:
        UsageError: one is empty.
    """
    if not all(words):
        raise UsageError("a name is empty", "A variable that holds nothing, perhaps. The folder one stands in is .")


def parse_rate(word: str) -> int:
    """Return the bytes a second that ``10M``, ``1.5GiB`` or ``500k`` mean, all binary; 0 for no word.

    Raises:
        UsageError: it is not a rate.
    """
    rate = _bytes(word.strip().removesuffix("/s"))
    if word and rate < 1:
        raise UsageError(f"{word!r} is not a rate", "A rate is bytes a second: 500k, 10M, 1.5G.")
    return rate


def parse_size(word: str) -> int:
    """Return the bytes that ``10M``, ``1.5GiB`` or ``0`` mean, all binary.

    Raises:
        UsageError: it is not a size.
    """
    found = _bytes(word)
    if found < 0:
        raise UsageError(f"{word!r} is not a size", "A size is bytes: 500k, 10M, 1.5G.")
    return found


def _bytes(word: str) -> int:
    """Return the bytes that a word means; none mean 0, and one that is not a number -1."""
    found = re.fullmatch(r"(\d{1,15}(?:\.\d{1,9})?)\s*([kmgt]?)(?:i?b)?", word.strip(), re.IGNORECASE | re.ASCII)
    if not found:
        return -1 if word.strip() else 0
    return int(float(found[1]) * 1024 ** " kmgt".index(found[2].lower() or " "))


def proven(said: dict[str, Any], counts: Sequence[str]) -> dict[str, Any]:
    """Return what a remote side said of its work, when all of it is of the kind that belongs there.

    Raises:
        wire.ProtocolError: it is not.
    """
    given = {key: said.get(key, 0) for key in ADDED_COUNTS if key in said}
    found = {**{key: said.get(key) for key in counts}, **given}
    if not all(type(count) is int and 0 <= count < 1 << 63 for count in found.values()):
        raise wire.ProtocolError("counts that are none")
    for key in ("failed", "left_out", "names", "deletes", "remarks"):
        found[key] = said.get(key, [])
        if not isinstance(found[key], list):
            raise wire.ProtocolError("a list that is none")
    for pair in found["failed"] + found["left_out"]:
        if not (isinstance(pair, list) and len(pair) == 2 and isinstance(pair[1], str)):  # noqa: PLR2004 - a pair
            raise wire.ProtocolError("a list that is none")
        wire.raw(pair[0])
    for name in found["names"] + found["deletes"] + found["remarks"][:REMARKS]:
        wire.raw(name)
    found["seconds"] = said.get("seconds", 0.0)
    if not isinstance(found["seconds"], (int, float)) or not 0 <= found["seconds"] < 1 << 40:
        raise wire.ProtocolError("a time that is none")
    return found


def offer_of(request: CopyRequest) -> Offer:
    """Return what a ``send`` offers.

    Raises:
        DevkitError: a source is not there, or cannot be read.
    """
    try:
        return describe([os.fsencode(source) for source in request.sources], request.choice)
    except wire.Stopped as error:
        raise DevkitError(error.what, error.why) from error


@contextlib.contextmanager
def reaching(
    console: Console, ssh: Sequence[str], request: CopyRequest, places: Sequence[RemotePath]
) -> Iterator[list[Connection]]:
    """Let ssh connect to each host while the caller looks at what is sent, unless some of that is not there.

    Of several hosts at a terminal each is waited for: ssh may ask, and one question at a time can be answered.
    """
    remotes = [Connection(console, ssh, place) for place in places]
    with contextlib.ExitStack() as stack:
        if len(remotes) > 1 and console.interactive:
            _connect_in_turn(stack, remotes)
        elif all(os.path.lexists(source) or has_magic(source) for source in request.sources):
            for remote in remotes:
                stack.callback(remote.close)
                remote.begin()
        yield remotes


def _connect_in_turn(stack: contextlib.ExitStack, remotes: Sequence[Connection]) -> None:
    for remote in remotes:
        stack.callback(remote.close)
        remote.connect()


def read_ahead(offer: Offer, is_idle: Callable[[], bool]) -> dict[int, tuple[bytes, bytes]]:
    """Read small files, and their checksums as ssh's connections have them, while there is nothing else to do."""
    found: dict[int, tuple[bytes, bytes]] = {}
    room = AHEAD_BYTES
    reader = Reader(offer)
    try:
        for index, entry in enumerate(offer.entries):
            if entry.kind != FILE or not is_small(entry):
                continue
            room -= entry.size
            if room < 0 or (not len(found) % AHEAD_AT_ONCE and not is_idle()):
                break
            with contextlib.suppress(OSError, Changed):  # what cannot be read is said when it is asked for
                data = reader.whole(index)
                found[index] = data, wire.crc32(data)
    finally:
        reader.close()
    return found


def send(
    request: CopyRequest, offer: Offer, remote: Connection, watch: Watch, ahead: dict[int, tuple[bytes, bytes]]
) -> CopyOutcome:
    """Send what is offered to one host; ``ahead`` are files that were read already.

    Raises:
        DevkitError: the connection, or the remote side, failed.
    """
    outcome = CopyOutcome(remote.place.host)
    with _talking(remote):
        remote.start(
            role="take",
            destination=wire.text(os.fsencode(remote.place.path)),
            checksum=request.checksum,
            dry_run=request.dry_run,
            unsafe_links=request.unsafe_links,
            delete=request.delete,
            keep=[wire.text(os.fsencode(pattern)) for pattern in request.exclude],
            update=request.update,
            backup=request.backup,
        )
        sender = Sender(
            remote.channel,
            offer,
            remote.digest,
            remote.checksum,
            request.rate,
            request.compress,
            _planning(outcome, watch),
            watch.done,
            ahead if remote.checksum == "crc32" else None,
        )
        outcome.result = proven(sender.serve(), RESULT_COUNTS)
        outcome.take_remarks()
        if not outcome.plan:
            raise wire.ProtocolError("a result without a plan")
        outcome.wire_bytes = remote.channel.sent
    return outcome


class Claims:
    """The names that several hosts' files get here: each is the first host's that offers it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._hosts: dict[bytes, str] = {}

    def take(self, path: bytes, host: str) -> str:
        """Return the host that has a name: this one, or one that was sooner."""
        with self._lock:
            return self._hosts.setdefault(path, host)


class _SharingReceiver(Receiver):
    """Takes into a folder that other hosts' files arrive in too."""

    uses_staging = False
    host = ""
    claims = Claims()

    def _manifest(self) -> dict[str, Any]:
        about = super()._manifest()
        for index, entry in enumerate(self._entries):
            if entry.kind != FOLDER and (other := self.claims.take(entry.path, self.host)) != self.host:
                self._fail(index, f"{other} sends a file of this name too")
        return about


def receive(
    remote: Connection,
    request: CopyRequest,
    destination: str,
    watch: Watch,
    claims: Claims | None = None,
) -> CopyOutcome:
    """Take what a host offers; ``claims`` are shared with the other hosts that files are taken from.

    Raises:
        DevkitError: the connection, or the remote side, failed.
    """
    place = remote.place
    outcome = CopyOutcome(place.host)
    with _talking(remote):
        remote.start(
            role="offer",
            paths=[wire.text(os.fsencode(path)) for path in request.sources],
            exclude=[wire.text(os.fsencode(pattern)) for pattern in request.exclude],
            gitignore=request.gitignore,
            unsafe_links=request.unsafe_links,
            copy_links=request.copy_links,
            only=None if request.only is None else [wire.text(os.fsencode(path)) for path in request.only],
            compress=request.compress,
            rate=request.rate,
        )
        receiver = (Receiver if claims is None else _SharingReceiver)(
            remote.channel,
            os.fsencode(destination),
            remote.digest,
            remote.checksum,
            Options(
                request.checksum,
                request.dry_run,
                request.unsafe_links,
                request.delete,
                [os.fsencode(pattern) for pattern in request.exclude],
                request.update,
                request.backup,
            ),
            _planning(outcome, watch),
            watch.done,
        )
        if isinstance(receiver, _SharingReceiver) and claims is not None:
            receiver.host, receiver.claims = place.host, claims
        outcome.result = receiver.run()
        outcome.take_remarks()
        outcome.wire_bytes = remote.channel.received
    return outcome


@contextlib.contextmanager
def _talking(remote: Connection) -> Iterator[Connection]:
    """Talk with the remote side; where that fails, say why as a user would want to read it."""
    with remote:
        try:
            yield remote
        except (wire.ProtocolError, wire.Stopped) as error:
            raise remote.explain(error) from error


def _planning(outcome: CopyOutcome, watch: Watch) -> Callable[[dict[str, Any]], None]:
    def planned(plan: dict[str, Any]) -> None:
        outcome.plan = proven(plan, PLAN_COUNTS)
        watch.plan(outcome.plan)

    return planned


def _by_sftp(
    console: Console,
    error: NoPython,
    request: CopyRequest,
    place: RemotePath,
    *,
    ssh: Sequence[str],
    offer: Offer | None = None,
    destination: str = "",
) -> CopyOutcome:
    """Copy without a receiver, and say so; what sftp cannot do is refused."""
    from devkit.transfer.sftp import copying, receiving, sending

    outcome = CopyOutcome(
        place.host, plan={"files": 0, "bytes": 0, "have_files": 0, "left_out": [], "left_out_count": 0}
    )
    wishes = (
        request.dry_run
        or request.rate
        or request.delete
        or request.update
        or request.backup
        or (offer is None and (request.exclude or request.gitignore or request.only or request.copy_links))
    )
    if wishes:
        outcome.error = DevkitError(
            error.what,
            "sftp alone can neither plan, leave things out, hold a rate, delete, update nor keep backups.",
            *error.remedies,
        )
        return outcome
    for line in error.why.splitlines():
        console.note(f"  {place.host}: {line}", "dim")
    console.look(f"{place.host}: {copying.SAID}")
    try:
        if offer is not None:
            outcome.plan, outcome.result = sending.send(ssh, offer, place, anew=request.checksum)
        else:
            outcome.plan, outcome.result = receiving.receive(
                ssh, place, request.sources, destination, anew=request.checksum
            )
        outcome.wire_bytes = outcome.result["bytes"]
    except DevkitError as failed:
        outcome.error = failed
    except (OSError, wire.ProtocolError) as failed:
        outcome.error = DevkitError(f"sftp with {place.host} failed", f"{failed}.")
    return outcome


def _each(outcomes: list[CopyOutcome], do: Callable[[int], None]) -> list[CopyOutcome]:
    """Do something with each host at once; one that fails does not stop the others."""
    bugs: list[BaseException] = []

    def one(number: int) -> None:
        try:
            do(number)
        except DevkitError as error:
            outcomes[number].error = error
        except BaseException as error:  # noqa: BLE001 - the main thread raises it
            bugs.append(error)

    threads = [threading.Thread(target=one, args=(number,), daemon=True) for number in range(len(outcomes))]
    for thread in threads:
        thread.start()
    for thread in threads:
        while thread.is_alive():
            thread.join(0.2)  # an endless join would not let Ctrl-C through
    if bugs:
        raise bugs[0]
    return outcomes


def receive_from_all(
    console: Console,
    ssh: Sequence[str],
    request: CopyRequest,
    wanted: Sequence[tuple[RemotePath, tuple[str, ...]]],
    destination: str,
    watch: Watch,
) -> list[CopyOutcome]:
    """Take what each host offers, by sftp where it runs no Python; of several, all into one folder."""
    outcomes = [CopyOutcome(place.host) for place, _ in wanted]
    several = len(wanted) > 1
    claims = Claims() if several else None
    into = f"{destination.rstrip('/')}/" if several else destination
    request = replace(request, rate=-(-request.rate // len(wanted)))
    remotes = [Connection(console, ssh, place) for place, _ in wanted]

    def one(number: int) -> None:
        place, sources = wanted[number]
        asked = replace(request, sources=sources)
        try:
            outcomes[number] = receive(remotes[number], asked, into, watch, claims)
        except NoPython as error:
            if several:
                raise DevkitError(error.what, "sftp alone cannot receive beside others.", *error.remedies) from error
            outcomes[number] = _by_sftp(console, error, asked, place, ssh=ssh, destination=destination)

    with contextlib.ExitStack() as stack:
        if several and console.interactive:
            _connect_in_turn(stack, remotes)
        return _each(outcomes, one)


def send_to_all(
    console: Console,
    ssh: Sequence[str],
    request: CopyRequest,
    offer: Offer,
    remotes: Sequence[Connection],
    watch: Watch,
) -> list[CopyOutcome]:
    """Send to several hosts at once; one that fails does not stop the others."""
    outcomes = [CopyOutcome(remote.place.host) for remote in remotes]
    request = replace(request, rate=-(-request.rate // len(remotes)))
    is_idle = (lambda: False) if request.dry_run else (lambda: all(remote.is_connecting for remote in remotes))
    ahead = read_ahead(offer, is_idle)

    def one(number: int) -> None:
        try:
            outcomes[number] = send(request, offer, remotes[number], watch, ahead)
        except NoPython as error:
            outcomes[number] = _by_sftp(console, error, request, remotes[number].place, offer=offer, ssh=ssh)

    return _each(outcomes, one)
