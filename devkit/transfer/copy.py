"""``send`` and ``recv``: what is asked for, and the transfer that does it."""

from __future__ import annotations

import contextlib
import functools
import os
import threading
import time
from dataclasses import dataclass, fields, replace
from glob import has_magic
from typing import TYPE_CHECKING, Any

from devkit.errors import DevkitError, UsageError
from devkit.transfer.remote import wire
from devkit.transfer.remote.manifest import FILE, Offer, describe
from devkit.transfer.remote.messages import REMARKS, Choice, Options, Plan, Result, encoded
from devkit.transfer.remote.reading import Changed, Reader, is_small
from devkit.transfer.remote.receiver import Receiver
from devkit.transfer.remote.sender import Sender
from devkit.transfer.shown import shown
from devkit.transfer.ssh import Connection, Disconnected, NoPython, RemotePath

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from devkit.console import Console


AHEAD_BYTES = 1 << 26
AHEAD_AT_ONCE = 8
LONGEST_WAIT_S = 30.0


@dataclass(frozen=True)
class CopyRequest:
    """What a transfer is asked to do.

    Attributes:
        sources: paths, here for ``send`` and there for ``recv``.
        choice: what of them is copied.
        options: how it is taken.
        compress: whether blocks may be deflated where that is sooner.
        rate: the most bytes a second, all hosts together; 0 is not a limit.
        retries: how often a connection that ended is made again.
    """

    sources: tuple[str, ...]
    choice: Choice
    options: Options
    compress: bool = True
    rate: int = 0
    retries: int = 0

    def __post_init__(self) -> None:
        if self.options.delete and self.choice.gitignore:
            why = "What .gitignore files leave out there cannot be told from what is not here any more."
            raise UsageError("--delete and --gitignore do not go together", why, "--exclude PATTERN")
        if self.options.delete and self.choice.only is not None:
            raise UsageError("--delete and --files-from do not go together", "All that is not listed would go.")


@dataclass(frozen=True)
class CopyOutcome:
    """What came of a transfer with one host; what does not come to a plan or a result has none.

    Attributes:
        remarks: what deserves a look.
    """

    host: str
    plan: Plan | None = None
    result: Result | None = None
    wire_bytes: int = 0
    error: DevkitError | None = None
    remarks: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """Return it as plain data; what is not UTF-8 in names is written out."""
        found = {field.name: getattr(self, field.name) for field in fields(self)}
        for key in ("plan", "result"):
            found[key] = encoded(found[key], readable) if found[key] else {}
        found["error"] = {"what": self.error.what, "why": self.error.why} if self.error else None
        return {**found, "remarks": list(self.remarks)}


def readable(name: bytes) -> str:
    """Return a name as text; what is not UTF-8 in it is written out."""
    return name.decode("utf-8", "backslashreplace")


@dataclass(frozen=True)
class Watch:
    """Who is told how a transfer goes: its plan once, bytes as they are done, and where both are to be forgotten."""

    plan: Callable[[Plan], None]
    done: Callable[[int], None]
    undone: Callable[[Plan, int], None] = lambda _plan, _count: None


class Planned:
    """Takes note of the plan of one transfer."""

    def __init__(self, watch: Watch) -> None:
        self._watch = watch
        self.plan: Plan | None = None
        self._done = 0

    def done(self, count: int) -> None:
        """Pass on that bytes are done."""
        self._done += count
        self._watch.done(count)

    def undo(self) -> None:
        """Forget what was told of a transfer that begins again."""
        if self.plan is not None:
            self._watch.undone(self.plan, self._done)

    def __call__(self, plan: Plan) -> None:
        """Take it, and pass it on."""
        self.plan = plan
        self._watch.plan(plan)

    def outcome(self, host: str, result: Result, wire_bytes: int) -> CopyOutcome:
        """Return what came of it.

        Raises:
            ProtocolError: there was a result and no plan.
        """
        if self.plan is None:
            raise wire.ProtocolError("a result without a plan")
        return CopyOutcome(host, self.plan, result, wire_bytes, remarks=remarks_of(result))


def remarks_of(result: Result) -> tuple[str, ...]:
    """Return what the receiver remarked, as text that is fit to be shown."""
    return tuple(shown(line) for line in result.remarks[:REMARKS])


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
    planned = Planned(watch)
    with _talking(remote, planned):
        remote.start(role="take", destination=_letters(remote.place.path), options=encoded(request.options))
        sender = Sender(
            remote.channel,
            offer,
            remote.digest,
            remote.checksum,
            request.rate,
            request.compress,
            planned,
            planned.done,
            ahead if remote.checksum == "crc32" else None,
        )
        return planned.outcome(remote.place.host, sender.serve(), remote.channel.sent)


