"""The command line as a whole: help, exit statuses, signals, pipes. Commands of our own stand in where none will do."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from devkit.commands._cli import meanings, tree
from devkit.commands._cli.typer_command import load

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.conftest import Devkit

REPOSITORY = Path(__file__).parent.parent.parent
LIMIT_S = 20.0

# devkit's own door over a room of this test's: the tree, Typer, the signals and the statuses are the real ones.
DOOR = """
import sys
import devkit.commands
from devkit.commands._cli import main, tree
room = sys.argv.pop(1)
devkit.commands.__path__.insert(0, room)
tree.ROOM, tree.ROOT = room, tree.Node((), room, is_group=True)
sys.exit(main.main())
"""
LONG = """
import os
def command(ctx):
    app = ctx.obj
    app.restored.append("the work tree is as it was")
    code = "import os, subprocess, sys, time; c = subprocess.Popen(['sleep', '60'], start_new_session=True);" \\
           " print(c.pid, os.getpid(), flush=True); time.sleep(60)"
    with app.start_run("long") as run:
        app.runner.run(["python3", "-c", code], on_line=lambda line: (print(line, flush=True)))
"""


class Room:
    """A room of commands that a test writes, and devkit over it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "room"
        self.folder.mkdir()
        self.started: list[subprocess.Popen[str]] = []

    def write(self, name: str, body: str, *, purpose: str = "Do it.") -> None:
        path = self.folder / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        text = textwrap.dedent(body).replace("def command(ctx", "def command(ctx: typer.Context")
        path.write_text(f'"""{purpose}\n\nExample:  devkit {name}\n"""\n\nimport typer\n{text}', "utf-8")

    def start(self, *words: str, **options: Any) -> subprocess.Popen[str]:
        environ = {**os.environ, "PYTHONPATH": str(REPOSITORY), **options.pop("env", {})}
        process = subprocess.Popen(
            [sys.executable, "-c", DOOR, str(self.folder), *words],
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            **options,
        )
        self.started.append(process)
        return process

    def run(self, *words: str, **options: Any) -> tuple[int, str, str]:
        process = self.start(*words, **options)
        out, err = process.communicate(timeout=LIMIT_S)
        return process.returncode, out, err


@pytest.fixture
def room(tmp_path: Path) -> Iterator[Room]:
    """A room of commands; what the test started ends with it."""
    room = Room(tmp_path)
    yield room
    for process in room.started:
        if process.poll() is None:
            process.kill()
        process.communicate(timeout=LIMIT_S)


def gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def until(holds: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + LIMIT_S
    while not holds() and time.monotonic() < deadline:
        time.sleep(0.01)
    return holds()


def commands(node: tree.Node = tree.ROOT) -> Iterator[tree.Node]:
    """Yield every command of devkit."""
    if node.own_command:
        yield node
    for child in node.children().values():
        yield from commands(child)


ALL = list(commands())


@pytest.mark.parametrize("node", ALL, ids=lambda node: " ".join(node.words))
def test_every_command_says_what_it_does_and_gives_an_example(node: tree.Node) -> None:
    assert tree.first_line(str(node.own_command)).endswith((".", "?")), "its first line is a sentence"
    loaded = load(node)
    assert loaded.help
    assert "Example:" in loaded.help
    assert f"devkit {' '.join(node.words)}" in loaded.help
    for parameter in loaded.params:
        assert getattr(parameter, "help", None), f"{parameter.name} has no help"
        assert parameter.name != "json", "the flag --json is as_json, so that the console knows"
    names = {parameter.name for parameter in loaded.params}
    assert not ("dry_run" in names and "as_json" not in names), "what --dry-run prints is JSON too"


@pytest.mark.parametrize("node", ALL, ids=lambda node: " ".join(node.words))
def test_every_command_has_the_flags_that_all_share(node: tree.Node) -> None:
    flags = {flag for parameter in load(node).params for flag in parameter.opts}
    assert {"-q", "--quiet", "-v", "--verbose"} <= flags
    assert [flag for flag in flags if flag.startswith("--") and flag != flag.lower()] == []


def test_every_group_says_what_it_is() -> None:
    groups = [node for node in tree.ROOT.children().values() if node.is_group]
    assert groups
    assert all(node.purpose() for node in groups)


def test_help_shows_every_command_with_its_line(devkit: Devkit) -> None:
    result = devkit("--help")
    assert result.status == 0
    for node in tree.ROOT.children().values():
        assert f"  {node.name} " in result.out
    below = devkit("runs", "--help").out
    for name, node in tree.ROOT.children()["runs"].children().items():
        assert name in below
        assert node.purpose().split()[0] in below


def test_every_meaning_leads_to_a_command_that_is_there() -> None:
    below = {name for node in tree.ROOT.children().values() for name in node.children()}
    later = {"env stop", "pr start", "wip show", "wip drop"}
    for lines in meanings.AT_THE_TOP.values():
        for line in lines:
            node, rest = tree.resolve(line.partition(" -- ")[0].split())
            assert (node.own_command and not rest) or line in {*later, "pr diff", "pr push"}, line
    assert below


@pytest.mark.parametrize("node", ALL, ids=lambda node: " ".join(node.words))
def test_example_is_one_line_that_fits_and_can_be_pasted(node: tree.Node) -> None:
    examples = [line for line in str(load(node).help).splitlines() if line.startswith("Example:")]
    assert examples
    assert all(len(f"  {line}") <= 80 for line in examples)


@pytest.mark.parametrize("words", ["-q runs list", "runs -q list", "runs list -q"])
def test_flags_that_all_share_stand_anywhere(devkit: Devkit, words: str) -> None:
    result = devkit(*words.split())
    assert (result.status, result.err) == (0, "")


def test_flags_before_the_command_are_the_commands() -> None:
    assert tree.hoist(["--env", "x", "-v", "doctor", "--json"]) == ["doctor", "--env", "x", "-v", "--json"]
    assert tree.hoist(["--json", "runs", "list", "-n", "3"]) == ["runs", "list", "--json", "-n", "3"]
    assert tree.hoist(["env", "run", "x", "--", "ls", "--json"]) == ["env", "run", "x", "--", "ls", "--json"]
    assert tree.hoist(["--version"]) == ["--version"]


@pytest.mark.parametrize("words", ["env list", "--help", "runs list"])
def test_closed_streams_are_no_bug(words: str, tmp_path: Path) -> None:
    line = f"{sys.executable} -m devkit {words} >&- 2>{tmp_path}/err <&-"
    environ = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(["sh", "-c", line], env=environ, check=False, timeout=LIMIT_S, cwd=tmp_path)
    assert done.returncode == 0
    assert "Traceback" not in (tmp_path / "err").read_text()


def test_no_words_are_a_question_for_help(devkit: Devkit) -> None:
    assert devkit() == devkit("--help") == devkit("-h")


@pytest.mark.parametrize(
    ("asked", "command"),
    [
        ("help", ""),
        ("help env", "env"),
        ("env help", "env"),
        ("-h env list", "env list"),
        ("help env list", "env list"),
    ],
)
def test_help_may_be_asked_for_before_a_command(asked: str, command: str, devkit: Devkit) -> None:
    assert devkit(*asked.split()) == devkit(*command.split(), "--help")


@pytest.mark.parametrize("width", ["60", "80", "100"])
def test_help_fits_the_screen(devkit: Devkit, width: str) -> None:
    assert max(map(len, devkit("--help", env={"COLUMNS": width}).out.splitlines())) <= max(int(width), 80)


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_help_of_any_command_prints_in_any_locale(room: Room, encoding: str) -> None:
    room.write("odd", "def command(ctx): pass", purpose="Mend … a → b – ✓ 中文.")
    for words in (["--help"], ["odd", "--help"]):
        status, out, err = room.run(*words, env={"PYTHONIOENCODING": encoding}, encoding=encoding)
        assert (status, err) == (0, "")
        assert "Mend" in out


def test_version(devkit: Devkit, started_devkit: Devkit) -> None:
    from devkit import __version__

    assert devkit("--version") == devkit("-V") == started_devkit("-V")
    assert devkit("-V").out == devkit("version").out == f"devkit {__version__}\n"
    assert json.loads(devkit("--version", "--json").out) == {"version": __version__}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["dcotor"], "devkit doctor"),
        (["runs", "lst"], "devkit runs list"),
        (["zzz"], "devkit --help"),
        (["checkout"], "devkit pr fetch"),
        (["status"], "devkit pr list"),
        (["ls"], "devkit env list"),
        (["env", "rm"], "devkit env remove"),
        (["env", "delete"], "devkit env remove"),
        (["env", "ls"], "devkit env list"),
        (["env", "add"], "devkit env install"),
        (["runs", "rm"], "devkit runs clean"),
        (["config", "delete"], "devkit config unset"),
        (["--zzz"], "devkit has no flag --zzz"),
        (["runs", "list", "--zzz"], "--zzz"),
        (["runs", "list", "-n", "many"], "many"),
        (["config", "get"], "KEY"),
        (["completion", "tcsh"], "tcsh"),
        (["config", "get", "a.b"], "devkit config show"),
    ],
)
def test_what_makes_no_request_is_status_2_with_a_way_out(devkit: Devkit, words: list[str], said: str) -> None:
    result = devkit(*words)
    assert result.status == 2
    assert result.err.startswith("✗ ")
    assert said in result.err
    assert result.out == ""
    assert "Traceback" not in result.err


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        ("def command(ctx): ctx.obj.console.answer('yes')", 0, ""),
        ("def command(ctx): return 5", 5, ""),
        ("def command(ctx): raise typer.Exit(6)", 6, ""),
        (
            "from devkit.errors import *\ndef command(ctx): raise DevkitError('no', 'because', 'do x')",
            1,
            "✗ no\n  because\n  → do x\n",
        ),
        ("from devkit.errors import *\ndef command(ctx): raise BadVerdict('wrong by 3')", 4, "✗ wrong by 3\n"),
        ("from devkit.errors import *\ndef command(ctx): raise UsageError('what?')", 2, "✗ what?\n"),
        ("def command(ctx): raise KeyboardInterrupt", 130, "! interrupted\n"),
        ("def command(ctx): typer.confirm('sure?')", 130, "! interrupted\n"),
    ],
)
def test_exit_statuses(room: Room, body: str, status: int, said: str) -> None:
    room.write("act", body)
    told, _, err = room.run("act")
    assert (told, err.replace("sure? [y/N]: ", "").replace("Aborted!\n", "").lstrip("\n")) == (status, said)


