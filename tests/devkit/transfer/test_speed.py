"""How fast transfers are beside what people use: interleaved rounds on loopback, correct first, medians and ratios."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from devkit.transfer.copy import Watch
from devkit.transfer.http_download.address import parse_address
from devkit.transfer.http_download.get import fetch
from devkit.transfer.http_download.options import FetchOptions
from devkit.transfer.remote import wire

from .conftest import REPOSITORY, tree

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.bench

SIZE = int(os.environ.get("TRANSFER_MIB", "1024")) << 20
ROUNDS = int(os.environ.get("TRANSFER_ROUNDS", "3"))
FILES = 10_000
MIB = 1 << 20


@pytest.fixture(scope="module")
def random_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random bytes in a file that is in the page cache."""
    path = tmp_path_factory.mktemp("source") / "random"
    with path.open("wb") as file:
        for _ in range(SIZE // MIB):
            file.write(os.urandom(MIB))
        file.flush()
        os.fsync(file.fileno())
    return path


def interleaved(ways: dict[str, Callable[[], object]], rounds: int = ROUNDS) -> dict[str, list[float]]:
    """Time each way in turns, and return the seconds of each round."""
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            os.sync()
            began = time.perf_counter()
            way()
            taken[name].append(time.perf_counter() - began)
    return taken


def told(title: str, taken: dict[str, list[float]], ours: str, size: int) -> None:
    """Print each way's median and spread, and its median against ours."""
    print(f"\n  {title}: median (fastest to slowest) of interleaved rounds")  # noqa: T201 - a measurement
    base = statistics.median(taken[ours])
    for name, seconds in taken.items():
        median = statistics.median(seconds)
        spread = f"({min(seconds):.2f} to {max(seconds):.2f}, {len(seconds)} rounds)"
        ratio = f"{median / base:6.2f} times ours" if name != ours else ""
        print(f"    {name:44} {median:6.2f} s {spread:28} {size / median / 1e6:6.0f} MB/s {ratio}")  # noqa: T201


def line(*words: str | Path) -> Callable[[], None]:
    """Return what runs a line, which must succeed."""

    def run() -> None:
        done = subprocess.run(list(map(str, words)), capture_output=True, check=False)
        assert done.returncode == 0, done.stderr[-2000:]

    return run


def devkit(*words: str | Path, cwd: Path | None = None) -> Callable[[], None]:
    """Return what runs a line of devkit, which must succeed."""

    def run() -> None:
        # As where it is installed, its modules are compiled once.
        environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "PYTHONDONTWRITEBYTECODE": ""}
        argv = [sys.executable, "-m", "devkit", *map(str, words), "-q"]
        done = subprocess.run(argv, capture_output=True, check=False, env=environment, cwd=cwd)
        assert done.returncode == 0, done.stderr[-2000:]

    return run


