"""``python -m devkit.kernels.collectives``: one rank whose collectives are checked and timed, all ranks at once.

Every rank gets the same requests; each is answered by one event of every rank.

``{"do": "describe"}``
    joins the group. → ``device``: kind (cpu or gpu), backend, ranks, version.

``{"do": "prepare", "op": name, "bytes": n}``
    runs the collective once on known values. → ``checked``: op, bytes, status (ok, wrong, unsupported or error) and
    reason.

``{"do": "time", "op": name, "bytes": n, "iterations": k}``
    → ``timed``: op, bytes, time_ms [one a call], each between two barriers' ends on this rank.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

from ..protocol import serve

if TYPE_CHECKING:
    from .worker import Worker


def main() -> int:
    """Answer until the input ends, and return the exit status."""
    worker: Worker | None = None

    def handle(request: dict[str, Any]) -> None:
        nonlocal worker
        if worker is None:
            from .worker import Worker

            worker = Worker()
        worker.handle(request)

    return serve(handle)


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    os._exit(code)  # Gloo's destructors wait for peers that may be gone
