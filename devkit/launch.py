"""Starting the device side in an environment, and talking with it in JSON lines.

The device side is ``python -m devkit.kernels.…``, found through a folder that holds nothing but a link to this
package, so that nothing of the tool's own Python leaks into the environment.
"""

from __future__ import annotations

import json
import os
import queue
import re
import subprocess
import tempfile
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from devkit import mkl
from devkit.child import TURN_S
from devkit.errors import DevkitError, Hint
from devkit.files import link_atomically
from devkit.kernels.protocol import PROTOCOL
from devkit.paths import cache_home, private_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from typing_extensions import Self

    from devkit.app import App
    from devkit.envs.resolve import Environment

LINES_BESIDE_A_LOG, LINES_WITHOUT_A_LOG = 6, 40
LEAKS = ("PYTHONPATH", "PYTHONHOME", "PYTHONSTARTUP", "PYTHONSAFEPATH", "PYTHONWARNINGS", "PYTHONDONTWRITEBYTECODE")

Event = dict[str, Any]


class DeviceBug(RuntimeError):
    """The device side raised what it should not: a bug of ours, with its traceback."""


@dataclass(frozen=True)
class Ended:
    """What a worker's inbox gets last: its exit status; negative is the signal that ended it."""

    status: int


def _package() -> Path:
    return Path(__file__).resolve().parent


def device_side_folder() -> Path:
    """Return where ``device_side`` lies, or will."""
    import hashlib

    return cache_home() / "device-side" / hashlib.sha256(os.fsencode(_package())).hexdigest()[:16]


def device_side() -> Path:
    """Return the folder to put on an environment's path: it holds a link to this package and nothing else.

    Raises:
        DevkitError: neither devkit's cache nor the folder of temporary files can be written.
    """
    folder = device_side_folder()
    try:
        return _linked(folder)
    except DevkitError:
        return _linked(private_folder() / folder.parent.name / folder.name)


def _linked(folder: Path) -> Path:
    package, link = _package(), folder / "devkit"
    if not link.is_symlink() or link.readlink() != package:
        link_atomically(link, package)
    return folder


def device_environment(
    app: App, *, threads: int | None = None, extra: Mapping[str, str] | None = None, python: Path | None = None
) -> dict[str, str]:
    """Return the environment of a device-side process.

    Args:
        app: whose proxies it gets.
        threads: how many threads its libraries use; their own choice by default.
        extra: what comes on top.
        python: the interpreter that runs it, devkit's own by default: whose MKL is tried.
    """
    environ = {name: value for name, value in app.child_environment().items() if name not in LEAKS}
    environ["PYTHONPATH"] = str(device_side())
    environ["PYTHONUNBUFFERED"] = "1"
    if mkl.VARIABLE not in environ and (fast := mkl.cpu_type(app, python)):
        environ[mkl.VARIABLE] = fast
    if threads:
        for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
            environ[name] = str(threads)
    return {**environ, **(extra or {})}


