"""What ``send``, ``recv`` and ``get`` have in common: their flags, their progress and how they tell what was done."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from devkit.text import counted, duration, shown, size

if TYPE_CHECKING:
    from collections.abc import Sequence

    from devkit.app import App
    from devkit.console import Console, Progress
    from devkit.errors import DevkitError
    from devkit.transfer.copy import CopyOutcome, Watch
    from devkit.transfer.remote.messages import Plan, Reasons, Result

Exclude = Annotated[
    list[str] | None,
    typer.Option(
        "--exclude",
        "-x",
        metavar="PATTERN",
        help="Leave out what matches, as .gitignore has it, of the sources too; repeatable.",
    ),
]
Gitignore = Annotated[
    bool, typer.Option("--gitignore", help="Leave out what the .gitignore files in and around the folders name.")
]
Checksum = Annotated[
    bool, typer.Option("--checksum", "-c", help="Compare content too where size and time are the same.")
]
UnsafeLinks = Annotated[
    bool, typer.Option("--unsafe-links", help="Copy symbolic links that point out of the folder too.")
]
NoCompress = Annotated[bool, typer.Option("--no-compress", help="Never deflate, however slow the link.")]
Limit = Annotated[
    str, typer.Option("--limit", metavar="RATE", help="Bytes a second at most, all hosts together: 500k, 10M, 1.5G.")
]
Delete = Annotated[
    bool,
    typer.Option(
        "--delete", help="Remove what the source has not, from folders that are copied; what --exclude names stays."
    ),
]
Update = Annotated[bool, typer.Option("--update", "-u", help="Leave files that are newer at the destination.")]
Port = Annotated[int, typer.Option("--port", "-p", min=0, max=65535, help="ssh's port; 0 is that of its settings.")]
Identity = Annotated[str, typer.Option("--identity", "-i", metavar="FILE", help="The private key that ssh uses.")]
CopyLinks = Annotated[bool, typer.Option("--copy-links", "-L", help="Copy what symbolic links lead to, not the links.")]
Backup = Annotated[
    bool, typer.Option("--backup", "-b", help="Keep what is replaced or removed under its name and a tilde.")
]
FilesFrom = Annotated[
    str | None,
    typer.Option("--files-from", metavar="FILE", help="Copy only these paths in the one folder SRC; - is stdin."),
]
Retries = Annotated[
    int, typer.Option("--retries", min=0, max=100, help="Connect again where the connection ends, so often at most.")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be copied, and copy nothing.")]

NAMED = 10
STAYS = "what arrived stays: the same line goes on from where it was"


def ssh_words(app: App, port: int, identity: str) -> list[str]:
    """Return the ssh of the settings with what the line says of it."""
    return [
        *app.config.get("transfer.ssh"),
        *(["-p", str(port)] if port else []),
        *(["-i", identity] if identity else []),
    ]


@contextlib.contextmanager
def watching(console: Console, text: str, restored: list[str], stays: str = STAYS) -> Iterator[Watch]:
    """Show the progress of a transfer from the plans of its remote ends on; an interruption says what stays."""
    from devkit.transfer.copy import Watch

    lock = threading.Lock()
    total = done = 0
    bar: Progress | None = None
    console.note(text + "…", "dim")
    with contextlib.ExitStack() as stack:

        def planned(plan: Plan) -> None:
            nonlocal total, bar
            with lock:
                total += plan.bytes
                if bar is None and console.interactive:  # not before: ssh may be asking for a password
                    bar = stack.enter_context(console.progress(text, total=total or None, unit="bytes"))
                if bar is not None:
                    bar.update(total=total or None, text=f"{text}, {counted(plan.files, 'file')}")

        def advanced(count: int) -> None:
            nonlocal done
            with lock:
                done += count
                if bar is not None:
                    bar.update(done=done)

        def undone(plan: Plan, count: int) -> None:
            nonlocal total, done
            with lock:
                total -= plan.bytes
                done -= count

        try:
            yield Watch(planned, advanced, undone)
        except KeyboardInterrupt:
            restored.append(stays)
            raise


@contextlib.contextmanager
def answering(console: Console, hosts: Sequence[str], *, as_json: bool, several: bool = True) -> Iterator[None]:
    """Let ``--json`` answer JSON where nothing comes of a transfer, too."""
    from devkit.errors import DevkitError

    try:
        yield
    except DevkitError as error:
        if as_json:
            from devkit.transfer.copy import CopyOutcome

            answers = [CopyOutcome(host, error=error).as_json() for host in hosts]
            console.json(answers if several else answers[0])
        raise


def summary(plan: Plan, result: Result, verb: str) -> str:
    """Return the line that says what was done with one host."""
    seconds = max(result.seconds, 1e-9)
    words = [f"{counted(result.files, 'file')} {verb}, {size(result.bytes)}"]
    if result.same_bytes:
        words.append(f"{size(result.same_bytes)} of them already there")
    if plan.have_files:
        words.append(f"{counted(plan.have_files, 'file')} unchanged")
    words.append(duration(seconds))
    if result.bytes:
        words.append(f"{size(result.bytes / seconds)}/s")
    if result.deleted:
        words.append(f"{counted(result.deleted, 'entry', 'entries')} removed")
    return "   ".join(words)


def show_plan(console: Console, host: str, plan: Plan, verb: str) -> None:
    """Say what a transfer would do."""
    for name in plan.names:
        console.answer(shown(name))
    if plan.files > len(plan.names):
        console.answer(f"… and {counted(plan.files - len(plan.names), 'more file')}", "dim")
    for name in plan.deletes:
        console.answer(f"remove {shown(name)}", "warning")
    unchanged = f"; {counted(plan.have_files, 'file')} unchanged" if plan.have_files else ""
    if plan.deletes_count:
        unchanged += f"; {counted(plan.deletes_count, 'entry', 'entries')} would be removed"
    begun = f", of which {size(plan.begun_bytes)} are there from before" if plan.begun_bytes else ""
    where = f"{host}: " if host else ""
    console.note(f"  {where}{counted(plan.files, 'file')} would be {verb}, {size(plan.bytes)}{begun}{unchanged}", "dim")


def _show_names(console: Console, plan: Plan) -> None:
    """Say what was copied, as far as the plan names it."""
    for name in plan.names:
        console.note(f"  {shown(name)}", "dim")
    if plan.files > len(plan.names):
        console.note(f"  … and {counted(plan.files - len(plan.names), 'more file')}", "dim")


def show_outcomes(console: Console, outcomes: list[CopyOutcome], verb: str, *, dry_run: bool) -> int:
    """Tell what came of each host's transfer, and return the exit status."""
    from devkit.errors import DevkitError
    from devkit.transfer.remote.reading import SHORTER

    status = 0
    for outcome in outcomes:
        plan, result = outcome.plan, outcome.result
        if plan is None or result is None:
            console.fail(outcome.error or DevkitError(f"nothing came of {outcome.host}"))
            status = 1
            continue
        unread = _show_left_out(console, plan)
        if dry_run:
            show_plan(console, outcome.host, plan, verb)
        else:
            if console.verbose:
                _show_names(console, plan)
            console.done((f"{outcome.host}   " if outcome.host else "") + summary(plan, result, verb))
        for remark in outcome.remarks:
            console.warn(remark)
        if unread is not None:
            console.fail(unread)
        if result.failed:
            what = f"{counted(result.failed_count, 'entry', 'entries')} could not be {verb}"
            changed = any(SHORTER in reason for _, reason in result.failed)
            again = ["the same line again   copies what changed meanwhile"] if changed else []
            console.fail(DevkitError(what, _listed(result.failed, result.failed_count), *again))
        if unread is not None or result.failed:
            status = 1
    return status


def _listed(pairs: Reasons, count: int) -> str:
    lines = [f"{shown(name)} ({shown(reason.encode('utf-8', 'replace'))})" for name, reason in pairs[:NAMED]]
    return "\n".join([*lines, f"… {count} in all"] if count > len(lines) else lines)


def _show_left_out(console: Console, plan: Plan) -> DevkitError | None:
    """Say what was left out as it is meant to be, and return what to say of what could not be read."""
    from devkit.errors import DevkitError
    from devkit.transfer.remote.manifest import MEANT_TO_BE_LEFT_OUT

    unread = [pair for pair in plan.left_out if pair[1] not in MEANT_TO_BE_LEFT_OUT]
    meant = [pair for pair in plan.left_out if pair[1] in MEANT_TO_BE_LEFT_OUT]
    count = plan.left_out_count
    for line in _listed(meant, count - len(unread)).splitlines() if meant else ():
        console.warn(f"left out: {line}")
    return DevkitError("not everything could be read", _listed(unread, count - len(meant))) if unread else None
