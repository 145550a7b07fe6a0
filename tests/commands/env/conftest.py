"""uv's cache, a small index on loopback, and a Docker engine with a registry that the session starts itself."""

from __future__ import annotations

import base64
import contextlib
import fcntl
import hashlib
import http.server
import os
import pty
import re
import select
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import termios
import threading
import time
import zipfile
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import pytest
from uv import find_uv_bin

from tests.forks import run_process

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.forks import Result


REPOSITORY = Path(__file__).parents[3]
UV_CACHE = os.environ.get("UV_CACHE_DIR") or str(Path.home() / ".cache" / "uv")  # before a test has another home


def write_wheel(folder: Path, name: str, version: str, *, requires: str = "", body: str = "VALUE = 1\n") -> Path:
    """Write a wheel of one module, as the specification of wheels has it."""
    module = name.replace("-", "_")
    info = f"{module}-{version}.dist-info"
    requirement = f"Requires-Dist: {requires}\n" if requires else ""
    files = {
        f"{module}.py": body,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{requirement}",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    lines = []
    for path, text in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
        lines.append(f"{path},sha256={digest},{len(text.encode())}")
    folder.mkdir(parents=True, exist_ok=True)
    wheel = folder / f"{module}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for path, text in files.items():
            archive.writestr(path, text)
        archive.writestr(f"{info}/RECORD", "\n".join([*lines, f"{info}/RECORD,,"]) + "\n")
    return wheel


@dataclass
class Index:
    """A simple index: what it holds, and what it was asked."""

    url: str
    folder: Path
    asked: list[str] = field(default_factory=list)

    def add(self, name: str, version: str, **values: str) -> Path:
        """Put a wheel into the index."""
        return write_wheel(self.folder / "simple" / name, name, version, **values)


class _Handler(http.server.SimpleHTTPRequestHandler):
    asked: list[str]

    def __init__(self, *words: object, asked: list[str], **named: object) -> None:
        self.asked = asked
        super().__init__(*words, **named)  # type: ignore[arg-type]

    def do_GET(self) -> None:
        self.asked.append(self.path)
        super().do_GET()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def index(tmp_path: Path) -> Iterator[Index]:
    """A simple index on loopback."""
    folder = tmp_path / "index"
    (folder / "simple").mkdir(parents=True)
    asked: list[str] = []
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(_Handler, directory=str(folder), asked=asked))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield Index(f"http://127.0.0.1:{server.server_port}/simple", folder, asked)
    server.shutdown()
    server.server_close()
    thread.join(5)


@pytest.fixture(scope="session")
def uv_cache() -> str:
    """uv's real cache: its home is the machine's, not a test's, or Paddle would be fetched anew for every test."""
    return UV_CACHE


@pytest.fixture(autouse=True)
def _shared_cache(home: Path, monkeypatch: pytest.MonkeyPatch, uv_cache: str) -> None:  # noqa: ARG001 - home comes first
    monkeypatch.setenv("UV_CACHE_DIR", uv_cache)


def on_terminal(
    *words: str, cwd: Path, typed: str = "", size: tuple[int, int] = (24, 100), limit_s: float = 60
) -> tuple[int, str]:
    """Run a line of devkit on a terminal, type into it, and return its status and all that was shown."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(cwd)
        os.environ["PYTHONPATH"] = str(REPOSITORY)
        os.execv(sys.executable, [sys.executable, "-m", "devkit", *words])  # noqa: S606
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", *size, 0, 0))
    os.write(terminal, typed.encode())
    shown, deadline = b"", time.monotonic() + limit_s
    with contextlib.suppress(OSError):  # Linux's way to say that the other end is closed
        while time.monotonic() < deadline:
            if select.select([terminal], [], [], 1)[0]:
                data = os.read(terminal, 4096)
                if not data:
                    break
                shown += data
                if b"\x1b[c" in data:  # fish asks the terminal what it is, and waits
                    os.write(terminal, b"\x1b[?62;c")
    os.close(terminal)  # hangs up on what still runs
    _, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status), shown.decode(errors="replace")


class OnTerminal(Protocol):
    """Runs a line of devkit on a terminal."""

    def __call__(
        self, *words: str, cwd: Path, typed: str = "", size: tuple[int, int] = (24, 100), limit_s: float = 60
    ) -> tuple[int, str]: ...


@pytest.fixture
def terminal() -> OnTerminal:
    """Run a line of devkit on a terminal."""
    return on_terminal


@dataclass(frozen=True)
class Engine:
    """A Docker engine of the test run, an image in it, and a registry on this machine's loopback.

    Attributes:
        host: what reaches that loopback from the engine.
    """

    socket: Path
    image: str
    host: str
    registry: str

    def docker(self, *words: str, check: bool = True) -> str:
        """Run docker's own command line against it, to see what devkit did from elsewhere."""
        done = subprocess.run(
            ["docker", "-H", f"unix://{self.socket}", *words], capture_output=True, text=True, check=False, timeout=300
        )
        assert not check or done.returncode == 0, done.stderr
        return done.stdout