def test_a_bug_of_ours_is_status_3_with_a_log_that_can_be_sent(room: Room, home: Path) -> None:
    room.write("act", "def command(ctx, url: str = ''):\n    raise KeyError('http://me:geheim@host')")
    status, out, err = room.run("act", "--url", "http://me:geheim@host")
    assert (status, out) == (3, "")
    assert "Traceback" not in err
    assert err.startswith("✗ a bug in devkit: KeyError")
    (log,) = (home / ".local/state/devkit/bugs").iterdir()
    assert str(log) in err
    text = log.read_text()
    assert "Traceback" in text
    assert "raise KeyError" in text
    assert "geheim" not in text + err
    assert log.stat().st_mode & 0o777 == 0o600


def test_a_bug_whose_log_cannot_be_written_is_told_on_the_screen(room: Room, home: Path) -> None:
    room.write("act", "def command(ctx): 1 / 0")
    (home / ".local").mkdir()
    (home / ".local/state").touch()
    status, _, err = room.run("act")
    assert status == 3
    assert "ZeroDivisionError" in err
    assert "could not be written" in err


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_ends_all_below_and_says_what_was_restored(room: Room, number: signal.Signals, status: int) -> None:
    room.write("long", LONG)
    process = room.start("long")
    assert process.stdout is not None
    pids = [int(word) for word in process.stdout.readline().split()]
    assert len(pids) == 2
    process.send_signal(number)
    _, err = process.communicate(timeout=LIMIT_S)
    assert process.returncode == status
    assert "! interrupted" in err
    assert "  the work tree is as it was" in err
    assert "Traceback" not in err
    assert all(map(gone, pids))
    _, out, _ = room.run("long", "--help")
    assert "Do it." in out


