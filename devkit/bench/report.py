"""A report of benchmark runs to hand on: one page of HTML with everything in it, or Markdown for a pull request."""

from __future__ import annotations

import json
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from devkit.bench.charts import charts, summary, svg
from devkit.errors import DevkitError
from devkit.text import significant

if TYPE_CHECKING:
    from devkit.runs import RunStore

LONGEST_TABLE = 400


@dataclass(frozen=True)
class Loaded:
    """One run, or one file such as gpu-check writes.

    Attributes:
        name: its id or its file's name.
        command: what made it.
        reproduce: the line that makes it again.
        made: when, in UTC.
        host: the machine.
        versions: of what was measured.
        git: the clone's state, or None.
        report: the result with its rows.
    """

    name: str
    command: str
    reproduce: str
    made: str
    host: dict[str, Any]
    versions: dict[str, str]
    git: dict[str, Any] | None
    report: dict[str, Any]


def load(runs: RunStore, name: str) -> Loaded:
    """Return a run by its id, or a report by its file.

    Raises:
        DevkitError: there is no such run, it has no result, or the file is not a report.
    """
    path = Path(name)
    if path.suffix == ".json" and path.is_file():
        return _load_file(path)
    entry = runs.find(name, command="bench")
    record = entry.record
    if not record.get("result"):
        raise DevkitError(f"run {entry.id} has no result", f"It is {entry.state}.", record["reproduce"])
    report = dict(record["result"])
    report.setdefault("results", _rows_of(report))
    return Loaded(
        entry.id,
        record["command"],
        record["reproduce"],
        record["started"],
        record.get("host", {}),
        record.get("versions", {}),
        record.get("git"),
        report,
    )


def _load_file(path: Path) -> Loaded:
    try:
        report = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise DevkitError(f"{path} is not a report", str(error), "devkit bench report last") from error
    if (
        not isinstance(report, dict)
        or not isinstance(report.get("results"), list)
        or not all(isinstance(row, dict) for row in report["results"])
    ):
        raise DevkitError(f"{path} is not a report", "It has no list of results.", "devkit bench report last")
    device = report.get("device") if isinstance(report.get("device"), dict) else {}
    host = {"processor": device.get("name", "?")} if device else {}
    kind, line = str(report.get("kind", "bench")), str(report.get("reproduce", ""))
    versions = report.get("versions") if isinstance(report.get("versions"), dict) else {}
    return Loaded(path.name, kind, line, str(report.get("made", "")), host, versions or {}, None, report)


