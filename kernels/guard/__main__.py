"""``python -m devkit.kernels.guard [--no-guard] [-m MODULE | SCRIPT] ARGS…``: a Paddle script under guard.

The script runs as ``python SCRIPT ARGS…`` would run it. Its failure is told by its root cause, where it is comes once a
second, and where it imports Paddle its training is watched. A finding ends it with status 4; started by hand, findings
are lines on standard error.
"""

from __future__ import annotations

import builtins
import faulthandler
import os
import runpy
import sys
import threading
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any, Callable

from .board import Board
from .errors import explain, message, shown_traceback
from .imports import AfterImport
from .progress import Progress, show_crashes, start
from .report import Report, Stopped

USER_PATH = "DEVKIT_USER_PYTHONPATH"
"""The variable with the user's own PYTHONPATH, which is put back for what the script starts."""


class Guarded:
    """One script, and the watch that is put into Paddle when it comes.

    Args:
        argv: the script, or ``-m`` and a module, and its arguments.
        guard: whether its training is watched.
    """

    def __init__(self, argv: list[str], *, guard: bool) -> None:
        self.argv, self.guard = argv, guard
        self.world_size = int(os.environ.get("PADDLE_TRAINERS_NUM") or 1)
        self.report = Report.from_environment()
        self.progress = Progress()
        self.board = Board.inherited()
        self.watch: Any = None

    def run(self) -> int:
        """Run the script to its end and return its status."""
        start(self.report, self.progress)
        if self.guard:
            threading.excepthook = partial(self._thread_failed, threading.excepthook)
        sys.meta_path.insert(0, AfterImport("paddle", self._imported, self._importing))
        try:
            self._run()
            if self.watch is not None:
                self.watch.finished()
        except Stopped as stopped:
            self.report.emit("ended", status=stopped.code)
            return int(stopped.code or 0)
        except SystemExit as leaving:
            return self._left(leaving)
        except BaseException as error:  # noqa: BLE001 - it is told, and printed as Python does
            self._failed(error)
            return 130 if isinstance(error, KeyboardInterrupt) else 1
        self.report.emit("ended", status=0)
        return 0

    def _left(self, leaving: SystemExit) -> int:
        if not leaving.code and self.watch is not None:
            try:
                self.watch.finished()
            except Stopped as stopped:
                leaving = stopped
        if leaving.code and not isinstance(leaving, Stopped):
            self._failed(leaving, show=not isinstance(leaving.code, int))
        status = leaving.code if isinstance(leaving.code, int) else int(bool(leaving.code))
        self.report.emit("ended", status=status)
        return status

    def _failed(self, error: BaseException, *, show: bool = True) -> None:
        failure = explain(error, self.progress.waiting)
        self.report.emit(
            "failed",
            step=self.progress.step,
            waiting=failure.waiting,
            collective=self.progress.waiting,
            what=failure.what,
            where=failure.where,
            via=failure.via,
            traceback=failure.traceback,
        )
        if isinstance(error, SystemExit):
            if show:
                print(error.code, file=sys.stderr)
            return
        show_uncaught(error)

    def _thread_failed(
        self, show: Callable[[threading.ExceptHookArgs], object], ended: threading.ExceptHookArgs
    ) -> None:
        """Tell of a thread of the script's that an exception has ended: the script goes on, or waits for it in vain."""
        show(ended)
        if ended.exc_value is not None and not isinstance(ended.exc_value, SystemExit):
            failure = explain(ended.exc_value, "")
            name = ended.thread.name if ended.thread else "a thread"
            what = f"a thread of the script has ended: {failure.what}"
            self.report.warn("thread-failed", what, f"{name}, at {failure.where}", step=self.progress.step)

    def _importing(self) -> None:
        faulthandler.disable()  # what Paddle puts in its place is kept behind it
        self.progress.busy = "importing paddle"

    def _imported(self, _paddle: ModuleType) -> None:
        from . import hooks

        show_crashes()  # Paddle's own handlers come after the stack of Python, and not in its place
        self.progress.busy = ""
        self.progress.move()
        if self.guard:
            self.watch = hooks.install(self.report, self.progress, self.world_size, self.board)
        else:
            hooks.install_progress(self.report, self.progress, self.world_size)

    def _run(self) -> None:
        if self.argv[0] == "-m":
            sys.argv = self.argv[1:]
            sys.path.insert(0, os.getcwd())  # noqa: PTH109 - as Python does
            runpy.run_module(self.argv[1], run_name="__main__", alter_sys=True)
            return
        sys.argv = list(self.argv)
        script = os.path.abspath(self.argv[0])  # noqa: PTH100 - as Python does: links are kept
        sys.path.insert(0, str(Path(script).resolve().parent))
        module = ModuleType("__main__")
        module.__dict__.update(__file__=script, __builtins__=builtins, __cached__=None)
        sys.modules["__main__"] = module
        code = compile(Path(script).read_bytes(), script, "exec", dont_inherit=True)
        exec(code, module.__dict__)  # noqa: S102 - running the user's script is the purpose


def show_uncaught(error: BaseException) -> None:
    """Show an exception as Python does: by the script's own ``sys.excepthook``, where it has put one there."""
    if sys.excepthook is not sys.__excepthook__:
        try:
            sys.excepthook(type(error), error, error.__traceback__)
        except Exception as failed:  # noqa: BLE001 - the first error is to be seen all the same
            print(f"Error in sys.excepthook: {message(failed)}", file=sys.stderr)
        else:
            return
    print(shown_traceback(error), end="", file=sys.stderr)


def tidy_path(user_path: str | None) -> None:
    """Take what led Python to this package off the path, and put the user's own PYTHONPATH back."""
    room = Path(__file__).parent.parent.parent
    sys.path[:] = [
        path
        for path in sys.path
        if path not in ("", os.getcwd()) and not _leads_to(path, room)  # noqa: PTH109 - as above
    ]
    os.environ.pop("PYTHONPATH", None)
    if user_path:
        os.environ["PYTHONPATH"] = user_path
        own = [str(Path(word).absolute()) for word in user_path.split(os.pathsep) if word]
        sys.path[:0] = [path for path in own if path not in sys.path]


def _leads_to(entry: str, package: Path) -> bool:
    link = Path(entry, "devkit")
    return link.is_symlink() and link.resolve() == package.resolve()


def main(argv: list[str]) -> int:
    """Run the script that ``argv`` names, and return its status."""
    guard = argv[:1] != ["--no-guard"]
    argv = argv if guard else argv[1:]
    if not argv or argv == ["-m"]:
        print("usage: python -m devkit.kernels.guard [--no-guard] [-m MODULE | SCRIPT] ARGS…", file=sys.stderr)
        return 2
    if "PYTHONPATH" in os.environ and USER_PATH in os.environ:
        tidy_path(os.environ.pop(USER_PATH))
    elif sys.path and sys.path[0] == os.getcwd():  # noqa: PTH109 - what `python -m` put there
        del sys.path[0]
    guarded = Guarded(argv, guard=guard)
    status = guarded.run()
    sys.stdout.flush()
    sys.stderr.flush()
    if status and guarded.world_size > 1:
        os._exit(status)  # Gloo's destructors wait for peers that may be gone
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
