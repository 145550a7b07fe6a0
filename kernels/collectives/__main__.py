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

from ..protocol import Worker, serve_worker


def make() -> Worker:
    """Return the worker; what it imports may be missing, which is an answer."""
    from . import worker

    return worker.Worker()


if __name__ == "__main__":
    code = serve_worker(make)
    sys.stdout.flush()
    os._exit(code)  # Gloo's destructors wait for peers that may be gone
