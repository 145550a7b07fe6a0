"""Charts of benchmark reports: which lines a report's rows make, and how they look as SVG or in a terminal."""

from __future__ import annotations

import math
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any

from devkit.text import counted, significant

if TYPE_CHECKING:
    from collections.abc import Sequence

Row = dict[str, Any]

# Okabe and Ito's colours, which people who see few colours tell apart; on light and on dark.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#999999")
MARKS = ("circle", "square", "diamond", "triangle")
WIDTH, HEIGHT = 640.0, 360.0
LEFT, RIGHT, TOP, BOTTOM = 64.0, 16.0, 34.0, 46.0


@dataclass(frozen=True)
class Point:
    """A median with its quartiles."""

    x: float
    y: float
    low: float
    high: float


@dataclass(frozen=True)
class Line:
    """The points of one implementation."""

    name: str
    points: tuple[Point, ...]


@dataclass(frozen=True)
class Chart:
    """Lines over one axis; roofs are (name, height) of what cannot be exceeded."""

    title: str
    x: str
    y: str
    lines: tuple[Line, ...]
    roofs: tuple[tuple[str, float], ...] = ()
    log_x: bool = True
    log_y: bool = False


# What the rows of a benchmark are drawn over: (rows that have it, its name in rows, its name on the axis, times).
AXES = (
    ("context", "context", "context, keys", 1.0),
    ("seqlen_k", "seqlen_k", "sequence length", 1.0),
    ("density", "density", "density, %", 100.0),
    ("bytes", "bytes", "bytes of a rank", 1.0),
)
HEIGHTS = (("gflops", "GFLOP/s"), ("tokens_per_s", "tokens/s"), ("gb_per_s", "GB/s"))
PANEL = (
    "op",
    "pass",
    "form",
    "causal",
    "case",
    "dtype",
    "batch",
    "heads",
    "kv_heads",
    "head_dim",
    "rows",
    "columns",
    "width",
    "paged",
    "index",
)


def charts(report: dict[str, Any]) -> list[Chart]:
    """Return a chart for each shape that a report's rows have, and a roofline where the bytes are known."""
    rows = [row for row in report["results"] if row.get("median_ms")]
    panels: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        axis = next((name for name, *_ in AXES if row.get(name) is not None), None)
        if axis is not None:
            names = tuple((name, row[name]) for name in PANEL if row.get(name) is not None)
            panels.setdefault((axis, *names), []).append(row)
    found = [_panel(key[0], dict(key[1:]), group, report) for key, group in panels.items()]
    made = [chart for chart in found if any(len(line.points) > 1 for line in chart.lines)]
    return [*made, *_rooflines(rows, report)]


def _panel(axis: str, names: dict[str, Any], rows: list[Row], report: dict[str, Any]) -> Chart:
    _, key, label, times = next(pair for pair in AXES if pair[0] == axis)
    height, unit = next(
        ((name, unit) for name, unit in HEIGHTS if any(row.get(name) for row in rows)), ("median_ms", "ms")
    )
    lines: dict[str, list[Point]] = {}
    for row in rows:
        if not row.get(height):
            continue
        name = _name(row, "impl", "format")
        value = float(row[height])
        # A rate's quartiles are those of the time, turned round.
        low, high = value * row["median_ms"] / row["q3_ms"], value * row["median_ms"] / row["q1_ms"]
        if height == "median_ms":
            low, high = row["q1_ms"], row["q3_ms"]
        lines.setdefault(name, []).append(Point(times * float(row[key]), value, low, high))
    title = ", ".join(_words(names))
    roofs: list[tuple[str, float]] = []
    if height == "gflops":
        roofs = [
            (label, rate)
            for label, rate in _ceilings(report)
            if rate < 4 * max(p.y for line in lines.values() for p in line)
        ]
    return Chart(
        title,
        label,
        unit,
        tuple(Line(name, tuple(sorted(points, key=lambda point: point.x))) for name, points in lines.items()),
        tuple(roofs),
    )


def _name(row: Row, *parts: str) -> str:
    words = [str(row[part]) for part in parts if row.get(part) is not None]
    return " ".join(words) + (f", {counted(row['threads'], 'thread')}" if row.get("threads") else "")


def _words(names: dict[str, Any]) -> list[str]:
    found = []
    for name, value in names.items():
        if name == "causal":
            found.append("causal" if value else "full")
        elif name in ("op", "pass", "form", "case", "dtype", "index"):
            found.append(str(value))
        elif name == "paged":
            found.append("paged" if value else "contiguous")
        else:
            found.append(f"{name} {value}")
    return found


