"""Listing, entering, locking, cloning, adopting and removing environments."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.commands.env.conftest import Index, OnTerminal
    from tests.conftest import Devkit

REPOSITORY = Path(__file__).parents[3]
BARE = ("--python", sys.executable, "--paddle", "none")


def envs(home: Path) -> Path:
    return home / ".local" / "share" / "devkit" / "envs"


@pytest.fixture
def work(devkit: Devkit, home: Path) -> Path:
    """The folder of an environment called work."""
    made = devkit("env", "create", "work", *BARE)
    assert made.status == 0, made.err
    return envs(home) / "work"


def test_run_passes_arguments_and_status_through(devkit: Devkit, work: Path) -> None:
    code = "import sys; print(sys.argv[1:], sys.prefix); sys.exit(7)"
    done = devkit("env", "run", "work", "--", "python", "-c", code, "--help", "-q", "--", "a b", "")
    assert done.status == 7
    assert done.out == f"['--help', '-q', '--', 'a b', ''] {work}\n"
    assert done.err == ""


def test_run_without_a_name_is_of_the_projects_environment(devkit: Devkit, tmp_path: Path) -> None:
    assert devkit("env", "create", *BARE).status == 0
    code = "import sys; print(sys.argv[1:], sys.prefix)"
    done = devkit("env", "run", "--", "python", "-c", code, "--", "-q")
    assert (done.status, done.out) == (0, f"['--', '-q'] {tmp_path / '.venv'}\n")
    assert "no-such-program was not found in .venv" in devkit("env", "run", "--", "no-such-program").err


def test_run_takes_a_program_or_a_script_where_no_environment_has_the_name(devkit: Devkit, tmp_path: Path) -> None:
    assert devkit("env", "create", "--paddle", "none", "-q").status == 0
    (tmp_path / "t.py").write_text("import sys; print(sys.prefix, sys.argv[1:])")
    expected = f"{tmp_path / '.venv'} ['a']\n"
    for words in (("python", "t.py", "a"), ("--", "t.py", "a"), ("--", "python", "t.py", "a")):
        result = devkit("env", "run", *words)
        assert (result.status, result.out) == (0, expected), result.err
    assert "no environment named nonsense" in devkit("env", "run", "nonsense", "t.py").err


def test_run_without_dashes_and_with_standard_input(devkit: Devkit, work: Path) -> None:
    assert devkit("env", "run", "work", "cat", data="line\n").out == "line\n"
    variables = devkit("env", "run", "work", "--", "env").out
    assert f"VIRTUAL_ENV={work}\n" in variables
    assert f"PATH={work}/bin:" in variables


def test_run_passes_signals_through(work: Path, tmp_path: Path) -> None:  # noqa: ARG001 - the environment
    code = "import signal,sys,time\nsignal.signal(15, lambda *_: sys.exit(42))\nprint('up', flush=True)\ntime.sleep(60)"
    process = subprocess.Popen(
        [sys.executable, "-m", "devkit", "env", "run", "work", "--", "python", "-c", code],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "up\n"
    process.send_signal(signal.SIGTERM)
    assert process.wait(10) == 42
    process.stdout.close()


def test_run_leaves_the_pipe_signal_as_a_shell_has_it(devkit: Devkit, work: Path) -> None:  # noqa: ARG001
    done = devkit("env", "run", "work", "--", "bash", "-c", 'yes | head -1; echo "${PIPESTATUS[0]}"')
    assert done.out == f"y\n{128 + signal.SIGPIPE}\n"


def test_run_of_what_is_not_there(devkit: Devkit, work: Path) -> None:  # noqa: ARG001
    done = devkit("env", "run", "work", "--", "no-such-program")
    assert done.status == 127
    assert "was not found in work" in done.err
    absent = devkit("env", "run", "absent", "--", "true")
    assert absent.status == 1
    assert "devkit env create absent" in absent.err


def test_pip_inside_is_the_environments_own(devkit: Devkit, work: Path, index: Index, tmp_path: Path) -> None:
    index.add("tiny", "1.0")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    for name in ("pip", "pip3", f"pip3.{sys.version_info[1]}"):
        (elsewhere / name).write_text("#!/bin/sh\necho another Python\n")
        (elsewhere / name).chmod(0o755)
    path = {"PATH": f"{elsewhere}:{os.environ['PATH']}", "UV_DEFAULT_INDEX": index.url}
    put = devkit("env", "run", "work", "--", "pip", "install", "tiny", env=path)
    assert (put.status, put.out) == (0, ""), put.err
    assert devkit("env", "run", "work", "--", "python", "-c", "import tiny; print(tiny.__file__)").out.startswith(
        str(work)
    )
    same = f"pip3.{sys.version_info[1]}"
    assert devkit("env", "run", "work", "--", same, "list", env=path).out.split()[-2:] == ["tiny", "1.0"]
    by_module = devkit("env", "run", "work", "--", "python", "-m", "pip", "list", env=path)
    assert by_module.out.split()[-2:] == ["tiny", "1.0"], by_module.err
    assert devkit("env", "run", "work", "--", "pip", "--version", env=path).out.startswith("pip by uv, of devkit, ")
    assert devkit("env", "run", "work", "--", "pip", "-q", "install", "tiny", env=path).status == 0
    (work / "bin" / "pip").unlink()  # an environment made before, or by something else
    assert devkit("env", "run", "work", "--", "pip", "list", env=path).out.split()[-2:] == ["tiny", "1.0"]
    refused = devkit("env", "run", "work", "--", "pip3", "download", "tiny", env=path)
    assert refused.status == 1
    assert f"devkit env install {work}" in refused.err
    assert devkit("env", "run", "work", "--", "sh", "-c", "command -v uv", env=path).status == 0


def test_pip_after_activation_by_hand_is_the_environments_own(devkit: Devkit, work: Path, index: Index) -> None:
    index.add("tiny", "1.0")
    script = (
        f". {work}/bin/activate; command -v uv >&2; pip install tiny; python -c 'import tiny; print(tiny.__file__)'"
    )
    environ = {**os.environ, "UV_DEFAULT_INDEX": index.url}
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=False, timeout=30, env=environ)
    assert done.stdout.startswith(str(work)), done.stderr
    assert done.stderr.startswith(f"{work}/bin/uv\n")
    assert devkit("env", "run", "work", "--", "pip", "uninstall", "tiny").status == 0


def test_environment_of_conda_is_not_another_one_that_is_active(devkit: Devkit, work: Path, tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "theirs")], check=True)
    (tmp_path / "theirs" / "conda-meta").mkdir()
    assert devkit("env", "adopt", "theirs", "--name", "theirs").status == 0
    active = {"VIRTUAL_ENV": str(work), "VIRTUAL_ENV_PROMPT": "work"}
    variables = devkit("env", "run", "theirs", "--", "env", env=active).out
    assert "VIRTUAL_ENV" not in variables
    assert "CONDA_PREFIX=" in variables
    line = devkit("env", "activate", "theirs", "--shell", "sh").out
    spaced = {**os.environ, "PATH": f"{os.environ['PATH']}:/mnt/c/Program Files (x86)"}  # as in WSL
    words = ["sh", "-c", f"{line}command -v python"]
    done = subprocess.run(words, capture_output=True, text=True, check=False, env=spaced)
    assert (done.stdout.endswith("/theirs/bin/python\n"), done.stderr) == (True, "")


def test_activate_line_activates(devkit: Devkit, work: Path) -> None:
    line = devkit("env", "activate", "work", "--shell", "bash").out
    script = f"{line}\npython -c 'import sys; print(sys.prefix)'; deactivate; echo $VIRTUAL_ENV."
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=False, timeout=20)
    assert done.stdout == f"{work}\n.\n"
    assert devkit("env", "activate", "work", "--shell", "fish").out.rstrip() == f"source {work}/bin/activate.fish"


def test_shell_reads_the_users_settings_and_is_in_the_environment(
    devkit: Devkit, terminal: OnTerminal, home: Path, work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (home / ".bashrc").write_text("export FROM_BASHRC=yes\nexport PATH=/usr/local/bin:/usr/bin:/bin\n")
    typed = 'echo "<$FROM_BASHRC:$(python -c "import sys;print(sys.prefix)")>"; exit 3\n'
    monkeypatch.setenv("SHELL", "/usr/sbin/nologin")  # as users of images have it: then it is bash
    status, shown = terminal("env", "shell", "work", cwd=tmp_path, typed=typed)
    assert f"<yes:{work}>" in shown
    assert status == 3
    assert "devkit env shell work --shell sh" in devkit("env", "shell", "work", env={"SHELL": "/gone/fish"}).err


@pytest.mark.engine
def test_zsh_reads_the_users_settings_and_is_in_the_environment(
    terminal: OnTerminal, home: Path, work: Path, tmp_path: Path
) -> None:
    assert shutil.which("zsh"), "apt install zsh"
    (home / ".zshrc").write_text("export FROM_ZSHRC=yes\n")
    (home / ".zshenv").write_text("export FROM_ZSHENV=yes\n")
    typed = 'echo "<$FROM_ZSHENV$FROM_ZSHRC:${ZDOTDIR}:$VIRTUAL_ENV:$(which python)>"; exit 3\n'
    status, shown = terminal("env", "shell", "work", "--shell", "zsh", cwd=tmp_path, typed=typed)
    assert f"<yesyes:{home}:{work}:{work}/bin/python>" in shown.replace("\r\n", "").replace("\n", "")
    assert status == 3


@pytest.mark.engine
def test_fish_reads_the_users_settings_and_is_in_the_environment(
    terminal: OnTerminal, home: Path, work: Path, tmp_path: Path
) -> None:
    assert shutil.which("fish"), "apt install fish"
    (home / ".config" / "fish").mkdir(parents=True)
    (home / ".config" / "fish" / "config.fish").write_text("set -gx FROM_FISH yes\n")
    typed = "echo $FROM_FISH:(which python) > out; exit 3\n"
    status, shown = terminal("env", "shell", "work", "--shell", "fish", cwd=tmp_path, typed=typed)
    assert status == 3, shown
    assert (tmp_path / "out").read_text() == f"yes:{work}/bin/python\n"


def test_lock_recreates_the_same_environment(devkit: Devkit, tmp_path: Path, index: Index) -> None:
    index.add("tiny", "1.0")
    index.add("middle", "2.0", requires="tiny")
    from_index = ("--index-url", index.url)
    assert devkit("env", "create", "one", *BARE, "--with", "middle", *from_index).status == 0
    frozen = devkit("env", "freeze", "one", "-o", "one.lock.toml")
    assert frozen.status == 0, frozen.err
    index.add("tiny", "1.1")  # what is newer by now is not taken
    made = devkit("env", "create", "two", "--from", "one.lock.toml", *from_index)
    assert made.status == 0, made.err
    assert devkit("env", "freeze", "two").out == (tmp_path / "one.lock.toml").read_text()
    assert '"tiny==1.0"' in (tmp_path / "one.lock.toml").read_text()


def test_lock_knows_a_wheel_by_its_bytes(devkit: Devkit, tmp_path: Path, index: Index) -> None:
    wheel = index.add("tiny", "1.0")
    made = devkit("env", "create", "one", *BARE, "--with", f"tiny @ {wheel.as_uri()}", "--offline")
    assert made.status == 0, made.err
    assert devkit("env", "freeze", "one", "-o", "lock.toml").status == 0
    assert devkit("env", "create", "two", "--from", "lock.toml", "--offline").status == 0
    wheel.write_bytes(wheel.read_bytes() + b"x")
    refused = devkit("env", "create", "three", "--from", "lock.toml", "--offline")
    assert refused.status == 1
    assert "is not the wheel that was locked" in refused.err
    (tmp_path / "other.toml").write_text("format = 1\npython = '3.11'\npackages = ['--upgrade']\n")
    assert "is not a lock" in devkit("env", "create", "four", "--from", "other.toml").err
    assert devkit("env", "create", "four", "--from", "lock.toml", "--paddle", "cpu").status == 2


def test_clone_has_the_same_packages_and_stands_alone(devkit: Devkit, index: Index, home: Path) -> None:
    index.add("tiny", "1.0")
    assert devkit("env", "create", "one", *BARE, "--with", "tiny", "--index-url", index.url).status == 0
    cloned = devkit("env", "clone", "one", "two", env={"DEVKIT_ENV_INDEX_URL": index.url})
    assert cloned.status == 0, cloned.err
    assert devkit("env", "remove", "one").status == 0
    code = "import tiny, sys; print(tiny.VALUE, sys.prefix)"
    done = devkit("env", "run", "two", "--", "python", "-c", code)
    assert done.out == f"1 {envs(home) / 'two'}\n"


def test_remove_takes_only_what_devkit_made(devkit: Devkit, work: Path, tmp_path: Path, home: Path) -> None:
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "thesis.txt").touch()
    refused = devkit("env", "remove", "./theirs")
    assert refused.status == 1
    assert "is not an environment" in refused.err
    assert "rm -r" not in refused.err
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "made")], check=True)
    assert "not devkit's to remove" in devkit("env", "remove", "./made").err
    for place in ("./theirs", "./made", "/"):  # a dry run refuses what the run refuses
        dry = devkit("env", "remove", place, "--dry-run")
        assert (dry.status, dry.out, dry.err) == (1, "", devkit("env", "remove", place).err)
    (tmp_path / ".venv").symlink_to(work)
    assert devkit("env", "remove", ".venv").status == 0
    assert (work / "devkit-environment.json").is_file()
    assert (tmp_path / "theirs" / "thesis.txt").exists()
    assert devkit("env", "remove", "work", "--dry-run").out == f"rm -r -- {work}\n"
    assert work.exists()
    assert devkit("env", "remove", "work").status == 0
    assert [path.name for path in envs(home).iterdir()] == [".creating"]
    assert "there is no environment named work" in devkit("env", "remove", "work").err


def test_adopted_environment_is_used_and_let_go_of_whole(devkit: Devkit, tmp_path: Path) -> None:
    theirs = tmp_path / "theirs"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(theirs)], check=True, timeout=60)
    before = sorted(str(path.relative_to(theirs)) for path in theirs.rglob("*"))
    adopted = devkit("env", "adopt", "theirs", "--name", "old")
    assert adopted.status == 0, adopted.err
    done = devkit("env", "run", "old", "--", "python", "-c", "import devkit.kernels.protocol")
    assert done.status == 0, done.err
    listed = json.loads(devkit("env", "list", "--json").out)
    assert [(row["name"], row["kind"], row["state"]) for row in listed] == [("old", "adopted", "fine")]
    assert "let go of old" in devkit("env", "remove", "old").err
    assert sorted(str(path.relative_to(theirs)) for path in theirs.rglob("*")) == before


def test_adoption_can_be_looked_at_first(devkit: Devkit, tmp_path: Path, home: Path) -> None:
    theirs = tmp_path / "theirs"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(theirs)], check=True, timeout=60)
    planned = devkit("env", "adopt", "theirs", "--dry-run")
    assert f"ln -s -- {theirs} {envs(home) / 'theirs'}\n" in planned.out
    assert not envs(home).exists()
    assert not list(theirs.rglob("*.pth"))


def test_adopting_again_brings_the_device_side_up_to_date(devkit: Devkit, work: Path) -> None:
    marker = next(work.glob("lib/python3*/site-packages/devkit-device-side.pth"))
    right = marker.read_text()
    marker.write_text("/nowhere\n")
    assert devkit("env", "adopt", "work").status == 0
    assert marker.read_text() == right


def test_what_is_no_environment_is_not_adopted(devkit: Devkit, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    assert "is not an environment" in devkit("env", "adopt", "folder").err
    assert devkit("env", "adopt", "/usr").status == 1


def test_interpreter_that_is_gone_is_seen(devkit: Devkit, work: Path) -> None:
    (work / "bin" / "python").unlink()
    (work / "bin" / "python").symlink_to("/nowhere/python")
    listed = json.loads(devkit("env", "list", "--json").out)
    assert [(row["name"], row["state"]) for row in listed] == [("work", "interpreter gone")]
    used = devkit("env", "run", "work", "--", "python")
    assert "is gone" in used.err
    assert "devkit env doctor work" in used.err


def test_empty_list_says_what_to_type(devkit: Devkit) -> None:
    done = devkit("env", "list")
    assert done.status == 0
    assert "devkit env create" in done.err
