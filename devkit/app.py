"""The application object: the settings, the screen, the runner and the records of one command."""

from __future__ import annotations

import os
from functools import cached_property
from typing import TYPE_CHECKING, Any

from devkit.config import Config
from devkit.console import Console
from devkit.paths import state_home
from devkit.process import Runner
from devkit.runs import RunStore

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from devkit.runs import Run


class App:
    """What every command is given.

    Attributes:
        argv: the words after ``devkit``.
        ending: whether a signal ends this devkit; another one changes nothing.
        restored: what a command put back after an interruption, said at the end.
    """

    def __init__(self, argv: Sequence[str] = ()) -> None:
        self.argv = tuple(argv)
        self.console = Console()
        self.ending = False
        self.restored: list[str] = []

    @cached_property
    def config(self) -> Config:
        """The settings that hold here."""
        return Config.load()

    @cached_property
    def runner(self) -> Runner:
        """What starts programs."""
        return Runner(self.console)

    @cached_property
    def runs(self) -> RunStore:
        """The run records."""
        return RunStore(
            state_home() / "runs",
            keep=self.config.get("runs.keep"),
            max_mib=self.config.get("runs.max-mib"),
            say=self.console.warn,
        )

    def start_run(self, command: str, git: Mapping[str, Any] | None = None, /, **arguments: Any) -> Run:
        """Return the record of this command's run: ``with app.start_run("bench attn", rounds=7) as run``.

        ``git`` is the clone's state, as ``fingerprint.git_state`` gives it, where that is known already.
        """
        return self.runs.start(command, arguments=arguments, argv=self.argv, git=git)

    def child_environment(self) -> dict[str, str]:
        """Return the environment of the programs that devkit starts: its own, with the configured proxy."""
        environ = dict(os.environ)
        proxy = self.config.get("proxy.url")
        if proxy:
            for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
                environ[name] = proxy
        bypass = self.config.get("proxy.bypass")
        if bypass:
            already = environ.get("no_proxy") or environ.get("NO_PROXY") or ""
            joined = ",".join(dict.fromkeys([*filter(None, already.split(",")), *bypass]))
            environ["no_proxy"] = environ["NO_PROXY"] = joined
        return environ
