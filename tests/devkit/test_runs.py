"""Run records: what they hold, which are kept, and how a killed run looks."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from devkit.errors import BadVerdict, DevkitError
from devkit.runs import Run, RunStore

if TYPE_CHECKING:
    from devkit.runs import Hold

REPOSITORY = Path(__file__).parent.parent.parent


@pytest.fixture
def store(tmp_path: Path) -> RunStore:
    """An empty store that keeps five runs of together a MiB."""
    return RunStore(tmp_path / "runs", keep=5, max_mib=1)


def made(store: RunStore, command: str = "bench attn", *, size: int = 0, hold: Hold | None = None) -> Run:
    """Return a run that ended."""
    with store.start(command, argv=command.split()) as run:
        (run.folder / "data").write_bytes(os.urandom(size))
        if hold:
            run.hold(hold)
    return run


def ids(store: RunStore) -> set[str]:
    return {entry.id for entry in store.entries()}


def test_record_says_what_was_run_where_and_what_came_of_it(store: RunStore) -> None:
    with store.start("pr fetch", arguments={"number": 7}, argv=["pr", "fetch", "7"]) as run:
        run.record["result"] = {"commits": 3}
    (entry,) = store.entries()
    record = entry.record
    assert (record["command"], record["arguments"], record["reproduce"]) == (
        "pr fetch",
        {"number": 7},
        "devkit pr fetch 7",
    )
    assert (record["status"], record["result"], entry.state) == (0, {"commits": 3}, "done")
    assert record["host"]["cores"] >= 1
    assert record["seconds"] >= 0
    assert "-pr-fetch-" in entry.folder.name


def test_record_and_events_are_redacted(store: RunStore) -> None:
    with store.start(
        "get", arguments={"url": "http://me:geheim@h/x", "token": "abcdef"}, argv=["get", "--token", "abcdef"]
    ) as run:
        run.event({"event": "step", "proxy": "http://me:geheim@p:1"})
        run.record["result"] = "password=geheim"
    text = (run.folder / "record.json").read_text() + (run.folder / "events.jsonl").read_text()
    assert "geheim" not in text
    assert "abcdef" not in text
    assert json.loads((run.folder / "events.jsonl").read_text())["proxy"] == "http://***@p:1"


@pytest.mark.parametrize(
    ("error", "status", "state"),
    [
        (DevkitError("no", "because", "do"), 1, "failed"),
        (BadVerdict("wrong"), 4, "bad verdict"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (KeyError("bug"), 3, "failed"),
    ],
)
def test_an_error_is_recorded_and_passes_on(store: RunStore, error: BaseException, status: int, state: str) -> None:
    with pytest.raises(type(error)), store.start("x", argv=[]):
        raise error
    (entry,) = store.entries()
    assert (entry.record["status"], entry.state) == (status, state)


def test_a_run_that_goes_on_is_running_and_a_killed_one_is_killed(store: RunStore) -> None:
    code = (
        "import pathlib, sys, time\nfrom devkit.runs import RunStore\n"
        "with RunStore(pathlib.Path(sys.argv[1]), keep=5, max_mib=1).start('train', argv=[]) as run:\n"
        "    print(run.id, flush=True)\n    time.sleep(60)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, store.root],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
    )
    with process:
        assert process.stdout is not None
        run_id = process.stdout.readline().strip()
        assert store.find(run_id).state == "running"
        process.send_signal(signal.SIGKILL)
        process.wait(10)
    assert store.find(run_id).state == "killed"


def test_the_oldest_beyond_the_number_are_removed(store: RunStore) -> None:
    runs = [made(store, f"{name} {number}") for number, name in enumerate("zayb")]
    runs += [made(store) for _ in range(3)]
    assert ids(store) == {run.id for run in runs[2:]}


def test_the_bound_on_size_counts_what_the_folders_take(store: RunStore) -> None:
    for _ in range(4):
        made(store, size=400_000)
    assert len(ids(store)) == 2
    assert sum(entry.size for entry in store.entries()) <= 2**20


@pytest.mark.parametrize("hold", ["checkpoint", "undo", "transfer"])
def test_what_holds_something_is_never_removed(store: RunStore, hold: Hold) -> None:
    held = made(store, size=2_000_000, hold=hold)
    for _ in range(8):
        made(store)
    assert held.id in ids(store)
    again = store.find(held.id)
    assert again.record["holds"] == [hold]


def test_a_run_that_goes_on_is_never_removed_by_another(store: RunStore) -> None:
    with store.start("train", argv=[]) as going:
        for _ in range(8):
            made(store)
        assert store.find(going.id).running


def test_what_let_go_of_its_hold_is_removed(store: RunStore) -> None:
    with store.start("send", argv=[]) as run:
        run.hold("transfer")
        run.release("transfer")
    store.keep = 0
    assert [entry.id for entry in store.prune()] == [run.id]


def test_a_run_never_removes_itself(tmp_path: Path) -> None:
    store = RunStore(tmp_path, keep=0, max_mib=0)
    run = made(store, size=100_000)
    assert ids(store) == {run.id}


def test_unreadable_records_are_passed_over(store: RunStore) -> None:
    run = made(store)
    for number, text in enumerate(
        ["", "{", "[]", "3", "{}", '{"id": "x"}', '{"id": 3, "command": [], "started": 1}', "\udce9"]
    ):
        folder = store.root / f"2026010{number}T000000-x-broken"
        folder.mkdir()
        (folder / "record.json").write_bytes(text.encode(errors="surrogateescape"))
    (store.root / "20260101T000000-x-empty").mkdir()
    (store.root / "a file").touch()
    assert ids(store) == {run.id}
    made(store)


def test_a_removal_that_was_cut_off_is_not_listed_and_is_finished_later(store: RunStore) -> None:
    run = made(store)
    grave = store.root / f".removed-{run.folder.name}"
    run.folder.rename(grave)
    assert ids(store) == set()
    store.prune()
    assert not grave.exists()


def test_devkits_that_end_at_once_do_not_trip_over_each_other(store: RunStore) -> None:
    code = (
        "import pathlib, sys\nfrom devkit.runs import RunStore\n"
        "store = RunStore(pathlib.Path(sys.argv[1]), keep=3, max_mib=1)\n"
        "for _ in range(12):\n    with store.start('x', argv=[]) as run: run.event({'event': 'e'})\n"
    )
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", code, store.root],
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        )
        for _ in range(4)
    ]
    complaints = [process.communicate(timeout=60)[1] for process in processes]
    assert [process.returncode for process in processes] == [0] * 4, complaints
    assert len(ids(store)) <= 4
    assert not list(store.root.glob(".removed-*"))


def test_events_of_several_threads_are_whole_lines(store: RunStore) -> None:
    with store.start("x", argv=[]) as run:

        def write(name: str) -> None:
            for _ in range(100):
                run.event({"name": name * 200})

        threads = [threading.Thread(target=write, args=(name,)) for name in "abcd"]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
    lines = (run.folder / "events.jsonl").read_text().splitlines()
    assert len(lines) == 400
    assert {len(set(json.loads(line)["name"])) for line in lines} == {1}


def test_a_run_is_found_by_the_beginning_of_its_id(store: RunStore) -> None:
    run = made(store)
    assert store.find(run.id[:3]).id == run.id
    assert store.find("last").id == run.id


def test_a_run_that_is_not_there_or_not_one_is_an_error(store: RunStore) -> None:
    with pytest.raises(DevkitError, match="there is no run yet"):
        store.find("last")
    made(store)
    run = made(store, "pr fetch")
    with pytest.raises(DevkitError, match="there is no run of devkit train yet") as caught:
        store.find("last", command="train")
    assert str(caught.value.hints[0]) == "devkit runs list --command train"
    with pytest.raises(DevkitError, match=f"run {run.id} is one of devkit pr fetch, not of devkit bench"):
        store.find(run.id, command="bench")
    with pytest.raises(DevkitError, match="there is no run zzzz of devkit bench"):
        store.find("zzzz", command="bench")
    with pytest.raises(DevkitError, match="there is no run zzzz"):
        store.find("zzzz")
    with pytest.raises(DevkitError, match="not one run") as caught:
        store.find("")
    assert all(id_ in caught.value.why for id_ in ids(store))


def test_the_last_run_is_the_newest_even_within_a_second(store: RunStore) -> None:
    for command in ("z", "a", "m", "b"):
        run = made(store, command)
        assert store.find("last").id == run.id


def test_a_store_that_cannot_be_written_is_said_once_and_stops_no_work(tmp_path: Path) -> None:
    (tmp_path / "runs").touch()
    said: list[str] = []
    store = RunStore(tmp_path / "runs", keep=1, max_mib=1, say=said.append)
    with store.start("x", argv=[]) as run:
        run.log("uv").write_text("it works\n")
        run.event({"event": "step"})
        folder = run.folder
    assert len(said) == 1
    assert "no record of this run is kept" in said[0]
    assert not folder.exists()


def test_a_checkpoint_of_a_run_without_a_record_is_not_removed(tmp_path: Path) -> None:
    (tmp_path / "runs").touch()
    said: list[str] = []
    with RunStore(tmp_path / "runs", keep=1, max_mib=1, say=said.append).start("train", argv=[]) as run:
        (run.folder / "checkpoint").mkdir()
        run.hold("checkpoint")
    assert (run.folder / "checkpoint").is_dir()
    assert str(run.folder) in said[-1]
    shutil.rmtree(run.folder)


def test_a_disk_that_fills_up_stops_no_work(store: RunStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stands in for a full disk: only the record's writing fails."""

    def full(*_: object, **__: object) -> None:
        raise DevkitError("record.json cannot be written", "No space left on device.")

    said: list[str] = []
    store.say = said.append
    with store.start("x", argv=[]) as run:
        monkeypatch.setattr("devkit.runs.write_atomically", full)
        run.save()
        run.hold("undo")
    assert len(said) == 1


def test_a_file_system_without_locks_stops_no_work(store: RunStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stands in for a network disk without a lock service."""

    def refused(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", refused)
    with store.start("x", argv=[]) as run:
        assert store.find(run.id).state == "running"
    assert store.find(run.id).state == "done"


def test_a_folder_without_a_record_is_cleaned_first(store: RunStore) -> None:
    kept = made(store, "train")
    orphan = store.root / "20200101T000000.000-train-dead"
    orphan.mkdir()
    (orphan / "log").write_text("x")
    store.keep = 1
    store.prune()
    assert not orphan.exists()
    assert store.find(kept.id)
