"""What ``send``, ``recv`` and ``get`` have in common: their flags, their progress and how they tell what was done."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from devkit.text import counted, duration, size

if TYPE_CHECKING:
    from devkit.console import Console
    from devkit.transfer.copy import Outcome, Watch

Exclude = Annotated[
    list[str] | None,
    typer.Option(
        "--exclude", "-x", metavar="PATTERN", help="Leave out what matches, as .gitignore has it; repeatable."
    ),
]
Gitignore = Annotated[bool, typer.Option("--gitignore", help="Leave out what the folders' .gitignore files name.")]
Checksum = Annotated[
    bool, typer.Option("--checksum", "-c", help="Compare content too where size and time are the same.")
]
UnsafeLinks = Annotated[
    bool, typer.Option("--unsafe-links", help="Copy symbolic links that point out of the folder too.")
]
NoCompress = Annotated[bool, typer.Option("--no-compress", help="Never deflate, however slow the link.")]
Limit = Annotated[str, typer.Option("--limit", metavar="RATE", help="Bytes a second at most: 500k, 10M, 1.5G.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be copied, and copy nothing.")]

NAMED = 10


@contextlib.contextmanager
def watching(console: Console, text: str, restored: list[str]) -> Iterator[Watch]:
    """Show the progress of a transfer from the plans of its far sides on; an interruption says what stays."""
    from devkit.transfer.copy import Watch

    lock = threading.Lock()
    total = done = 0
    with contextlib.ExitStack() as stack:
        bar = stack.enter_context(console.progress(text, total=0, unit="bytes"))

        def planned(plan: dict[str, Any]) -> None:
            nonlocal total
            with lock:
                total += plan["bytes"]
                bar.update(total=total, text=f"{text}, {counted(plan['files'], 'file')}")

        def advanced(count: int) -> None:
            nonlocal done
            with lock:
                done += count
                bar.update(done=done)

        try:
            yield Watch(planned, advanced)
        except KeyboardInterrupt:
            restored.append("what arrived stays: the same line goes on from where it was")
            raise


def told(outcome: Outcome, verb: str) -> str:
    """Return the line that says what was done with one host."""
    result, plan = outcome.result, outcome.plan
    seconds = max(result["seconds"], 1e-9)
    words = [f"{counted(result['files'], 'file')} {verb}, {size(result['bytes'])}"]
    if result["same_bytes"]:
        words.append(f"{size(result['same_bytes'])} of them already there")
    if plan["have_files"]:
        words.append(f"{counted(plan['have_files'], 'file')} unchanged")
    words.append(duration(seconds))
    if result["bytes"]:
        words.append(f"{size(result['bytes'] / seconds)}/s")
    return "   ".join(words)


def show_plan(console: Console, outcome: Outcome, verb: str) -> None:
    """Say what a transfer would do."""
    from devkit.transfer.far.wire import raw
    from devkit.transfer.shown import shown

    plan = outcome.plan
    for name in plan["names"]:
        console.answer(shown(raw(name)))
    if plan["files"] > len(plan["names"]):
        console.answer(f"… and {counted(plan['files'] - len(plan['names']), 'more file')}", "dim")
    unchanged = f"; {counted(plan['have_files'], 'file')} unchanged" if plan["have_files"] else ""
    begun = f", of which {size(plan['begun_bytes'])} are there from before" if plan["begun_bytes"] else ""
    where = f"{outcome.host}: " if outcome.host else ""
    console.note(
        f"  {where}{counted(plan['files'], 'file')} would be {verb}, {size(plan['bytes'])}{begun}{unchanged}", "dim"
    )


def show_outcomes(console: Console, outcomes: list[Outcome], verb: str, *, dry_run: bool) -> int:
    """Tell what came of each host's transfer, and return the exit status."""
    from devkit.transfer.far.wire import raw
    from devkit.transfer.shown import shown

    status = 0
    for outcome in outcomes:
        if outcome.error is not None:
            console.fail(outcome.error)
            status = 1
            continue
        left_out = outcome.plan["left_out"]
        for name, reason in left_out[:NAMED]:
            console.look(f"left out: {shown(raw(name))} ({reason})")
        if outcome.plan["left_out_count"] > min(len(left_out), NAMED):
            console.look(f"left out: {outcome.plan['left_out_count']} in all")
        if dry_run:
            show_plan(console, outcome, verb)
            continue
        where = f"{outcome.host}   " if outcome.host else ""
        console.done(where + told(outcome, verb))
        failed = outcome.result["failed"]
        if failed:
            from devkit.errors import DevkitError

            why = "\n".join(f"{shown(raw(name))}: {reason}" for name, reason in failed[:NAMED])
            what = f"{counted(outcome.result['failed_count'], 'entry', 'entries')} could not be {verb}"
            console.fail(DevkitError(what, why, "the same line again   copies what is missing"))
            status = 1
    return status
