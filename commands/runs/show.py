"""Show one run: what was run, where, and what came of it.

Example:  devkit runs show last
"""

from __future__ import annotations

import typer

from devkit.commands._cli.options import Json, RunId
from devkit.text import duration, local_time, zone


def command(ctx: typer.Context, run: RunId = "last", as_json: Json = False) -> None:
    console = ctx.obj.console
    entry = ctx.obj.runs.find(run)
    record = entry.record
    if as_json:
        console.json({**record, "state": entry.state, "folder": str(entry.folder)})
        return
    host, git = record.get("host"), record.get("git")
    lines = {
        "run": f"{entry.id}, {entry.state}" + (f" after {duration(record['seconds'])}" if "seconds" in record else ""),
        "started": f"{local_time(record['started'])} {zone(record['started'])}",
        "line": record.get("reproduce", ""),
        "in": record.get("directory", ""),
        "machine": f"{host['processor']}, {host['cores']} cores, {host['memory_mib'] / 1024:.3g} GiB, {host['kernel']}"
        if host
        else "",
        "versions": ", ".join(f"{name} {version}" for name, version in record.get("versions", {}).items()),
        "clone": f"{git['commit'][:10]} on {git['branch']}{', dirty' if git['dirty'] else ''}" if git else "",
        "holds": ", ".join(record.get("holds", ())),
        "error": record.get("error", {}).get("what", ""),
        "folder": str(entry.folder),
        "files": ", ".join(sorted(path.name for path in entry.folder.iterdir() if not path.name.startswith("."))),
    }
    for name, text in lines.items():
        if text:
            console.answer_parts((f"  {name.ljust(9)} ", "dim"), (text, "type" if name == "line" else ""))
