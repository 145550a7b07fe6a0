"""``devkit send`` and ``devkit recv`` as a user types them, over an ssh whose remote side is this machine."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import random
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from devkit.errors import UsageError
from devkit.transfer.remote.messages import Plan, proven
from devkit.transfer.remote.names import MAX_DEPTH
from devkit.transfer.remote.wire import ProtocolError
from devkit.transfer.ssh import RemotePath, fast_ciphers, parse_place
from devkit.transfer.words import parse_rate, parse_recv, parse_send, parse_size
from tests.forks import forks

from .conftest import REPOSITORY, Hosts, nest, tree

if TYPE_CHECKING:
    from tests.conftest import Devkit


def test_send_puts_a_folder_into_the_path(devkit: Devkit, remote: Hosts, source: Path) -> None:
    done = devkit("send", str(source), "h:backup")
    assert (done.status, done.out) == (0, "")
    assert "46 files sent" in done.err
    assert tree(remote.home / "backup" / "source") == tree(source)
    again = devkit("send", str(source), "h:backup")
    assert "0 files sent" in again.err
    assert "46 files unchanged" in again.err


def test_recv_brings_what_wildcards_name(devkit: Devkit, remote: Hosts, tmp_path: Path) -> None:
    for name in ("a.whl", "b.whl", "c.txt"):
        (remote.home / name).write_text(name)
    assert devkit("recv", "h:*.whl", "h:c.txt", "here").status == 0
    assert sorted(path.name for path in (tmp_path / "here").iterdir()) == ["a.whl", "b.whl", "c.txt"]
    missing = devkit("recv", "h:*.zip", "here")
    assert missing.status == 1
    assert "h: nothing matches *.zip" in missing.err


def test_names_reach_neither_shell(devkit: Devkit, remote: Hosts, tmp_path: Path) -> None:
    name = "$(touch pwned);`touch pwned`'\" && -x\n\\"
    (tmp_path / name).write_text("plain")
    assert devkit("send", f"./{name}", f"h:{name}/").status == 0
    assert (remote.home / name / name).read_text() == "plain"
    assert devkit("recv", f"h:{name}/{name}", "back/").status == 0
    assert (tmp_path / "back" / name).read_text() == "plain"
    assert not list(remote.home.glob("pwned"))
    assert not list(tmp_path.glob("pwned"))


def test_several_hosts_get_the_same_and_one_that_fails_stops_no_other(
    devkit: Devkit, remote: Hosts, source: Path
) -> None:
    done = devkit("send", f"{source}/", "h:x,g:y", "--json")
    assert done.status == 0
    assert [load["host"] for load in json.loads(done.out)] == ["h", "g"]
    assert tree(remote.home / "x") == tree(remote.other / "y") == tree(source)
    failed = devkit("send", f"{source}/script.sh", "h:z/,unreachable:z/")
    assert failed.status == 1
    assert "the connection to unreachable failed" in failed.err
    assert "No route to host" in failed.err
    assert (remote.home / "z" / "script.sh").is_file()


def test_several_hosts_send_at_once_into_one_folder(devkit: Devkit, remote: Hosts, tmp_path: Path) -> None:
    for home, host in ((remote.home, "h"), (remote.other, "g")):
        (home / "logs").mkdir()
        (home / "logs" / f"{host}.log").write_text(host)
        (home / "logs" / "both").write_text(host)
        (home / f"one.{host}").write_text(host)
    done = devkit("recv", "h:logs", "g:logs", "h:one.h,g:one.g", "here", "--json")
    assert done.status == 1
    first, second = json.loads(done.out)
    (refused,) = first["result"]["failed"] + second["result"]["failed"]
    sooner = "h" if second["result"]["failed"] else "g"
    assert refused == ["logs/both", f"{sooner} sends a file of this name too"]
    here = {name: what[1][0] for name, what in tree(tmp_path / "here").items() if what[1]}
    assert here == {
        "logs/h.log": b"h",
        "logs/g.log": b"g",
        "logs/both": sooner.encode(),
        "one.h": b"h",
        "one.g": b"g",
    }
    alone = devkit("recv", "h:one.h", "unreachable:x", "there")
    assert alone.status == 1
    assert "the connection to unreachable failed" in alone.err
    assert (tmp_path / "there" / "one.h").read_text() == "h"


def test_json_is_answered_where_it_fails_and_names_are_text(devkit: Devkit, remote: Hosts, tmp_path: Path) -> None:
    assert remote.home.is_dir()
    for words in (["recv", "unreachable:x", "."], ["recv", "h:none", "."], ["send", "none", "h:"]):
        done = devkit(*words, "--json")
        assert done.status == 1
        assert json.loads(done.out)[0]["error"]["what"]
    name = os.fsdecode("é数".encode() + b"\xff")
    (tmp_path / name).write_text("x")
    for flag in ("--dry-run", "--json"):
        done = devkit("send", name, "h:", "--json", flag)
        assert json.loads(done.out)[0]["plan"]["names"] == ["é数\\xff"]


def test_what_cannot_be_read_fails_and_what_is_never_sent_does_not(devkit: Devkit, remote: Hosts, source: Path) -> None:
    assert remote.home.is_dir()
    (source / "out").symlink_to("/somewhere else")
    done = devkit("send", f"{source}/", "h:x")
    assert done.status == 0
    assert "left out: out (a symbolic link that points out)" in done.err
    nest(source / "z", "d", MAX_DEPTH)
    for flag in ("--dry-run", "-q"):
        done = devkit("send", f"{source}/", "h:y", flag)
        assert done.status == 1
        assert "not everything could be read" in done.err
        assert "(its path is too long)" in done.err


# Stands between ssh and the remote shell, and the first time hangs up after some bytes.
FLAKY = """
import os, subprocess, sys
if os.path.exists(sys.argv[1]):
    os.execvp(sys.argv[2], sys.argv[2:])