def _rows_of(report: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the rows of results that are not called results: the stages of bench train, a calibration."""
    if isinstance(report.get("stages"), list):
        return [
            {
                "impl": library,
                "stage": stage["stage"],
                "tokens_per_s": rate["median"],
                "q1": rate["q1"],
                "q3": rate["q3"],
            }
            for stage in report["stages"]
            for library, rate in stage["tokens_per_s"].items()
        ]
    found = report.get("calibration")
    return (
        [{name: value for name, value in found.items() if not isinstance(value, dict)}]
        if isinstance(found, dict)
        else []
    )


def html(loaded: list[Loaded]) -> str:
    """Return one page that needs nothing beside it: charts, tables, the machine, and the lines that make it again."""
    title = f"devkit bench: {', '.join(loaded_run.name for loaded_run in loaded)}"
    parts = [
        '<!doctype html><html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{escape(title)}</title><style>{PAGE_STYLE}</style></head><body><main>",
    ]
    for loaded_run in loaded:
        parts.append(f"<section><h1>{escape(loaded_run.command)} <small>{escape(loaded_run.name)}</small></h1>")
        parts.append(f"<pre><code>{escape(loaded_run.reproduce)}</code></pre>")
        parts.append(
            "<dl>" + "".join(f"<dt>{escape(a)}</dt><dd>{escape(b)}</dd>" for a, b in facts(loaded_run)) + "</dl>"
        )
        parts += [f"<figure>{svg(chart)}</figure>" for chart in charts(loaded_run.report)]
        parts.append(_html_table(loaded_run.report["results"]))
        parts.append("</section>")
    return "".join([*parts, "</main></body></html>\n"])


PAGE_STYLE = (
    ":root{color-scheme:light dark;--ink:#1f2328;--dim:#59636e;--line:#d1d9e0;--back:#fff;--code:#f6f8fa}"
    "@media(prefers-color-scheme:dark){:root{--ink:#e6edf3;--dim:#9198a1;--line:#3d444d;--back:#0d1117;--code:#151b23}}"
    "body{margin:0;background:var(--back);color:var(--ink);font:14px/1.5 system-ui,sans-serif}"
    "main{max-width:1000px;margin:0 auto;padding:16px}h1{font-size:20px}small{color:var(--dim);font-weight:400}"
    "pre{background:var(--code);padding:10px;border-radius:6px;overflow-x:auto}figure{margin:20px 0;max-width:720px}"
    "svg{width:100%;height:auto}dl{display:grid;grid-template-columns:max-content 1fr;gap:2px 16px}dt{color:var(--dim)}"
    "dd{margin:0;overflow-wrap:anywhere}.scroll{overflow-x:auto}table{border-collapse:collapse;font-size:12px}"
    "th,td{padding:3px 8px;border-bottom:1px solid var(--line);text-align:right;white-space:nowrap}"
    "th:first-child,td:first-child{text-align:left}.bad{color:#cf222e}"
)


def facts(loaded: Loaded) -> list[tuple[str, str]]:
    """Return what one must know of a run before believing it: when, where, with what, and whether others computed."""
    found = [("made", loaded.made)]
    host = loaded.host
    if host:
        words = [str(host.get("processor", "?"))]
        words += [f"{host['cores']} cores"] if "cores" in host else []
        words += [f"{host['memory_mib'] // 1024} GiB"] if "memory_mib" in host else []
        words += [f"{host.get('system', '')} {host.get('kernel', '')}".strip()] if "kernel" in host else []
        found.append(("machine", ", ".join(words)))
    device = loaded.report.get("device") or {}
    if device.get("name") and device["name"] != host.get("processor"):
        found.append(("device", str(device["name"])))
    if device.get("threads"):
        found.append(("threads", str(device["threads"])))
    found.append(("versions", ", ".join(f"{name} {text}" for name, text in loaded.versions.items())))
    if loaded.git:
        dirty = ", with changes that are not committed" if loaded.git.get("dirty") else ""
        found.append(("commit", f"{str(loaded.git.get('commit', '?'))[:12]}{dirty}"))
    for name, value in (loaded.report.get("ceiling") or {}).items():
        values = value if isinstance(value, list) else [value]
        shown = ", ".join(
            significant(item) if isinstance(item, float) else str(item) for item in values if item is not None
        )
        found.append((f"ceiling: {name}", shown))
    if loaded.report.get("busy") is not None:
        found.append(("others used", f"{100 * loaded.report['busy']:.1f} % of the processors"))
    return found


def _html_table(rows: list[dict[str, Any]]) -> str:
    names = [name for (name,) in summary(rows)]
    if not names:
        return ""
    head = "".join(f"<th>{escape(name)}</th>" for name in names)
    lines = []
    for row in rows[:LONGEST_TABLE]:
        bad = ' class="bad"' if row.get("status") in ("wrong", "error") or row.get("verdict") == "SLOWER" else ""
        lines.append(f"<tr{bad}>" + "".join(f"<td>{escape(cell(row.get(name)))}</td>" for name in names) + "</tr>")
    more = f"<p>{len(rows) - LONGEST_TABLE} more rows are in the record.</p>" if len(rows) > LONGEST_TABLE else ""
    return (
        f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{"".join(lines)}</tbody></table></div>{more}'
    )


def markdown(loaded: list[Loaded]) -> str:
    """Return what one pastes into a pull request: the table of what was measured, and the machine under a fold."""
    parts = []
    for loaded_run in loaded:
        rows = loaded_run.report["results"]
        names = [name for (name,) in summary(rows) if name != "reason"]
        constant = {
            name: rows[0].get(name)
            for name in names
            if len({str(row.get(name)) for row in rows}) == 1 and len(rows) > 1
        }
        shown = [name for name in names if name not in constant]
        parts.append(f"### {_plain(loaded_run.command)} {_plain(loaded_run.name)}\n")
        if constant:
            parts.append(", ".join(f"{_plain(name)} {_plain(cell(value))}" for name, value in constant.items()) + "\n")
        if shown:
            parts.append("| " + " | ".join(map(_plain, shown)) + " |")
            parts.append("|" + "---|" * len(shown))
            parts += [
                "| " + " | ".join(_plain(cell(row.get(name))) for name in shown) + " |" for row in rows[:LONGEST_TABLE]
            ]
        parts.append("\n<details><summary>machine, and how to make it again</summary>\n")
        parts += [f"- {_plain(name)}: {_plain(text)}" for name, text in facts(loaded_run)]
        fence = "`" * 3
        parts.append(f"\n{fence}\n{loaded_run.reproduce.replace(fence, '')}\n{fence}\n</details>\n")
    return "\n".join(parts)


def cell(value: Any) -> str:
    """Return a figure as a table has it: three digits, an empty cell for nothing."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.1e}" if 0 < abs(value) < 1e-3 else significant(value)  # noqa: PLR2004 - errors
    return str(value)


def _plain(text: str) -> str:
    """Return words without what Markdown would take for its own, on one line."""
    return escape(" ".join(text.split()), quote=False).replace("|", "\\|").replace("`", "'")
