"""Completion in the shells themselves."""

from __future__ import annotations

import os
import pty
import select
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from devkit.commands._cli import tree

if TYPE_CHECKING:
    from tests.conftest import Devkit

REPOSITORY = Path(__file__).parent.parent.parent
# A machine has bash; the others are among the engines that CI installs.
SHELLS = ["bash", *(pytest.param(shell, marks=pytest.mark.engine) for shell in ("zsh", "fish"))]
SOURCED = {
    "bash": ["bash", "--norc", "-euc", 'source "$1"', "bash"],
    "zsh": ["zsh", "-fc", 'source "$1" && (( $+functions[compdef] ))', "zsh"],  # whose settings call no compinit
    "fish": ["fish", "--no-config", "-c", "source $argv[1]"],
}
BASH = """
source "$1"; shift
COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMPREPLY=()
function_name=$(complete -p devkit | sed 's/.*-F \\([^ ]*\\).*/\\1/')
"$function_name" devkit "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}"
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.fixture
def path(tmp_path: Path) -> str:
    """A PATH on which ``devkit`` is this checkout's."""
    folder = tmp_path / "bin"
    folder.mkdir()
    program = folder / "devkit"
    program.write_text(f'#!/bin/sh\nPYTHONPATH={REPOSITORY} exec {sys.executable} -m devkit "$@"\n')
    program.chmod(0o755)
    return f"{folder}{os.pathsep}{os.environ['PATH']}"


@pytest.fixture
def scripts(devkit: Devkit, tmp_path: Path) -> dict[str, Path]:
    """The script for each shell, in a file."""
    written = {}
    for shell in ("bash", "zsh", "fish"):
        result = devkit("completion", shell)
        assert (result.status, result.err) == (0, "")
        written[shell] = tmp_path / f"devkit.{shell}"
        written[shell].write_text(result.out)
    return written


