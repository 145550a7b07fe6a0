"""Reports: what is drawn, that a page needs nothing beside it, and that nobody's words become markup."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree as ET

import pytest

from devkit.bench.charts import bars, charts, svg, ticks
from devkit.bench.report import Loaded, html, load, markdown
from devkit.errors import DevkitError
from devkit.runs import RunStore

if TYPE_CHECKING:
    from pathlib import Path


def sparse_report() -> dict[str, Any]:
    rows = [
        {
            "impl": impl, "status": "ok", "reason": "", "format": "csr", "op": "spmm", "density": density, "rows": 64,
            "columns": 64, "width": 8, "index": "int32", "threads": 2, "median_ms": 2.0, "q1_ms": 1.0, "q3_ms": 4.0,
            "round_ms": [2.0] * 5, "gflops": rate * density * 100, "gb_per_s": 1.0, "max_error": 1e-7,
        }
        for impl, rate in (("ours", 20.0), ("theirs", 10.0))
        for density in (0.1, 0.01)
    ]  # fmt: skip
    missing = {
        "impl": "gone",
        "status": "unsupported",
        "reason": "no | kernel",
        "op": "spmm",
        "density": 0.1,
        "median_ms": None,
    }
    ceiling = {"threads": [2], "peak_gflops": [500.0], "memory_gb_per_s": [10.0]}
    return {"device": {"name": "cpu"}, "ceiling": ceiling, "busy": 0.01, "results": [*rows, missing]}


def loaded(report: dict[str, Any], name: str = "7f3a") -> Loaded:
    host = {"processor": "p <b>", "cores": 2, "memory_mib": 4096, "system": "Linux", "kernel": "6"}
    git = {"commit": "0123456789abcdef", "dirty": True}
    return Loaded(
        name, "bench sparse", "devkit bench sparse --op 'a<script>'", "2026-11-28", host, {"paddle": "3"}, git, report
    )


def test_lines_hold_medians_and_quartiles_in_the_order_of_the_axis() -> None:
    panel, roofline = charts(sparse_report())
    assert panel.title == "spmm, rows 64, columns 64, width 8, int32"
    assert [line.name for line in panel.lines] == ["ours csr, 2 threads", "theirs csr, 2 threads"]
    first, last = panel.lines[0].points
    assert (first.x, last.x) == (1.0, 10.0)
    assert (last.y, last.low, last.high) == (200.0, 100.0, 400.0)
    roof = roofline.lines[-1]
    assert roof.name == "memory and peak, 2 threads"
    assert {point.y for point in roof.points} >= {500.0}
    assert all(point.y <= 500 for point in roof.points)


def test_attention_rows_are_drawn_by_length_with_their_ceiling() -> None:
    common = {"pass": "fwd", "dtype": "fp32", "batch": 1, "heads": 8, "kv_heads": 8, "head_dim": 64, "status": "ok"}
    rows = [
        {
            **common,
            "impl": impl,
            "causal": causal,
            "seqlen_k": length,
            "median_ms": 1.0,
            "q1_ms": 0.9,
            "q3_ms": 1.1,
            "gflops": 100.0,
        }
        for impl in ("a", "b")
        for causal in (True, False)
        for length in (512, 1024)
    ]
    found = charts({"results": rows, "ceiling": {"gflops": 150.0}})
    assert ["causal" in chart.title for chart in found] == [True, False]
    assert found[0].roofs == (("product", 150.0),)


@pytest.mark.parametrize("position", [0, 1])
def test_a_chart_is_xml_that_shows_in_light_and_in_dark(position: int) -> None:
    chart = charts(sparse_report())[position]
    tree = ET.fromstring(svg(chart))  # noqa: S314 - our own
    assert tree.tag == "{http://www.w3.org/2000/svg}svg"
    text = svg(chart)
    assert "prefers-color-scheme: dark" in text
    assert "nan" not in text
    places = [float(value) for value in re.findall(r' (?:cx|x1|x2)="([-0-9.]+)"', text)]
    assert all(0 <= place <= 640 for place in places)


class Links(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.links: list[str] = []
        self.tags: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [value or "" for name, value in attrs if name in ("src", "href", "data", "action")]


def test_a_page_needs_nothing_beside_it_and_shows_words_as_words() -> None:
    page = html([loaded(sparse_report()), loaded(sparse_report(), "<img src=x>")])
    parser = Links()
    parser.feed(page)
    assert parser.links == []
    assert "script" not in parser.tags
    assert "img" not in parser.tags
    assert "url(" not in page
    assert page.count("<svg") == 4
    for words in ("p &lt;b&gt;", "a&lt;script&gt;", "0123456789ab, with changes", "others used", "no | kernel"):
        assert words in page


def test_markdown_has_a_table_that_holds_and_the_line_that_makes_it_again() -> None:
    text = markdown([loaded(sparse_report())])
    lines = [line for line in text.splitlines() if line.startswith("|")]
    assert len({len(re.findall(r"(?<!\\)\|", line)) for line in lines}) == 1
    assert len(lines) == 2 + 5
    assert "devkit bench sparse --op 'a<script>'" in text
    assert "<details>" in text


def test_bars_fit_the_terminal() -> None:
    for chart in charts(sparse_report()):
        lines = bars(chart, 90)
        assert all(len(line) <= 90 for line in lines)
        assert any("█" in line for line in lines)


@pytest.mark.parametrize(
    ("low", "high", "log"), [(0, 7.3, False), (0.001, 0.2, True), (512, 8192, True), (3, 3, False)]
)
def test_ticks_are_round_and_inside(low: float, high: float, *, log: bool) -> None:
    found = ticks(low, high, log=log)
    assert 1 <= len(found) <= 12
    assert all(low <= tick <= high for tick in found)


def test_a_file_is_a_report_or_refused(tmp_path: Path) -> None:
    store = RunStore(tmp_path / "runs", keep=5, max_mib=5)
    good = tmp_path / "check.json"
    good.write_text(
        json.dumps({"kind": "gpu-check", "made": "now", "device": {"name": "H200"}, "results": [{"impl": "triton"}]})
    )
    assert load(store, str(good)).host == {"processor": "H200"}
    for text in ("{", "[]", '{"results": 3}', '{"results": [1]}'):
        good.write_text(text)
        with pytest.raises(DevkitError, match="is not a report"):
            load(store, str(good))
    with pytest.raises(DevkitError, match="there is no run zzzz"):
        load(store, "zzzz")


def test_runs_of_training_have_rows_too(tmp_path: Path) -> None:
    store = RunStore(tmp_path / "runs", keep=5, max_mib=5)
    rate = {"median": 100.0, "q1": 90.0, "q3": 110.0}
    with store.start("bench train", argv=["bench", "train"]) as run:
        run.record["result"] = {
            "stages": [{"stage": 2, "tokens_per_s": {"devkit": rate, "torch": rate}, "ratio": rate}]
        }
    rows = load(store, "last").report["results"]
    assert [(row["impl"], row["stage"], row["tokens_per_s"]) for row in rows] == [
        ("devkit", 2, 100.0),
        ("torch", 2, 100.0),
    ]
    assert "devkit bench train" in html([load(store, "last")])
