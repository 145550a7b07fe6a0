from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import Devkit


def report_file(folder: Path) -> Path:
    rows = [
        {"impl": "triton", "kind": "time", "status": "ok", "form": "causal", "seqlen_k": length, "median_ms": 1.0,
         "q1_ms": 0.9, "q3_ms": 1.2, "gflops": 1e5, "max_error": None}
        for length in (1024, 4096)
    ]  # fmt: skip
    path = folder / "gpu-check.json"
    path.write_text(json.dumps({"kind": "gpu-check", "reproduce": "make gpu-check", "results": rows}))
    return path


def test_a_file_is_shown_as_a_table_a_page_markdown_bars_and_json(devkit: Devkit, tmp_path: Path) -> None:
    path = report_file(tmp_path)
    shown = devkit("bench", "report", path.name)
    assert shown.status == 0, shown.err
    assert "make gpu-check" in shown.out
    assert "triton" in shown.out
    assert devkit("bench", "report", path.name, "--html", "page.html").status == 0
    assert (tmp_path / "page.html").read_text().startswith("<!doctype html>")
    assert "| 1024 |" in devkit("bench", "report", path.name, "--markdown").out
    assert "█" in devkit("bench", "report", path.name, "--plot", env={"PYTHONIOENCODING": "utf-8"}).out
    assert json.loads(devkit("bench", "report", path.name, "--json").out)["kind"] == "gpu-check"
    both = json.loads(devkit("bench", "report", path.name, path.name, "--json").out)
    assert len(both) == 2


def test_what_cannot_be_shown_or_written_is_said(devkit: Devkit, tmp_path: Path) -> None:
    path = report_file(tmp_path)
    assert devkit("bench", "report", "gone").status == 1
    refused = devkit("bench", "report", path.name, "--html", ".")
    assert refused.status == 1
    assert "Traceback" not in refused.err
    path.write_text('{"results": [{"impl": "x"}]}')
    empty = devkit("bench", "report", path.name, "--plot")
    assert empty.status == 1
    assert "nothing to draw" in empty.err
