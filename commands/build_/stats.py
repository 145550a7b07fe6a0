"""Show where a build's time went: the critical path, time by folder, what one header costs.

Without a run it is the log of the build folder: the last time that each output was made. A run is what that build did,
with what came from ccache and the memory that it took; two runs stand side by side, with the outputs that differ most.
--trace writes Chrome's trace format (chrome://tracing, Perfetto).

Example:  devkit build stats last
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from devkit.commands._cli.options import Json
from devkit.commands.build_._options import BuildDir, Checkout
from devkit.console import Column
from devkit.errors import DevkitError, UsageError
from devkit.text import counted, duration, significant, size

if TYPE_CHECKING:
    from devkit.builds.ccache import Ccache
    from devkit.builds.memory import BuildMemory
    from devkit.builds.ninja import Edge
    from devkit.builds.stats import Summary
    from devkit.console import Console
    from devkit.runs import RecordedRun

LOG = "ninja_log"
TWO = 2
MIB = 1 << 20
CCACHE_FIGURES = (
    ("compilations that ccache could spare", "compilations"),
    ("direct hits", "direct"),
    ("preprocessed hits", "preprocessed"),
    ("misses", "missed"),
    ("uncacheable calls", "uncacheable"),
)
TOOK = (
    ("MiB of all programs together, sampled", "together_mib"),
    ("MiB of the largest program", "largest_mib"),
)


def command(
    ctx: typer.Context,
    runs: Annotated[list[str] | None, typer.Argument(metavar="RUN…", help="One run, or two.")] = None,
    checkout: Checkout = ".",
    build_dir: BuildDir = "build",
    top: Annotated[int, typer.Option("--top", min=1, max=1000, help="How many rows.")] = 10,
    trace_file: Annotated[str, typer.Option("--trace", metavar="FILE", help="Write Chrome's trace format.")] = "",
    as_json: Json = False,
) -> None:
    from devkit.builds import build_usage, stats
    from devkit.builds.checkout import find
    from devkit.files import write_atomically

    app = ctx.obj
    if len(runs or []) > TWO:
        raise UsageError("two runs at most can be compared", "", "devkit runs list")
    entries = [app.runs.find(name, command="build", exact=True) for name in runs or []]
    if len(entries) == TWO:
        show_two(app.console, entries, top)
        return
    deps = {}
    cached, took = build_usage.of_record(entries[0].record) if entries else (None, None)
    if entries:
        edges = edges_of_run(entries[0])
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
                "slowest": [asdict(cost) for cost in summary.costs[:top]],
                "folders": [asdict(cost) for cost in stats.by_folder(summary.costs)[:top]],
                "headers": [{"header": name, "edges": count, "time_s": time_s} for name, count, time_s in headers],
                "ccache": cached.as_dict() if cached else None,
                "memory": took.as_dict() if took else None,
            }
        )
        return
    show(app.console, summary, headers, top)
    if entries:
        app.console.answer()
        app.console.answer(f"  ccache  {ccache_text(cached)}")
        app.console.answer(f"  memory  {took_text(took)}")


def show(console: Console, summary: Summary, headers: list[tuple[str, int, float]], top: int) -> None:
    """Print a build: the whole, the slowest edges, the folders, the headers."""
    from devkit.builds.stats import by_folder

    console.answer(
        f"  {summary.edges} edges, {duration(summary.work_s)} of work in {duration(summary.wall_s)}:"
        f" {significant(summary.parallelism)} at once"
    )
    for heading, costs in (("slowest edge", summary.costs), ("folder", by_folder(summary.costs))):
        console.answer()
        columns = [Column(heading, "left"), Column("s", importance=5), Column("weighted s")]
        console.table(columns, [(cost.output, shown(cost.seconds), shown(cost.weighted_s)) for cost in costs[:top]])
    if headers:
        console.answer()
        columns = [Column("an edit of", "left"), Column("makes anew"), Column("s of work")]
        console.table(columns, [(name, str(count), shown(time_s)) for name, count, time_s in headers])


def show_two(console: Console, entries: list[RecordedRun], top: int) -> None:
    """Print two runs side by side: the whole, then the outputs that differ most."""
    from devkit.builds import build_usage, stats

    before, after = (stats.summarize(edges_of_run(entry)) for entry in entries)
    used = [build_usage.of_record(entry.record) for entry in entries]
    rows = stats.compare(before, after)[:top]
    if console.as_json:
        console.json(
            {
                "wall_s": [before.wall_s, after.wall_s],
                "ccache": [cached.as_dict() if cached else None for cached, _ in used],
                "memory": [took.as_dict() if took else None for _, took in used],
                "outputs": [{"output": a, "before_s": b, "after_s": c} for a, b, c in rows],
            }
        )
        return
    columns = [Column("", "left"), *(Column(entry.id) for entry in entries)]
    whole = [
        ("s from begin to end", *(significant(summary.wall_s) for summary in (before, after))),
        ("s of work", *(significant(summary.work_s) for summary in (before, after))),
        ("edges", *(str(summary.edges) for summary in (before, after))),
        *[(name, *(ccache_cell(cached, field) for cached, _ in used)) for name, field in CCACHE_FIGURES],
        *[(name, *(took_cell(took, field) for _, took in used)) for name, field in TOOK],
    ]
    console.table(columns, whole)
    for what, missing in (
        ("ccache", [entry.id for entry, (cached, _) in zip(entries, used, strict=True) if cached is None]),
        ("memory", [entry.id for entry, (_, took) in zip(entries, used, strict=True) if took is None]),
    ):
        if missing:
            console.answer(f"  {what}: the record of {' and of '.join(missing)} has none", "dim")
    console.answer()
    columns = [Column("output", "left"), Column("before s"), Column("after s")]
    console.table(columns, [(a, shown(b), shown(c)) for a, b, c in rows])


def ccache_cell(cached: Ccache | None, field: str) -> str:
    """Return a figure of ccache's as a cell."""
    if cached is None:
        return "none"
    return str(sum(cached.uncacheable.values()) if field == "uncacheable" else getattr(cached, field))


