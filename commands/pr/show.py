"""Show a pull request that is here: its commits and files, its size, the operators and tests that it writes.

Example:  devkit pr show 1007
"""

from __future__ import annotations

import typer

from devkit.commands._cli.options import Json
from devkit.commands.pr._options import Which
from devkit.git.session import open_session
from devkit.pr.show import page
from devkit.text import ago, counted

FILES_SHOWN = 30


def command(ctx: typer.Context, which: Which = "", as_json: Json = False) -> None:
    console = ctx.obj.console
    with open_session(ctx.obj, changes=False) as session:
        found = page(session, session.state(), which)
    known = found.known
    if as_json:
        console.json(
            {
                "branch": found.branch,
                "title": found.title,
                "base": found.base,
                "ahead": found.summary.ahead,
                "behind": found.summary.behind,
                "commits": [
                    {"commit": e.oid, "subject": e.subject, "author": e.author, "time": e.time} for e in found.commits
                ],
                "files": [{"path": e.path, "added": e.added, "removed": e.removed} for e in found.files],
                "ops": found.ops,
                "tests": found.tests,
                "merged": found.merged or None,
                "state": known.state if known else None,
                "checks": known.checks if known else None,
            }
        )
        return
    console.answer_parts((f"{found.branch}  ", "type"), (found.title, "strong"))
    states = [found.merged, known.state if known else "", f"checks: {known.checks}" if known and known.checks else ""]
    console.answer(f"  {found.summary}" + "".join(f" · {state}" for state in states if state))
    for commit in found.commits:
        console.answer_parts(
            (f"  {commit.oid[:10]} ", "dim"), (commit.subject, ""), (f"   {commit.author}, {ago(commit.time)}", "dim")
        )
    console.answer()
    width = max((len(file.path) for file in found.files[:FILES_SHOWN]), default=0)
    for file in found.files[:FILES_SHOWN]:
        size = "binary" if file.added is None else f"+{file.added} −{file.removed}"
        console.answer(f"  {file.path.ljust(width)}  {size}")
    if len(found.files) > FILES_SHOWN:
        console.answer(f"  … and {len(found.files) - FILES_SHOWN} more", "dim")
    if found.ops:
        console.answer_parts(("  operators  ", "dim"), (", ".join(found.ops), ""))
    if found.tests:
        console.answer_parts(
            ("  tests      ", "dim"), (f"{counted(len(found.tests), 'file')}: {', '.join(found.tests[:5])}", "")
        )
    console.next("devkit pr diff" + (f" {which}" if which else ""))
