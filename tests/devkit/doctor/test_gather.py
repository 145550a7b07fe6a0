"""The doctor's facts, read from this machine and from programs and sockets that these tests set up."""

from __future__ import annotations

import http.server
import os
import socket
import socketserver
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from devkit.app import App
from devkit.console import Console
from devkit.doctor import engine, examine, gpu, machine, network, paddle, proxy, tools
from devkit.envs.resolve import Environment
from devkit.errors import DevkitError
from devkit.process import Runner

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def runner() -> Iterator[Runner]:
    """A runner whose programs end with the test."""
    runner = Runner(Console())
    yield runner
    runner.end_all()


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is all of PATH, beside what a shell needs."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    return folder


def program(folder: Path, name: str, body: str) -> None:
    (folder / name).write_text(f"#!/bin/sh\n{body}\n")
    (folder / name).chmod(0o755)


@pytest.mark.parametrize(
    ("name", "said", "version"),
    [
        ("g++", "echo 12.2.0", "12.2.0"),
        ("cmake", "echo 'cmake version 3.25.1'; echo; echo 'CMake suite'", "3.25.1"),
        ("ninja", "echo 1.11.1", "1.11.1"),
        ("ccache", "echo 'ccache version 4.8+debian'", "4.8"),
        ("patchelf", "echo 'patchelf 0.14.3'", "0.14.3"),
        ("git", "echo 'git version 2.39.5'", "2.39.5"),
        ("ssh", "echo 'OpenSSH_9.2p1 Debian-2+deb12u5, OpenSSL 3.0.15' >&2", "9.2p1"),
        ("ssh", "echo 'OpenSSH_9.2p1, LibreSSL 3.0' >&2", "9.2p1"),
        ("clang++", "echo 'Debian clang version 14.0.6'", "14.0.6"),
        ("make", "echo 'GNU Make 4.3'", "4.3"),
    ],
)
def test_tools_tell_their_version(runner: Runner, programs: Path, name: str, said: str, version: str) -> None:
    program(programs, name, said)
    found = tools.gather(runner, name)
    assert (found.version, found.path) == (version, str(programs / name))


@pytest.mark.parametrize("body", ["echo oops >&2; exit 1", "echo 'no number here'", "kill -SEGV $$"])
def test_a_tool_that_will_not_tell_has_a_complaint(runner: Runner, programs: Path, body: str) -> None:
    program(programs, "ninja", body)
    found = tools.gather(runner, "ninja")
    assert found.path
    assert found.version == ""
    assert found.complaint


def test_a_tool_that_hangs_is_ended(runner: Runner, programs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tools, "LIMIT_S", 0.5)
    program(programs, "ninja", "exec /bin/sleep 60")
    assert "was ended after 0.5 s" in tools.gather(runner, "ninja").complaint


@pytest.mark.usefixtures("programs")
def test_a_tool_that_is_not_there_is_not_found(runner: Runner) -> None:
    assert tools.gather(runner, "ninja").path == ""


def test_compilers_beside_are_seen(runner: Runner, programs: Path) -> None:
    program(programs, "g++", "echo 14.2.0")
    program(programs, "g++-11", "echo 11.4.0")
    facts = tools.gather_compilers(runner, {"CXX": "clang++"})
    assert (facts.gcc.version, facts.older, facts.cxx) == ("14.2.0", ("g++-11",), "clang++")


def test_nvcc_tells_its_release(runner: Runner, programs: Path) -> None:
    program(programs, "nvcc", "echo 'Cuda compilation tools, release 12.6, V12.6.20'")
    assert gpu.gather_toolkit(runner) == gpu.CudaLibrary("CUDA", "12.6", str(programs / "nvcc"))


