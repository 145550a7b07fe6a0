"""A diagnosis on the screen."""

from __future__ import annotations

from typing import TYPE_CHECKING

from devkit.text import counted

if TYPE_CHECKING:
    from devkit.builds.diagnosis import Diagnosis
    from devkit.console import Console, Tone

SHOWN = 5


def show(console: Console, name: str, found: Diagnosis) -> None:
    """Print the causes, the first one first; nothing was wrong with a clean log."""
    if not found.failed:
        console.answer_parts(("✓ ", "done"), (f"{name} is of a build that did not fail", ""))
        return
    if not found.causes:
        console.answer_parts(("! ", "look"), (f"no rule knows what broke the build of {name}", ""))
        if found.first_error:
            line, text = found.first_error
            console.answer_parts(("  its first error, line ", "dim"), (f"{line}: ", "dim"), (text, ""))
        return
    for number, cause in enumerate(found.causes):
        symbol: tuple[str, Tone] = ("✗ ", "failed") if number == 0 else ("! ", "look")
        console.answer_parts(symbol, (cause.cause, ""), (f"   {cause.id}", "dim"))
        console.answer_parts((f"  {name}:{cause.line}: ", "dim"), (cause.text, ""))
        if cause.consequences:
            many = len(cause.consequences)
            lines = ", ".join(map(str, cause.consequences[:SHOWN])) + ("…" if many > SHOWN else "")
            follow = "follows" if many == 1 else "follow"
            console.answer(f"  {counted(many, 'later error')} only {follow} from it: line {lines}", "dim")
        remedy, _, purpose = cause.remedy.partition("   ")
        console.answer_parts(("  → ", "dim"), (remedy, "type"), (f"   {purpose}" if purpose else "", "dim"))
        console.answer(f"  {cause.reference}", "dim")
