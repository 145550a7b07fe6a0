"""``python -m devkit.kernels.timing``: times functions of the user's own script, as it is asked on standard input.

Each request is answered by one event.

``{"do": "load", "script": path, "arguments": [word, …], "function": name | ""}``
    must come first. Runs the script as a module named ``__devkit_bench__`` with sys.argv as given, and takes the
    function, or all whose name begins with ``bench_``. → ``loaded``: functions, versions, device (cpu or gpu).

``{"do": "prepare", "function": name, "warm_up": 3}``
    calls it so often without a clock, then once more with an eye on what waits for the device. → ``checked``: function,
    status (ok or error), reason, syncs [{call, where, count}].

``{"do": "time", "function": name, "min_ms": 40 | "iterations": 5}``
    times calls after one that does not count. → ``timed``: function, time_ms [one a call].
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
    os.environ.setdefault("KMP_BLOCKTIME", "1")
    worker: Worker | None = None

    def handle(request: dict[str, Any]) -> None:
        nonlocal worker
        if worker is None:
            from .worker import Worker

            worker = Worker()
        worker.handle(request)

    return serve(handle)


if __name__ == "__main__":
    sys.exit(main())
