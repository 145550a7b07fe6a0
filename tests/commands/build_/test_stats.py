"""devkit build stats: what a run used, and two runs side by side."""

from __future__ import annotations

import json
import os
import re
import shutil
from typing import TYPE_CHECKING, Any

import pytest

from devkit.paths import state_home

if TYPE_CHECKING:
    from pathlib import Path

    from tests.commands.build_.conftest import Project
    from tests.conftest import Devkit


pytestmark = pytest.mark.engine  # ccache


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A ccache that knows nothing."""
    folder = tmp_path / "ccache"
    monkeypatch.setenv("CCACHE_DIR", str(folder))
    return folder


def built(devkit: Devkit, project: Project, *words: str) -> dict[str, Any]:
    result = devkit("build", "--env", str(project.env), "--target", "phi", "--json", *words, cwd=project.root)
    assert result.status == 0, result.err
    return dict(json.loads(result.out))


def test_a_run_tells_what_ccache_spared_and_what_memory_it_took(devkit: Devkit, project: Project) -> None:
    first = built(devkit, project)
    second = built(devkit, project, "--build-dir", "build-2")
    usage = json.loads(devkit("build", "stats", first["run"], "--json").out)
    assert usage["ccache"] == {
        "direct_hits": 0, "preprocessed_hits": 0, "misses": 4, "uncacheable": {}, "alone": True
    }  # fmt: skip
    assert usage["memory"]["largest_mib"] > 5
    shown = devkit("build", "stats", second["run"]).out
    assert re.search(
        r"ccache  4 cache hits of 4 compilations \(100 %\): \d direct and \d preprocessed hits, 0 missed", shown
    )
    # Of the second nothing may have been seen: it only copies, for a moment, by programs as large as those before it.
    shown = devkit("build", "stats", first["run"]).out
    assert re.search(r"memory  .*the largest program [\d.]+ MiB \(as (the kernel counts|sampled)", shown)
    assert any("4 of 4 compilations from ccache" in outcome["text"] for outcome in second["outcomes"])

    both = devkit("build", "stats", first["run"], second["run"])
    assert both.status == 0, both.err
    assert re.search(r"misses +4 +0\n", both.out)
    pair = json.loads(devkit("build", "stats", first["run"], second["run"], "--json").out)
    assert [part["misses"] for part in pair["ccache"]] == [4, 0]
    assert pair["memory"][0]["largest_mib"] == usage["memory"]["largest_mib"]


def test_a_failed_build_keeps_what_it_used_and_a_record_without_says_so(devkit: Devkit, project: Project) -> None:
    project.edit("paddle/phi/add_kernel.cc", "x + y", "x + z")
    failed = devkit("build", "--env", str(project.env), "--target", "phi", "--json", cwd=project.root)
    used = json.loads(failed.out)["usage"]
    assert used["ccache"]["uncacheable"] == {"compile_failed": 1}
    assert used["memory"]["largest_mib"] > 5
    project.edit("paddle/phi/add_kernel.cc", "x + z", "x + y")
    second = built(devkit, project, "--build-dir", "build-2")
    run = json.loads(failed.out)["run"]
    (folder,) = (state_home() / "runs").glob(f"*-build-{run}")
    record = json.loads((folder / "record.json").read_text())
    del record["usage"]
    (folder / "record.json").write_text(json.dumps(record))
    shown = devkit("build", "stats", run).out
    assert "ccache  this run's record has none" in shown
    assert "memory  this run's record has none" in shown
    both = devkit("build", "stats", run, second["run"]).out
    assert f"ccache: the record of {run} has none" in both
    assert f"memory: the record of {run} has none" in both


def test_a_ccache_without_a_log_is_read_by_its_counters(devkit: Devkit, project: Project, tmp_path: Path) -> None:
    older = tmp_path / "older"
    older.mkdir()
    (older / "ccache").write_text(f'#!/bin/sh\nunset CCACHE_STATSLOG\nexec {shutil.which("ccache")} "$@"\n')
    (older / "ccache").chmod(0o755)
    result = devkit(
        "build", "--env", str(project.env), "--target", "phi", "--json",
        cwd=project.root, env={"PATH": f"{older}:{os.environ['PATH']}"},
    )  # fmt: skip
    assert result.status == 0, result.err
    used = json.loads(result.out)["usage"]["ccache"]
    assert (used["misses"], used["alone"]) == (4, False)
    shown = devkit("build", "stats", "last").out
    assert "other builds at that time are in it" in shown


def test_the_last_run_is_the_last_that_built(devkit: Devkit, project: Project) -> None:
    first = built(devkit, project)
    assert devkit("build", "deps", cwd=project.root).status == 0
    result = devkit("build", "stats", "last", "--json", cwd=project.root)
    assert result.status == 0, result.err
    assert json.loads(result.out)["ccache"]["misses"] == first["usage"]["ccache"]["misses"]
