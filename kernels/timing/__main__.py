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

import sys

from ..protocol import Worker, serve_worker


def make() -> Worker:
    """Return the worker; what it imports may be missing, which is an answer."""
    from . import worker

    return worker.Worker()


if __name__ == "__main__":
    sys.exit(serve_worker(make))
