"""Every command where a machine is at its worst: it may fail, saying what, why and what to type; never as our bug.

Each line runs in a process of its own, forked from one that has loaded what commands load, with nothing of a command
run in it: starting Python and reading Typer for each would take minutes.
"""

from __future__ import annotations

import contextlib
import io
import os
import resource
import select
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import pytest

from devkit.commands._cli import tree
from devkit.commands._cli.typer_command import load
from tests.refusals import as_anybody, without_locks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from devkit.commands._cli.tree import Node

LIMIT_S = 60
RAISED = 99
NEVER_ENDED = "never ended"
# Instead of the example: what would take long, connect to something, or wait.
INSTEAD = {
    "bench attn": "--seqlen 16",
    "explain": "-",
    "net": "",
    "completion": "bash",
    "config path": "--project",
    "runs open": "last --path",
    "serve": "nothing-here",
    "get": "http://127.0.0.1:9/SECRET/x there/",
    "recv": "nobody@127.0.0.1:x .",
    "send": "a nobody@127.0.0.1:x",
    "build": "--dry-run",
    "build deps": "--offline",
    "build overlay": "--dry-run",
    "env activate": "try-311",
}


def commands(node: Node = tree.ROOT) -> Iterator[Node]:
    if node.own_command:
        yield node
    for child in node.children().values():
        yield from commands(child)


def words_of(node: Node) -> list[str]:
    """Return a line to type: the command's own example, changing nothing where it can be asked for that."""
    name = " ".join(node.words)
    given = INSTEAD.get(name)
    if given is None:
        text = Path(str(node.own_command)).read_text("utf-8").split('"""')[1]
        example = text.partition("Example:  ")[2].splitlines()[0].partition(" && ")[0].partition(" >> ")[0]
        given = example.partition(f"devkit {name}")[2]
        given = given.rstrip(')"') if "$(" in example else given
    dry = "--dry-run" in {flag for parameter in load(node).params for flag in parameter.opts}
    words = shlex.split(given)
    return [*node.words, *(["--dry-run"] if dry and "--dry-run" not in words else []), *words]


ALL = {" ".join(node.words): node for node in commands()}


def full_output() -> None:
    os.dup2(os.open("/dev/full", os.O_WRONLY), 1)


def full_errors() -> None:
    os.dup2(os.open("/dev/full", os.O_WRONLY), 2)


def closed_output() -> None:
    from devkit.__main__ import _open_what_is_closed

    os.close(1)
    sys.stdout = None
    _open_what_is_closed()


def broken_pipe() -> None:
    read, write = os.pipe()
    os.close(read)
    os.dup2(write, 1)


def no_home() -> None:
    for name in ("HOME", *(f"XDG_{kind}_HOME" for kind in ("CONFIG", "STATE", "DATA", "CACHE"))):
        os.environ.pop(name, None)


def home_is_a_file() -> None:
    no_home()
    Path("a-file").touch()
    os.environ["HOME"] = str(Path("a-file").absolute())


def home_is_missing() -> None:
    no_home()
    os.environ["HOME"] = "/proc/nobody"


def home_is_empty() -> None:
    no_home()
    os.environ["HOME"] = ""


def without_a_name() -> None:
    """A user whom passwd does not know, as in a container that is started with --user; pwd is a fake."""
    import pwd

    def nameless(_: int) -> NoReturn:
        raise KeyError

    no_home()
    pwd.getpwuid = nameless


def read_only_home() -> None:
    home = Path(os.environ["HOME"])
    for path in (home, home / ".cache", home / ".local"):
        path.mkdir(exist_ok=True)
        path.chmod(0o555)
    as_anybody()


def no_temporary_folder() -> None:
    os.environ["TMPDIR"] = "/proc/nowhere"
    tempfile.tempdir = None
    tempfile._candidate_tempdir_list = lambda: ["/proc/nowhere"]  # type: ignore[attr-defined]


