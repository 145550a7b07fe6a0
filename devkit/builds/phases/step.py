"""What a phase is going to do, and the build that it is done for."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from devkit.builds import checkout, learning, standstill
from devkit.builds.diagnosis import diagnose
from devkit.builds.failure import BuildFailed
from devkit.builds.remedy import Origin
from devkit.errors import DevkitError
from devkit.process import fate, shown

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from devkit.app import App
    from devkit.builds.inventory import Inventory
    from devkit.builds.request import BuildRequest
    from devkit.runs import Run

LONGEST_STATUS = 60
Said = tuple[Literal["done", "skipped"], str]


@dataclass(frozen=True)
class Step:
    """What a phase is going to do.

    Attributes:
        phase: which.
        lines: the lines that it runs.
        skip: why there is nothing to do; empty where there is.
        keep: what is remembered of it where there is nothing to do, by name.
    """

    phase: str
    lines: tuple[tuple[str, ...], ...] = ()
    skip: str = ""
    keep: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @property
    def changes(self) -> bool:
        """Whether it changes what later phases find."""
        return not self.skip and self.phase not in {"preflight", "verify"}


def lines(*given: Sequence[str]) -> tuple[tuple[str, ...], ...]:
    """Return lines as a step holds them."""
    return tuple(tuple(sequence) for sequence in given)


@dataclass
class BuildWork:
    """A build that goes on: what the phases share."""

    app: App
    request: BuildRequest
    run: Run
    lock: int
    inventory: Inventory
    tree: dict[str, object] = field(default_factory=dict)

    def run_line(
        self,
        phase: str,
        argv: Sequence[str],
        *,
        extra: Mapping[str, str] | None = None,
        on_line: Callable[[str], None],
        on_start: Callable[[int], None] | None = None,
    ) -> None:
        """Run a line of a phase to its end, its output in the phase's log; it holds the lock as long as it lives.

        Raises:
            BuildFailed: it failed.
        """
        runner, log = self.app.runner, self.run.log(phase)
        environ = {**self.inventory.environ, **(extra or {})}
        if self.request.trusting:
            environ |= checkout.with_setting(environ, "safe.directory", "*")
        child = runner.start(argv, cwd=self.request.root, env=environ, pass_fds=(self.lock,), log=log, on_line=on_line)
        if on_start:
            on_start(child.process.pid)

        def on_standstill(text: str) -> None:
            self.run.event({"event": "standstill", "phase": phase, "text": text})
            self.app.console.warn(f"{phase}: {text}")

        with standstill.watched(child.process.pid, log, on_standstill):
            status = runner.finish(child)
        if status:
            error = DevkitError(f"{Path(argv[0]).name} {fate(status)}", f"The line: {shown(argv)}")
            known = learning.of_builds(self.app.runs, self.request.root)
            found = diagnose(log.read_bytes() if log.is_file() else b"", good=known, origin=Origin())
            raise BuildFailed(phase, log, error, self.request, found)


def brief(line: str) -> str:
    """Return a line of a program's as a progress shows it: the last part of a long one."""
    line = line.removeprefix("-- ").strip()
    return line if len(line) <= LONGEST_STATUS else "…" + line[-LONGEST_STATUS + 1 :]