def _wait(what: Callable[[], bool], process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 60
    while not what():
        assert process.poll() is None, log.read_text(errors="replace")[-3000:]
        assert time.monotonic() < deadline, log.read_text(errors="replace")[-3000:]
        time.sleep(0.1)


def _answers(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


def _root_file_system(folder: Path) -> Path:
    """Return a root file system of busybox, and of this machine's Python where that is Debian's."""
    (folder / "bin").mkdir(parents=True)
    shutil.copy2("/bin/busybox", folder / "bin" / "busybox")
    applets = subprocess.run([folder / "bin" / "busybox", "--list"], capture_output=True, text=True, check=True).stdout
    for applet in set(applets.split()) - {"busybox"}:
        (folder / "bin" / applet).symlink_to("busybox")
    for below in ("etc", "tmp", "usr", "root", "var/log"):
        (folder / below).mkdir(parents=True)
    (folder / "etc" / "passwd").write_text("root:x:0:0:root:/root:/bin/sh\n")
    (folder / "etc" / "group").write_text("root:x:0:\n")
    (folder / "etc" / "filler").write_bytes(os.urandom(6_000_000))  # so that a pull takes long enough to be seen
    return folder


@pytest.fixture(scope="session")
def engine() -> Iterator[Engine]:
    """A Docker engine and a registry, started here and ended here; needs root, as ``make test-engine`` in CI has.

    DEVKIT_TEST_ENGINE names the socket of one that runs already instead: a rootless one, for a user of its own.
    DEVKIT_TEST_ENGINE_HOST is then what reaches this machine's loopback from it, ``10.0.2.2`` with slirp4netns.
    """
    there = os.environ.get("DEVKIT_TEST_ENGINE")
    missing = [name for name in ("dockerd", "docker", "docker-registry", "/bin/busybox") if not shutil.which(name)]
    assert not missing, f"apt install docker.io busybox-static iptables tini docker-registry   ({missing} missing)"
    assert there or os.geteuid() == 0, "the tests start an engine of their own, which takes root"
    folder = Path(tempfile.mkdtemp(prefix="dk"))  # short: a socket's path has 108 bytes
    host = os.environ.get("DEVKIT_TEST_ENGINE_HOST", "127.0.0.1") if there else "127.0.0.1"
    had_bridge = Path("/sys/class/net/docker0").exists()
    with contextlib.ExitStack() as ending:
        ending.callback(shutil.rmtree, folder, ignore_errors=True)
        if not there:
            _start_engine(folder, ending, had_bridge=had_bridge)
        port = _start_registry(folder, ending)
        made = Engine(Path(there or folder / "docker.sock"), "devkit-test:1", host, f"{host}:{port}")
        _import(_root_file_system(folder / "root"), made.socket, made.image)
        yield made


def _start_engine(folder: Path, ending: contextlib.ExitStack, *, had_bridge: bool) -> None:
    log = folder / "dockerd.log"
    words = ["dockerd", "--data-root", f"{folder}/data", "--exec-root", f"{folder}/exec", "--pidfile", f"{folder}/pid"]
    output = ending.enter_context(log.open("wb"))
    daemon = subprocess.Popen([*words, "-H", f"unix://{folder}/docker.sock"], stdout=output, stderr=output)
    ending.callback(_end_engine, daemon, folder, had_bridge=had_bridge)
    asked = Engine(folder / "docker.sock", "", "", "")
    _wait(lambda: asked.docker("info", check=False).find("Server Version") > 0, daemon, log)


def _start_registry(folder: Path, ending: contextlib.ExitStack) -> int:
    log, config = folder / "registry.log", folder / "registry.yml"
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = int(free.getsockname()[1])
    storage = f"storage:\n  filesystem:\n    rootdirectory: {folder}/registry\n"
    config.write_text(f"version: 0.1\n{storage}http:\n  addr: 127.0.0.1:{port}\n")
    output = ending.enter_context(log.open("wb"))
    served = subprocess.Popen(["docker-registry", "serve", config], stdout=output, stderr=output)
    ending.callback(_end, served)
    _wait(lambda: _answers(port), served, log)
    return port


@pytest.fixture(scope="session")
def python_image(engine: Engine) -> str:
    """An image with this machine's own Python 3 in it, and nothing that it does not need."""
    python = Path("/usr/bin/python3").resolve()
    library = Path("/usr/lib") / python.name
    assert library.is_dir(), "apt install python3"
    linked = subprocess.run(["ldd", python], capture_output=True, text=True, check=True).stdout
    libraries = re.findall(r"(/\S+)", linked)
    with tempfile.TemporaryDirectory() as made:
        root = _root_file_system(Path(made) / "root")
        (root / "usr" / "bin").mkdir()
        shutil.copy2(python, root / "usr" / "bin" / "python3")
        unneeded = shutil.ignore_patterns("test", "dist-packages", "__pycache__", "*.a", "config-*", "idlelib")
        shutil.copytree(library, root / "usr" / "lib" / python.name, ignore=unneeded)
        for path in libraries:
            (root / path[1:]).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path, root / path[1:])
        return _import(root, engine.socket, "devkit-test:python")


@pytest.fixture(scope="session")
def bare_image(engine: Engine) -> str:
    """An image with the libraries that this machine's Python is linked with, and with Python 3.7, if that is here."""
    prefix, short = Path(sys.base_prefix), f"python3.{sys.version_info[1]}"
    modules = [path for path in (prefix / "lib" / short / "lib-dynload").glob("*.so") if "tkinter" not in path.name]
    linked = subprocess.run(
        ["ldd", find_uv_bin(), prefix / "bin" / short, *modules], capture_output=True, text=True, check=True
    ).stdout
    old = next(Path(os.environ.get("PYENV_ROOT", "/root/.pyenv"), "versions").glob("3.7.*"), None)
    with tempfile.TemporaryDirectory() as made:
        root = _root_file_system(Path(made) / "root")
        for path in {found for found in re.findall(r"(/\S+)", linked) if ".so" in found and "python" not in found}:
            (root / path[1:]).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path, root / path[1:])
        (root / "tmp").chmod(0o1777)
        if old is not None:
            (root / "usr" / "bin").mkdir(exist_ok=True)
            shutil.copy2(old / "bin" / "python3.7", root / "usr" / "bin" / "python3")
            ignore = shutil.ignore_patterns("test", "site-packages", "__pycache__", "config-*", "idlelib")
            shutil.copytree(old / "lib" / "python3.7", root / "usr" / "lib" / "python3.7", ignore=ignore)
            for library in old.glob("lib/libpython3.7m.so*"):
                shutil.copy2(library, root / "usr" / "lib" / library.name)
        return _import(root, engine.socket, "devkit-test:bare" + ("-3.7" if old else ""))


