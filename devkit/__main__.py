"""The door of the package: ``devkit`` and ``python -m devkit``."""

from __future__ import annotations

import sys


def main() -> None:
    """Run devkit and exit with its status."""
    from devkit.commands._cli.main import main as run

    sys.exit(run())


if __name__ == "__main__":
    main()
