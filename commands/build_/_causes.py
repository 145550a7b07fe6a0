"""A diagnosis on the screen."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from devkit.errors import ExitStatus
from devkit.text import counted, size

if TYPE_CHECKING:
    from collections.abc import Sequence

    from devkit.app import App
    from devkit.builds.context import Note
    from devkit.builds.diagnosis import Cause, Diagnosis
    from devkit.console import Console, Tone

SHOWN = 5
BLOCK_SHOWN = 12
LARGE = 4 << 20


def examine(app: App, name: str, data: bytes, *, as_json: bool, look: Any = None) -> int:
    """Diagnose a log, show what it tells, and return the exit status.

    Args:
        app: whose console shows it, and whose runs tell what good builds say too.
        name: the log's.
        data: its text.
        as_json: whether JSON is asked for.
        look: returns what this machine and tree add to a diagnosis.
    """
    from devkit.builds.diagnosis import diagnose
    from devkit.builds.learning import of_builds
    from devkit.builds.logs import here
    from devkit.builds.remedy import origin_of

    console, checkout = app.console, here()
    good, origin = of_builds(app.runs, checkout), origin_of(data, in_checkout=checkout is not None)
    if len(data) > LARGE:
        with console.progress(f"reading {size(len(data))}", total=len(data), unit="bytes") as shown:
            found = diagnose(
                data, good=good, origin=origin, progress=lambda share: shown.update(done=share * len(data))
            )
    else:
        found = diagnose(data, good=good, origin=origin)
    notes: Sequence[Note] = look(found) if look else ()
    if as_json:
        console.json(as_data(name, found, notes))
    else:
        show(console, name, found)
        for note in notes:
            console.answer_parts(("! ", "warning"), (note.text, ""))
            if note.remedy:
                command, _, purpose = note.remedy.partition("   ")
                console.answer_parts(("  → ", "dim"), (command, "type"), (f"   {purpose}" if purpose else "", "dim"))
    if found.failed:
        return ExitStatus.VERDICT
    return ExitStatus.DONE if found.ended == "well" else ExitStatus.FAILED


def as_data(name: str, found: Diagnosis, notes: Sequence[Note] = ()) -> dict[str, Any]:
    """Return a diagnosis as JSON has it."""
    first = found.first_error
    return {
        "log": name,
        "failed": found.failed,
        "ended": found.ended,
        "causes": [asdict(cause) for cause in found.causes],
        "first_error": {"line": first[0], "text": first[1]} if first else None,
        "unknown": asdict(found.unknown) if found.unknown else None,
        "notes": [asdict(note) for note in notes],
    }


def show(console: Console, name: str, found: Diagnosis) -> None:
    """Print the causes, the first one first; nothing was wrong with a clean log."""
    if found.ended == "unknown":
        console.answer_parts(("! ", "warning"), (f"{name} says neither that it failed nor that it ended well", ""))
    elif not found.failed:
        console.answer_parts(("✓ ", "done"), (f"{name} is of a build that did not fail", ""))
    elif not found.causes:
        show_unknown(console, name, found)
    for number, cause in enumerate(found.causes[:SHOWN]):
        show_cause(console, name, cause, first=found.failed and number == 0)
    if len(found.causes) > SHOWN:
        console.answer(f"  and {len(found.causes) - SHOWN} more (--json names all)", "dim")


def show_cause(console: Console, name: str, cause: Cause, *, first: bool) -> None:
    """Print a cause: what it means, the line that says so, and what mends it."""
    symbol: tuple[str, Tone] = ("✗ ", "failed") if first else ("! ", "warning")
    console.answer_parts(symbol, (cause.cause, ""), (f"   {cause.id}", "dim"))
    console.answer_parts((f"  {name}:{cause.line}: ", "dim"), (cause.text, ""))
    if cause.consequences:
        many = len(cause.consequences)
        lines = ", ".join(map(str, cause.consequences[:SHOWN])) + ("…" if many > SHOWN else "")
        follow = "follows" if many == 1 else "follow"
        console.answer(f"  {counted(many, 'later error')} only {follow} from it: line {lines}", "dim")
    if cause.confidence != "high":
        console.answer(f"  confidence: {cause.confidence}", "dim")
    remedy, _, purpose = cause.remedy.partition("   ")
    console.answer_parts(("  → ", "dim"), (remedy, "type"), (f"   {purpose}" if purpose else "", "dim"))
    console.answer(f"  {cause.reference}", "dim")


def show_unknown(console: Console, name: str, found: Diagnosis) -> None:
    """Print the whole block of a failure that no rule knows, the command that failed, and what is likely."""
    console.answer_parts(("! ", "warning"), (f"no rule knows what broke the build of {name}", ""))
    if found.first_error:
        line, text = found.first_error
        console.answer_parts(("  its first error, line ", "dim"), (f"{line}: ", "dim"), (text, ""))
    told = found.unknown
    if told is None:
        return
    for offset, text in enumerate(told.block[:BLOCK_SHOWN]):
        console.answer(f"  {told.line + offset:>6}  {text}", "dim")
    if told.command:
        console.answer_parts(("  what ran: ", "dim"), (told.command, ""))
    for family in told.likely:
        console.answer_parts((f"  likely {family.name}: ", ""), (family.why, "dim"))
        command, _, purpose = family.remedy.partition("   ")
        console.answer_parts(("    → ", "dim"), (command, "type"), (f"   {purpose}" if purpose else "", "dim"))