def test_nvcc_is_found_below_cuda_home(runner: Runner, programs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = programs.parent / "cuda"
    (home / "bin").mkdir(parents=True)
    program(home / "bin", "nvcc", "echo 'release 11.8,'")
    monkeypatch.setenv("CUDA_HOME", str(home))
    assert gpu.gather_toolkit(runner).version == "11.8"


def test_this_machine_has_a_processor_memory_disks_and_limits() -> None:
    processor = machine.gather_processor()
    assert processor.name
    assert processor.cores == len(os.sched_getaffinity(0))
    assert processor.flags
    memory = machine.gather_memory()
    assert 0 < memory.available <= memory.total
    disks = machine.gather_disks()
    assert [disk.purpose for disk in disks] == ["home", "cache", "environments", "temporary files"]
    assert all(disk.free > 0 and disk.writable for disk in disks)
    limits = machine.gather_limits()
    assert limits.open_files <= limits.open_files_hard


def test_a_cache_that_cannot_be_written_is_broken(home: Path) -> None:
    (home / ".cache").symlink_to("/proc")
    cache = next(disk for disk in machine.gather_disks() if disk.purpose == "cache")
    assert machine.check_disks([cache])[0].state == "broken"


def test_this_machine_has_a_network() -> None:
    facts = network.gather()
    assert any(interface.loopback and "127.0.0.1" in interface.addresses for interface in facts.interfaces)
    assert facts.host == socket.gethostname()
    assert network.gloo_interface(facts) in {interface.name for interface in facts.interfaces}


def test_interface_that_gloo_picks_is_the_one_that_the_host_name_can_bind() -> None:
    """What Paddle does, done here by hand: bind the addresses of the host's own name in their order."""
    facts = network.gather()
    bound = "127.0.0.1"
    for *kind, _, address in socket.getaddrinfo(facts.host, None, type=socket.SOCK_STREAM):
        with socket.socket(*kind) as probe:
            try:
                probe.bind(address)
            except OSError:
                continue
            bound = str(address[0])
            break
    name = network.gloo_interface(facts)
    addresses = next(interface.addresses for interface in facts.interfaces if interface.name == name)
    assert bound in addresses or (bound.startswith("127.") and "127.0.0.1" in addresses)


def test_a_proxy_that_listens_answers() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://me:geheim@127.0.0.1:{server.getsockname()[1]}"
        facts = proxy.gather({"http_proxy": url})
        assert facts.proxies == (proxy.Proxy(url, ("http_proxy",)),)
        server.settimeout(5)
        connection, _ = server.accept()
        with connection:
            connection.settimeout(5)
            assert connection.recv(100) == b"", "nothing is sent to it"


def test_a_proxy_that_refuses_does_not_answer() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    (one,) = proxy.gather({"https_proxy": f"http://127.0.0.1:{port}"}).proxies
    assert one.complaint == "it does not answer: Connection refused"


def test_a_proxy_that_is_silent_does_not_hold_up_the_doctor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proxy, "LIMIT_S", 0.3)
    with socket.create_server(("127.0.0.1", 0), backlog=0) as server:
        full = []  # a queue that is full leaves the next without an answer
        for _ in range(4):
            waiting = socket.socket()
            waiting.setblocking(False)
            waiting.connect_ex(server.getsockname())
            full.append(waiting)
        (one,) = proxy.gather({"http_proxy": f"http://127.0.0.1:{server.getsockname()[1]}"}).proxies
        for listener in full:
            listener.close()
    assert one.complaint == "it does not answer within 0.3 s"


def test_a_proxy_that_is_no_url_is_told() -> None:
    (one,) = proxy.gather({"http_proxy": "http://h:port"}).proxies
    assert one.complaint.startswith("it is not a URL of a proxy")


class _Version(http.server.BaseHTTPRequestHandler):
    """Docker's answer to ``GET /version``, in place of an engine; the tests marked engine speak with a real one."""

    def do_GET(self) -> None:  # the name that http.server calls
        body = b'{"Version": "28.2.2", "ApiVersion": "1.50"}'
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def address_string(self) -> str:
        return "a unix socket"

    def log_message(self, *_: object) -> None:
        pass


def test_engine_that_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "docker.sock"
    monkeypatch.setenv("DOCKER_HOST", f"unix://{path}")
    with socketserver.UnixStreamServer(str(path), _Version) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            assert engine.gather().version == "28.2.2"
        finally:
            server.shutdown()
            thread.join(10)


def test_engine_that_is_gone_or_never_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "docker.sock"
    monkeypatch.setenv("DOCKER_HOST", f"unix://{path}")
    assert engine.gather().complaint == f"{path}: No such file or directory"
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(path))
    assert engine.gather().complaint == f"{path}: Connection refused"


def test_paddle_is_proved_with_and_without_mkls_fast_path(tmp_path: Path) -> None:
    proof = paddle.gather(App(), Environment("own", Path(sys.executable), ""), tmp_path)
    assert proof.error is None
    assert proof.answer is not None
    assert proof.answer["sum"] == 2
    assert (proof.slow_gflops is not None) == machine.gather_processor().amd
    assert paddle.check(proof).state == "fine"


def test_one_gatherer_that_raises_ends_the_others_programs() -> None:
    app = App()

    def fail() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        examine._all_at_once(app, {"fails": fail, "hangs": lambda: app.runner.run(["sleep", "60"], check=False)})
    assert app.runner.children == []


def test_an_environment_that_cannot_be_used_is_a_finding_among_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".venv" / "Scripts").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    environment, (finding,) = examine.environment_of(App(), "")
    assert environment.python == Path(sys.executable)
    assert (finding.state, finding.text) == ("broken", f"{tmp_path}/.venv is an environment of Windows")
    assert finding.remedy.startswith(f"mv {tmp_path}/.venv ")
    with pytest.raises(DevkitError, match="no environment"):
        examine.environment_of(App(), "nobody")