def test_under_nohup_a_hangup_changes_nothing(room: Room) -> None:
    """A signal that was ignored when devkit began is ignored by it and by what it starts."""
    code = "import os, signal, time; print(os.getpid(), flush=True); time.sleep(0.3); print('went on')"
    room.write(
        "long",
        f"""
        def command(ctx):
            ctx.obj.runner.run(["python3", "-c", {code!r}], on_line=lambda line: print(line, flush=True))
        """,
    )
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        process = room.start("long")
    finally:
        signal.signal(signal.SIGHUP, before)
    assert process.stdout is not None
    below = int(process.stdout.readline())
    for pid in (process.pid, below):
        os.kill(pid, signal.SIGHUP)
    out, err = process.communicate(timeout=LIMIT_S)
    assert (process.returncode, out, err) == (0, "went on\n", "")


@pytest.mark.parametrize(("ignored", "ends"), [([signal.SIGINT, signal.SIGQUIT], True), ([signal.SIGINT], False)])
def test_an_interrupt_ends_what_a_script_put_in_the_background(room: Room, ignored: list[int], ends: bool) -> None:
    room.write("long", "import time\n\n\ndef command(ctx):\n    print('here', flush=True)\n    time.sleep(2)\n")
    numbers = (signal.SIGINT, signal.SIGQUIT)
    before = [signal.signal(number, signal.SIG_IGN if number in ignored else signal.SIG_DFL) for number in numbers]
    try:
        process = room.start("long")
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)
    assert process.stdout is not None
    assert process.stdout.readline() == "here\n"
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=LIMIT_S)
    assert process.returncode == (130 if ends else 0)