def emptied(folder: Path) -> Path:
    """Return a folder that is empty."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def test_serve_to_curl_beside_raw_sendfile_and_nginx(random_file: Path, tmp_path: Path) -> None:
    raw_port = _raw_sendfile(random_file)
    (tmp_path / "nginx.conf").write_text(
        f"daemon off; worker_processes 1; pid {tmp_path}/pid; error_log /dev/null;\n"
        "events { worker_connections 64; }\n"
        "http { access_log off; sendfile on; tcp_nopush on; sendfile_max_chunk 8m;\n"
        f" client_body_temp_path {tmp_path}/b;\n"
        f" proxy_temp_path {tmp_path}/p; fastcgi_temp_path {tmp_path}/f; uwsgi_temp_path {tmp_path}/u;\n"
        f" scgi_temp_path {tmp_path}/s; server {{ listen 127.0.0.1:{raw_port + 1}; root {random_file.parent}; }} }}\n"
    )
    user = ["-g", "user root;"] if os.geteuid() == 0 else []
    nginx: subprocess.Popen[bytes] | None = None
    if shutil.which("nginx"):
        nginx = subprocess.Popen(["nginx", "-c", str(tmp_path / "nginx.conf"), *user], stderr=subprocess.DEVNULL)
    serve, url = _serve(random_file)
    try:
        discard = ["curl", "-sf", "-o", "/dev/null"]
        correct = tmp_path / "correct"
        line("curl", "-sf", "-o", correct, f"{url}random")()
        assert correct.read_bytes() == random_file.read_bytes()
        correct.unlink()
        ways: dict[str, Callable[[], object]] = {
            "raw sendfile loop": line(*discard, "--http0.9", f"http://127.0.0.1:{raw_port}/"),
            "devkit serve": line(*discard, f"{url}random"),
        }
        if nginx is not None:
            ways["nginx"] = line(*discard, f"http://127.0.0.1:{raw_port + 1}/random")
        taken = interleaved(ways, rounds=max(ROUNDS, 5))
    finally:
        serve.terminate()
        serve.communicate(timeout=20)
        if nginx is not None:
            nginx.terminate()
            nginx.wait(20)
    told(f"{SIZE >> 20} MiB to curl, discarded", taken, "devkit serve", SIZE)


def _serve(path: Path) -> tuple[subprocess.Popen[str], str]:
    """Share a file from a process of its own, and return that and the share's address."""
    process = subprocess.Popen(
        [sys.executable, "-m", "devkit", "serve", str(path), "--json"],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout is not None
    return process, json.loads(process.stdout.readline())["url"]


def _raw_sendfile(path: Path) -> int:
    """Serve a file to whoever connects, in a process of its own: a head, and one sendfile loop."""
    script = (
        "import os, socket, sys\n"
        "listener = socket.create_server(('127.0.0.1', int(sys.argv[2])))\n"
        "size = os.path.getsize(sys.argv[1])\n"
        "while True:\n"
        "    connection, _ = listener.accept()\n"
        "    if not connection.recv(65536):\n"
        "        continue\n"
        "    connection.sendall(b'HTTP/1.1 200 OK\\r\\nContent-Length: %d\\r\\nConnection: close\\r\\n\\r\\n' % size)\n"
        "    with open(sys.argv[1], 'rb') as file:\n"
        "        sent = 0\n"
        "        while sent < size:\n"
        "            sent += os.sendfile(connection.fileno(), file.fileno(), sent, size - sent)\n"
        "    connection.close()\n"
    )
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    process = subprocess.Popen([sys.executable, "-c", script, str(path), str(port)])
    import atexit

    atexit.register(process.kill)
    for _ in range(100):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                break
        time.sleep(0.05)
    return port


def test_get_beside_a_raw_loop_that_hashes_writes_and_syncs(random_file: Path, tmp_path: Path) -> None:
    raw_port = _raw_sendfile(random_file)
    digest = wire.digests()["xxh3"]

    def raw() -> None:
        emptied(tmp_path / "raw")
        with (
            socket.create_connection(("127.0.0.1", raw_port)) as connection,
            (tmp_path / "raw" / "f").open("wb", 0) as file,
        ):
            connection.sendall(b"GET /\r\n\r\n")
            buffer = memoryview(bytearray(MIB))
            head = connection.recv(65536)
            file.write(head.partition(b"\r\n\r\n")[2])
            while count := connection.recv_into(buffer):
                digest(buffer[:count])
                file.write(buffer[:count])
            os.fsync(file.fileno())

    process, url = _serve(random_file)

    def ours() -> None:
        emptied(tmp_path / "ours")
        watch = Watch(lambda _plan: None, lambda _count: None)
        fetch(parse_address(f"{url}random"), FetchOptions(f"{tmp_path}/ours/"), watch)

    try:
        raw()
        ours()
        assert (tmp_path / "raw" / "f").read_bytes() == (tmp_path / "ours" / "random").read_bytes()
        taken = interleaved({"raw loop": raw, "devkit get": ours})
    finally:
        process.terminate()
        process.communicate(timeout=20)
    told(f"{SIZE >> 20} MiB received, hashed, written and synced", taken, "devkit get", SIZE)


def test_one_big_file_over_ssh_beside_scp(random_file: Path, sshd: Path, tmp_path: Path) -> None:
    there = tmp_path / "there"

    def scp(*options: str) -> Callable[[], None]:
        def run() -> None:
            emptied(there)
            line("scp", "-q", "-F", sshd, *options, random_file, f"box:{there}/random")()
            os.sync()

        return run

    def ours() -> None:
        emptied(there)
        devkit("send", random_file, f"box:{there}/")()

    def disk() -> None:
        emptied(there)
        line("dd", f"if={random_file}", f"of={there}/random", "bs=4M", "conv=fsync")()

    ours()
    assert (there / "random").read_bytes() == random_file.read_bytes()
    taken = interleaved(
        {
            "the disk alone (dd conv=fsync)": disk,
            "scp, its own cipher, then sync": scp(),
            "scp -c aes128-gcm@openssh.com, then sync": scp("-c", "aes128-gcm@openssh.com"),
            "devkit send (aes128-gcm@openssh.com)": ours,
        }
    )
    told(f"{SIZE >> 20} MiB over ssh", taken, "devkit send (aes128-gcm@openssh.com)", SIZE)


BARE_RECEIVER = """
import os, sys
stream = sys.stdin.buffer
os.chdir(sys.argv[1])
for folder in range(100):
    os.mkdir(str(folder))
    for number in range(100):
        with open(f"{folder}/{number}", "wb", 0) as file:
            file.write(stream.read(10240))
"""


def copied(source: Path, sshd: Path, there: Path) -> None:
    """Send the files' bytes in one stream and write them: what nothing that makes these files can be faster than."""
    script = there.with_suffix(".py")
    script.write_text(BARE_RECEIVER)
    ssh = ["ssh", "-F", str(sshd), "-c", "aes128-gcm@openssh.com", "box", f"python3 -I {script} {there}"]
    process = subprocess.Popen(ssh, stdin=subprocess.PIPE)
    assert process.stdin is not None
    for folder in range(100):
        for number in range(FILES // 100):
            process.stdin.write((source / str(folder) / str(number)).read_bytes())
    process.stdin.close()
    assert process.wait() == 0


def test_many_small_files_over_ssh_beside_rsync_and_scp(sshd: Path, tmp_path: Path) -> None:
    source = tmp_path / "small"
    for folder in range(100):
        (source / str(folder)).mkdir(parents=True)
        for number in range(FILES // 100):
            (source / str(folder) / str(number)).write_bytes(os.urandom(10_240))
    fresh = (tmp_path / f"there-{number}" for number in itertools.count())  # ext4 is slow where inodes were just freed

    def rsync() -> None:
        line("rsync", "-a", "-e", f"ssh -F {sshd}", f"{source}/", f"box:{next(fresh)}/")()

    def rsync_and_sync() -> None:
        rsync()
        os.sync()

    def scp() -> None:
        line("scp", "-q", "-r", "-F", sshd, source, f"box:{emptied(next(fresh))}/")()

    def ours() -> None:
        devkit("send", f"{source}/", f"box:{next(fresh)}/")()

    def stream() -> None:
        copied(source, sshd, emptied(next(fresh)))

    ours()
    assert tree(tmp_path / "there-0") == tree(source)
    ways: dict[str, Callable[[], object]] = {"rsync -a, unsynced": rsync, "rsync -a, then sync": rsync_and_sync}
    taken = interleaved({**ways, "devkit send": ours, "bare stream, unnamed, unsynced": stream}, rounds=max(ROUNDS, 7))
    taken.update(interleaved({"scp -r": scp}, rounds=3))
    told(f"{FILES} files of 10 KiB over ssh", taken, "devkit send", FILES * 10_240)


@pytest.mark.parametrize("scattered", [False, True])
def test_a_changed_hundredth_costs_little(scattered: bool, random_file: Path, sshd: Path, tmp_path: Path) -> None:
    assert sshd.is_file()
    there = tmp_path / "there"
    copied = tmp_path / "random"
    shutil.copy(random_file, copied)
    devkit("send", copied, f"box:{there}/")()
    with copied.open("r+b") as file:
        piece = 4096 if scattered else SIZE // 100
        for number in range(SIZE // 100 // piece):
            file.seek(number * 100 * piece if scattered else SIZE // 3)
            file.write(os.urandom(piece))
    done = subprocess.run(
        [sys.executable, "-m", "devkit", "send", str(copied), f"box:{there}/", "--json"],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        check=True,
    )
    assert (there / "random").read_bytes() == copied.read_bytes()
    (outcome,) = json.loads(done.stdout)
    digests = SIZE // 16384 * 16
    cost = (outcome["wire_bytes"] + digests) / SIZE
    where = "in scattered pages" if scattered else "in one place"
    print(f"\n  1 % of {SIZE >> 20} MiB changed {where}: {100 * cost:.2f} % of its bytes, both ways")  # noqa: T201
    assert cost < 0.05


def test_the_far_sides_memory_is_flat(sshd: Path, tmp_path: Path) -> None:
    import psutil

    peaks: dict[int, float] = {}
    assert sshd.is_file()
    for mib in (64, max(SIZE >> 20, 128)):
        source = tmp_path / f"file-{mib}"
        with source.open("wb") as file:
            for _ in range(mib):
                file.write(os.urandom(MIB))
        sending = threading.Thread(target=devkit("send", source, f"box:{tmp_path}/there/"))
        sending.start()
        peak = 0
        while sending.is_alive():
            peak = max([peak, *(_resident(process) for process in psutil.process_iter(["cmdline"]))])
            time.sleep(0.02)
        peaks[mib] = peak / MIB
    print(f"\n  receiver's peak resident memory: {', '.join(f'{p:.0f} MiB for {m} MiB' for m, p in peaks.items())}")  # noqa: T201
    small, large = peaks.values()
    assert large < small + 16


def _resident(process: Any) -> int:
    import psutil

    try:
        words = process.info["cmdline"] or []
        mine = any("zlib.decompress(sys.stdin" in word for word in words) and words[0].rpartition("/")[2].startswith(
            "python"
        )
        return int(process.memory_info().rss) if mine else 0
    except (psutil.Error, IndexError):
        return 0