open(sys.argv[1], "w").close()
child = subprocess.Popen(sys.argv[2:], stdout=subprocess.PIPE, bufsize=0)
passed = 0
while passed < 600:
    passed += os.write(1, child.stdout.read(600 - passed))
child.kill()
sys.exit(255)
"""


@pytest.mark.parametrize("words", [("send", "source/", "h:there"), ("recv", "h:source/", "there")])
def test_a_connection_that_ends_is_made_again_as_often_as_is_asked_for(
    words: tuple[str, ...], devkit: Devkit, remote: Hosts, source: Path, tmp_path: Path
) -> None:
    (remote.home / "source").symlink_to(source)
    flaky = tmp_path / "flaky.py"
    flaky.write_text(FLAKY)
    done = devkit(*words, "--retries", "2", env={"REMOTE_WRAP": f"{sys.executable} {flaky} {tmp_path}/calls"})
    assert done.status == 0, done.err
    assert "once more in 1 s (1 of 2)" in done.err
    assert tree(remote.home / "there" if words[0] == "send" else tmp_path / "there") == tree(source)
    (tmp_path / "calls").unlink()
    assert (
        devkit(*words[:-1], f"{words[-1]}2", env={"REMOTE_WRAP": f"{sys.executable} {flaky} {tmp_path}/calls"}).status
        == 1
    )


def test_what_was_copied_is_listed_where_that_is_asked_for(devkit: Devkit, remote: Hosts, tmp_path: Path) -> None:
    (tmp_path / "many").mkdir()
    for number in range(300):
        (tmp_path / "many" / f"{number} 文件").touch()
    assert remote.home.is_dir()
    done = devkit("send", "-v", "many", "h:")
    assert sum(line.startswith("  many/") for line in done.err.splitlines()) == 300


def test_dry_run_names_what_would_be_sent(devkit: Devkit, remote: Hosts, source: Path) -> None:
    done = devkit("send", str(source), "h:backup", "--dry-run")
    assert done.status == 0
    assert "source/nested/small 7" in done.out
    assert "46 files would be sent" in done.err
    assert list(remote.home.iterdir()) == []


def test_what_cannot_be_written_is_named_and_the_rest_arrives(devkit: Devkit, remote: Hosts, source: Path) -> None:
    (remote.home / "zero").mkdir()
    done = devkit("send", f"{source}/", "h:")
    assert done.status == 1
    assert "1 entry could not be sent" in done.err
    assert "zero (a folder is in its way)" in done.err
    assert (remote.home / "big.bin").is_file()


@pytest.mark.parametrize(
    "said",
    [
        {"files": "many"},
        {"files": True},
        {"bytes": -1},
        {"left_out": [["name"]]},
        {"left_out": [["\u20ac", "not bytes"]]},
        {"names": [7]},
        {"seconds": "long"},
        {"seconds": float("nan")},
        {"failed": 7},
        {"names": "abc"},
    ],
)
def test_what_a_far_side_says_of_its_work_is_not_believed_blindly(said: dict[str, Any]) -> None:
    counts = ("files", "bytes", "begun_bytes", "have_files", "have_bytes", "left_out_count")
    honest: dict[str, Any] = dict.fromkeys(counts, 0)
    assert proven(Plan, honest).names == ()
    with pytest.raises(ProtocolError):
        proven(Plan, {**honest, **said})


def test_interrupted_it_says_that_the_same_line_goes_on(remote: Hosts, heavy: Path) -> None:
    line = [sys.executable, "-m", "devkit", "send", f"{heavy}/", "h:there", "--limit", "5M"]
    process = subprocess.Popen(
        line, env={**os.environ, "PYTHONPATH": str(REPOSITORY)}, stderr=subprocess.PIPE, text=True
    )
    while process.poll() is None and not list(remote.home.rglob(".devkit-part-*")):
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "the same line goes on from where it was" in said


def test_a_far_side_without_python_says_so(devkit: Devkit, remote: Hosts, source: Path, tmp_path: Path) -> None:
    assert remote.home.is_dir()
    done = devkit("send", f"{source}/zero", "h:x", "--dry-run", env={"REMOTE_PATH": str(tmp_path)})
    assert done.status == 1
    assert "no Python 3.6 there" in done.err
    refused = devkit("send", f"{source}/zero", "h:x", "--delete", env={"REMOTE_PATH": str(tmp_path)})
    assert refused.status == 1
    assert "h runs no Python 3.6 or later" in refused.err


def test_the_record_tells_what_was_sent(devkit: Devkit, remote: Hosts, source: Path) -> None:
    assert remote.home.is_dir()
    devkit("send", f"{source}/big.bin", "h:")
    record = json.loads(devkit("runs", "show", "last", "--json").out)
    assert record["command"] == "send"
    assert record["result"][0]["result"]["bytes"] == 3_000_001


@pytest.mark.parametrize("word", ["-oProxyCommand=x:y", "a b:c", "$(x):y", "-:y", "user@-h;x:y", "rsync://h/x"])
def test_a_host_that_is_none_is_refused(word: str) -> None:
    with pytest.raises(UsageError):
        parse_send(["file", word])


def test_places_are_told_from_paths() -> None:
    assert parse_place("gpu7:work") == RemotePath("gpu7", "work")
    assert parse_place("me@gpu7:") == RemotePath("me@gpu7", "")
    assert parse_place("[::1]:/x:y") == RemotePath("[::1]", "/x:y")
    assert RemotePath("me@[::1]", "x").address == "me@::1"
    assert parse_place("./a:b") is None
    assert parse_place("plain") is None
    assert parse_recv(["h:a", "h:b", "./c:d"]) == ([(RemotePath("h", "a"), ("a", "b"))], "./c:d")
    both = [(RemotePath("h", "a"), ("a", "c")), (RemotePath("g", "b"), ("b", "d"))]
    assert parse_recv(["h:a", "g:b", "h:c,g:d", "."]) == (both, ".")
    assert parse_send(["a", "h:x,y"]) == (("a",), [RemotePath("h", "x,y")])
    with pytest.raises(UsageError) as said:
        parse_send(["h:x"])
    assert said.value.why == "Nothing stands before h:x."
    for words in (["h:x"], ["a", "b"], ["h:a", "h:b"], ["a", "h:x,h:x"]):
        with pytest.raises(UsageError):
            parse_send(words)
    for words in (["h:x"], ["a", "b"], ["h:a", "b", "."], ["h:a", "g:b"]):
        with pytest.raises(UsageError):
            parse_recv(words)


def test_rates_are_read_as_people_write_them() -> None:
    assert [parse_rate(word) for word in ("", "500k", "10M", "1.5GiB", "7", "2MB/s")] == [
        0,
        512_000,
        10 << 20,
        3 << 29,
        7,
        2 << 20,
    ]
    for word in ("fast", "0", "-1", "\u0661k"):
        with pytest.raises(UsageError, match="is not a rate"):
            parse_rate(word)
    assert [parse_size(word) for word in ("0", "10G", "2T", "")] == [0, 10 << 30, 2 << 40, 0]
    with pytest.raises(UsageError, match="is not a size"):
        parse_size("much")


def test_only_ciphers_that_the_user_allows_are_asked_for() -> None:
    assert fast_ciphers(["chacha20-poly1305@openssh.com", "aes128-ctr", "aes128-gcm@openssh.com"]) == [
        "aes128-gcm@openssh.com",
        "chacha20-poly1305@openssh.com",
        "aes128-ctr",
    ]


@dataclass
class Faults:
    """What came of killing either side at random moments, going on with the same line each time."""

    kills: int = 0
    rounds: int = 0
    needed: int = 0
    carried: int = 0

    @property
    def told(self) -> str:
        """The counts, in a line."""
        twice = self.carried - self.needed
        return (
            f"{self.kills} kills in {self.rounds} rounds, every file identical; {self.carried >> 20} MiB carried for "
            f"{self.needed >> 20} MiB: {twice >> 20} MiB twice, {twice / self.kills / (1 << 20):.2f} MiB a kill"
        )


def suffer(words: list[str], source: Path, there: Path, carried: Path, kills: int, seed: int) -> Faults:
    """Kill either side until so many kills hit; where a line comes to its end all must be there, and it begins anew.

    The last round that nobody disturbed says how long one takes; moments count from when the remote side is reached.
    """
    chance = random.Random(seed)  # noqa: S311 - moments that can be repeated
    size = sum(path.stat().st_size for path in source.rglob("*") if path.is_file())
    offered = tree(source)
    came = Faults()
    known: set[tuple[object, ...]] = set()
    longest = 0.0
    disturbed = False
    with ThreadPoolExecutor(1) as pool:
        while came.kills < kills or there.exists():
            pids: queue.Queue[int] = queue.Queue()
            connections = len(list(carried.iterdir()))
            line = pool.submit(forks().run, words, Path.cwd(), os.environ, started=pids.put)
            pid = pids.get(timeout=60)
            while not line.done() and len(list(carried.iterdir())) == connections:
                time.sleep(0.002)
            began = time.monotonic()
            moment = (
                longest * chance.random() ** 2
            )  # early ones, else what is left after a kill is done before the next
            wait({line}, moment if longest and came.kills < kills else None)
            if not line.done():
                victim = chance.choice([pid, *_below(pid)])
                with contextlib.suppress(ProcessLookupError):
                    os.kill(victim, signal.SIGKILL)
                    came.kills += 1
                disturbed = True
            done = line.result()
            _whole_or_absent(source, there, known)
            if done.status == 0:
                assert tree(there) == offered
                came.rounds += 1
                came.needed += size
                longest = longest if disturbed else time.monotonic() - began
                disturbed = False
                shutil.rmtree(there)
    came.carried = sum(int(file.read_text() or 0) for file in carried.iterdir())
    return came


def _below(pid: int) -> list[int]:
    try:
        return [child.pid for child in psutil.Process(pid).children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def _whole_or_absent(source: Path, there: Path, known: set[tuple[object, ...]]) -> None:
    """Compare each file that has its name, unless it is known to be whole and was not touched since."""
    for path in there.rglob("*"):
        if path.is_file() and not path.name.startswith(".devkit-part-"):
            status = path.stat()
            found = (path, status.st_ino, status.st_ctime_ns)
            assert found in known or path.read_bytes() == (source / path.relative_to(there)).read_bytes()
            known.add(found)


@pytest.fixture
def heavy(tmp_path: Path) -> Path:
    """A tree that takes a moment to send: big files and small ones."""
    root = tmp_path / "heavy"
    root.mkdir()
    for number in range(3):
        (root / f"big {number}").write_bytes(os.urandom(8 << 20))
    (root / "small").mkdir()
    for number in range(500):
        (root / "small" / str(number)).write_bytes(os.urandom(2000))
    return root


@pytest.fixture
def carried(remote: Hosts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in which each connection leaves the number of bytes that it carried, those left in its pipes too."""
    assert remote.home.is_dir()
    folder = tmp_path / "carried"
    folder.mkdir()
    counter = tmp_path / "counter.py"
    counter.write_text(COUNTER)
    monkeypatch.setenv("REMOTE_WRAP", f"{sys.executable} {counter} {folder}")
    return folder