def test_a_second_signal_does_not_disturb_the_end_that_the_first_one_began(room: Room) -> None:
    """As ``timeout`` sends it: to the process, and at once to its whole group."""
    room.write("long", LONG)
    process = room.start("long")
    assert process.stdout is not None
    pids = [int(word) for word in process.stdout.readline().split()]
    for number in (signal.SIGTERM, signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        process.send_signal(number)
    _, err = process.communicate(timeout=LIMIT_S)
    assert process.returncode in {129, 130, 143}  # which of them comes first is the kernel's choice
    assert "  the work tree is as it was" in err
    assert "Traceback" not in err
    assert all(map(gone, pids))


def test_ctrl_c_of_a_terminal_ends_all_below(room: Room) -> None:
    """A terminal's Ctrl-C goes to the whole foreground group; the programs below are not in it and end all the same."""
    room.write("long", LONG)
    process = room.start("long", start_new_session=True)
    assert process.stdout is not None
    pids = [int(word) for word in process.stdout.readline().split()]
    os.killpg(process.pid, signal.SIGINT)
    process.communicate(timeout=LIMIT_S)
    assert process.returncode == 130
    assert all(map(gone, pids))


def test_ctrl_c_while_devkit_is_still_loading_is_silent(tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "class Impatient:\n"
        "    def find_spec(self, name, *_):\n"
        "        if name == 'devkit.commands._cli.run': raise KeyboardInterrupt\n"
        "sys.meta_path.insert(0, Impatient())\n"
        "sys.argv = ['devkit', 'config', 'show']\n"
        "from devkit.__main__ import main\nmain()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        timeout=LIMIT_S,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, b"", b"")


def test_a_second_ctrl_c_does_not_stop_the_tidying_up(room: Room) -> None:
    room.write("long", LONG)
    process = room.start("long")
    assert process.stdout is not None
    pids = [int(word) for word in process.stdout.readline().split()]
    for _ in range(3):
        process.send_signal(signal.SIGINT)
        time.sleep(0.02)
    _, err = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 130
    assert "Traceback" not in err
    assert all(map(gone, pids))


def test_death_of_devkit_by_sigkill_leaves_no_orphan_and_a_killed_run(room: Room, devkit: Devkit) -> None:
    room.write("long", LONG)
    process = room.start("long")
    assert process.stdout is not None
    pids = [int(word) for word in process.stdout.readline().split()]
    process.kill()
    assert until(lambda: all(map(gone, pids)))
    (run,) = json.loads(devkit("runs", "list", "--json").out)
    assert run["state"] == "killed"


def test_an_interrupted_run_is_recorded_so(room: Room, devkit: Devkit) -> None:
    room.write("long", LONG)
    process = room.start("long")
    assert process.stdout is not None
    process.stdout.readline()
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=LIMIT_S)
    (run,) = json.loads(devkit("runs", "list", "--json").out)
    assert (run["state"], run["reproduce"]) == ("interrupted", "devkit long")


@pytest.mark.parametrize(
    "words",
    [["runs", "list"], ["config", "show"], ["config", "show", "--json"], ["--help"], ["runs", "list", "--help"]],
)
def test_a_reader_that_went_away_is_no_bug(words: list[str], home: Path, tmp_path: Path) -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)
    done = subprocess.run(
        [sys.executable, "-m", "devkit", *words],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        stdout=write_end,
        stderr=subprocess.PIPE,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    os.close(write_end)
    assert done.returncode in {0, 128 + signal.SIGPIPE}
    assert "Traceback" not in done.stderr
    assert "Broken" not in done.stderr
    assert not (home / ".local/state/devkit/bugs").exists()


def test_a_reader_that_goes_away_in_the_middle_ends_the_command(room: Room, home: Path) -> None:
    room.write("many", "def command(ctx):\n    for i in range(100000): ctx.obj.console.answer(str(i))")
    process = room.start("many")
    assert process.stdout is not None
    process.stdout.readline()
    process.stdout.close()
    assert process.stderr is not None
    err = process.stderr.read()
    assert process.wait(LIMIT_S) == 128 + signal.SIGPIPE
    assert err == ""
    assert not (home / ".local/state/devkit/bugs").exists()


def test_a_directory_that_is_gone_is_an_error_of_the_user(tmp_path: Path) -> None:
    folder = tmp_path / "gone"
    folder.mkdir()
    run = "os.execv(sys.executable, [sys.executable, '-m', 'devkit', 'config', 'show'])"
    code = f"import os, sys; os.rmdir(os.getcwd()); {run}"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    assert done.returncode == 1
    assert "directory" in done.stderr
    assert "bug" not in done.stderr


def test_common_flags_set_the_console(room: Room) -> None:
    room.write(
        "act",
        "from devkit.commands._cli.options import Json\n"
        "def command(ctx, as_json: Json = False):\n"
        "    c = ctx.obj.console\n    c.note('note'); c.command(['git', 'x']); c.answer('answer')\n"
        "    if as_json: c.json({'a': 1})\n",
    )
    assert room.run("act") == (0, "answer\n", "note\n")
    assert room.run("act", "-q") == (0, "answer\n", "")
    assert room.run("act", "-v") == (0, "answer\n", "note\n$ git x\n")
    status, out, _ = room.run("act", "--json")
    assert (status, json.loads(out)) == (0, {"a": 1})


def test_a_groups_own_command_and_those_below_it(room: Room) -> None:
    (room.folder / "zoo").mkdir()
    (room.folder / "zoo/__init__.py").write_text('"""Feed."""\n')
    room.write("zoo/zoo", "def command(ctx, stage: int = 0): ctx.obj.console.answer(f'stage {stage}')")
    room.write("zoo/plan_", "def command(ctx): ctx.obj.console.answer('plan')", purpose="Plan it.")
    assert room.run("zoo", "--stage", "2")[1] == "stage 2\n"
    assert room.run("zoo")[1] == "stage 0\n"
    assert room.run("zoo", "plan")[1] == "plan\n"
    told = room.run("zoo", "--help")[1]
    assert "plan  Plan it." in told
    assert room.run("zoo", "palm")[0] == 2


def test_a_broken_command_breaks_only_itself(room: Room) -> None:
    room.write("good", "def command(ctx): pass")
    room.write("bad", "import nothing_of_this_name\ndef command(ctx): pass")
    assert room.run("--help")[0] == 0
    assert room.run("good")[0] == 0
    assert room.run("bad")[0] == 3


def test_colour_on_a_terminal_only(room: Room) -> None:
    room.write("act", "from devkit.errors import *\ndef command(ctx): raise DevkitError('no')")
    assert "\x1b" not in room.run("act")[2]
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", DOOR, str(room.folder), "act"],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), "TERM": "xterm-256color"},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    assert process.wait(LIMIT_S) == 1
    assert b"\x1b[31m" in os.read(ours, 4096)
    os.close(ours)
