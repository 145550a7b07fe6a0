"""Show where a build's time went: the edges that all waited for, time by folder, what one header costs.

Without a run it is the log of the build folder: the last time that each output was made. A run is what that build did;
of two runs the outputs that differ most are shown. --trace writes Chrome's trace format (chrome://tracing, Perfetto).

Example:  devkit build stats last
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from devkit.commands._cli.options import Json
from devkit.commands.build._options import BuildDir, Checkout
from devkit.console import Column
from devkit.errors import DevkitError, UsageError
from devkit.text import duration, significant

if TYPE_CHECKING:
    from devkit.build.ninja import Edge
    from devkit.build.stats import Summary
    from devkit.console import Console
    from devkit.runs import RunStore

LOG = "ninja_log"
TWO = 2


def command(
    ctx: typer.Context,
    runs: Annotated[list[str] | None, typer.Argument(metavar="RUN", help="One run, or two.")] = None,
    checkout: Checkout = ".",
    build_dir: BuildDir = "build",
    top: Annotated[int, typer.Option("--top", min=1, max=1000, help="How many rows.")] = 10,
    trace_file: Annotated[str, typer.Option("--trace", metavar="FILE", help="Write Chrome's trace format.")] = "",
    as_json: Json = False,
) -> None:
    from devkit.build import stats
    from devkit.build.checkout import find
    from devkit.files import write_atomically

    app = ctx.obj
    if len(runs or []) > TWO:
        raise UsageError("two runs at most can be compared", "", "devkit runs list")
    if len(runs or []) == TWO:
        before, after = (stats.summarize(edges_of_run(app.runs, name)) for name in runs or [])
        rows = stats.compare(before, after)[:top]
        if as_json:
            app.console.json(
                {
                    "wall_s": [before.wall_s, after.wall_s],
                    "outputs": [{"output": a, "before_s": b, "after_s": c} for a, b, c in rows],
                }
            )
        app.console.answer(f"  {duration(before.wall_s)} and {duration(after.wall_s)}")
        columns = [Column("output", "left"), Column("before s"), Column("after s")]
        app.console.table(columns, [(a, shown(b), shown(c)) for a, b, c in rows])
        return
    deps = {}
    if runs:
        edges = edges_of_run(app.runs, runs[0])
    else:
        root = find(Path(checkout))
        build = root / build_dir
        edges = stats.relative(edges_of_file(build / ".ninja_log"), build)
        done = app.runner.run(["ninja", "-C", str(build), "-t", "deps"], check=False)
        deps = stats.own_files(stats.parse_deps(done.text), build, root)
    summary = stats.summarize(edges)
    headers = stats.by_header(summary.costs, deps)[:top]
    if trace_file:
        write_atomically(Path(trace_file), json.dumps({"traceEvents": stats.trace(edges)}).encode())
        app.console.done(f"{trace_file}: {len(edges)} events")
    if as_json:
        app.console.json(
            {
                "wall_s": summary.wall_s,
                "work_s": summary.work_s,
                "edges": summary.edges,
                "slowest": [asdict(each) for each in summary.costs[:top]],
                "folders": [asdict(each) for each in stats.by_folder(summary.costs)[:top]],
                "headers": [{"header": name, "edges": count, "time_s": time_s} for name, count, time_s in headers],
            }
        )
        return
    show(app.console, summary, headers, top)


def show(console: Console, summary: Summary, headers: list[tuple[str, int, float]], top: int) -> None:
    """Print a build: the whole, the slowest edges, the folders, the headers."""
    from devkit.build.stats import by_folder

    console.answer(
        f"  {summary.edges} edges, {duration(summary.work_s)} of work in {duration(summary.wall_s)}:"
        f" {significant(summary.parallelism)} at once"
    )
    for heading, costs in (("slowest edge", summary.costs), ("folder", by_folder(summary.costs))):
        console.answer()
        columns = [Column(heading, "left"), Column("s", importance=5), Column("weighted s")]
        console.table(columns, [(each.output, shown(each.seconds), shown(each.weighted_s)) for each in costs[:top]])
    if headers:
        console.answer()
        columns = [Column("an edit of", "left"), Column("makes anew"), Column("s of work")]
        console.table(columns, [(name, str(count), shown(time_s)) for name, count, time_s in headers])


def shown(seconds: float | None) -> str:
    """Return seconds as a cell."""
    return "" if seconds is None else significant(seconds)


def edges_of_run(runs: RunStore, name: str) -> list[Edge]:
    """Return what a run built.

    Raises:
        DevkitError: there is no such run, or it built nothing.
    """
    from devkit.build.stats import relative

    entry = runs.find(name, command="build")
    return relative(edges_of_file(entry.folder / LOG), Path(entry.record["arguments"]["build"]))


def edges_of_file(path: Path) -> list[Edge]:
    """Return the edges of a log of ninja's.

    Raises:
        DevkitError: there is none.
    """
    from devkit.build.ninja import parse_log

    edges = parse_log(path.read_text("utf-8", "replace")) if path.is_file() else []
    if not edges:
        raise DevkitError("nothing was built there", f"{path} tells of no edges.", "devkit build")
    return edges
