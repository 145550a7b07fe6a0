"""Runs as others read them: one page with their curves, CSV, and TensorBoard's event files."""

from __future__ import annotations

import csv
import io
import math
import struct
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from devkit.errors import DevkitError
from devkit.files import explained, write_atomically
from devkit.training.curves import events

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from devkit.runs import RecordedRun

FIGURES = {
    "loss": "loss",
    "grad_norm": "gradient norm",
    "lr": "learning rate",
    "tokens_per_s": "tokens/s",
    "peak_mib": "peak MiB a rank",
    "rss_mib": "MiB of the process",
}
"""What a step tells, and what it is called."""
WIDTH, HEIGHT, LEFT, BOTTOM = 640, 220, 64, 24
COLOURS = ("#1f6feb", "#d1622b", "#2c974b", "#8250df", "#9a6700", "#bf3989")
MOST_POINTS = 1200
"""Of a curve that are drawn: a longer one is thinned out evenly, its last point kept."""


@dataclass(frozen=True)
class Series:
    """A run's steps, oldest first, and what else its page shows."""

    run: str
    command: str
    state: str
    reproduce: str
    started: str
    layout: str
    """Its ranks by axis, sharding and engine, as it told of them; "" where it did not."""
    options: dict[str, Any]
    steps: list[dict[str, Any]]
    validation: list[dict[str, Any]]
    memory: list[dict[str, Any]]
    findings: list[dict[str, Any]]
    error: str

    def points(self, figure: str) -> list[tuple[int, float]]:
        """Return a figure by step, where it is told and finite."""
        found = [(entry["step"], entry.get(figure)) for entry in self.steps]
        return [(step, float(value)) for step, value in found if value is not None and math.isfinite(value)]


def series(entry: RecordedRun) -> Series:
    """Read a run.

    Raises:
        DevkitError: it took no step.
    """
    recorded = list(events(entry))
    by_step = {event["step"]: event for event in recorded if event.get("event") == "step"}
    if not by_step:
        raise DevkitError(
            f"run {entry.id} took no step",
            f"It is a run of {entry.record.get('command')}, and {entry.state}.",
            "devkit runs list --command train",
        )
    arguments = entry.record.get("arguments", {})
    error = entry.record.get("error") or {}
    return Series(
        run=entry.id,
        command=str(entry.record["command"]),
        state=entry.state,
        reproduce=str(entry.record.get("reproduce", "")),
        started=str(entry.record["started"]),
        layout=_layout(next((event for event in recorded if event.get("event") == "start"), {})),
        options={k: v for k, v in (arguments.get("options") or arguments).items() if v is not None},
        steps=[by_step[step] for step in sorted(by_step)],
        validation=[event for event in recorded if event.get("event") == "validation"],
        memory=[event for event in recorded if event.get("event") == "memory"],
        findings=[event for event in recorded if event.get("event") == "guard"],
        error="\n".join(filter(None, (error.get("what"), error.get("why")))),
    )


def _layout(start: dict[str, Any]) -> str:
    layout = start.get("layout")
    if not layout:
        return ""
    axes = " × ".join(f"{axis} {layout[axis]}" for axis in ("dp", "pp", "sep", "mp") if layout.get(axis, 1) > 1)
    also = ["sequence parallel"] if layout.get("sequence_parallel") else []
    also += [f"stage {start['stage']}", f"engine {start.get('engine', 'manual')}", start["backend"], start["operators"]]
    return ", ".join([f"ranks: {axes or 1}", *also])


def write(files: Sequence[tuple[Path, bytes]], *, force: bool) -> None:
    """Write files, each whole or not at all.

    Raises:
        DevkitError: one is there and ``force`` was not given, or cannot be written.
    """
    there = next((path for path, _ in files if path.exists() and not force), None)
    if there is not None:
        raise DevkitError(f"{there} is there already", "It is not written over.", "--force   replaces it")
    for path, data in files:
        with explained(path):
            path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, data)


def page(runs: Sequence[Series]) -> str:
    """Return one page of HTML that holds all it needs."""
    import jinja2

    import devkit

    folder = Path(devkit.__file__).parent / "templates" / "training"
    loader = jinja2.FileSystemLoader(folder)
    environment = jinja2.Environment(loader=loader, autoescape=True, undefined=jinja2.StrictUndefined)
    charts = [
        (name, chart([run.points(figure) for run in runs]))
        for figure, name in FIGURES.items()
        if any(run.points(figure) for run in runs)
    ]
    differing = sorted({key for run in runs for key in run.options})
    rows = [
        (name, [run.options.get(name, "") for run in runs])
        for name in differing
        if len(runs) == 1 or len({repr(run.options.get(name)) for run in runs}) > 1
    ]
    return environment.get_template("report.html.j2").render(
        runs=runs, charts=charts, rows=rows, colours=COLOURS, only=len(runs) == 1
    )