class Worker:
    """One device-side process.

    Args:
        app: whose runner starts it.
        environment: whose Python it runs in.
        module: below ``devkit.kernels``, as ``attention``.
        folder: the place of its log, and its working directory where ``directory`` names no other; without one, a
            temporary folder that goes with it.
        name: what its log is called.
        environ: its environment (see ``device_environment``).
        inbox: where its events go as ``(worker, event)``, to share one between workers; its own by default.
        argv: its words; those that run ``module`` there by default.
        directory: its working directory.
        on_line: called with each line that it prints, from another thread.
        on_stderr: called with those of standard error in its place.
        pass_fds: descriptors that it inherits.
    """

    def __init__(
        self,
        app: App,
        environment: Environment,
        module: str,
        *,
        folder: Path | None = None,
        name: str,
        environ: Mapping[str, str],
        inbox: queue.SimpleQueue[tuple[Worker, Event | Ended]] | None = None,
        argv: Sequence[str] = (),
        directory: Path | None = None,
        on_line: Callable[[str], None] | None = None,
        on_stderr: Callable[[str], None] | None = None,
        pass_fds: Sequence[int] = (),
    ) -> None:
        self.name = name
        self.environment = environment
        self._temporary = None if folder else tempfile.TemporaryDirectory(prefix="devkit-")
        folder = folder or Path(self._temporary.name if self._temporary else "")
        self.log = folder / f"{name}.log"
        self.inbox = inbox or queue.SimpleQueue()
        self._app = app
        read_end, write_end = os.pipe()
        try:
            self.child = app.runner.start(
                argv or environment.argv(module),
                cwd=directory or folder,
                env={**environ, "DEVKIT_EVENTS_FD": str(write_end)},
                stdin=subprocess.PIPE,
                pass_fds=(write_end, *pass_fds),
                log=self.log,
                on_line=on_line,
                on_stderr=on_stderr,
            )
        except BaseException:
            os.close(read_end)
            self._clean_up()
            raise
        finally:
            os.close(write_end)
        threading.Thread(target=self._listen, args=(read_end,), daemon=True).start()

    def _listen(self, descriptor: int) -> None:
        with os.fdopen(descriptor, "rb") as pipe:
            for line in pipe:
                try:
                    event = json.loads(line)
                except ValueError:
                    continue  # a line cut off by the process's death
                self.inbox.put((self, event))
        self.inbox.put((self, Ended(self.child.process.wait())))

    def send(self, request: Mapping[str, Any]) -> None:
        """Send a request; a worker that is gone says so in its inbox, not here."""
        line = json.dumps({"protocol": PROTOCOL, **request}, allow_nan=False) + "\n"
        stdin = self.child.process.stdin
        try:
            if stdin is not None:
                stdin.write(line.encode())
                stdin.flush()
        except (BrokenPipeError, ValueError):
            pass

    def ask(self, request: Mapping[str, Any], answer: str, *, on_event: Callable[[Event], None] | None = None) -> Event:
        """Send a request and return the event named ``answer``; events before it go to ``on_event``.

        Only for a worker with an inbox of its own.

        Raises:
            DevkitError: the device side refused the request, or died.
            DeviceBug: it raised.
        """
        self.send(request)
        while True:
            try:
                _, event = self.inbox.get(timeout=TURN_S)
            except queue.Empty:  # a turn in which a signal would be heard
                continue
            if isinstance(event, Ended):
                raise self.died(event)
            raise_if_error(event)
            if event["event"] == answer:
                return event
            if on_event:
                on_event(event)

    def died(self, ended: Ended) -> DevkitError:
        """Return the error for a worker that ended without an answer."""
        from devkit.process import fate

        said = bytes(self.child.stderr).decode(errors="replace").strip().splitlines()
        why = "\n".join(said[-LINES_WITHOUT_A_LOG if self._temporary else -LINES_BESIDE_A_LOG :])
        if re.search(r"No module named '?devkit", why):
            why = f"{self.environment.name} ({self.environment.python}) cannot import devkit's device side.\n{why}"
        more = [] if self._temporary else [Hint.of("less", str(self.log), purpose="shows all that it said")]
        return DevkitError(f"the device side ({self.name}) {fate(ended.status)}", why, *more)

    def close(self) -> None:
        """End it: the end of its input is its cue; what does not take it is ended."""
        stdin = self.child.process.stdin
        try:
            if stdin is not None:
                stdin.close()
            self.child.wait(5)
        except (BrokenPipeError, subprocess.TimeoutExpired):
            pass
        self.end()

    def end(self) -> None:
        """End it at once, whatever it does."""
        self.child.end()
        self._app.runner.forget(self.child)
        self._clean_up()

    def _clean_up(self) -> None:
        if self._temporary:
            self._temporary.cleanup()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        if kind is None:
            self.close()
        else:
            self.end()


def raise_if_error(event: Event) -> None:
    """Raise what an event of the device side reports, if it reports an error.

    Raises:
        DevkitError: a refusal.
        DeviceBug: a crash.
    """
    if event["event"] == "error":
        raise DevkitError(event["what"], event.get("why", ""), *event.get("remedies", ()))
    if event["event"] == "crash":
        raise DeviceBug(f"{event['what']}\n{event['traceback']}")
