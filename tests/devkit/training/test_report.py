from __future__ import annotations

import json
import struct
from html.parser import HTMLParser
from typing import TYPE_CHECKING

import pytest

from devkit.errors import DevkitError
from devkit.runs import RecordedRun
from devkit.training.report import MOST_POINTS, chart, crc32c, page, series, table, tensorboard, thinned, write

if TYPE_CHECKING:
    from pathlib import Path


def entry(folder: Path, run: str = "7f3a", *, nasty: str = "") -> RecordedRun:
    folder.mkdir()
    events = [
        {
            "event": "step",
            "step": step,
            "loss": None if step == 3 else 4.0 / step,
            "lr": 1e-3,
            "tokens_per_s": 100.0 + step,
        }
        for step in (1, 2, 3, 4)
    ]
    start = {
        "event": "start",
        "layout": {"dp": 2, "pp": 1, "sep": 1, "mp": 2, "sequence_parallel": True},
        "stage": 1,
        "backend": "gloo",
        "operators": "devkit",
    }
    memory = {"event": "memory", "rank": 0, "parameters_mib": 1.0, "measured_mib": 2.5}
    validation = {"event": "validation", "step": 4, "loss": 1.25}
    (folder / "events.jsonl").write_text(
        "\n".join(map(json.dumps, [start, *events, memory, validation])) + '\n{"event": "st'
    )
    record = {
        "id": run,
        "command": "train",
        "started": "2026-11-28T12:00:00+00:00",
        "status": 0,
        "reproduce": f"devkit train {nasty}",
        "arguments": {"options": {"seed": int(run, 16), "stage": 2}},
    }
    return RecordedRun(folder, record)


class Names(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [value or "" for name, value in attrs if name in {"src", "href"}]


def test_a_page_holds_all_that_it_needs(tmp_path: Path) -> None:
    text = page(
        [series(entry(tmp_path / "a", nasty="<script>alert(1)</script>")), series(entry(tmp_path / "b", "9c1d"))]
    )
    names = Names(text)

    assert "script" not in names.tags
    assert names.links == []
    assert names.tags.count("svg") == 3
    assert names.tags.count("polyline") == 6
    assert "1.2500" in text
    assert text.count("ranks: dp 2 × mp 2, sequence parallel, stage 1, engine manual, gloo, devkit") == 2
    assert "32570" in text, "the seeds differ"
    assert "<td>stage</td>" not in text, "the stages do not"


def test_a_figure_that_is_none_leaves_a_gap_and_no_nan(tmp_path: Path) -> None:
    run = series(entry(tmp_path / "a"))

    assert [step for step, _ in run.points("loss")] == [1, 2, 4]
    assert "nan" not in page([run])
    assert table([run]).splitlines()[:2] == ["run,step,loss,lr,tokens_per_s", "7f3a,1,4.0,0.001,101.0"]
    assert table([run]).splitlines()[3] == "7f3a,3,,0.001,103.0"


def test_long_curves_are_thinned_and_keep_their_end() -> None:
    points = [(step, float(step)) for step in range(10 * MOST_POINTS + 7)]

    assert len(thinned(points)) <= MOST_POINTS + 1
    assert thinned(points)[-1] == points[-1]
    assert chart([[(1, 2.0)]])["paths"] == ["64.0,196.0"], "one point, and no division by nothing"


def test_tensorboards_records_are_whole(tmp_path: Path) -> None:
    data = tensorboard(series(entry(tmp_path / "a")))
    records, at = [], 0
    while at < len(data):
        (length,) = struct.unpack_from("<Q", data, at)
        records.append(data[at + 12 : at + 12 + length])
        at += 16 + length

    assert at == len(data)
    assert records[0].endswith(b"brain.Event:2")
    assert sum(b"train/loss" in record for record in records) == 3
    assert struct.pack("<f", 2.0) in next(
        record for record in records if b"train/loss" in record and b"\x10\x02" in record
    )
    assert crc32c(b"123456789") == 0xE3069283


def test_files_that_are_there_are_not_written_over(tmp_path: Path) -> None:
    path = tmp_path / "new" / "report.html"
    write([(path, b"one")], force=False)
    with pytest.raises(DevkitError, match="is there already"):
        write([(path, b"two")], force=False)
    write([(path, b"two")], force=True)
    assert path.read_bytes() == b"two"


def test_a_run_without_steps_has_no_page(tmp_path: Path) -> None:
    (tmp_path / "events.jsonl").touch()
    with pytest.raises(DevkitError, match="took no step"):
        series(RecordedRun(tmp_path, {"id": "a", "command": "train", "status": 0, "started": ""}))