def _import(root: Path, engine_socket: Path, image: str) -> str:
    with subprocess.Popen(["tar", "-C", root, "-c", "."], stdout=subprocess.PIPE) as packed:
        words = ["docker", "-H", f"unix://{engine_socket}", "import", "-", image]
        subprocess.run(words, stdin=packed.stdout, check=True, capture_output=True, timeout=120)
    return image


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(10)


def _end_engine(daemon: subprocess.Popen[bytes], folder: Path, *, had_bridge: bool) -> None:
    listed = subprocess.run(
        ["docker", "-H", f"unix://{folder}/docker.sock", "ps", "-aq"], capture_output=True, text=True, check=False
    )
    if listed.stdout.split():
        remove = ["docker", "-H", f"unix://{folder}/docker.sock", "rm", "-f", *listed.stdout.split()]
        subprocess.run(remove, capture_output=True, check=False, timeout=60)
    _end(daemon)
    for place in (folder / "exec" / "netns" / "default", folder / "data"):
        subprocess.run(["umount", place], capture_output=True, check=False)
    if not had_bridge:  # another engine's bridge stays
        subprocess.run(["ip", "link", "delete", "docker0"], capture_output=True, check=False)


@dataclass(frozen=True)
class Bundled:
    """A bundle of a small environment, packed once.

    Attributes:
        archive: the bundle.
        folder: what is in it.
        planned: what the dry run of its packing answered.
        packed: what the packing answered, with ``-v``.
    """

    archive: Path
    folder: Path
    planned: Result
    packed: Result


@pytest.fixture(scope="session")
def bundled(uv_cache: str) -> Iterator[Bundled]:
    """Bundle an environment of two wheels on this Python; another user may read it."""
    place = Path(tempfile.mkdtemp(prefix="devkit-bundle-"))
    place.chmod(0o755)
    home = place / "home"
    wheels = [
        write_wheel(place / "wheels", name, "1.0", requires=needs) for name, needs in (("one", "two"), ("two", ""))
    ]
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("XDG_", "DEVKIT_"))}
    environ |= {"HOME": str(home), "PYTHONPATH": str(REPOSITORY), "UV_CACHE_DIR": uv_cache}
    bundle = ("env", "bundle", "small", "--offline", "-o", str(place / "small.tar"))
    made = ("--paddle", "none", "--python", sys.executable, "--with", " ".join(map(str, wheels)))
    try:
        _, planned, packed = (
            run_process(words, place, environ, limit_s=600)
            for words in (("env", "create", "small", *made), (*bundle, "--dry-run"), (*bundle, "-v"))
        )
        assert packed.status == 0, packed.err
        shutil.rmtree(home)
        subprocess.run(["tar", "-xf", "small.tar"], cwd=place, check=True, timeout=60)
        subprocess.run(["chmod", "-R", "a+rX", place], check=True, timeout=60)
        yield Bundled(place / "small.tar", place / "small.bundle", planned, packed)
    finally:
        shutil.rmtree(place, ignore_errors=True)