def chart(curves: Sequence[list[tuple[int, float]]]) -> dict[str, Any]:
    """Return what draws curves over their steps: a path each, and the ends of both axes."""
    points = [point for curve in curves for point in curve]
    first, last = min(step for step, _ in points), max(step for step, _ in points)
    low, high = min(value for _, value in points), max(value for _, value in points)
    across, up = max(last - first, 1), (high - low) or abs(high) or 1.0

    def place(step: int, value: float) -> str:
        x = LEFT + (WIDTH - LEFT - 8) * (step - first) / across
        y = 8 + (HEIGHT - BOTTOM - 8) * (1 - (value - low) / up)
        return f"{x:.1f},{y:.1f}"

    return {
        "paths": [" ".join(place(*point) for point in thinned(curve)) for curve in curves],
        "low": f"{low:.4g}",
        "high": f"{high:.4g}",
        "first": first,
        "last": last,
        "width": WIDTH,
        "height": HEIGHT,
        "left": LEFT,
        "bottom": HEIGHT - BOTTOM,
    }


def thinned(points: list[tuple[int, float]]) -> list[tuple[int, float]]:
    """Return at most ``MOST_POINTS`` of a curve's points, spread evenly, with its last."""
    every = max(1, math.ceil(len(points) / MOST_POINTS))
    return [*points[::every], *([points[-1]] if points and (len(points) - 1) % every else [])]


def table(runs: Sequence[Series]) -> str:
    """Return the steps of all runs as CSV, a column a figure; what is not finite is empty."""
    out = io.StringIO()
    named = [figure for figure in FIGURES if any(figure in step for run in runs for step in run.steps)]
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["run", "step", *named])
    for run in runs:
        for step in run.steps:
            writer.writerow([run.run, step["step"], *("" if step.get(f) is None else step[f] for f in named)])
    return out.getvalue()


def tensorboard(run: Series) -> bytes:
    """Return an event file of TensorBoard with a run's figures: records of protocol buffers and checksums."""
    began = datetime.fromisoformat(run.started).timestamp()
    records = [_double(1, began) + _text(3, "brain.Event:2")]
    for figure, name in FIGURES.items():
        for step, value in run.points(figure):
            records.append(_event(began, step, f"train/{name.replace(' ', '_')}", value))
    held = [entry for entry in run.validation if entry.get("loss") is not None]
    records += [_event(began, entry["step"], "validation/loss", entry["loss"]) for entry in held]
    return b"".join(map(_record, records))


def _event(time_s: float, step: int, tag: str, value: float) -> bytes:
    scalar = _text(1, tag) + _key(2, 5) + struct.pack("<f", value)
    return _double(1, time_s) + _key(2, 0) + _varint(step) + _bytes(5, _bytes(1, scalar))


def _record(data: bytes) -> bytes:
    length = struct.pack("<Q", len(data))
    return length + struct.pack("<I", _masked(length)) + data + struct.pack("<I", _masked(data))


def _key(number: int, kind: int) -> bytes:
    return _varint(number << 3 | kind)


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:  # noqa: PLR2004 - seven bits a byte
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def _bytes(number: int, data: bytes) -> bytes:
    return _key(number, 2) + _varint(len(data)) + data


def _text(number: int, text: str) -> bytes:
    return _bytes(number, text.encode())


def _double(number: int, value: float) -> bytes:
    return _key(number, 1) + struct.pack("<d", value)


def _castagnoli() -> list[int]:
    rows = []
    for number in range(256):
        value = number
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
        rows.append(value)
    return rows


_CRC32C = _castagnoli()


def crc32c(data: Iterable[int]) -> int:
    """Return the checksum of Castagnoli's polynomial (RFC 3720, appendix B.4)."""
    value = 0xFFFFFFFF
    for byte in data:
        value = _CRC32C[(value ^ byte) & 0xFF] ^ value >> 8
    return value ^ 0xFFFFFFFF


def _masked(data: bytes) -> int:
    value = crc32c(data)
    return ((value >> 15 | value << 17) + 0xA282EAD8) & 0xFFFFFFFF