def full_disk() -> None:
    """No file can grow: what a full disk answers, but EFBIG, for devkit and all that it starts."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))


def plain_locale() -> None:
    """A locale of ASCII, which Python leaves only to those who insist, and names that are not in it."""
    os.environ.update(LC_ALL="C", PYTHONUTF8="0", PYTHONCOERCECLOCALE="0")
    for descriptor, name in ((1, "stdout"), (2, "stderr")):
        stream = io.TextIOWrapper(
            io.FileIO(descriptor, "w", closefd=False), encoding="ascii", errors="strict", write_through=True
        )
        setattr(sys, name, stream)
    for path in (b"\xe6\xa8\xa1\xe5\x9e\x8b.py", b"\xff\xfe.txt"):
        Path(os.fsdecode(path)).touch()


def gone_folder() -> None:
    folder = Path("gone").absolute()
    folder.mkdir()
    os.chdir(folder)
    folder.rmdir()


def unreadable_folder() -> None:
    folder = Path("closed").absolute()
    folder.mkdir()
    os.chdir(folder)
    folder.chmod(0)
    as_anybody()


PLACES: tuple[Callable[[], None], ...] = (
    full_output, full_errors, closed_output, broken_pipe, no_home, home_is_a_file, home_is_missing, home_is_empty,
    without_a_name, read_only_home, no_temporary_folder, full_disk, without_locks, plain_locale, gone_folder,
    unreadable_folder,
)  # fmt: skip


def run(words: list[str], place: Callable[[], None], folder: Path) -> tuple[int, str]:
    """Run a line at a place, and return its status and all that it said."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setpgid(0, 0)
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            os.dup2(write, 1)
            os.dup2(write, 2)
            sys.stdin = io.TextIOWrapper(io.FileIO(0, closefd=False), encoding="utf-8")
            sys.stdout = io.TextIOWrapper(io.FileIO(1, "w", closefd=False), encoding="utf-8")
            sys.stderr = io.TextIOWrapper(io.FileIO(2, "w", closefd=False), encoding="utf-8", write_through=True)
            os.chdir(folder)
            place()
            from devkit.commands._cli.main import main

            status = main(words)
            with contextlib.suppress(OSError, ValueError):
                sys.stdout.flush()
        except BaseException:  # noqa: BLE001 - a traceback is what is looked for
            os.write(write, traceback.format_exc().encode())
            status = RAISED
        os._exit(status)
    os.close(write)
    said, deadline = b"", time.monotonic() + LIMIT_S
    while select.select([read], [], [], max(deadline - time.monotonic(), 0))[0]:
        data = os.read(read, 1 << 16)
        if not data:
            break
        said += data
    else:
        said += NEVER_ENDED.encode()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child, signal.SIGKILL)
    os.close(read)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return status, said.decode(errors="replace")


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository to stand in, with one commit."""
    folder = tmp_path_factory.mktemp("clone")
    git = ["git", "-c", "user.name=Test", "-c", "user.email=test@example.com"]
    for words in (["init", "-q"], ["commit", "-q", "--allow-empty", "-m", "first"]):
        subprocess.run([*git, *words], cwd=folder, check=True, timeout=60)
    return folder


def sweep(names: Sequence[str], place: Callable[[], None], clone: Path, folder: Path) -> list[str]:
    """Return of the lines those that were called a bug, ended by a traceback, or did not end."""
    wrong = []
    for name in names:
        here = folder / name.replace(" ", "-")
        shutil.copytree(clone, here)
        status, said = run(words_of(ALL[name]), place, here)
        if status in {3, RAISED} or any(word in said for word in ("bug in devkit", "Traceback", NEVER_ENDED)):
            wrong.append(f"devkit {shlex.join(words_of(ALL[name]))}: status {status}\n{said}")
        if place is unreadable_folder:
            (here / "closed").chmod(0o700)
        shutil.rmtree(here)
    return wrong


@pytest.fixture
def nothing_heavy(home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Loaded as a command is, once; and an environment of the device side that is not there."""
    import devkit.app
    import devkit.commands._cli.run  # noqa: F401 - each line's process has it then

    monkeypatch.setenv("DEVKIT_ENV_DEFAULT", "none-of-this-name")
    for name in ("http_proxy", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    return home


@pytest.mark.usefixtures("nothing_heavy")
@pytest.mark.parametrize("place", PLACES, ids=lambda place: place.__name__)
def test_no_command_calls_the_machines_doing_a_bug(place: Callable[[], None], clone: Path, tmp_path: Path) -> None:
    """Each command at one of the places; all at all of them is slow."""
    number = PLACES.index(place)
    names = [name for index, name in enumerate(ALL) if (index - number) % len(PLACES) == 0]
    assert sweep(names, place, clone, tmp_path) == []


@pytest.mark.slow
@pytest.mark.usefixtures("nothing_heavy")
@pytest.mark.parametrize("place", PLACES, ids=lambda place: place.__name__)
def test_no_command_calls_the_machines_doing_a_bug_anywhere(
    place: Callable[[], None], clone: Path, tmp_path: Path
) -> None:
    assert sweep(list(ALL), place, clone, tmp_path) == []
