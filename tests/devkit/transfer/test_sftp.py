"""``send`` and ``recv`` where the account admits nothing but sftp, over a real sshd."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest

from devkit.transfer.copy import Planned, Watch
from devkit.transfer.remote.manifest import describe
from devkit.transfer.remote.messages import Choice, Options, Plan
from devkit.transfer.sftp import sending
from devkit.transfer.ssh import RemotePath

from .conftest import REPOSITORY, tree
from .test_sshd import let_in_for_sftp_alone, small_disk

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.conftest import Devkit

__all__ = ["small_disk"]
pytestmark = [pytest.mark.engine, pytest.mark.usefixtures("_sftp_only")]


@pytest.fixture
def _sftp_only(sshd: Path) -> None:
    let_in_for_sftp_alone(sshd)


def files(root: Path) -> dict[str, Any]:
    """Return the content, whole seconds and mode of each file below a folder."""
    return {
        name: (what[0], what[1] // 10**9, what[2]) for name, (_, what) in tree(root).items() if isinstance(what, tuple)
    }


def parts(root: Path) -> list[Path]:
    """Return the temporary files below a folder."""
    return list(root.rglob(".devkit-part-*"))


def devkit_killed(*words: str, when: Callable[[], bool] = lambda: False, after_s: float = 60) -> int:
    """Kill a devkit of its own, and what it started, as soon as something holds, or after some time."""
    until = time.monotonic() + after_s
    line = [sys.executable, "-m", "devkit", *words]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    process = subprocess.Popen(line, env=environment, stderr=subprocess.DEVNULL, start_new_session=True)
    while process.poll() is None and not when() and time.monotonic() < until:
        time.sleep(0.002)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    return process.wait(20)


def holds(folder: Path, count: int) -> Callable[[], bool]:
    """Return what tells whether a part below a folder holds so many bytes."""

    def check() -> bool:
        with contextlib.suppress(OSError):
            return any(part.stat().st_size >= count for part in parts(folder) if part.is_file())
        return False

    return check


def answer(done: Any) -> dict[str, Any]:
    """Return the JSON that devkit answered for the one host."""
    found: dict[str, Any] = json.loads(done.out)[0]
    return found


def test_recv_goes_on_within_a_file_after_a_kill(devkit: Devkit, tmp_path: Path) -> None:
    big = tmp_path / "big"
    big.write_bytes(os.urandom(64 << 20))
    here = tmp_path / "here"
    here.mkdir()
    devkit_killed("recv", f"box:{big}", f"{here}/", when=holds(here, 8 << 20))
    assert not (here / "big").exists()
    (part,) = parts(here)
    begun = part.stat()
    assert 8 << 20 <= begun.st_size < 64 << 20
    again = devkit("recv", f"box:{big}", f"{here}/", "--json")
    assert again.status == 0, again.err
    assert (here / "big").stat().st_ino == begun.st_ino
    assert answer(again)["result"]["same_bytes"] == begun.st_size
    assert files(here) == {"big": files(tmp_path)["big"]}


def test_half_of_another_version_is_thrown_away(devkit: Devkit, tmp_path: Path) -> None:
    big = tmp_path / "big"
    here = tmp_path / "here"
    here.mkdir()
    for second in (1_600_000_000, 1_600_000_001):  # another time alone makes another version
        big.write_bytes(os.urandom(48 << 20))
        os.utime(big, (second, second))
        if second == 1_600_000_000:
            devkit_killed("recv", f"box:{big}", f"{here}/", when=holds(here, 4 << 20))
    (part,) = parts(here)
    assert part.stat().st_size >= 4 << 20
    again = devkit("recv", f"box:{big}", f"{here}/", "--json")
    assert again.status == 0, again.err
    assert answer(again)["result"]["same_bytes"] == 0
    assert [path.name for path in here.iterdir()] == ["big"]
    assert (here / "big").read_bytes() == big.read_bytes()


@pytest.mark.parametrize("word", ["send", "recv"])
def test_what_is_there_with_its_size_and_time_is_not_copied_again(word: str, devkit: Devkit, tmp_path: Path) -> None:
    (tmp_path / "from" / "deep").mkdir(parents=True)
    for name in ("one", "deep/two", "deep/changed"):
        (tmp_path / "from" / name).write_text(name)
    to = tmp_path / "to"
    words = [f"{tmp_path}/from/", f"box:{to}"] if word == "send" else [f"box:{tmp_path}/from/", str(to)]
    assert devkit(word, *words).status == 0
    assert files(to) == files(tmp_path / "from")
    before = {name: (to / name).stat().st_ino for name in ("one", "deep/two")}
    (tmp_path / "from" / "deep" / "changed").write_text("longer than before")
    (tmp_path / "from" / "one").chmod(0o600)
    again = devkit(word, *words, "--json")
    assert again.status == 0, again.err
    assert (answer(again)["result"]["files"], answer(again)["result"]["bytes"]) == (1, 18)
    assert {name: (to / name).stat().st_ino for name in before} == before
    assert files(to) == files(tmp_path / "from")


NAMES = [
    b"plain", b"with space", b"-rf", b"--", b'"double"', b"it's", b"star*", b"que?ry", b"[ab]", b"#hash", b"tab\there",
    b"line\nbreak", b"back\\slash", b"trailing ", b" leading", b"not-utf-8-\xff\xfe", b"$(touch pwned)",
    b"; !touch pwned", "ünïcode 文件".encode(), b"~", b"a:b", b"~root", b".hidden", b"cr\rlf", b"n" * 255,
]  # fmt: skip


def test_any_name_goes_and_comes_back(devkit: Devkit, tmp_path: Path) -> None:
    root = tmp_path / "odd"
    for folder in (root, root / "-a *folder\n"):
        folder.mkdir()
        for number, name in enumerate(NAMES):
            with open(os.fsencode(folder) + b"/" + name, "wb") as file:  # noqa: PTH123 - the names are bytes
                file.write(b"%d " % number + name)
    sent = devkit("send", str(root), f"box:{tmp_path}/there")
    assert sent.status == 0, sent.err
    assert files(tmp_path / "there" / "odd") == files(root)
    back = devkit("recv", f"box:{tmp_path}/there/odd/", "back")
    assert back.status == 0, back.err
    assert files(tmp_path / "back") == files(root)
    named = devkit("recv", *(f"box:{tmp_path}/odd/{os.fsdecode(name)}" for name in NAMES), "named")
    assert named.status == 0, named.err
    assert {os.fsencode(word) for word in os.listdir(tmp_path / "named")} == set(NAMES)  # noqa: PTH208 - names are bytes
    assert not list(tmp_path.rglob("pwned"))


def test_wildcards_name_what_is_there(devkit: Devkit, tmp_path: Path) -> None:
    for name in ("a/x.log", "b/y.log", "b/.hidden.log", "b/z.txt"):
        (tmp_path / "remote" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "remote" / name).write_text(name)
    done = devkit("recv", f"box:{tmp_path}/r?mote/*/[xy]*.log", f"box:{tmp_path}/remote/b/*.log", "here")
    assert done.status == 0, done.err
    assert sorted(files(tmp_path / "here")) == ["x.log", "y.log"]
    none = devkit("recv", f"box:{tmp_path}/remote/*.none", "here")
    assert none.status == 1
    assert "nothing matches" in none.err


def test_a_folders_content_and_a_file_come_in_one_line(devkit: Devkit, tmp_path: Path) -> None:
    (tmp_path / "remote" / "sub").mkdir(parents=True)
    (tmp_path / "remote" / "sub" / "in").write_text("in")
    (tmp_path / "file").write_text("file")
    done = devkit("recv", f"box:{tmp_path}/remote/", f"box:{tmp_path}/file", "here")
    assert done.status == 0, done.err
    assert sorted(files(tmp_path / "here")) == ["file", "sub/in"]


def test_links_lead_out_at_neither_end(devkit: Devkit, tmp_path: Path) -> None:
    (tmp_path / "from" / "sub").mkdir(parents=True)
    (tmp_path / "from" / "sub" / "in").write_text("in")
    (tmp_path / "from" / "file").write_text("file")
    (tmp_path / "from" / "link").symlink_to("file")
    for word in ("recv", "send"):
        outside, to = tmp_path / f"outside-{word}", tmp_path / f"to-{word}"
        outside.mkdir()
        to.mkdir()
        (outside / "kept").write_text("kept")
        (to / "sub").symlink_to(outside)
        (to / "file").symlink_to(outside / "kept")
        box = [f"{tmp_path}/from/", f"box:{to}"] if word == "send" else [f"box:{tmp_path}/from/", str(to)]
        done = devkit(word, *box)
        assert done.status == 1
        assert "symbolic link" in done.err
        assert files(outside) == {"kept": files(outside)["kept"]}
        assert (outside / "kept").read_text() == "kept"
        assert not (to / "file").is_symlink()
        assert (to / "file").read_text() == "file"


@pytest.mark.parametrize("word", ["send", "recv"])
def test_what_is_in_the_way_of_one_file_stops_no_other(word: str, devkit: Devkit, tmp_path: Path) -> None:
    (tmp_path / "from").mkdir()
    for name in ("a", "b", "c"):
        (tmp_path / "from" / name).write_text(name)
    (tmp_path / "to" / "b" / "folder").mkdir(parents=True)
    to = tmp_path / "to"
    words = [f"{tmp_path}/from/", f"box:{to}"] if word == "send" else [f"box:{tmp_path}/from/", str(to)]
    done = devkit(word, *words)
    assert done.status == 1
    assert "a folder is in its way" in done.err
    assert sorted(files(to)) == ["a", "c"]
    assert not parts(to)


@pytest.mark.parametrize("word", ["send", "recv"])
def test_a_file_that_changes_on_its_way_is_not_taken_for_whole(word: str, devkit: Devkit, tmp_path: Path) -> None:
    big = tmp_path / "big"
    big.write_bytes(bytes(96 << 20))
    to = tmp_path / "to"
    to.mkdir()
    words = [str(big), f"box:{to}/"] if word == "send" else [f"box:{big}", f"{to}/"]
    line = [sys.executable, "-m", "devkit", word, *words]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    with subprocess.Popen(line, env=environment, stderr=subprocess.PIPE, text=True) as process:
        while process.poll() is None and not holds(to, 1 << 20)():
            time.sleep(0.002)
        with big.open("r+b") as file:
            for offset in range(0, 96 << 20, 1 << 20):
                os.pwrite(file.fileno(), b"changed", offset)
        os.utime(big, (1_600_000_000, 1_600_000_000))
        said = process.communicate(timeout=60)[1]
    assert process.returncode == 1, said
    assert "changed while it was read" in said
    assert not (to / "big").exists()
    assert devkit(word, *words).status == 0
    assert (to / "big").read_bytes() == big.read_bytes()
    assert not parts(to)


@pytest.mark.parametrize("word", ["send", "recv"])
def test_a_log_that_grows_on_its_way_arrives_as_far_as_it_went_and_that_is_said(word: str, tmp_path: Path) -> None:
    log = tmp_path / "train.log"
    log.write_bytes(os.urandom(32 << 20))
    to = tmp_path / "to"
    words = [str(log), f"box:{to}/"] if word == "send" else [f"box:{log}", f"{to}/"]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    line = [sys.executable, "-m", "devkit", word, *words]
    with subprocess.Popen(line, env=environment, stderr=subprocess.PIPE, text=True) as process:
        with log.open("ab", 0) as file:
            while process.poll() is None:
                file.write(b"one more line\n")
                time.sleep(0.002)
        said = process.communicate(timeout=60)[1]
    assert process.returncode == 0, said
    assert "changed while it was read" in said
    came = (to / "train.log").read_bytes()
    assert len(came) >= 32 << 20
    assert log.read_bytes().startswith(came)


@pytest.mark.parametrize("word", ["send", "recv"])
@pytest.mark.parametrize("there", ["nothing", "a folder in the way", "a file in the way"])
def test_a_dry_run_says_what_the_run_does(there: str, word: str, devkit: Devkit, tmp_path: Path) -> None:
    (tmp_path / "from" / "sub").mkdir(parents=True)
    for name in ("a", "sub/b", "sub/c"):
        (tmp_path / "from" / name).write_text(name)
    to = tmp_path / "to"
    if there == "a folder in the way":
        (to / "a").mkdir(parents=True)
    elif there == "a file in the way":
        to.mkdir()
        (to / "sub").write_text("a file")
    words = [f"{tmp_path}/from/", f"box:{to}"] if word == "send" else [f"box:{tmp_path}/from/", str(to)]
    before = sorted(to.rglob("*"))
    dry = devkit(word, *words, "--dry-run", "--json")
    assert sorted(to.rglob("*")) == before
    run = devkit(word, *words, "--json")
    assert (dry.status, answer(dry)["plan"]["files"]) == (run.status, answer(run)["plan"]["files"])
    assert answer(dry)["result"]["failed"] == answer(run)["result"]["failed"]


@pytest.mark.parametrize("word", ["send", "recv"])
def test_with_room_on_the_disk_it_goes_on(word: str, devkit: Devkit, small_disk: Path, tmp_path: Path) -> None:
    (tmp_path / "from").mkdir()
    (tmp_path / "from" / "big").write_bytes(os.urandom(60 << 20))
    (tmp_path / "from" / "more").write_bytes(os.urandom(50 << 20))
    (small_disk / "greedy").write_bytes(bytes(70 << 20))
    to = small_disk / "to"
    words = [f"{tmp_path}/from/", f"box:{to}"] if word == "send" else [f"box:{tmp_path}/from/", str(to)]
    full = devkit(word, *words)
    assert full.status == 1
    assert "cannot be written" in full.err
    (small_disk / "greedy").unlink()
    again = devkit(word, *words, "--json")
    assert again.status == 0, again.err
    assert answer(again)["result"]["same_bytes"] > 10 << 20
    assert files(to) == files(tmp_path / "from")
    assert not parts(to)


@pytest.mark.parametrize("word", ["send", "recv"])
def test_killed_at_random_it_ends_with_every_file_as_it_is(word: str, devkit: Devkit, tmp_path: Path) -> None:
    dice = random.Random(11)  # noqa: S311 - a test's
    for number in range(60):
        path = tmp_path / "from" / f"folder {number % 5}" / f"file {number}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(dice.randbytes(dice.choice([0, 1, 32768, 40_000, 1 << 20, 5 << 20])))
    to = tmp_path / "to"
    words = [f"{tmp_path}/from/", f"box:{to}"] if word == "send" else [f"box:{tmp_path}/from/", str(to)]
    ours = files(tmp_path / "from")
    for _ in range(6):
        devkit_killed(word, *words, after_s=dice.uniform(0.4, 1.0))
        came = {name: what for name, what in (files(to) if to.exists() else {}).items() if "-part-" not in name}
        assert came == {name: ours[name] for name in came}
    done = devkit(word, *words)
    assert done.status == 0, done.err
    assert files(to) == files(tmp_path / "from")


def test_a_folder_that_holds_one_file_is_still_a_folder(devkit: Devkit, tmp_path: Path) -> None:
    (tmp_path / "remote").mkdir()
    (tmp_path / "remote" / "only").write_text("only")
    assert devkit("recv", f"box:{tmp_path}/remote/", "here").status == 0
    assert sorted(files(tmp_path / "here")) == ["only"]


def test_links_and_pipes_are_said_and_what_they_name_comes_if_asked_for(devkit: Devkit, tmp_path: Path) -> None:
    (tmp_path / "remote").mkdir()
    (tmp_path / "remote" / "file").write_text("file")
    (tmp_path / "remote" / "link").symlink_to("file")
    os.mkfifo(tmp_path / "remote" / "pipe")
    done = devkit("recv", f"box:{tmp_path}/remote/", "here")
    assert done.status == 1
    assert "link (a symbolic link: sftp copies none)" in done.err
    assert "left out: pipe" in done.err
    assert sorted(tree(tmp_path / "here")) == ["file"]
    named = devkit("recv", f"box:{tmp_path}/remote/link", "here")
    assert (named.status, (tmp_path / "here" / "link").read_text()) == (0, "file")
    assert not (tmp_path / "here" / "link").is_symlink()
    pipe = devkit("recv", f"box:{tmp_path}/remote/pipe", "here")
    assert (pipe.status, "pipe cannot be read" in pipe.err) == (1, True)


def test_what_the_far_side_lets_nobody_read_or_write_is_said(devkit: Devkit, tmp_path: Path) -> None:
    missing = devkit("recv", f"box:{tmp_path}/none", "here")
    assert (missing.status, "none cannot be read" in missing.err) == (1, True)
    assert not (tmp_path / "here").exists()
    (tmp_path / "file").write_text("file")
    below = devkit("send", f"{tmp_path}/file", f"box:{tmp_path}/file/below/")
    assert below.status == 1
    assert "cannot be made" in below.err
    refused = devkit("send", f"{tmp_path}/file", "box:/proc/none/")
    assert (refused.status, "cannot be made" in refused.err) == (1, True)


@pytest.mark.parametrize("word", ["send", "recv"])
def test_two_at_once_make_whole_files(word: str, devkit: Devkit, tmp_path: Path) -> None:
    (tmp_path / "from").mkdir()
    for number in range(20):
        (tmp_path / "from" / f"{number}").write_bytes(os.urandom(2 << 20))
    to = tmp_path / "to"
    words = [f"{tmp_path}/from/", f"box:{to}"] if word == "send" else [f"box:{tmp_path}/from/", str(to)]
    line = [sys.executable, "-m", "devkit", word, *words]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    both = [subprocess.Popen(line, env=environment, stderr=subprocess.DEVNULL) for _ in range(2)]
    assert {popen.wait(60) for popen in both} <= {0, 1}
    assert devkit(word, *words).status == 0
    assert files(to) == files(tmp_path / "from")
    assert not parts(to)


@pytest.mark.parametrize("word", ["send", "recv"])
def test_with_checksum_what_looks_the_same_is_copied_again(word: str, devkit: Devkit, tmp_path: Path) -> None:
    (tmp_path / "from").mkdir()
    (tmp_path / "from" / "file").write_text("after")
    to = tmp_path / "to"
    to.mkdir()
    (to / "file").write_text("bitsX")
    for path in (to / "file", tmp_path / "from" / "file"):
        os.utime(path, (1_600_000_000, 1_600_000_000))
    words = [f"{tmp_path}/from/", f"box:{to}"] if word == "send" else [f"box:{tmp_path}/from/", str(to)]
    assert devkit(word, *words).status == 0
    assert (to / "file").read_text() == "bitsX"
    assert devkit(word, *words, "--checksum").status == 0
    assert (to / "file").read_text() == "after"


def test_what_send_leaves_out_is_said(devkit: Devkit, tmp_path: Path) -> None:
    (tmp_path / "from").mkdir()
    os.mkfifo(tmp_path / "from" / "pipe")
    sent = devkit("send", f"{tmp_path}/from/", f"box:{tmp_path}/to")
    assert sent.status == 0, sent.err
    assert "left out: pipe" in sent.err


def test_what_send_has_done_is_told_as_it_goes(sshd: Path, tmp_path: Path) -> None:
    (tmp_path / "big").write_bytes(os.urandom(1 << 20))
    plans: list[Plan] = []
    told: list[int] = []
    progress = Planned(Watch(plans.append, told.append))
    place = RemotePath("box", f"{tmp_path}/there/")
    sending.send(
        ["ssh", "-F", str(sshd)], describe([os.fsencode(tmp_path / "big")], Choice()), place, Options(), progress
    )
    assert [plan.bytes for plan in plans] == [sum(told)] == [1 << 20]
    assert len(told) > 10


def test_recv_leaves_out_deletes_updates_and_keeps_backups_as_over_ssh(devkit: Devkit, tmp_path: Path) -> None:
    (tmp_path / "remote" / "sub").mkdir(parents=True)
    (tmp_path / "here" / "sub").mkdir(parents=True)
    for name in ("changed", "older", "sub/left.tmp", "sub/new"):
        (tmp_path / "remote" / name).write_text(f"theirs {name}")
        os.utime(tmp_path / "remote" / name, (1_600_000_000, 1_600_000_000))
    for name, second in (("changed", 1_500_000_000), ("older", 1_700_000_000), ("gone", 1), ("sub/kept.tmp", 1)):
        (tmp_path / "here" / name).write_text(f"ours {name}")
        os.utime(tmp_path / "here" / name, (second, second))
    done = devkit("recv", f"box:{tmp_path}/remote/", "here", "--delete", "-b", "-u", "-x", "*.tmp", "--limit", "1G")
    assert done.status == 0, done.err
    assert {path: what[0].decode() for path, what in files(tmp_path / "here").items()} == {
        "changed": "theirs changed",
        "changed~": "ours changed",
        "gone~": "ours gone",
        "older": "ours older",
        "sub/new": "theirs sub/new",
        "sub/kept.tmp": "ours sub/kept.tmp",
    }
    refused = devkit("recv", f"box:{tmp_path}/remote/", "here", "-L")
    assert (refused.status, "sftp alone can neither follow links" in refused.err) == (1, True)
    assert devkit("send", f"{tmp_path}/remote/", f"box:{tmp_path}/here", "-u").status == 0
    assert (tmp_path / "here" / "older").read_text() == "ours older"
