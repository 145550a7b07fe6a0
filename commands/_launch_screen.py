"""The screen of ``devkit launch``: what the script prints, what its guards find, and how it went."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from devkit.errors import UsageError
from devkit.launching.watch import late_words
from devkit.text import counted

if TYPE_CHECKING:
    from typing_extensions import Self

    from devkit.console import Console
    from devkit.launch import Event
    from devkit.launching.hosts import HostsRequest
    from devkit.launching.request import LaunchRequest
    from devkit.runs import Run


class Screen:
    """Shows events and output as they come.

    Args:
        console: where to.
        request: what is run.
        show: whose output: ``0`` the first rank's, ``all`` everyone's.

    Raises:
        UsageError: it is something else.
    """

    def __init__(self, console: Console, request: LaunchRequest, show: str) -> None:
        if show not in {"0", "all"}:
            raise UsageError(f"--show is {show}", "It is 0, the first rank alone, or all.", "--show all")
        self.console, self.request, self.all = console, request, show == "all"
        self.warnings: list[Event] = []
        self.last: Event | None = None

    def __enter__(self) -> Self:
        request = self.request
        ranks = counted(request.nproc, "rank") + (f" of {request.world_size}" if request.nodes > 1 else "")
        where = f"GPUs {', '.join(map(str, request.gpus))}" if request.gpus else "CPU"
        over = "" if request.world_size == 1 else f", over {'NCCL' if request.gpus else 'Gloo'}"
        self.console.note(f"  {request.script.name} · {ranks} on {where}{over} · {request.environment.name}", "dim")
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        pass

    def said(self, rank: int, line: str, error: bool) -> None:
        """Show a line that a rank printed, where it printed it."""
        if self.all and self.request.world_size > 1:
            self.console.relay(f"[{rank}] {line}", error=error)
        elif rank == self.request.first or self.all:
            self.console.relay(line, error=error)

    def tell(self, event: Event) -> None:
        """Show an event."""
        if self.console.as_json:
            self.console.json(event, one_line=True)
        name = event["event"]
        if name == "step":
            self.last = event
        elif name == "late":
            self.console.note(f"  {late_words(event)}")
        elif name == "restart":
            self.console.warn(f"{event['what']}: restart {event['number']} of {self.request.max_restarts}")
        elif name == "guard" and event["verdict"] == "warn":
            self.warnings.append(event)
            who = f"rank {event['rank']}, " if self.request.world_size > 1 else ""
            self.console.warn(f"{who}step {event.get('step', 0)}: {event['what']}")
            for line in filter(None, event["why"].splitlines()):
                self.console.note(f"  {line}")

    def ended(self, run: Run) -> None:
        """Say how a run went that ended well."""
        parts = [f"{self.request.script.name} ended well"]
        if self.last:
            loss = self.last.get("loss")
            parts = [f"{counted(self.last['step'], 'step')}"]
            if loss is not None:
                parts.append(f"loss {loss:.4g}" if math.isfinite(loss) else "the loss is not finite")
            parts.append(f"{self.last['rss_mib']:.0f} MiB")
        found = counted(len(self.warnings), "warning") if self.warnings else "nothing to look at"
        if self.request.guard:
            parts.append(found)
        self.console.done(f"{', '.join(parts)} · run {run.id}")


def over_ssh(app: Any, request: HostsRequest, *, max_restarts: int, show: str, dry_run: bool) -> None:
    """Run a line on several machines, and show what they print."""
    from devkit.launching import hosts

    request = hosts.located(app, request)
    if dry_run:
        hosts.check_alike(app, request)
        app.console.plan(hosts.plan(app, request))
        return

    def said(host: str, line: str) -> None:
        if show == "all" or host == request.hosts[0]:
            app.console.answer(line if show != "all" else f"[{host}] {line}")

    with app.start_run(f"{request.command} hosts", hosts=list(request.hosts), script=list(request.script)) as record:
        app.console.note(f"  {', '.join(request.hosts)} · {hosts.check_alike(app, request)}", "dim")
        restarts: list[str] = []

        def restarted(number: int, why: str) -> None:
            restarts.append(why)
            app.console.warn(f"{why}: restart {number} of {max_restarts}")

        hosts.run(app, request, record.folder, max_restarts=max_restarts, said=said, restarted=restarted)
        record.record["result"] = {"restarts": restarts}
        app.console.done(f"{len(request.hosts)} machines ended well, run {record.id}")
