"""The device side in a container: ``python -m devkit.envs.bridge NAME MODULE`` stands where its Python would stand."""

from __future__ import annotations

import os
import sys

from devkit.envs.containers import device_side
from devkit.errors import DevkitError


def main() -> int:
    """Run a module of the device side in a container and return its exit status."""
    name, module = sys.argv[1:]
    try:
        return device_side(name, module, os.getcwd(), os.environ)  # noqa: PTH109 - as the container sees it
    except DevkitError as error:
        sys.stderr.write("\n".join((error.what, error.why, *error.remedies)) + "\n")
        return int(error.status)


if __name__ == "__main__":
    sys.exit(main())
