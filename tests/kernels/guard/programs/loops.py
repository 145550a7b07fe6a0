"""Training loops as people write them, healthy ones and broken ones, each under a watch of its own, in one process.

Prints a line of JSON a loop: its name, and the kinds that the guards found.
"""

from __future__ import annotations

import json
import sys

import paddle

from devkit.kernels.guard import hooks
from devkit.kernels.guard.progress import Progress
from devkit.kernels.guard.report import Stopped
from devkit.kernels.guard.training import Watch
from tests.kernels.guard.programs import broken, healthy, recipes
from tests.kernels.guard.programs.base import LOOPS, Told


def main() -> None:
    made = hooks.Hooks(Told(), Progress(), Watch(Told(), Progress(), 1))
    made.all(1)
    chosen = sys.argv[1:] or sorted(LOOPS, key=lambda name: "to_static" in name)  # tracing ends the watch over calls
    for name in chosen:
        report = Told()
        made.progress = Progress()
        made.watch = Watch(report, made.progress, 1)
        paddle.seed(7)
        paddle.disable_static()
        error = ""
        try:
            LOOPS[name]()
            made.watch.finished()
        except Stopped:
            pass
        except Exception as raised:  # noqa: BLE001 - it is told
            error = f"{type(raised).__name__}: {raised}"
        print("LOOP " + json.dumps({"name": name, "error": error, "found": report.found}), flush=True)  # noqa: T201 - its answer


if __name__ == "__main__":
    assert {*vars(healthy), *vars(recipes), *vars(broken)} >= LOOPS.keys()
    main()
