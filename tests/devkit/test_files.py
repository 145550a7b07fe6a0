"""Files that are whole or not there."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from devkit.errors import DevkitError
from devkit.files import explained, link_atomically, new_file_mode, refusal, replacing, write_atomically

REPOSITORY = Path(__file__).parent.parent.parent


def test_a_file_is_written_with_its_mode_and_its_folders(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "secret"
    write_atomically(path, b"x", mode=0o600)
    assert path.read_bytes() == b"x"
    assert path.stat().st_mode & 0o777 == 0o600
    assert [entry.name for entry in path.parent.iterdir()] == ["secret"]


def test_a_killed_write_leaves_the_old_file_whole(tmp_path: Path) -> None:
    path = tmp_path / "record"
    write_atomically(path, b"old" * 1000)
    code = (
        "import pathlib, sys\nfrom devkit.files import write_atomically\nprint('go', flush=True)\n"
        "while True: write_atomically(pathlib.Path(sys.argv[1]), b'new' * 1000)"
    )
    for _ in range(3):
        writer = subprocess.Popen(
            [sys.executable, "-c", code, path],
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        )
        with writer:
            assert writer.stdout is not None
            writer.stdout.readline()
            writer.send_signal(signal.SIGKILL)
            writer.wait(10)
        assert path.read_bytes() in {b"old" * 1000, b"new" * 1000}


def test_only_the_owner_reads_a_file_before_it_is_whole(tmp_path: Path) -> None:
    with replacing(tmp_path / "file") as part:
        assert part.stat().st_mode & 0o777 == 0o600
        part.write_text("x")
    assert (tmp_path / "file").read_text() == "x"
    assert (tmp_path / "file").stat().st_mode & 0o777 == new_file_mode()


def test_what_fails_half_way_leaves_the_old_file_and_nothing_beside_it(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("old")
    with pytest.raises(OSError, match="full"), replacing(tmp_path / "file"):
        raise OSError("full")
    (tmp_path / "folder").mkdir()
    with pytest.raises(DevkitError):
        link_atomically(tmp_path / "folder", "file")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder"]
    assert (tmp_path / "file").read_text() == "old"


def test_a_link_takes_the_place_of_what_was_there(tmp_path: Path) -> None:
    for target in ("one", "two"):
        link_atomically(tmp_path / "a" / "link", target)
    assert (tmp_path / "a" / "link").readlink() == Path("two")
    assert len(list((tmp_path / "a").iterdir())) == 1


def test_a_full_disk_is_explained_and_leaves_nothing() -> None:
    with pytest.raises(DevkitError) as caught:
        write_atomically(Path("/dev/full/x"), b"x")
    assert caught.value.what == "/dev/full/x cannot be written"
    with pytest.raises(DevkitError) as full, explained(Path("/mnt/x")), Path("/dev/full").open("wb") as file:
        file.write(b"x")
    assert full.value.why == "No space left on device."
    assert full.value.remedies == ("df -h /mnt   shows what is full",)


@pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS, errno.EDQUOT])
def test_each_refusal_has_its_remedy(number: int) -> None:
    with pytest.raises(DevkitError) as caught, explained(Path("/mnt/x")):
        raise OSError(number, os.strerror(number))
    assert caught.value.remedies


@pytest.mark.parametrize(
    "error", [RuntimeError("can't start new thread"), BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))]
)
def test_a_limit_of_processes_is_the_machines_doing(error: Exception) -> None:
    refused = refusal(error)
    assert refused is not None
    assert refused.remedies == ("ulimit -u   shows how many processes and threads a user may have",)


def test_a_folder_on_the_way_that_may_not_be_entered_is_named(request: pytest.FixtureRequest) -> None:
    way = Path(tempfile.mkdtemp())  # others may enter the folders above it, unlike those above tmp_path
    request.addfinalizer(lambda: shutil.rmtree(way))
    way.chmod(0o755)
    closed = way / "closed"
    (closed / "Paddle" / "build").mkdir(parents=True)
    closed.chmod(0)
    user = os.geteuid()
    try:
        if user == 0:  # root may enter what it owns not
            os.seteuid(65534)
        with pytest.raises(OSError, match="Permission denied") as caught:
            (closed / "Paddle" / "build" / "CMakeCache.txt").read_text()
        refused = refusal(caught.value)
    finally:
        os.seteuid(user)
        closed.chmod(0o755)
    assert refused is not None
    assert refused.remedies[0].startswith(f"ls -ld {closed}   ")
