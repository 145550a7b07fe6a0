"""devkit in a fork of the test's process: as a user starts it, without the start of Python and devkit's imports."""

from __future__ import annotations

import gc
import importlib
import os
import signal
import sys
import time
from typing import TYPE_CHECKING

from tests.conftest import LIMIT_S, Result

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from tests.conftest import Devkit

MODULES = (
    "commands._cli.main", "commands._cli.run", "commands._cli.typer_command", "commands.pr.try_", "commands.check",
    "commands.bisect", "commands.align", "commands.op.new", "tryout.tryout", "tryout.sides", "bisecting.trying",
    "checks.slow", "checks.reading", "aligning", "launch", "builds.python", "builds.changes", "envs.create",
    "envs.enter", "envs.resolve", "envs.uv", "git.session", "git.roles", "ops.rendering", "ops.in_tree",
    "fingerprint", "runs",
)  # fmt: skip


def warm_up() -> None:
    """Import once what every fork would import."""
    import jinja2  # noqa: F401
    import tomlkit  # noqa: F401

    for name in MODULES:
        importlib.import_module(f"devkit.{name}")
    gc.freeze()  # a collection in a fork would copy every page


def starter(folder: Path) -> Devkit:
    """Return what runs ``devkit WORDS…`` in a folder; its answer and its talk are told apart."""
    warm_up()

    def run(
        *words: str,
        cwd: Path | None = None,
        env: dict[str, str] | None = None,
        data: str = "",
        limit_s: float = LIMIT_S,
    ) -> Result:
        place = folder / ".forked"
        place.mkdir(exist_ok=True)
        given, out, err = (place / name for name in ("in", "out", "err"))
        given.write_text(data, "utf-8")
        pid = os.fork()
        if pid == 0:
            os.environ.update(env or {})
            _become_devkit(words, cwd or folder, given, out, err)
        return Result(_wait(pid, limit_s), out.read_text("utf-8", "replace"), err.read_text("utf-8", "replace"))

    return run


def _become_devkit(words: Sequence[str], folder: Path, given: Path, out: Path, err: Path) -> None:
    """In the fork: be a devkit that was started in the folder."""
    status = 99
    try:
        gc.disable()
        os.setsid()
        os.chdir(folder)
        os.dup2(os.open(given, os.O_RDONLY), 0)
        for number, path in ((1, out), (2, err)):
            os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
        sys.stdin = os.fdopen(0, "r", closefd=False)
        sys.stdout = os.fdopen(1, "w", closefd=False)
        sys.stderr = os.fdopen(2, "w", closefd=False)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        from devkit.commands._cli.main import main

        status = main(list(words))
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(status)


def _wait(pid: int, limit_s: float) -> int:
    deadline = time.monotonic() + limit_s
    while time.monotonic() < deadline:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    os.killpg(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    raise AssertionError(f"not done after {limit_s:g} s")
