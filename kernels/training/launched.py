"""One rank under ``paddle.distributed.launch``, which runs a file: the request is in the file named by its argument.

Events are appended to ``events-<local rank>.jsonl`` beside it.
"""

from __future__ import annotations

import os
import runpy
import sys
from pathlib import Path

if __name__ == "__main__":
    del sys.path[0]  # this folder: its modules are the package's, and not to be found by their short names
    request = Path(sys.argv[1])
    sys.stdin = request.open(encoding="utf-8")
    local = os.environ.get("PADDLE_LOCAL_RANK", os.environ.get("PADDLE_RANK_IN_NODE", "0"))
    events = os.open(request.parent / f"events-{local}.jsonl", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.environ["DEVKIT_EVENTS_FD"] = str(events)
    runpy.run_module("devkit.kernels.training", run_name="__main__", alter_sys=True)