def _ceilings(report: dict[str, Any]) -> list[tuple[str, float]]:
    ceiling = report.get("ceiling") or {}
    found = [("product", ceiling.get("gflops")), ("multiply-add peak", ceiling.get("fma_gflops"))]
    for threads, peak in zip(ceiling.get("threads", []), ceiling.get("peak_gflops", []), strict=False):
        found.append((f"peak, {counted(threads, 'thread')}", peak))
    return [(name, float(rate)) for name, rate in found if rate]


def _rooflines(rows: list[Row], report: dict[str, Any]) -> list[Chart]:
    """Return GFLOP/s over floating-point operations a byte that must be moved, where rows say both."""
    lines: dict[str, list[Point]] = {}
    for row in rows:
        if row.get("gb_per_s") and row.get("gflops"):
            name = _name(row, "op", "impl", "format")
            low, high = (row["gflops"] * row["median_ms"] / row[quartile] for quartile in ("q3_ms", "q1_ms"))
            lines.setdefault(name, []).append(Point(row["gflops"] / row["gb_per_s"], row["gflops"], low, high))
    if not lines:
        return []
    ceiling = report.get("ceiling") or {}
    for threads, peak, rate in zip(
        ceiling.get("threads", []), ceiling.get("peak_gflops", []), ceiling.get("memory_gb_per_s", []), strict=False
    ):
        if peak and rate:
            ends = [min(point.x for points in lines.values() for point in points) / 2, peak / rate]
            ends.append(max(2 * ends[1], *(point.x for points in lines.values() for point in points)))
            roof = tuple(Point(x, y, y, y) for x, y in ((x, min(peak, x * rate)) for x in sorted(ends)))
            lines[f"memory and peak, {counted(threads, 'thread')}"] = list(roof)
    return [
        Chart(
            "roofline",
            "floating-point operations a byte",
            "GFLOP/s",
            tuple(Line(name, tuple(sorted(points, key=lambda point: point.x))) for name, points in lines.items()),
            log_y=True,
        )
    ]


