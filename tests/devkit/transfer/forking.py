"""Lines of devkit in forks of one process that has loaded what they need: a start costs milliseconds, not a second."""

from __future__ import annotations

import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.conftest import LIMIT_S, REPOSITORY, Result

if TYPE_CHECKING:
    from typing_extensions import Self

LOADED = ("app", "copy", "ssh", "http_download.get", "http_server.client")


class Forks:
    """Runs lines as ``python -m devkit`` does; a context manager."""

    def __enter__(self) -> Self:
        ours, theirs = socket.socketpair()
        self._connection = ours
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.devkit.transfer.forking"],
                cwd=REPOSITORY,
                env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
                stdin=theirs.fileno(),
            )
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()
        self._process.wait(20)

    def run(self, words: tuple[str, ...], cwd: Path, environ: dict[str, str], data: str, limit_s: float) -> Result:
        """Run a line and return what it answered."""
        with tempfile.TemporaryDirectory() as folder:
            Path(folder, "in").write_text(data)
            request = {"words": words, "cwd": str(cwd), "environ": environ, "folder": folder}
            self._connection.settimeout(limit_s or LIMIT_S)
            self._connection.sendall(json.dumps(request).encode() + b"\n")
            status = int(self._connection.makefile("rb").readline())
            out, err = (Path(folder, name).read_text() for name in ("out", "err"))
        return Result(status, out, err)


def _child(request: dict[str, Any]) -> None:
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["environ"])
    for number, name in enumerate(("in", "out", "err")):
        flags = os.O_RDONLY if name == "in" else os.O_WRONLY | os.O_CREAT
        os.dup2(os.open(os.path.join(request["folder"], name), flags, 0o600), number)  # noqa: PTH118 - plain words
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.argv = ["devkit", *request["words"]]
    runpy.run_module("devkit", run_name="__main__", alter_sys=True)


def main() -> None:
    """Fork for each line of standard input, which is a socket, and answer the status."""
    import importlib

    for name in LOADED:
        importlib.import_module(f"devkit.{name}" if name == "app" else f"devkit.transfer.{name}")
    for name in ("send", "recv", "get", "serve", "_cli.tree"):
        importlib.import_module(f"devkit.commands.{name}")
    connection = socket.socket(fileno=os.dup(0))
    for line in connection.makefile("rb"):
        child = os.fork()
        if child == 0:
            connection.close()
            _child(json.loads(line))
            os._exit(0)
        _, status = os.waitpid(child, 0)
        connection.sendall(b"%d\n" % os.waitstatus_to_exitcode(status))


if __name__ == "__main__":
    main()
