"""``send`` and ``recv``: what is asked for, and the transfer that does it."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from dataclasses import dataclass, fields, replace
from glob import has_magic
from typing import TYPE_CHECKING, Any

from devkit.errors import DevkitError, UsageError
from devkit.text import shown
from devkit.transfer.remote import wire
from devkit.transfer.remote.manifest import FILE, Offer, describe
from devkit.transfer.remote.messages import REMARKS, Choice, Options, Plan, Result, encoded
from devkit.transfer.remote.reading import Changed, Reader, is_small
from devkit.transfer.remote.receiver import Receiver
from devkit.transfer.remote.sender import Sender
from devkit.transfer.sftp import receiving, sending
from devkit.transfer.sftp.client import WITHOUT_PYTHON
from devkit.transfer.ssh import Connection, Disconnected, NoPython, RemotePath

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from typing_extensions import Self

    from devkit.console import Console


AHEAD_BYTES = 1 << 26
AHEAD_AT_ONCE = 8
LONGEST_WAIT_S = 30.0


@dataclass(frozen=True)
class CopyRequest:
    """What a transfer is asked to do."""

    sources: tuple[str, ...]  # paths here that are sent; empty for ``recv``
    choice: Choice  # what of them is copied
    options: Options  # how it is taken
    compress: bool = True  # whether blocks may be deflated where that is sooner
    rate: int = 0  # the most bytes a second, all hosts together; 0 is not a limit
    retries: int = 0  # how often a connection that ended is made again

    def __post_init__(self) -> None:
        if self.options.delete and self.choice.gitignore:
            why = "What .gitignore files leave out there cannot be told from what is not here any more."
            raise UsageError("--delete and --gitignore do not go together", why, "--exclude PATTERN")
        if self.options.delete and self.choice.only is not None:
            raise UsageError("--delete and --files-from do not go together", "All that is not listed would go.")


@dataclass(frozen=True)
class CopyOutcome:
    """What came of a transfer with one host; what does not come to a plan or a result has none."""

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
    """Takes note of the plan of one transfer; a context manager that takes back what it told of one that fails."""

    def __init__(self, watch: Watch) -> None:
        self._watch = watch
        self.plan: Plan | None = None
        self._done = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _kind: object, error: BaseException | None, _traceback: object) -> None:
        if isinstance(error, DevkitError) and self.plan is not None:
            self._watch.undone(self.plan, self._done)

    def done(self, count: int) -> None:
        """Pass on that bytes are done."""
        self._done += count
        self._watch.done(count)

    def __call__(self, plan: Plan) -> None:
        """Take it, and pass it on."""
        self.plan = plan
        self._watch.plan(plan)

    def outcome(self, host: str, result: Result, wire_bytes: int) -> CopyOutcome:
        """Return what came of it, its remarks as text that is fit to be shown."""
        if self.plan is None:
            raise wire.ProtocolError("a result without a plan")
        return CopyOutcome(host, self.plan, result, wire_bytes, remarks=tuple(map(shown, result.remarks[:REMARKS])))


def offer_of(request: CopyRequest) -> Offer:
    """Return what a ``send`` offers."""
    try:
        return describe([os.fsencode(source) for source in request.sources], request.choice)
    except wire.Stopped as error:
        raise DevkitError(error.what, error.why) from error


def read_ahead(offer: Offer, is_idle: Callable[[], bool]) -> dict[int, bytes]:
    """Read small files while there is nothing else to do."""
    found: dict[int, bytes] = {}
    room = AHEAD_BYTES
    with contextlib.closing(Reader(offer)) as reader:
        for index, entry in enumerate(offer.entries):
            if entry.kind != FILE or not is_small(entry):
                continue
            room -= entry.size
            if room < 0 or (not len(found) % AHEAD_AT_ONCE and not is_idle()):
                break
            with contextlib.suppress(OSError, Changed):  # what cannot be read is said when it is asked for
                found[index] = reader.whole(index)
    return found


def _letters(path: str) -> str:
    return wire.text(os.fsencode(path))


def _beyond_sftp(request: CopyRequest) -> str:
    """Return why sftp alone cannot do what is asked for; empty where it can."""
    if request.sources:
        beyond = request.options.delete or request.options.backup or request.rate
        return "sftp alone can neither hold a rate, delete nor keep backups there." if beyond else ""
    beyond = request.choice._replace(unsafe_links=False, exclude=()) != Choice()
    return "sftp alone can neither follow links, nor copy what a list or .gitignore files say." if beyond else ""


class Copies:
    """The copies of one request, a connection to each host: a context manager that ends them.

    Of several hosts at a terminal each is connected in turn: ssh may ask, and one question at a time can be answered.
    """

    def __init__(
        self, console: Console, ssh: Sequence[str], request: CopyRequest, places: Sequence[RemotePath]
    ) -> None:
        self._console = console
        self._ssh = ssh
        self._request = replace(request, rate=-(-request.rate // len(places)))
        self._remotes = [Connection(console, ssh, place) for place in places]

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            stack.push(self)
            if len(self._remotes) > 1 and self._console.interactive:
                for remote in self._remotes:
                    remote.connect()
            elif self._request.sources and all(
                os.path.lexists(word) or has_magic(word) for word in self._request.sources
            ):
                for remote in self._remotes:  # ssh connects while the caller looks at what is sent
                    remote.begin()
            stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        for remote in self._remotes:
            remote.close()

    def receive(self, sources: Sequence[tuple[str, ...]], destination: str, watch: Watch) -> list[CopyOutcome]:
        """Take what each host offers, by sftp where it runs no Python; of several, all into one folder."""
        request = self._request
        several = len(self._remotes) > 1
        into = f"{destination.rstrip('/')}/" if several else destination
        wanted = dict(zip(self._remotes, sources, strict=True))
        claims: dict[bytes, str] = {}  # which host gives the file of a path: the first that offers one

        def take(
            remote: Connection, planned: Planned, channel: wire.Channel, digest: str, checksum: str
        ) -> CopyOutcome:
            host = remote.place.host

            def claimed(path: bytes) -> str:
                has = claims.setdefault(path, host)
                return "" if has == host else has

            receiver = Receiver(
                channel,
                os.fsencode(into),
                digest,
                checksum,
                request.options,
                planned,
                planned.done,
                claimed if several else None,
            )
            return planned.outcome(host, receiver.run(), channel.received)

        def by_ssh(remote: Connection, planned: Planned) -> CopyOutcome:
            remote.start(
                role="offer",
                paths=[_letters(path) for path in wanted[remote]],
                choice=encoded(request.choice),
                compress=request.compress,
                rate=request.rate,
            )
            return take(remote, planned, remote.channel, remote.digest, remote.checksum)

        def by_sftp(remote: Connection, planned: Planned) -> CopyOutcome:
            with receiving.offered(self._ssh, remote.place, wanted[remote], request.choice, request.rate) as channel:
                return take(remote, planned, channel, receiving.DIGEST, receiving.CHECKSUM)

        return self._with_each_host(lambda remote: self._with_retries(remote, watch, by_ssh, by_sftp))

    def send(self, offer: Offer, watch: Watch) -> list[CopyOutcome]:
        """Send what is offered to each host, by sftp where it runs no Python."""
        request = self._request

        def is_idle() -> bool:
            return not request.options.dry_run and all(remote.is_connecting for remote in self._remotes)

        def by_ssh(remote: Connection, planned: Planned) -> CopyOutcome:
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
                ahead,
            )
            return planned.outcome(remote.place.host, sender.serve(), remote.channel.sent)

        def by_sftp(remote: Connection, planned: Planned) -> CopyOutcome:
            result = sending.send(self._ssh, offer, remote.place, request.options, planned)
            return planned.outcome(remote.place.host, result, result.bytes)

        ahead = read_ahead(offer, is_idle)
        return self._with_each_host(lambda remote: self._with_retries(remote, watch, by_ssh, by_sftp))

    def _with_each_host(self, do: Callable[[Connection], CopyOutcome]) -> list[CopyOutcome]:
        """Copy with each host at once; one that fails does not stop the others."""
        outcomes = [CopyOutcome(remote.place.host) for remote in self._remotes]
        bugs: list[BaseException] = []

        def one(number: int) -> None:
            try:
                outcomes[number] = do(self._remotes[number])
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

    def _with_retries(
        self,
        remote: Connection,
        watch: Watch,
        by_ssh: Callable[[Connection, Planned], CopyOutcome],
        by_sftp: Callable[[Connection, Planned], CopyOutcome],
    ) -> CopyOutcome:
        """Copy, and connect again where the connection ends, as often as that is asked for.

        Where no Python is there, sftp copies, unless it cannot do what is asked for.
        """
        host = remote.place.host
        python, tried = True, 0
        while True:
            try:
                with Planned(watch) as planned:
                    return _over_ssh(remote, planned, by_ssh) if python else _over_sftp(remote, planned, by_sftp)
            except NoPython as error:  # noqa: PERF203 - each try is one
                refusal = _beyond_sftp(self._request)
                if refusal:
                    raise DevkitError(error.what, refusal, *error.remedies) from error
                for line in error.why.splitlines():
                    self._console.note(f"  {host}: {line}", "dim")
                self._console.warn(f"{host}: {WITHOUT_PYTHON}")
                python = False
            except Disconnected as error:
                if tried == self._request.retries:
                    raise
                wait_s = min(2.0**tried, LONGEST_WAIT_S)
                tried += 1
                self._console.warn(f"{error.what}; once more in {wait_s:g} s ({tried} of {self._request.retries})")
                time.sleep(wait_s)
                remote.reset()


def _over_ssh(remote: Connection, planned: Planned, do: Callable[[Connection, Planned], CopyOutcome]) -> CopyOutcome:
    """Talk with the remote side; where that fails, say why as a user would want to read it."""
    with remote:
        try:
            return do(remote, planned)
        except (wire.ProtocolError, wire.Stopped) as error:
            raise remote.explain(error) from error


def _over_sftp(remote: Connection, planned: Planned, do: Callable[[Connection, Planned], CopyOutcome]) -> CopyOutcome:
    failed = f"sftp with {remote.place.host} failed"
    try:
        return do(remote, planned)
    except wire.Stopped as error:
        raise DevkitError(error.what, error.why) from error
    except (OSError, wire.ProtocolError) as error:
        raise DevkitError(failed, f"{error}.") from error
