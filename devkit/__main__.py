"""The door of the package: ``devkit`` and ``python -m devkit``."""

from __future__ import annotations

import atexit
import gc
import io
import os
import sys

TYPE_CHECKING = False  # typing takes as long to load as Python to start
if TYPE_CHECKING:
    from typing import NoReturn

SAID_IN = "devkit-said-in"
COLLECTED_AT = 50_000  # objects: nothing that is made in a start-up is garbage

ELSEWHERE = (
    "devkit runs on Linux: on Windows use it in WSL2, on WSL's own disk (not below /mnt/c); on macOS in a Linux machine"
    " or container.\n"
)


def main() -> None:
    """Run devkit and exit with its status."""
    gc.set_threshold(COLLECTED_AT)
    if not sys.platform.startswith("linux"):
        sys.stderr.write(ELSEWHERE)
        sys.exit(1)
    _open_what_is_closed()
    _read_names_as_utf8()
    try:
        from devkit.commands._cli.main import main as run

        status = run()
    except KeyboardInterrupt:  # before there was anything to restore
        sys.exit(130)
    _leave(status)


def _leave(status: int) -> NoReturn:
    """Exit; where nothing else runs or looks on, without Python taking itself apart, a tenth of a quick command."""
    threading = sys.modules.get("threading")
    if (threading and threading.active_count() > 1) or sys.gettrace() or sys.getprofile():
        sys.exit(status)
    atexit._run_exitfuncs()  # noqa: SLF001 - what Python itself calls
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except (OSError, ValueError):
        sys.exit(status)  # Python says so in its own way
    os._exit(status)


def _open_what_is_closed() -> None:
    """Put the null device where a standard stream is closed: the next file opened would take its place."""
    for descriptor, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        if getattr(sys, name) is None:
            null = os.open(os.devnull, os.O_RDWR)
            if null != descriptor:
                os.dup2(null, descriptor)
                os.close(null)
            setattr(sys, name, os.fdopen(descriptor, mode))


def _read_names_as_utf8() -> None:
    """Start again in Python's UTF-8 mode where the locale is ASCII's: names are UTF-8 in files, records and uv's words.

    What is said stays in the locale's encoding.
    """
    said_in = sys._xoptions.get(SAID_IN)  # noqa: SLF001 - where -X leaves its options
    if said_in is None and sys.executable and sys.getfilesystemencoding() == "ascii":
        flags = ("-X", "utf8", "-X", f"{SAID_IN}={sys.stdout.encoding}")
        from devkit.process import become

        become([sys.executable, *flags, *sys.orig_argv[1:]])
    for stream in (sys.stdout, sys.stderr) if isinstance(said_in, str) else ():
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding=said_in)


if __name__ == "__main__":
    main()