def in_bash(script: Path, path: str, *words: str) -> list[str]:
    done = subprocess.run(
        ["bash", "--norc", "-c", BASH, "bash", script, *words],
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    assert done.stderr == ""
    return done.stdout.split()


@pytest.mark.parametrize("shell", SHELLS)
def test_script_is_sourced_without_a_word(scripts: dict[str, Path], path: str, shell: str) -> None:
    done = subprocess.run(
        [*SOURCED[shell], scripts[shell]],
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_script_is_as_wide_as_it_is_whatever_the_screen(devkit: Devkit) -> None:
    for shell in ("bash", "zsh", "fish"):
        assert devkit("completion", shell, env={"COLUMNS": "20"}).out == devkit("completion", shell).out


def test_bash_completes_every_group_and_command(scripts: dict[str, Path], path: str) -> None:
    assert in_bash(scripts["bash"], path, "devkit", "") == list(tree.ROOT.children())
    assert in_bash(scripts["bash"], path, "devkit", "runs", "") == list(tree.ROOT.children()["runs"].children())
    assert in_bash(scripts["bash"], path, "devkit", "doc") == ["doctor"]


def test_bash_completes_flags_and_settings(scripts: dict[str, Path], path: str) -> None:
    assert "--json" in in_bash(scripts["bash"], path, "devkit", "config", "show", "--")
    assert in_bash(scripts["bash"], path, "devkit", "config", "get", "runs.k") == ["runs.keep"]
    assert in_bash(scripts["bash"], path, "devkit", "completion", "z") == ["zsh"]


def test_bash_completes_run_ids_and_environments(scripts: dict[str, Path], path: str, home: Path) -> None:
    from devkit.runs import RunStore

    with RunStore(home / ".local/state/devkit/runs", keep=5, max_mib=1).start("x", argv=[]) as run:
        pass
    assert in_bash(scripts["bash"], path, "devkit", "runs", "show", run.id[:2]) == [run.id]
    python = home / ".local/share/devkit/envs/paddle-cpu/bin/python"
    python.parent.mkdir(parents=True)
    python.symlink_to(sys.executable)
    assert in_bash(scripts["bash"], path, "devkit", "doctor", "--env", "pad") == ["paddle-cpu"]


@pytest.mark.engine
def test_fish_completes(scripts: dict[str, Path], path: str) -> None:
    done = subprocess.run(
        ["fish", "--no-config", "-c", f"source {scripts['fish']}; complete -C 'devkit ru'"],
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    assert [line.split("\t")[0] for line in done.stdout.splitlines()] == ["runs"]


def test_a_word_that_leads_nowhere_completes_to_nothing_in_silence(scripts: dict[str, Path], path: str) -> None:
    assert in_bash(scripts["bash"], path, "devkit", "zzz", "") == []
    assert in_bash(scripts["bash"], path, "devkit", "runs", "zzz", "") == []


@pytest.mark.parametrize("line", ["devkit env ", "devkit ", "devkit env create --", "devkit pr "])
def test_every_candidate_has_one_line_of_help(devkit: Devkit, line: str) -> None:
    """As fish asks: a candidate a line, a tab before its help."""
    result = devkit(
        env={
            "_DEVKIT_COMPLETE": "complete_fish",
            "_TYPER_COMPLETE_FISH_ACTION": "get-args",
            "_TYPER_COMPLETE_ARGS": line,
        }
    )
    lines = result.out.splitlines()
    assert len(lines) > 3
    assert [word for word in lines if "\t" not in word] == []


def test_a_container_is_a_candidate_too(devkit: Devkit, home: Path) -> None:
    note = home / ".local/share/devkit/envs/.containers/boxy"
    note.parent.mkdir(parents=True)
    note.touch()
    asked = {"COMP_WORDS": "devkit env shell bo", "COMP_CWORD": "3", "_DEVKIT_COMPLETE": "complete_bash"}
    assert devkit(env=asked).out == "boxy\n"


# Answers the shell's question as devkit does, and else says what was typed.
SAYS = """\
#!/bin/sh
if [ -n "$_DEVKIT_COMPLETE" ]; then PYTHONPATH={repository} exec {python} -m devkit "$@"; fi
echo "typed <$*>"
"""
STARTED = {
    "bash": ("bash --rcfile {rc} -i", "PS1='ready> '\nsource {script}\n"),
    "zsh": ("zsh -d -i", "PS1='ready> '\nautoload -Uz compinit\ncompinit -u -d {script}.dump\nsource {script}\n"),
    "fish": ("fish --no-config -i -C 'source {rc}'", "function fish_prompt\n  echo 'ready> '\nend\nsource {script}\n"),
}


@pytest.mark.parametrize("shell", SHELLS)
def test_container_is_completed_at_the_prompt(
    shell: str, scripts: dict[str, Path], tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    note = home / ".local/share/devkit/envs/.containers/boxy"
    note.parent.mkdir(parents=True)
    note.touch()
    program = tmp_path / "bin" / "devkit"
    program.parent.mkdir()
    program.write_text(SAYS.format(repository=REPOSITORY, python=sys.executable))
    program.chmod(0o755)
    line, settings = STARTED[shell]
    rc = tmp_path / ".zshrc"  # where zsh looks for its own
    rc.write_text(settings.format(script=scripts[shell]))
    monkeypatch.setenv("ZDOTDIR", str(tmp_path))
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    prompt = Prompt(shlex.split(line.format(rc=rc)))
    try:
        prompt.wait("ready>")
        prompt.type("devkit env shell bo\t\n")
        prompt.wait("typed <env shell boxy>")
    finally:
        prompt.end()


class Prompt:
    """A shell on a terminal of its own."""

    def __init__(self, argv: list[str]) -> None:
        self.shown = b""
        self.pid, self.terminal = pty.fork()
        if self.pid == 0:
            os.execvp(argv[0], argv)  # noqa: S606

    def end(self) -> None:
        os.kill(self.pid, signal.SIGKILL)
        os.close(self.terminal)
        os.waitpid(self.pid, 0)

    def type(self, text: str) -> None:
        os.write(self.terminal, text.encode())

    def wait(self, text: str) -> None:
        """Read until the text is shown."""
        deadline = time.monotonic() + 60
        while text.encode() not in self.shown:
            assert time.monotonic() < deadline, self.shown.decode(errors="replace")
            if select.select([self.terminal], [], [], 1)[0]:
                data = os.read(self.terminal, 4096)
                self.shown += data
                if b"\x1b[c" in data:  # fish asks the terminal what it is, and waits
                    os.write(self.terminal, b"\x1b[?62;c")


def test_nothing_is_printed_into_the_line_where_settings_do_not_parse(devkit: Devkit, tmp_path: Path) -> None:
    (tmp_path / "devkit.toml").write_text("runs = [\n")
    asked = {"COMP_WORDS": "devkit runs show ", "COMP_CWORD": "3", "_DEVKIT_COMPLETE": "complete_bash"}
    result = devkit(env=asked)
    assert (result.out, result.err) == ("", "")
