"""``devkit env create`` on real uv and real interpreters; packages come from an index on loopback, Paddle from PyPI."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.commands.env.conftest import Index, OnTerminal
    from tests.conftest import Devkit

HERE = ("--python", sys.executable)
BARE = (*HERE, "--paddle", "none")


def envs(home: Path) -> Path:
    return home / ".local" / "share" / "devkit" / "envs"


def whole(home: Path) -> list[str]:
    """What lies in the folder of environments, half-made things and their marks included."""
    found = [path.name for path in envs(home).glob("*") if path.name != ".creating"]
    return sorted(found + [f"mark {path.name}" for path in envs(home).glob(".creating/*")])


def test_environment_with_paddle_computes_and_imports_the_device_side(devkit: Devkit, home: Path) -> None:
    made = devkit("env", "create", "work", *HERE, "--paddle", "cpu==3.3.1", "--json", limit_s=300)
    assert made.status == 0, made.err
    answer = json.loads(made.out)
    assert answer["paddle"] == ["paddlepaddle 3.3.1"]
    assert answer["build"] == "cpu"
    assert answer["proof"]["sum"] == 2
    assert answer["proof"]["matmul_gflops"] > 0.1
    python = envs(home) / "work" / "bin" / "python"
    done = subprocess.run(
        [python, "-I", "-c", "import devkit.kernels.protocol as p, sys; print(p.PROTOCOL); import typer"],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.stdout.strip().isdigit()
    assert "No module named 'typer'" in done.stderr  # nothing else of the tool's Python leaks in
    seen = json.loads(devkit("env", "show", "work", "--json").out)
    assert seen["record"]["proof"]["sum"] == 2
    assert seen["device_side"] is True


def test_project_gets_its_own_environment_which_is_then_the_default(
    devkit: Devkit, tmp_path: Path, index: Index
) -> None:
    index.add("tiny", "1.0")
    (tmp_path / "repo" / "inside").mkdir(parents=True)
    (tmp_path / "repo" / ".git").mkdir()
    made = devkit("env", "create", *BARE, "--with", "tiny", "--index-url", index.url, cwd=tmp_path / "repo" / "inside")
    assert made.status == 0, made.err
    assert (tmp_path / "repo" / ".venv" / "pyvenv.cfg").is_file()
    listed = json.loads(devkit("env", "list", "--json", cwd=tmp_path / "repo" / "inside").out)
    assert [(row["name"], row["state"]) for row in listed] == [(".venv", "fine")]
    again = devkit("env", "create", *BARE, cwd=tmp_path / "repo")
    assert again.status == 1
    assert "is taken" in again.err


def test_project_environment_of_others_is_left_alone(devkit: Devkit, tmp_path: Path) -> None:
    (tmp_path / ".venv").mkdir()
    (tmp_path / ".venv" / "theirs").touch()
    refused = devkit("env", "create", *BARE)
    assert refused.status == 1
    assert f"mv {tmp_path}/.venv {tmp_path}/.venv.old" in refused.err
    assert (tmp_path / ".venv" / "theirs").exists()
    (tmp_path / ".venv" / "bin").mkdir()
    (tmp_path / ".venv" / "bin" / "python").symlink_to(sys.executable)
    assert f"devkit env adopt {tmp_path}/.venv" in devkit("env", "create", *BARE).err


def test_project_environment_of_windows_is_neither_used_nor_lost(devkit: Devkit, tmp_path: Path) -> None:
    program = tmp_path / ".venv" / "Scripts" / "python.exe"
    program.parent.mkdir(parents=True)
    program.touch()
    for words in (("create", *BARE), ("run", "--", "python"), ("doctor", "--fix"), ("shell",)):
        refused = devkit("env", *words)
        assert refused.status == 1, refused.out
        assert f"{tmp_path}/.venv is an environment of Windows" in refused.err
    assert program.exists()


def test_packages_come_from_files_and_flags(devkit: Devkit, tmp_path: Path, index: Index) -> None:
    for name in ("first", "second", "third"):
        index.add(name, "1.0")
    (tmp_path / "needs.txt").write_text("third\n")
    words = ("--with", "first second==1.0", "-r", "needs.txt", "--index-url", index.url)
    assert devkit("env", "create", "work", *BARE, *words).status == 0
    done = devkit("env", "run", "work", "--", "python", "-c", "import first, second, third; print(first.VALUE)")
    assert (done.status, done.out) == (0, "1\n"), done.err


PYLOCK = """\
lock-version = "1.0"
created-by = "another tool"
[[packages]]
name = "first"
version = "1.0"
wheels = [{{name = "{name}", path = "{path}", hashes = {{sha256 = "{sha256}"}}}}]
"""


def test_a_pylock_of_others_is_installed_as_requirements_and_its_hashes_hold(
    devkit: Devkit, tmp_path: Path, index: Index
) -> None:
    wheel = index.add("first", "1.0")
    lock, sha256 = tmp_path / "pylock.toml", hashlib.sha256(wheel.read_bytes()).hexdigest()
    lock.write_text(PYLOCK.format(name=wheel.name, path=wheel, sha256=sha256))
    refused = devkit("env", "create", "work", "--from", str(lock))
    assert refused.status == 1
    assert f"→ devkit env create NAME -r {lock}" in refused.err
    constrained = {"PIP_CONSTRAINT": str(tmp_path / "none.txt")}  # which is for what pip chooses
    assert devkit("env", "create", "work", *BARE, "-r", str(lock), env=constrained).status == 0
    lock.write_text(PYLOCK.format(name=wheel.name, path=wheel, sha256="0" * 64))
    assert (
        "a file has another checksum than is asked for" in devkit("env", "create", "other", *BARE, "-r", str(lock)).err
    )


def test_second_environment_shares_the_first_ones_files(devkit: Devkit, home: Path, index: Index) -> None:
    index.add("big", "1.0", body=f"VALUE = {'x' * 2_000_000!r}\n")
    words = (*BARE, "--with", "big", "--index-url", index.url, "--json")
    first, second = (json.loads(devkit("env", "create", name, *words).out) for name in ("one", "two"))
    assert second["new_bytes"] < 1_000_000
    module = f"lib/python3.{sys.version_info.minor}/site-packages/big.py"
    assert (envs(home) / "one" / module).samefile(envs(home) / "two" / module)
    assert first["folder"] != second["folder"]


@pytest.mark.parametrize("name", ["a/b", "../up", ".hidden", "with space", "-x", "x" * 70])
def test_name_that_cannot_be_is_refused(name: str, devkit: Devkit, home: Path, tmp_path: Path) -> None:
    refused = devkit("env", "create", *BARE, "--", name)
    assert refused.status == 2
    assert "cannot be called" in refused.err
    assert "devkit env create" in refused.err
    assert whole(home) == []
    assert not (tmp_path / ".venv").exists()


def test_dry_run_prints_uvs_lines_and_makes_nothing(devkit: Devkit, home: Path) -> None:
    words = (*HERE, "--paddle", "cu126==3.3.1", "--proxy", "http://me:secret@127.0.0.1:1", "--dry-run")
    done = devkit("env", "create", "gpu", *words)
    assert done.status == 0, done.err
    assert "UV_INDEX=https://www.paddlepaddle.org.cn/packages/stable/cu126/" in done.out
    assert "paddlepaddle-gpu==3.3.1 setuptools 'numpy<2.4'" in done.out
    assert "secret" not in done.out + done.err
    assert whole(home) == []


def failing(devkit: Devkit, home: Path, *words: str, status: int = 1, **options: Any) -> str:
    """Return what a creation said that failed and left nothing."""
    done = devkit("env", "create", "work", *words, **options)
    assert done.status == status, done.err
    assert "Traceback" not in done.err
    assert "→" in done.err
    assert whole(home) == []
    return done.err


def test_index_that_is_not_there_is_named(devkit: Devkit, home: Path, index: Index) -> None:
    said = failing(devkit, home, *BARE, "--with", "absent", "--index-url", f"{index.url}-wrong")
    assert "the index does not have it" in said
    assert "--index-url" in said


def test_dead_proxy_is_named(devkit: Devkit, home: Path) -> None:
    words = (*BARE, "--with", "tiny", "--index-url", "https://index.invalid/simple")
    said = failing(devkit, home, *words, "--proxy", "http://me:secret@127.0.0.1:9", env={"UV_HTTP_RETRIES": "0"})
    assert "the proxy does not answer" in said
    assert "devkit env create work --proxy" in said
    assert "secret" not in said


def test_offline_without_a_cache_is_named(devkit: Devkit, home: Path, tmp_path: Path) -> None:
    words = (*BARE, "--with", "tiny", "--offline")
    said = failing(devkit, home, *words, env={"UV_CACHE_DIR": str(tmp_path / "empty")})
    assert "--offline" in said


def test_unknown_python_and_missing_files_are_named(devkit: Devkit, home: Path) -> None:
    assert "there is no Python 3.9.99" in failing(devkit, home, "--python", "3.9.99", "--paddle", "none")
    assert "there is no absent.txt" in failing(devkit, home, *BARE, "-r", "absent.txt")
    assert "is not a package" in failing(devkit, home, *BARE, "--with=--upgrade", status=2)
    assert "not understood" in failing(devkit, home, *HERE, "--paddle", "tpu", status=2)


@pytest.mark.engine  # it mounts a small disk, which takes root's rights
def test_full_disk_is_named(devkit: Devkit, index: Index, tmp_path: Path) -> None:
    index.add("big", "1.0", body=f"VALUE = {'x' * 4_000_000!r}\n")
    small = tmp_path / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "none", str(small)], check=True)
    try:
        words = ("env", "create", "work", *BARE, "--with", "big", "--index-url", index.url)
        done = devkit(*words, env={"XDG_DATA_HOME": str(small)})
        assert done.status == 1
        assert "the disk is full" in done.err
        assert "df -h" in done.err
        assert not (small / "devkit" / "envs" / "work").exists()
    finally:
        subprocess.run(["umount", str(small)], check=True)


def test_failed_computation_rolls_back(devkit: Devkit, home: Path, index: Index) -> None:
    index.add("paddlepaddle", "3.3.1", body="")
    index.add("setuptools", "80.0")
    index.add("numpy", "2.3.0")
    said = failing(devkit, home, *HERE, "--paddle", "cpu==3.3.1", "--index-url", index.url)
    assert "Paddle cannot be imported" in said


class Slow:
    """Answers nothing until it is told to: an index that hangs."""

    def __init__(self) -> None:
        import socket

        self.server = socket.create_server(("127.0.0.1", 0))
        self.port = self.server.getsockname()[1]
        self.asked = threading.Event()
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        held = []
        try:
            while True:
                held.append(self.server.accept())
                self.asked.set()
        except OSError:
            for connection, _ in held:
                connection.close()


@pytest.fixture
def slow() -> Any:
    made = Slow()
    yield made
    made.server.shutdown(2)
    made.server.close()


def start(slow: Slow, tmp_path: Path) -> subprocess.Popen[str]:
    words = ["env", "create", "work", *BARE, "--with", "tiny", "--index-url", f"http://127.0.0.1:{slow.port}/simple"]
    process = subprocess.Popen(
        [sys.executable, "-m", "devkit", *words],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert slow.asked.wait(30)
    return process


def test_interrupted_creation_is_rolled_back(devkit: Devkit, home: Path, slow: Slow, tmp_path: Path) -> None:
    process = start(slow, tmp_path)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "work was rolled back" in said
    assert whole(home) == []
    assert devkit("env", "create", "work", *BARE).status == 0


def test_killed_creation_is_no_environment_and_is_begun_anew(
    devkit: Devkit, home: Path, slow: Slow, tmp_path: Path
) -> None:
    process = start(slow, tmp_path)
    process.kill()
    process.communicate(timeout=30)
    assert (envs(home) / "work" / "bin" / "python").exists()
    listed = json.loads(devkit("env", "list", "--json").out)
    assert [(row["name"], row["state"]) for row in listed] == [("work", "unfinished")]
    used = devkit("env", "run", "work", "--", "true")
    assert used.status == 1
    assert "not whole" in used.err
    again = devkit("env", "create", "work", *BARE)
    assert again.status == 0, again.err
    assert "starting over" in again.err
    assert whole(home) == ["work"]


def test_two_creations_of_one_name_do_not_meet(devkit: Devkit, home: Path, slow: Slow, tmp_path: Path) -> None:
    process = start(slow, tmp_path)
    second = devkit("env", "create", "work", *BARE)
    assert second.status == 1
    assert "is being made by another devkit" in second.err
    assert devkit("env", "remove", "work").status == 1
    assert devkit("env", "create", "other", *BARE).status == 0
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=30)
    assert whole(home) == ["other"]


def test_many_creations_at_once_end_in_one_environment(home: Path, tmp_path: Path, index: Index) -> None:
    index.add("tiny", "1.0")
    words = ["env", "create", "work", *BARE, "--with", "tiny", "--index-url", index.url]
    environ = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    begin = time.monotonic()
    racing = [
        subprocess.Popen([sys.executable, "-m", "devkit", *words], cwd=tmp_path, env=environ, stderr=subprocess.PIPE)
        for _ in range(4)
    ]
    ended = [process.communicate(timeout=60) for process in racing]
    assert sorted(process.returncode for process in racing) == [0, 1, 1, 1], ended
    assert time.monotonic() - begin < 60
    assert whole(home) == ["work"]


def test_wheel_by_its_path_is_installed(devkit: Devkit, home: Path, tmp_path: Path, index: Index) -> None:
    for name, version in (("setuptools", "80.0"), ("numpy", "2.3.0")):
        index.add(name, version)
    built = index.add("paddlepaddle", "0.0.0", body="VALUE = 3\n").rename(
        tmp_path / "paddlepaddle-0.0.0-py3-none-any.whl"
    )
    words = ("--paddle", f"./{built.name}", "--index-url", index.url, "--no-verify", "--json")
    made = devkit("env", "create", "work", *HERE, *words)
    assert made.status == 0, made.err
    answer = json.loads(made.out)
    assert answer["paddle"] == ["paddlepaddle 0.0.0"]
    assert answer["build"] == "wheel"
    assert whole(home) == ["work"]


def test_on_a_terminal_uvs_progress_is_read_and_its_errors_too(
    terminal: OnTerminal, home: Path, tmp_path: Path, index: Index
) -> None:
    index.add("tiny", "1.0")
    words = ("env", "create", "work", *BARE, "--index-url", index.url, "--with")
    failed, said = terminal(*words, "absent", cwd=tmp_path)
    assert failed == 1
    assert "the index does not have it" in said
    assert "absent was not found" in said
    assert whole(home) == []
    done, said = terminal(*words, "tiny", cwd=tmp_path)
    assert done == 0
    assert "resolving" in said
    assert "✓" in said
    assert whole(home) == ["work"]
