"""The process between devkit and what it starts: when devkit is gone, however it went, so is everything below it.

Started as ``python -I -S supervisor.py [--end-rest] LIFELINE GRACE COMMAND…``. LIFELINE is the reading end of a pipe
whose writing end devkit holds: its end means that devkit is gone or wants an end. All descendants, those in sessions of
their own too (this process is their subreaper), then get SIGTERM, and after GRACE seconds SIGKILL. Where the command
ends by itself, what it left running is left alone, but for ``--end-rest``, and its status is passed on: a signal's as
that signal.

It stands before each line of git that devkit runs below it, so that its start counts: ``signal`` and ``ctypes`` would
double it, by the enumerations and the structures that they are written with.
"""

import _signal as signal  # type: ignore[import-not-found]
import os
import select
import sys
import time

try:
    import _ctypes
except ImportError:  # a Python that was built without libffi: what leaves its parents is then not found again
    _ctypes = None  # type: ignore[assignment]

PR_SET_PDEATHSIG = 1
PR_SET_DUMPABLE = 4
PR_SET_CHILD_SUBREAPER = 36
NOT_FOUND = 127
NOT_EXECUTABLE = 126


def prctl(option: int, value: int) -> None:
    """Set an attribute of this process, where the kernel knows it (Linux)."""
    if sys.platform == "linux" and _ctypes is not None:
        address = _ctypes.dlsym(_ctypes.dlopen(None, os.RTLD_NOW), "prctl")  # type: ignore[arg-type]
        _ctypes.call_cdeclfunction(address, (option, value, 0, 0, 0))


def descendants(root: int) -> list[int]:
    """Return the processes below ``root``, by the parents that /proc names."""
    children: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat", "rb") as file:
                    state, parent = file.read().rpartition(b")")[2].split()[:2]
            except OSError:
                continue
            if state != b"Z":
                children.setdefault(int(parent), []).append(int(name))
    found: list[int] = []
    waiting = [root]
    while waiting:
        below = children.get(waiting.pop(), [])
        found += below
        waiting += below
    return found


def reap(child: int) -> int | None:
    """Reap what has ended and return the wait status of ``child`` if it is among that."""
    status = None
    while True:
        try:
            pid, wait_status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return status
        if pid == 0:
            return status
        if pid == child:
            status = wait_status


def end_all(grace_s: float) -> None:
    """End every descendant: politely, then not."""
    deadline = time.monotonic() + grace_s
    signalled: set[int] = set()
    while True:
        alive = descendants(os.getpid())
        if not alive:
            reap(0)
            return
        polite = time.monotonic() < deadline
        for pid in alive:
            if not polite or pid not in signalled:
                try:
                    os.kill(pid, signal.SIGTERM if polite else signal.SIGKILL)
                    os.kill(pid, signal.SIGCONT)
                except OSError:
                    pass
                signalled.add(pid)
        reap(0)
        time.sleep(0.02)


def execute(command: list[str], supervisor: int, ignored: list[int]) -> None:
    """Become the command, in the child; it dies with its supervisor, and ignores what devkit was told to ignore."""
    prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != supervisor:
        os._exit(NOT_EXECUTABLE)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD, signal.SIGPIPE):
        signal.signal(number, signal.SIG_IGN if number in ignored else signal.SIG_DFL)
    try:
        os.execvp(command[0], command)
    except OSError as error:
        os.write(2, f"{command[0]}: {error.strerror}\n".encode())
        os._exit(NOT_FOUND if isinstance(error, FileNotFoundError) else NOT_EXECUTABLE)


def pass_on(status: int) -> int:
    """Return the exit status of a wait status; a signal's end is made this process's own."""
    if os.WIFSIGNALED(status):
        prctl(PR_SET_DUMPABLE, 0)  # one core file, the command's, is enough
        deadly = os.WTERMSIG(status)
        if deadly != signal.SIGKILL:
            signal.signal(deadly, signal.SIG_DFL)
        os.kill(os.getpid(), deadly)
    return os.waitstatus_to_exitcode(status)


def main() -> int:
    """Start the command, wait for it or for the end of the lifeline."""
    ends_rest = sys.argv[1] == "--end-rest"
    words = sys.argv[1 + ends_rest :]
    lifeline, grace_s, command = int(words[0]), float(words[1]), words[2:]
    os.set_inheritable(lifeline, False)
    prctl(PR_SET_CHILD_SUBREAPER, 1)
    handled = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD)
    ignored = [int(number) for number in handled[:3] if signal.getsignal(number) == signal.SIG_IGN]
    for number in handled:
        signal.signal(number, lambda *_: None)
    wake_read, wake_write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
    supervisor = os.getpid()
    child = os.fork()
    if child == 0:
        execute(command, supervisor, ignored)
    os.close(0)
    while True:
        ready, _, _ = select.select([lifeline, wake_read], [], [])
        if wake_read in ready:
            os.read(wake_read, 4096)
        status = reap(child)
        if status is not None:
            if ends_rest:
                end_all(grace_s)
            return pass_on(status)
        if lifeline in ready:
            end_all(grace_s)
            return NOT_EXECUTABLE


if __name__ == "__main__":
    os._exit(main())  # nothing is left to write
