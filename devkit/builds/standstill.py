"""A build that stands still: nothing was said or computed for a while; which program waits, and for what."""

from __future__ import annotations

import contextlib
import re
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from devkit.text import duration

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import psutil

STILL_S = 120.0
INTERVAL_S = 5.0
IDLE_S = 0.05  # what sleeping programs may compute between two looks
LONGEST_LINE = 80
READS = {"0", "63"}  # read(2), of x86-64 and of aarch64
LOCKED = re.compile(
    r"^(?P<number>\d+): (?P<blocked>-> )?\w+ +\w+ +\w+ +(?P<pid>-?\d+) +\w+:\w+:(?P<inode>\d+) ", re.MULTILINE
)


@dataclass(frozen=True)
class Waiting:
    """A program that waits: its process, its command line, and for what; empty where the kernel does not tell."""

    pid: int
    line: str
    what: str

    def __str__(self) -> str:
        line = self.line if len(self.line) <= LONGEST_LINE else f"{self.line[: LONGEST_LINE - 1]}…"
        return f"process {self.pid} ({line}) waits" + (f" for {self.what}" if self.what else "")


def waiting(pid: int) -> Waiting | None:
    """Return the program below a process that the others wait for; None where the process is gone.

    It is the youngest without children; one whose reason is known comes first.
    """
    import psutil

    try:
        below = psutil.Process(pid).children(recursive=True) or [psutil.Process(pid)]
    except psutil.Error:
        return None
    found = []
    for process in below:
        with contextlib.suppress(psutil.Error):
            if not process.children():
                line = " ".join(process.cmdline()) or process.name()
                found.append(Waiting(process.pid, line, reason(process)))
    return max(found, key=lambda one: (bool(one.what), one.pid), default=None)


def reason(process: psutil.Process) -> str:
    """Return what a program waits for: a lock, the network, a disk, input; empty where the kernel does not tell."""
    import psutil

    if process.status() == psutil.STATUS_STOPPED:
        return f"a signal to go on: kill -CONT {process.pid}"
    held = _lock(process.pid)
    if held:
        return held
    with contextlib.suppress(psutil.Error, AttributeError):
        for connection in process.net_connections(kind="inet"):
            if connection.raddr and connection.status in {psutil.CONN_SYN_SENT, psutil.CONN_ESTABLISHED}:
                state = ", which does not answer" if connection.status == psutil.CONN_SYN_SENT else ""
                return f"the network: {connection.raddr.ip}:{connection.raddr.port}{state}"
    if process.status() == psutil.STATUS_DISK_SLEEP:
        return "a disk, or a file system of the network"
    return _input(process.pid)


def _lock(pid: int) -> str:
    """Return which lock a process waits for and who holds it, by what the kernel lists."""
    try:
        listed = [*LOCKED.finditer(Path("/proc/locks").read_text("ascii"))]
    except OSError:
        return ""
    mine = next((lock for lock in listed if lock["blocked"] and lock["pid"] == str(pid)), None)
    if mine is None:
        return ""
    holder = next((lock for lock in listed if not lock["blocked"] and lock["number"] == mine["number"]), None)
    path = _open_file(pid, int(mine["inode"]))
    by = f", which process {holder['pid']} holds" if holder else ""
    return f"the lock {path or 'of a file'}{by}"


def _open_file(pid: int, inode: int) -> str:
    with contextlib.suppress(OSError):
        for entry in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(OSError):
                if entry.stat().st_ino == inode:
                    return str(entry.readlink())
    return ""


def _input(pid: int) -> str:
    """Return what a process reads that does not come."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        words = Path(f"/proc/{pid}/syscall").read_text("ascii").split()
        if words[0] in READS:
            number = int(words[1], 16)
            target = str(Path(f"/proc/{pid}/fd/{number}").readlink())
            return f"input from {'its standard input' if number == 0 else target}"
    return ""


def work(pid: int) -> tuple[frozenset[int], float]:
    """Return the processes below one, and the seconds of processors that they took."""
    import psutil

    pids, taken = set(), 0.0
    with contextlib.suppress(psutil.Error):
        for process in psutil.Process(pid).children(recursive=True):
            with contextlib.suppress(psutil.Error):
                times = process.cpu_times()
                taken += times.user + times.system
                pids.add(process.pid)
    return frozenset(pids), taken


@dataclass(frozen=True)
class Look:
    """What was seen of a build: when, how long its log is, its processes and the seconds of processors they took."""

    time_s: float
    log_bytes: int
    pids: frozenset[int]
    taken_s: float


class Stillness:
    """Tells from one look to the next whether a build stands still."""

    def __init__(self, still_s: float = STILL_S) -> None:
        self._still_s = still_s
        self._last: Look | None = None
        self._since_s = 0.0
        self._told = False

    def observe(self, look: Look) -> float | None:
        """Return for how many seconds a build stood still: once each time that it does, when they are enough."""
        last, self._last = self._last, look
        moved = last is None or look.log_bytes != last.log_bytes or look.pids != last.pids
        if moved or (last is not None and look.taken_s - last.taken_s > IDLE_S):
            self._since_s, self._told = look.time_s, False
            return None
        still_s = look.time_s - self._since_s
        if self._told or still_s < self._still_s:
            return None
        self._told = True
        return still_s


class Watch:
    """Watches a program and all below it, and says when they stand still: once each time that they do."""

    def __init__(
        self,
        pid: int,
        log: Path,
        say: Callable[[str], None],
        *,
        still_s: float = STILL_S,
        interval_s: float = INTERVAL_S,
    ) -> None:
        self._pid = pid
        self._log = log
        self._say = say
        self._still_s = still_s
        self._interval_s = interval_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End."""
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        stillness = Stillness(self._still_s)
        while True:
            still_s = stillness.observe(Look(time.monotonic(), _size(self._log), *work(self._pid)))
            if still_s is not None:
                who = waiting(self._pid)
                self._say(f"nothing was said or computed for {duration(still_s)}" + (f": {who}" if who else ""))
            if self._stop.wait(self._interval_s):
                return


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


@contextlib.contextmanager
def watched(pid: int, log: Path, say: Callable[[str], None]) -> Iterator[None]:
    """Watch a program for as long as the block runs; ``say`` is called from another thread."""
    watch = Watch(pid, log, say)
    watch.start()
    try:
        yield
    finally:
        watch.stop()


def of_run(pid: int, folder: Path) -> tuple[str, bool]:
    """Return how a build of another process is getting on, by its run's logs, and whether it stands still."""
    logs = sorted(folder.glob("*.log"), key=lambda path: path.stat().st_mtime)
    if not logs:
        return "", False
    age_s = time.time() - logs[-1].stat().st_mtime
    text = f"It is at {logs[-1].stem}, and last said something {duration(max(age_s, 0))} ago"
    before = work(pid)
    time.sleep(min(1.0, STILL_S))
    still = age_s >= STILL_S and work(pid)[1] - before[1] <= IDLE_S
    who = waiting(pid) if still else None
    return f"{text}{f': {who}' if who else ''}.", still
