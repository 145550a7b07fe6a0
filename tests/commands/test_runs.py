"""devkit runs as a user sees it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from devkit.errors import DevkitError
from devkit.runs import RunStore
from devkit.text import zone

if TYPE_CHECKING:
    from tests.conftest import Devkit


@pytest.fixture
def store(home: Path) -> RunStore:
    """The user's store with three runs: one that failed, one with a log, one that holds a checkpoint."""
    store = RunStore(home / ".local/state/devkit/runs", keep=200, max_mib=2048)
    with pytest.raises(DevkitError), store.start("pr fetch", argv=["pr", "fetch", "7"]):
        raise DevkitError("pull request 7 was not found", "The forge has none.")
    with store.start("bench attn", argv=["bench", "attn"]) as run:
        run.log("worker").write_text("a line\n")
    with store.start("train", argv=["train"]) as run:
        run.hold("checkpoint")
    return store


def test_list_is_newest_first_with_states(devkit: Devkit, store: RunStore) -> None:
    result = devkit("runs", "list")
    lines = result.out.splitlines()
    words = ["run", "started", f"({zone()})", "command", "with", "state", "took", "size", "holds"]
    assert lines[0].split() == words
    assert [entry.record["command"] for entry in store.entries()] == ["train", "bench attn", "pr fetch"]
    assert "done" in lines[2]
    assert lines[2].endswith("checkpoint")
    assert "failed" in lines[4]
    assert len(lines) == 5


@pytest.mark.usefixtures("store")
def test_list_by_command_and_number(devkit: Devkit) -> None:
    assert [load["command"] for load in json.loads(devkit("runs", "list", "--json", "-n", "2").out)] == [
        "train",
        "bench attn",
    ]
    assert [load["command"] for load in json.loads(devkit("runs", "list", "--json", "--command", "pr").out)] == [
        "pr fetch"
    ]


def test_no_runs_yet(devkit: Devkit) -> None:
    result = devkit("runs", "list")
    assert (result.status, result.out) == (0, "")
    assert result.err.startswith("no runs yet\n")
    assert json.loads(devkit("runs", "list", "--json").out) == []


def test_show_tells_the_line_the_machine_and_the_error(devkit: Devkit, store: RunStore) -> None:
    failed = next(entry for entry in store.entries() if entry.state == "failed")
    result = devkit("runs", "show", failed.id)
    assert result.status == 0
    assert "devkit pr fetch 7" in result.out
    assert "pull request 7 was not found" in result.out
    assert str(failed.folder) in result.out
    record = json.loads(devkit("runs", "show", "--json", failed.id[:3]).out)
    assert record["error"]["why"] == "The forge has none."


def test_show_of_a_record_that_lacks_most_is_no_bug(devkit: Devkit, home: Path) -> None:
    folder = home / ".local/state/devkit/runs/20260101T000000-x-abcd"
    folder.mkdir(parents=True)
    (folder / "record.json").write_text('{"id": "abcd", "command": "x", "started": "2026-01-01"}')
    assert devkit("runs", "list").status == 0
    result = devkit("runs", "show", "abcd")
    assert result.status == 0
    assert "killed" in result.out


@pytest.mark.usefixtures("store")
def test_open_prints_the_folder_on_a_pipe(devkit: Devkit) -> None:
    result = devkit("runs", "open", "last", "--path")
    assert Path(result.out.strip()).is_dir()
    assert devkit("runs", "open").out == result.out


def test_clean_shows_its_plan_then_does_it_and_spares_what_is_held(devkit: Devkit, store: RunStore) -> None:
    planned = devkit("runs", "clean", "--keep", "0", "--dry-run")
    assert planned.out.count("rm -r -- ") == 2
    assert len(list(store.entries())) == 3
    result = devkit("runs", "clean", "--keep", "0")
    assert result.err.startswith("✓ removed 2 runs, ")
    assert [entry.record["command"] for entry in store.entries()] == ["train"]


@pytest.mark.usefixtures("store")
def test_an_unknown_run_says_how_to_find_one(devkit: Devkit) -> None:
    result = devkit("runs", "show", "zzzz")
    assert (result.status, result.out) == (1, "")
    assert result.err == "✗ there is no run zzzz\n  → devkit runs list\n"


def test_runs_of_one_command_are_told_apart_by_the_flags_that_differ(devkit: Devkit, home: Path) -> None:
    store = RunStore(home / ".local/state/devkit/runs", keep=200, max_mib=2048)
    for seed in ("0", "5"):
        with store.start("train", argv=["train", "--steps", "1", "--seed", seed, "-q"]):
            pass

    lines = devkit("runs", "list").out.splitlines()
    assert "--seed 5" in lines[2]
    assert "--seed 0" in lines[3]
    assert "--steps" not in lines[2]