def took_cell(took: BuildMemory | None, field: str) -> str:
    """Return a figure of memory as a cell."""
    return significant(getattr(took, field)) if took and getattr(took, field) else "none"


def ccache_text(cached: Ccache | None) -> str:
    """Say how many compilations came from ccache."""
    if cached is None:
        return "this run's record has none: nothing went through ccache, or it is of an older devkit"
    share = f" ({significant(100 * cached.hits / cached.compilations)} %)" if cached.compilations else ""
    kinds = f"{cached.direct} direct and {cached.preprocessed} preprocessed hits, {cached.missed} missed"
    text = f"{cached.hits} cache hits of {counted(cached.compilations, 'compilation')}{share}: {kinds}"
    if cached.uncacheable:
        reasons = ", ".join(f"{name} {count}" for name, count in sorted(cached.uncacheable.items()))
        text += f"; {sum(cached.uncacheable.values())} uncacheable ({reasons})"
    return text if cached.alone else f"{text}; other builds at that time are in it"


def took_text(took: BuildMemory | None) -> str:
    """Say what memory a build took."""
    if took is None:
        return "this run's record has none: nothing was compiled, or it is of an older devkit"
    largest = f"the largest program {size(took.largest_mib * MIB)}"
    by = "as the kernel counts" if took.largest_from == "kernel" else "as sampled"
    name = f", {took.largest_name}" if took.largest_name else ""
    if not took.samples:
        return f"too short to be sampled; {largest} ({by})"
    together = f"{size(took.together_mib * MIB)} all programs together at the fullest of {took.samples} samples"
    return f"{together}; {largest} ({by}{name})"


def shown(seconds: float | None) -> str:
    """Return seconds as a cell."""
    return "" if seconds is None else significant(seconds)


def edges_of_run(entry: RecordedRun) -> list[Edge]:
    """Return what a run built.

    Raises:
        DevkitError: it built nothing.
    """
    from devkit.builds.stats import relative

    return relative(edges_of_file(entry.folder / LOG), Path(entry.record["arguments"]["build"]))


def edges_of_file(path: Path) -> list[Edge]:
    """Return the edges of a log of ninja's.

    Raises:
        DevkitError: there is none.
    """
    from devkit.builds.ninja import parse_log

    edges = parse_log(path.read_text("utf-8", "replace")) if path.is_file() else []
    if not edges:
        raise DevkitError("nothing was built there", f"{path} tells of no edges.", "devkit build")
    return edges
