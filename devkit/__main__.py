"""The door of the package: ``devkit`` and ``python -m devkit``."""

from __future__ import annotations

import os
import sys

ELSEWHERE = (
    "devkit runs on Linux: on Windows use it in WSL2, on WSL's own disk (not below /mnt/c); on macOS in a Linux machine"
    " or container.\n"
)


def main() -> None:
    """Run devkit and exit with its status."""
    if not sys.platform.startswith("linux"):
        sys.stderr.write(ELSEWHERE)
        sys.exit(1)
    _open_what_is_closed()
    try:
        from devkit.commands._cli.main import main as run

        sys.exit(run())
    except KeyboardInterrupt:  # before there was anything to restore
        sys.exit(130)


def _open_what_is_closed() -> None:
    """Put the null device where a standard stream is closed: the next file opened would take its place."""
    for descriptor, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        if getattr(sys, name) is None:
            null = os.open(os.devnull, os.O_RDWR)
            if null != descriptor:
                os.dup2(null, descriptor)
                os.close(null)
            setattr(sys, name, os.fdopen(descriptor, mode))


if __name__ == "__main__":
    main()