def svg(chart: Chart) -> str:
    """Return a chart as an SVG element that a page or a viewer can show, in light and in dark."""
    frame = _Frame(chart)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH:g} {_height(chart):g}" role="img"',
        f' aria-label="{escape(chart.title, quote=True)}" font-family="system-ui, sans-serif" font-size="11">',
        f"<style>{STYLE}</style>",
        f'<text class="ink" x="{LEFT:g}" y="18" font-size="13" font-weight="600">{escape(chart.title)}</text>',
        *_axes(chart, frame),
    ]
    for name, height in chart.roofs:
        y = frame.y(height)
        parts.append(f'<line class="roof" x1="{LEFT:g}" x2="{WIDTH - RIGHT:g}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text class="dim" x="{WIDTH - RIGHT:g}" y="{y - 4:.1f}" text-anchor="end">{escape(name)}</text>')
    for index, line in enumerate(chart.lines):
        parts += _line(line, index, frame)
    for index, line in enumerate(chart.lines):
        x, y = LEFT + 190 * (index % 3), HEIGHT + 14 * (index // 3)
        parts.append(_mark(index, x, y - 4))
        parts.append(f'<text class="ink" x="{x + 10:g}" y="{y:g}">{escape(line.name)}</text>')
    return "".join([*parts, "</svg>"])


STYLE = (
    ".ink{fill:#1f2328}.dim{fill:#59636e}.grid{stroke:#d1d9e0;stroke-width:1}.roof{stroke:#59636e;stroke-dasharray:5 3}"
    "@media (prefers-color-scheme: dark)"
    "{.ink{fill:#e6edf3}.dim{fill:#9198a1}.grid{stroke:#3d444d}.roof{stroke:#9198a1}}"
)


def _height(chart: Chart) -> float:
    return HEIGHT + 14 * ((len(chart.lines) - 1) // 3 + 1)


class _Frame:
    """Where values lie on the picture."""

    def __init__(self, chart: Chart) -> None:
        points = [point for line in chart.lines for point in line.points]
        heights = [value for point in points for value in (point.low, point.high, point.y)]
        heights += [height for _, height in chart.roofs]
        self.log_x, self.log_y = chart.log_x, chart.log_y
        self.xs = (min(point.x for point in points), max(point.x for point in points))
        low = min(height for height in heights if height > 0) / 1.3 if chart.log_y else 0.0
        self.ys = (low, max(heights) * (1.3 if chart.log_y else 1.08))

    def x(self, value: float) -> float:
        return LEFT + _share(value, self.xs, log=self.log_x) * (WIDTH - LEFT - RIGHT)

    def y(self, value: float) -> float:
        return HEIGHT - BOTTOM - _share(value, self.ys, log=self.log_y) * (HEIGHT - TOP - BOTTOM)


def _share(value: float, ends: tuple[float, float], *, log: bool) -> float:
    low, high = ends
    if log and low > 0:
        value, low, high = (math.log(max(number, low)) for number in (value, low, high))
    return (value - low) / (high - low) if high > low else 0.5


def _axes(chart: Chart, frame: _Frame) -> list[str]:
    parts = []
    for value in ticks(*frame.ys, log=chart.log_y):
        y = frame.y(value)
        parts.append(f'<line class="grid" x1="{LEFT:g}" x2="{WIDTH - RIGHT:g}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text class="dim" x="{LEFT - 6:g}" y="{y + 4:.1f}" text-anchor="end">{_number(value)}</text>')
    places = sorted({point.x for line in chart.lines for point in line.points})
    values = places if len(places) <= 8 else ticks(*frame.xs, log=chart.log_x)  # noqa: PLR2004 - what fits
    base = HEIGHT - BOTTOM
    parts += [
        f'<text class="dim" x="{frame.x(value):.1f}" y="{base + 16:g}" text-anchor="middle">{_number(value)}</text>'
        for value in values
    ]
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(f'<text class="dim" x="{middle:g}" y="{base + 32:g}" text-anchor="middle">{escape(chart.x)}</text>')
    parts.append(f'<text class="dim" x="4" y="{TOP - 6:g}">{escape(chart.y)}</text>')
    return parts


def _line(line: Line, index: int, frame: _Frame) -> list[str]:
    colour = COLOURS[index % len(COLOURS)]
    places = [(frame.x(point.x), frame.y(point.y)) for point in line.points]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    parts = [f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.8"/>']
    for point, (x, y) in zip(line.points, places, strict=True):
        ends = f'y1="{frame.y(point.low):.1f}" y2="{frame.y(point.high):.1f}"'
        spread = f'stroke="{colour}" stroke-width="4" stroke-opacity="0.35"'
        parts.append(f'<line x1="{x:.1f}" x2="{x:.1f}" {ends} {spread}/>')
        parts.append(_mark(index, x, y))
    return parts


def _mark(index: int, x: float, y: float) -> str:
    colour, kind = COLOURS[index % len(COLOURS)], MARKS[index % len(MARKS)]
    if kind == "circle":
        return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" fill="{colour}"/>'
    corners = {
        "square": [(-3, -3), (3, -3), (3, 3), (-3, 3)],
        "diamond": [(0, -4), (4, 0), (0, 4), (-4, 0)],
        "triangle": [(0, -4), (4, 3), (-4, 3)],
    }[kind]
    path = " ".join(f"{x + dx:.1f},{y + dy:.1f}" for dx, dy in corners)
    return f'<polygon points="{path}" fill="{colour}"/>'


def ticks(low: float, high: float, *, log: bool) -> list[float]:
    """Return round values between two ends: decades with 2 and 5 on a logarithmic axis, about five else."""
    if log and low > 0:
        decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        found = [digit * 10.0**decade for decade in decades for digit in (1, 2, 5)]
        inside = [value for value in found if low <= value <= high]
        return inside if len(inside) <= 9 else [value for value in inside if f"{value:e}"[0] == "1"]  # noqa: PLR2004
    if high <= low:
        return [low]
    rough = (high - low) / 5
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(digit * power for digit in (1, 2, 5, 10) if digit * power >= rough)
    return [step * number for number in range(math.ceil(low / step), math.floor(high / step) + 1)]


def _number(value: float) -> str:
    return f"{value:g}" if abs(value) < 1e6 else f"{value:.0e}"  # noqa: PLR2004 - what is read at a glance


def bars(chart: Chart, width: int) -> list[str]:
    """Return a chart as lines of a terminal: a bar for each point, its median and its quartiles."""
    longest = max(point.high for line in chart.lines for point in line.points)
    names = max(len(line.name) for line in chart.lines)
    room = max(width - names - 34, 10)
    found = [f"{chart.title} ({chart.y} over {chart.x})"]
    for x in sorted({point.x for line in chart.lines for point in line.points}):
        for line in chart.lines:
            for point in line.points:
                if point.x == x:
                    filled = round(room * point.y / longest)
                    figures = f"{significant(point.y)} ({significant(point.low)}-{significant(point.high)})"
                    found.append(f"{_number(x):>8}  {line.name:<{names}}  {'█' * filled}{' ' * bool(filled)}{figures}")
    return found


def summary(rows: Sequence[Row]) -> list[tuple[str, ...]]:
    """Return the columns of a table of rows: those that vary or are measured, in their order; never lists."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    kept = [
        name
        for name in names
        if not any(isinstance(row.get(name), (list, dict)) for row in rows)
        and any(row.get(name) not in (None, "") for row in rows)
    ]
    return [(name,) for name in kept]
