"""The door of the package: ``devkit`` and ``python -m devkit``."""

from __future__ import annotations

import sys


def main() -> None:
    """Run devkit and exit with its status."""
    try:
        from devkit.commands._cli.main import main as run

        sys.exit(run())
    except KeyboardInterrupt:  # before there was anything to restore
        sys.exit(130)


if __name__ == "__main__":
    main()
