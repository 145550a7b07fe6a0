"""What was killed, interrupted, locked out or refused by the system: nothing is lost, and the way back is said."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import signal
import subprocess
import sys
import termios
import time
from typing import TYPE_CHECKING

import pytest

from tests.commands.pr.conftest import Clone, look, numbered
from tests.commands.pr.random_clones import differences, fork_devkit, refs

if TYPE_CHECKING:
    from tests.commands.pr.conftest import Forge


@pytest.mark.parametrize("at", [12, 15, 18])
def test_a_killed_run_is_said_to_be_one_and_undone(clone: Clone, at: int) -> None:
    clone.write("loose.txt", "loose\n")
    before = look(clone)
    status, _ = fork_devkit(("pr", "fetch", "7"), clone.folder, clone.state, end=("before", at))
    assert status == -9
    said = clone.devkit("undo")
    if "nothing to undo" not in said.text:
        assert said.status == 1
        assert "pr fetch 7" in said.text
        assert "was killed before it ended" in said.text
        assert clone.devkit("undo", "--yes").status == 0
    assert differences(before, look(clone)) == []


def test_a_file_that_was_half_written_when_it_was_killed_goes(clone: Clone) -> None:
    before = look(clone)
    clone.devkit("pr", "fetch", "7")
    clone.write(".devkit-abcd_123/file", "half")
    assert clone.devkit("undo", "--yes").status == 0
    assert differences(before, look(clone)) == []
    assert not (clone.folder / ".devkit-abcd_123").exists()


def test_an_interruption_puts_everything_back_and_says_so(clone: Clone) -> None:
    hook = clone.folder / ".git" / "hooks" / "post-checkout"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\nkill -INT $(cat ../devkit.pid)\nsleep 20\n")
    hook.chmod(0o755)
    clone.write("loose.txt", "loose\n")
    before = look(clone)
    started = time.monotonic()
    script = f"import os; open('{clone.folder.parent}/devkit.pid', 'w').write(str(os.getpid()))\n"
    script += "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
    script += "import sys; from devkit.commands._cli.main import main; sys.exit(main(['pr', 'fetch', '7']))"
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=clone.folder, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 130, done.stderr
    assert "the repository is as it was before" in done.stderr
    assert time.monotonic() - started < 15
    assert differences(before, look(clone)) == []
    assert "nothing to undo" in clone.devkit("undo").text


def test_a_failing_hook_does_not_hide_that_the_checkout_is_whole(clone: Clone) -> None:
    hook = clone.folder / ".git" / "hooks" / "post-checkout"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\nexit 1\n")
    hook.chmod(0o755)
    said = clone.devkit("pr", "fetch", "7")
    assert said.status == 0
    assert "post-checkout hook failed" in said.text
    assert clone.status() == ["## pr/7"]


def test_another_git_at_work_is_not_run_over(clone: Clone) -> None:
    clone.devkit("pr", "fetch", "7")
    lock = clone.folder / ".git" / "index.lock"
    lock.write_text("")
    said = clone.devkit("undo")
    assert said.status == 1
    assert f"rm -- {lock}" in said.text
    lock.unlink()
    assert clone.devkit("undo").status == 0


def test_two_devkits_do_not_meet_and_what_a_hook_leaves_running_holds_nothing(
    clone: Clone, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORKS_FIRST", "from devkit.git import lock; lock.LOCK_WAIT_S = 0.3")
    hook = clone.folder / ".git" / "hooks" / "post-checkout"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\nsleep 30 > /dev/null 2>&1 &\necho $! > ../sleeper.pid\n")
    hook.chmod(0o755)
    assert clone.devkit("pr", "fetch", "7").status == 0
    try:
        assert clone.devkit("undo").status == 0
    finally:
        os.kill(int((clone.folder.parent / "sleeper.pid").read_text()), signal.SIGTERM)
    with (clone.folder / ".git" / "devkit" / "lock").open("r+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.truncate(0)
        file.write(str(os.getpid()).encode())
        file.flush()
        said = clone.devkit("pr", "fetch", "7")
        assert said.status == 1
        assert "another devkit is changing this repository" in said.text
        assert clone.devkit("pr", "list").status == 0  # to look is free


@pytest.mark.parametrize("name", ["L" * 300, "/".join(["d" * 200] * 25)])
def test_a_name_that_is_too_long_for_the_system_is_said_and_nothing_is_lost(
    clone: Clone, forge: Forge, name: str
) -> None:
    forge.commit("project/Paddle", "refs/pull/80/head", "Long", {name: "x\n"}, on="refs/heads/develop")
    before = clone.status(), refs(clone.folder)
    said = clone.devkit("pr", "fetch", "80")
    assert said.status == 1
    assert "✗ git switch failed with status " in said.text
    assert (clone.status(), refs(clone.folder)) == before


@pytest.mark.slow
def test_a_lock_that_another_git_left_is_named_with_the_line_that_removes_it(clone: Clone) -> None:
    clone.write("a.cc", numbered(9, l1="mine"))
    before = look(clone)
    for name in ("HEAD.lock", "refs/heads/pr/7.lock", "config.lock"):
        lock = clone.folder / ".git" / name
        lock.parent.mkdir(exist_ok=True)
        lock.touch()
        said = clone.devkit("pr", "fetch", "7")
        assert said.status == 1
        assert f"{name}   when no other git works here" in said.text
        assert differences(before, look(clone)) == []
        lock.unlink()
    lock = clone.folder / ".git" / "packed-refs.lock"
    lock.touch()
    said = clone.devkit("pr", "fetch", "7")
    assert said.status == 1
    assert "could not be put back at once" in said.text
    lock.unlink()
    line = next(word for word in said.text.splitlines() if "→ devkit undo" in word)
    assert clone.devkit(*line.split()[2:5]).status == 0
    assert differences(before, look(clone)) == []


def test_an_editors_git_is_waited_for(clone: Clone) -> None:
    """It takes the index for a moment, in the middle of an undo."""
    before = look(clone)
    clone.devkit("pr", "fetch", "7")
    lock = clone.folder / ".git" / "index.lock"
    hook = clone.folder / ".git" / "hooks" / "reference-transaction"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text(
        f"#!/bin/sh\n[ -e '{lock}' ] || {{ touch '{lock}'; (sleep 0.5; rm '{lock}') > /dev/null 2>&1 & }}\n"
    )
    hook.chmod(0o755)
    said = clone.devkit("undo")
    assert said.status == 0, said.text
    hook.unlink()
    assert differences(before, look(clone)) == []


@pytest.mark.parametrize("folder", [".git", "sub"])
def test_a_folder_without_permission_is_said_and_nothing_is_lost(clone: Clone, folder: str) -> None:
    clone.commit("Sub", sub__x_txt="x\n")
    clone.write("sub/loose.txt", "loose\n")
    clone.write("a.cc", numbered(9, l1="mine"))
    before = look(clone)
    (clone.folder / folder).chmod(0o555)
    words = ["--bounding-set=-dac_override,-dac_read_search"] if os.getuid() == 0 else ["--reset-env"]
    done = subprocess.run(
        [*(["setpriv", *words] if os.getuid() == 0 else []), sys.executable, "-m", "devkit", "wip", "save"],
        cwd=clone.folder,
        env={**os.environ, "XDG_STATE_HOME": str(clone.state)},
        capture_output=True,
        text=True,
        check=False,
    )
    (clone.folder / folder).chmod(0o755)
    assert done.returncode == 1, done.stderr
    assert "✗ the system refused " in done.stderr
    assert "Permission denied." in done.stderr
    assert differences(before, look(clone)) == []


def test_a_second_ctrl_c_at_a_terminal_does_not_reach_what_puts_everything_back(clone: Clone) -> None:
    """The terminal sends it to git as well."""
    hook = clone.folder / ".git" / "hooks" / "post-checkout"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\ntouch ../reached\nsleep 20\n")
    hook.chmod(0o755)
    slow = clone.folder / ".git" / "hooks" / "reference-transaction"
    slow.write_text('#!/bin/sh\n[ "$1" != prepared ] || [ ! -e ../reached ] || sleep 0.3\n')
    slow.chmod(0o755)
    clone.write("a.cc", numbered(9, l1="mine"))
    before = look(clone)
    main, terminal = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "devkit", "pr", "fetch", "7"],
        cwd=clone.folder,
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        env={**os.environ, "XDG_STATE_HOME": str(clone.state), "TERM": "dumb"},
        preexec_fn=_own_terminal,  # noqa: PLW1509 - a terminal of its own has to be taken between fork and exec
    ) as process:
        os.close(terminal)
        deadline = time.monotonic() + 30
        while not (clone.folder.parent / "reached").exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        said = b""
        while process.poll() is None and time.monotonic() < deadline:
            os.write(main, b"\x03")
            time.sleep(0.05)
        with contextlib.suppress(OSError):  # the end of a terminal
            while data := os.read(main, 4096):
                said += data
        assert process.wait(30) in {130, -signal.SIGINT}, said.decode()  # the last one may meet a Python that ends
    os.close(main)
    slow.unlink()
    hook.unlink()
    assert "the repository is as it was before" in said.decode()
    assert differences(before, look(clone)) == []


def _own_terminal() -> None:
    os.setsid()
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