def _letters(path: str) -> str:
    return wire.text(os.fsencode(path))


class Claims:
    """The names that several hosts' files get here: each is the first host's that offers it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._hosts: dict[bytes, str] = {}

    def other(self, host: str, path: bytes) -> str:
        """Return the host that had a name sooner; empty where it is this one's now."""
        with self._lock:
            has = self._hosts.setdefault(path, host)
        return "" if has == host else has


def receive(
    remote: Connection, request: CopyRequest, destination: str, watch: Watch, claims: Claims | None = None
) -> CopyOutcome:
    """Take what a host offers; ``claims`` are shared with the other hosts that files are taken from.

    Raises:
        DevkitError: the connection, or the remote side, failed.
    """
    planned = Planned(watch)
    host = remote.place.host
    with _talking(remote, planned):
        remote.start(
            role="offer",
            paths=[_letters(path) for path in request.sources],
            choice=encoded(request.choice),
            compress=request.compress,
            rate=request.rate,
        )
        receiver = Receiver(
            remote.channel,
            os.fsencode(destination),
            remote.digest,
            remote.checksum,
            request.options,
            planned,
            planned.done,
            None if claims is None else functools.partial(claims.other, host),
        )
        return planned.outcome(host, receiver.run(), remote.channel.received)


@contextlib.contextmanager
def _talking(remote: Connection, planned: Planned) -> Iterator[Connection]:
    """Talk with the remote side; where that fails, say why as a user would want to read it."""
    with remote:
        try:
            yield remote
        except (wire.ProtocolError, wire.Stopped) as error:
            planned.undo()
            raise remote.explain(error) from error


def _again(
    console: Console, request: CopyRequest, remote: Connection, attempt: Callable[[], CopyOutcome]
) -> CopyOutcome:
    """Copy, and connect again where the connection ends, as often as that is asked for."""
    for number in range(request.retries):
        try:
            return attempt()
        except Disconnected as error:  # noqa: PERF203 - each try is one
            wait_s = min(2.0**number, LONGEST_WAIT_S)
            console.warn(f"{error.what}; once more in {wait_s:g} s ({number + 1} of {request.retries})")
            time.sleep(wait_s)
            remote.reset()
    return attempt()


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

    options, choice = request.options, request.choice
    unsaid = options._replace(checksum=False, dry_run=False, unsafe_links=False, keep=()) != Options()
    if unsaid or request.rate or (offer is None and choice._replace(unsafe_links=False) != Choice()):
        why = "sftp alone can neither leave things out, hold a rate, delete, update nor keep backups."
        return CopyOutcome(place.host, error=DevkitError(error.what, why, *error.remedies))
    for line in error.why.splitlines():
        console.note(f"  {place.host}: {line}", "dim")
    console.warn(f"{place.host}: {copying.SAID}")
    try:
        if offer is not None:
            plan, result = sending.send(ssh, offer, place, anew=options.checksum, dry_run=options.dry_run)
        else:
            plan, result = receiving.receive(
                ssh, place, request.sources, destination, anew=options.checksum, dry_run=options.dry_run
            )
    except DevkitError as failed:
        return CopyOutcome(place.host, error=failed)
    except (OSError, wire.ProtocolError) as failed:
        return CopyOutcome(place.host, error=DevkitError(f"sftp with {place.host} failed", f"{failed}."))
    return CopyOutcome(place.host, plan, result, result.bytes, remarks=remarks_of(result))


def _each(outcomes: list[CopyOutcome], do: Callable[[int], None]) -> list[CopyOutcome]:
    """Do something with each host at once; one that fails does not stop the others."""
    bugs: list[BaseException] = []

    def one(number: int) -> None:
        try:
            do(number)
        except DevkitError as error:
            outcomes[number] = replace(outcomes[number], error=error)
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
            remote = remotes[number]
            outcomes[number] = _again(console, request, remote, lambda: receive(remote, asked, into, watch, claims))
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
    is_idle = (lambda: False) if request.options.dry_run else (lambda: all(remote.is_connecting for remote in remotes))
    ahead = read_ahead(offer, is_idle)

    def one(number: int) -> None:
        try:
            remote = remotes[number]
            outcomes[number] = _again(console, request, remote, lambda: send(request, offer, remote, watch, ahead))
        except NoPython as error:
            outcomes[number] = _by_sftp(console, error, request, remotes[number].place, offer=offer, ssh=ssh)

    return _each(outcomes, one)