# Stands between ssh and the remote shell, in both directions, and counts.
COUNTER = """
import os, subprocess, sys, threading
kept = os.open(os.path.join(sys.argv[1], str(os.getpid())), os.O_WRONLY | os.O_CREAT)
child = subprocess.Popen(sys.argv[2:], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
total = 0
def carry(source, target):
    global total
    try:
        while data := os.read(source, 65536):
            total += len(data)
            os.pwrite(kept, b"%020d" % total, 0)
            while data:
                data = data[os.write(target, data):]
    except OSError:
        pass
    os.close(target)
    os.close(source)  # else who writes there waits for ever
back = threading.Thread(target=carry, args=(child.stdout.fileno(), 1), daemon=True)
back.start()
into = os.dup(child.stdin.fileno())
child.stdin.close()
carry(0, into)
child.wait()
back.join()
sys.exit(child.returncode)
"""


def test_killed_on_either_side_the_same_line_goes_on(
    remote: Hosts, heavy: Path, carried: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    came = suffer(["send", f"{heavy}/", "h:there"], heavy, remote.home / "there", carried, kills=5, seed=3)
    with capsys.disabled():
        print(f"\n  {came.told}")  # noqa: T201 - the count is the point


@pytest.mark.slow
@pytest.mark.parametrize("way", ["send", "recv"])
def test_killed_hundreds_of_times_nothing_is_ever_wrong(
    way: str, remote: Hosts, heavy: Path, carried: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with (heavy / "huge").open("wb") as file:  # what is written past the page cache
        for _ in range(129):
            file.write(os.urandom(1 << 20))
    there = remote.home / "there" if way == "send" else tmp_path / "there"
    words = ["send", f"{heavy}/", "h:there"] if way == "send" else ["recv", f"h:{heavy}/", str(there)]
    kills = int(os.environ.get("TRANSFER_KILLS", "200"))
    came = suffer(words, heavy, there, carried, kills=kills, seed=5)
    with capsys.disabled():
        print(f"\n  {way}: {came.told}")  # noqa: T201 - the count is the point
    assert came.rounds > 1


def test_delete_removes_what_the_source_has_not_and_nothing_else(
    devkit: Devkit, remote: Hosts, source: Path, tmp_path: Path
) -> None:
    assert devkit("send", str(source), "h:").status == 0
    there = remote.home / "source"
    (there / "nested" / "old").mkdir()
    (there / "nested" / "old" / "file").write_text("old")
    (there / "gone.txt").write_text("gone")
    (there / "kept.log").write_text("kept")
    (there / "link out").symlink_to(tmp_path)
    (remote.home / "beside").write_text("not in a folder that is copied")
    shown = devkit("send", "--delete", "--exclude", "*.log", "--dry-run", str(source), "h:")
    assert [line for line in shown.out.splitlines() if line.startswith("remove ")] == [
        "remove source/gone.txt",
        "remove source/link out",
        "remove source/nested/old",
    ]
    result = devkit("send", "--delete", "--exclude", "*.log", str(source), "h:")
    assert result.status == 0, result.err
    assert "4 entries removed" in result.err
    assert (there / "kept.log").exists()
    assert (remote.home / "beside").exists()
    assert tmp_path.is_dir()
    (there / "kept.log").unlink()
    assert tree(there) == tree(source)


def test_delete_removes_nothing_where_something_could_not_be_read_or_a_word_is_wrong(
    devkit: Devkit, remote: Hosts, tmp_path: Path
) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "a").write_text("a")
    assert devkit("send", f"{source}/", "h:there").status == 0
    (remote.home / "there" / "old").write_text("old")
    os.mkfifo(source / "pipe")
    devkit("send", "--delete", f"{source}/", "h:there")
    assert (remote.home / "there" / "old").exists()
    refused = devkit("send", "--delete", "--gitignore", f"{source}/", "h:there")
    assert (refused.status, "do not go together" in refused.err) == (2, True)
    (source / "pipe").unlink()
    assert devkit("recv", "--delete", "h:there/", str(source)).status == 0
    assert (source / "old").exists()


def test_update_leaves_what_is_newer(devkit: Devkit, remote: Hosts, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("older")
    os.utime(tmp_path / "file", (1_000_000_000,) * 2)
    (remote.home / "file").write_text("newer")
    assert devkit("send", "--update", "file", "h:").status == 0
    assert (remote.home / "file").read_text() == "newer"
    assert devkit("send", "file", "h:").status == 0
    assert (remote.home / "file").read_text() == "older"


def test_links_are_followed_where_that_is_asked_for(devkit: Devkit, remote: Hosts, tmp_path: Path) -> None:
    (tmp_path / "src" / "in").mkdir(parents=True)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "weights").write_bytes(b"w" * 100_000)
    (tmp_path / "src" / "in" / "link").symlink_to("../../data/weights")
    (tmp_path / "src" / "folder").symlink_to("../data")
    (tmp_path / "src" / "around").symlink_to("..")
    (tmp_path / "src" / "nowhere").symlink_to("none")
    done = devkit("send", "-L", "src", "h:")
    (tmp_path / "src" / "around").unlink()
    (tmp_path / "src" / "nowhere").unlink()
    back = devkit("recv", "-L", f"h:{tmp_path}/src/", "back")
    assert done.status == 1
    assert "src/nowhere (a symbolic link that leads nowhere)" in done.err
    assert "a symbolic link to a folder that it is in" in done.err
    for there in (remote.home / "src", tmp_path / "back"):
        for path in (there / "in" / "link", there / "folder" / "weights"):
            assert (path.is_symlink(), path.read_bytes()) == (False, b"w" * 100_000)
    assert back.status == 0


def test_a_backup_keeps_what_is_replaced_and_removed(devkit: Devkit, remote: Hosts, tmp_path: Path) -> None:
    (tmp_path / "src").mkdir()
    there = remote.home / "src"
    (there / "gone").mkdir(parents=True)
    for name in ("small", "large", "same", "gone/old"):
        (there / name).write_text("old")
    (tmp_path / "src" / "small").write_text("new")
    (tmp_path / "src" / "large").write_bytes(bytes(1 << 20))
    (tmp_path / "src" / "same").write_text("old")
    os.utime(tmp_path / "src" / "same", ns=((there / "same").stat().st_mtime_ns,) * 2)
    for _ in range(2):
        assert devkit("send", "--backup", "--delete", "src", "h:").status == 0
    assert {(there / name).read_text() for name in ("small~", "large~", "gone/old~")} == {"old"}
    assert (there / "small").read_text() == "new"
    assert not (there / "same~").exists()


def test_only_what_a_list_names_is_copied(devkit: Devkit, remote: Hosts, source: Path, tmp_path: Path) -> None:
    (tmp_path / "list").write_text("nested/small 3\nscript.sh\nnested/deep\n")
    assert devkit("send", "--files-from", "list", "source", "h:out").status == 0
    found = {str(path.relative_to(remote.home / "out")) for path in (remote.home / "out").rglob("*")}
    deep = {"nested/deep", "nested/deep/line\nbreak", "nested/deep/up"}
    assert found == {"nested", "nested/small 3", "script.sh", *deep}
    result = devkit("recv", "--files-from", "-", f"h:{source}", "back", data="zero\0none\0")
    assert (result.status, [path.name for path in (tmp_path / "back").iterdir()]) == (1, ["zero"])
    assert "none (it is not there)" in result.err
    for words in (("--files-from", "list", "list", "h:x"), ("--delete", "--files-from", "list", "source", "h:x")):
        assert devkit("send", *words).status in (1, 2)
    (tmp_path / "list").write_text("../secret\n")
    assert devkit("send", "--files-from", "list", "source", "h:x").status == 2
