"""Show benchmark runs: in the terminal, as one HTML page, as Markdown, or as a picture of the screen.

The page needs nothing beside it: plots with quartiles, a roofline where the bytes are known, every figure, the machine,
and the line that makes it again, in light and dark. RUN may also be a file that make gpu-check wrote.

Example:  devkit bench report last --html report.html
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from devkit.commands._cli.options import Json, run_ids
from devkit.errors import DevkitError

if TYPE_CHECKING:
    from devkit.bench.report import Loaded
    from devkit.console import Console


def command(
    ctx: typer.Context,
    runs: Annotated[
        list[str] | None,
        typer.Argument(metavar="RUN…", autocompletion=run_ids, help="Runs by id or its beginning, last, or files."),
    ] = None,
    html: Annotated[
        Path | None, typer.Option("--html", metavar="FILE", help="Write one page that holds it all.")
    ] = None,
    markdown: Annotated[
        bool, typer.Option("--markdown", help="Print Markdown for a pull request on standard output.")
    ] = False,
    plot: Annotated[bool, typer.Option("--plot", help="Draw bars in the terminal.")] = False,
    svg: Annotated[
        Path | None, typer.Option("--svg", metavar="FILE", help="Draw the screen as an SVG picture.")
    ] = None,
    as_json: Json = False,
) -> None:
    from devkit.bench import report as pages
    from devkit.commands.bench._any_table import show
    from devkit.files import explained, write_atomically

    app = ctx.obj
    loaded = [pages.load(app.runs, name) for name in runs or ["last"]]
    if as_json:
        reports = [loaded_run.report for loaded_run in loaded]
        app.console.json(reports[0] if len(reports) == 1 else reports)
        return
    if markdown:
        app.console.answer(pages.markdown(loaded).rstrip("\n"))
        return
    if html:
        with explained(html):
            write_atomically(html, pages.html(loaded).encode())
        app.console.done(f"written to {html}")
        return
    if svg:
        app.console.record()
    for loaded_run in loaded:
        app.console.answer_parts(("$ ", "dim"), (loaded_run.reproduce, "type"))
        if plot:
            _plot(app.console, loaded_run)
        else:
            show(app.console, loaded_run)
    if svg:
        app.console.save_svg(svg, title=loaded[0].reproduce)
        app.console.done(f"drawn in {svg}")


def _plot(console: Console, loaded: Loaded) -> None:
    from devkit.bench.charts import bars, charts

    drawn = charts(loaded.report)
    if not drawn:
        why = "Its rows have no length, density, context or size of which there are two."
        raise DevkitError(f"{loaded.name} has nothing to draw", why, f"devkit bench report {loaded.name}")
    for chart in drawn:
        for line in bars(chart, console.out.width):
            console.answer(line)
        console.answer()
