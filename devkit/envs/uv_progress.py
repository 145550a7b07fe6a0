"""The progress of an installation: uv draws its bars for a terminal only, so it is given one that is read here.

It does not inherit the user's terminal: what it says when it fails would then be on the screen and nowhere else, and
what to type about it, the run's log and the masking of a password in an index's address all need to read it.
"""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import sys
import termios
import threading
from typing import TYPE_CHECKING

from devkit.envs import uv
from devkit.redact import redact

if TYPE_CHECKING:
    from pathlib import Path

    from devkit.app import App
    from devkit.console import Progress

BAR = re.compile(rb"([\w.-]+) +[-#=>]+ +([\d.]+) ([KMG]?i?B)/([\d.]+) ([KMG]?i?B)")
INSTALLING = re.compile(rb"\[(\d+)/(\d+)\]")
ESCAPES = re.compile(rb"\x1b\[[\d;?]*[A-Za-z]|\r")
GLUED = re.compile(rb" {2,}(?=error:|warning:)")  # the last frame of a bar has no end of line
UNITS = {b"B": 1, b"KiB": 1 << 10, b"MiB": 1 << 20, b"GiB": 1 << 30}
ROWS, COLUMNS = 60, 120
KEPT = 16 * 1024


class Bars:
    """What uv's bars say, summed: bytes that came of bytes that are known to come."""

    def __init__(self) -> None:
        self.downloads: dict[bytes, tuple[float, float]] = {}
        self.installed = (0, 0)

    def read(self, data: bytes) -> None:
        """Take in a piece of what uv drew."""
        for name, done, done_unit, total, total_unit in BAR.findall(data):
            came, all_of_it = float(done) * UNITS.get(done_unit, 1), float(total) * UNITS.get(total_unit, 1)
            self.downloads[name] = (came, all_of_it)
        for done, total in INSTALLING.findall(data):
            self.installed = (int(done), int(total))

    @property
    def bytes(self) -> tuple[float, float]:
        """What came, and what comes in all."""
        return sum(came for came, _ in self.downloads.values()), sum(total for _, total in self.downloads.values())

    def text(self) -> str:
        """Return what a line of progress says."""
        if self.installed[1]:
            return f"installing, {self.installed[0]} of {self.installed[1]} packages"
        if self.downloads:
            name = max(self.downloads, key=lambda package: self.downloads[package][1] - self.downloads[package][0])
            return f"downloading {name.decode(errors='replace')}"
        return "resolving"


def install(app: App, line: uv.Line, *, log: Path) -> None:
    """Run a line of uv that installs, with its progress.

    Raises:
        DevkitError: uv failed.
    """
    if not sys.stderr.isatty():
        uv.run(app, line, log=log, meanwhile="installing", load=("tomlkit",))  # for the lock
        return
    with app.console.progress("resolving", total=0, unit="bytes") as progress:
        status, said = _on_a_terminal(app, line, log, progress)
    if status != 0:
        raise uv.diagnose(app, said, line)


def _on_a_terminal(app: App, line: uv.Line, log: Path, progress: Progress) -> tuple[int, str]:
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
    environ = {**uv.environ(app, line), "NO_COLOR": "1", "TERM": "xterm"}
    try:
        child = app.runner.start([uv.binary(), *line.words], cwd=line.folder, env=environ, stderr=slave)
    except BaseException:
        os.close(master)
        raise
    finally:
        os.close(slave)
    said = bytearray()

    def read() -> None:
        bars, rest = Bars(), b""
        while data := _read(master):
            said.extend(data)
            bars.read(rest + data)
            rest = data[-200:]
            del said[:-KEPT]
            came, total = bars.bytes
            progress.update(done=came, total=total, text=bars.text())

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    try:
        status = app.runner.finish(child)
    finally:
        reader.join(1.0)
        os.close(master)
    text = GLUED.sub(b"\n", ESCAPES.sub(b"\n", bytes(said))).decode(errors="replace")
    log.write_text(redact(text), "utf-8")
    return status, text


def _read(master: int) -> bytes:
    try:
        return os.read(master, 1 << 16)
    except OSError:  # Linux's way to say that the other end is closed
        return b""
