"""The screen: the same words with and without colour, on narrow screens, on pipes and in any locale."""

from __future__ import annotations

import io
import json
import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest

from devkit.console import ASCII, SYMBOLS, Cell, Column, Console
from devkit.errors import DevkitError
from devkit.text import Overwritten

REPOSITORY = Path(__file__).parent.parent.parent
COLUMNS = (
    Column("run", "left", 10),
    Column("state", "left", 8),
    Column("tokens/s", importance=5),
    Column("note", "left", 1),
)
ROWS = ((Cell("7f3a", "type"), Cell("done", "done"), "5140", "all is well"), ("8e21", "failed", "12", "a\nb"))
PROGRAM = """
import sys
from devkit.console import Cell, Column, Console
from devkit.errors import DevkitError
console = Console()
console.answer("answer − naïve ✓ · 3 × 4")
console.answer_parts(("part ", "dim"), ("type", "type"))
console.table([Column("name", "left"), Column("值")], [(Cell("a", "done"), "1")])
console.note("note…")
console.done("it was done")
console.warn("look at it")
console.next("devkit runs list   shows all")
console.fail(DevkitError("it failed", "because\\nof this", "devkit doctor   finds why"))
"""


class Screen:
    """What was said on the two streams so far."""

    def __init__(self, capture: pytest.CaptureFixture[str]) -> None:
        self._capture = capture
        self._said = ["", ""]

    def _read(self) -> list[str]:
        self._said = [old + new for old, new in zip(self._said, self._capture.readouterr(), strict=True)]
        return self._said

    @property
    def out(self) -> str:
        return self._read()[0]

    @property
    def err(self) -> str:
        return self._read()[1]


@pytest.fixture
def console() -> Console:
    """A console on the streams of this test."""
    return Console()


@pytest.fixture
def screen(capsys: pytest.CaptureFixture[str]) -> Screen:
    """What that console said."""
    return Screen(capsys)


def ran(**environ: str) -> tuple[bytes, bytes]:
    """Return what ``PROGRAM`` said on a pipe."""
    done = subprocess.run(
        [sys.executable, "-c", f"exec({PROGRAM!a})"],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), **environ},
        capture_output=True,
        check=True,
        timeout=30,
    )
    return done.stdout, done.stderr


def on_a_terminal(code: str = PROGRAM, **environ: str) -> str:
    """Return what a program said on a terminal."""
    ours, theirs = pty.openpty()
    child = subprocess.Popen(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), "TERM": "xterm-256color", "COLUMNS": "100", **environ},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    data = b""
    try:
        while piece := os.read(ours, 1 << 16):
            data += piece
    except OSError:  # Linux's way of saying that the other end is closed
        pass
    finally:
        os.close(ours)
    assert child.wait(30) == 0
    return data.decode()


def without_colour(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)


def test_answer_and_conversation_are_kept_apart() -> None:
    out, err = (line.decode() for line in ran())
    assert out.splitlines()[:2] == ["answer − naïve ✓ · 3 × 4", "part type"]
    assert err.splitlines() == [
        "note…",
        "✓ it was done",
        "! look at it",
        "  → devkit runs list   shows all",
        "✗ it failed",
        "  because",
        "  of this",
        "  → devkit doctor   finds why",
    ]


def test_a_pipe_gets_no_colour_and_a_terminal_does() -> None:
    out, err = ran()
    assert b"\x1b" not in out + err
    assert "\x1b[36mtype\x1b[0m" in on_a_terminal()


def test_no_color_says_the_same_words_without_colour() -> None:
    plain = on_a_terminal(NO_COLOR="1")
    assert "\x1b[3" not in plain
    assert without_colour(plain) == without_colour(on_a_terminal())


def test_force_color_colours_a_pipe() -> None:
    out, _ = ran(FORCE_COLOR="1")
    assert b"\x1b[36m" in out


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_a_locale_without_the_symbols_gets_ascii_ones(encoding: str) -> None:
    out, err = (line.decode(encoding) for line in ran(PYTHONIOENCODING=encoding))
    assert "3 x 4" in out
    assert {"+ it was done", "x it failed", "  -> devkit doctor   finds why", "note..."} <= set(err.splitlines())
    assert not (set(SYMBOLS) - {"!"}) & set(out + err)


def test_latin_1_keeps_the_letters_that_it_has() -> None:
    out, _ = ran(PYTHONIOENCODING="latin-1")
    assert "naïve" in out.decode("latin-1")


def test_a_locale_that_python_cannot_better_is_served() -> None:
    out, err = ran(LC_ALL="C", PYTHONUTF8="0", PYTHONCOERCECLOCALE="0")
    assert out.isascii()
    assert err.isascii()


def test_every_symbol_has_its_ascii() -> None:
    assert all(ASCII[symbol].isascii() for symbol in SYMBOLS)


def test_table_aligns_figures_right_and_words_left(console: Console, screen: Screen) -> None:
    console.table(COLUMNS, ROWS)
    assert screen.out == (
        "  run   state   tokens/s  note\n"
        "  ───────────────────────────────────\n"
        "  7f3a  done        5140  all is well\n"
        "  8e21  failed        12  a b\n"
    )


@pytest.mark.parametrize(
    ("width", "heading"),
    [("40", "run   state   tokens/s  note"), ("30", "run   state   tokens/s"), ("20", "run   state"), ("8", "run")],
)
def test_narrow_tables_drop_the_least_important_columns(
    console: Console, screen: Screen, monkeypatch: pytest.MonkeyPatch, width: str, heading: str
) -> None:
    monkeypatch.setenv("COLUMNS", width)
    console.table(COLUMNS, ROWS)
    lines = screen.out.splitlines()
    assert lines[0].strip() == heading
    assert max(map(len, lines)) <= max(int(width), 8)
    left_out = [name for name in ("note", "tokens/s", "state") if name not in heading]
    assert screen.err == (f"  not shown, for want of room: {', '.join(left_out)}\n" if left_out else "")


@pytest.mark.parametrize("width", ["0", "-5", "wide"])
def test_a_width_that_is_not_one_is_not_known(
    console: Console, screen: Screen, monkeypatch: pytest.MonkeyPatch, width: str
) -> None:
    monkeypatch.setenv("COLUMNS", width)
    console.table(COLUMNS, ROWS)
    assert screen.out.splitlines()[0].strip() == "run   state   tokens/s  note"


def test_words_are_wrapped_before_a_column_is_left_out(
    console: Console, screen: Screen, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "36")
    words = "what a setting is for, in many words"
    console.table([Column("key", "left"), Column("n"), Column("for", "left")], [("runs.keep", "200", words)])
    lines = screen.out.splitlines()
    assert max(map(len, lines)) <= 36
    assert lines[2].startswith("  runs.keep  200  what a")
    assert " ".join(line[18:].strip() for line in lines[2:]) == words
    assert screen.err == ""


def test_one_long_word_takes_no_room_from_a_column_of_sentences(
    console: Console, screen: Screen, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    sentences = ["how many are kept, of all that there are and were"] * 5
    rows = [("a", "https://example.com/of/a/rather/long/address", "x"), *(("b", "1", line) for line in sentences)]
    console.table([Column("key", "left"), Column("value", "left"), Column("for", "left")], rows)
    assert len(screen.out.splitlines()) == 2 + 3 + 5 * 2
    assert [line for line in screen.out.splitlines() if line != line.rstrip()] == []


def test_wide_letters_are_wrapped_by_cells(console: Console, screen: Screen, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "24")
    console.table([Column("title", "left"), Column("n")], [("修复注意力算子的精度问题", "1")])
    assert [line.split() for line in screen.out.splitlines()[2:]] == [["修复注意力算子的精", "1"], ["度问题"]]


def test_wide_letters_keep_the_columns_straight(console: Console, screen: Screen) -> None:
    console.table([Column("name", "left"), Column("n")], [("中文", "1"), ("abcd", "2")])
    assert screen.out.splitlines()[2:] == ["  中文  1", "  abcd  2"]


def test_rules_between_rows(console: Console, screen: Screen) -> None:
    console.table([Column("n")], [("1",), ("2",)], rules=[1])
    assert [line.strip() for line in screen.out.splitlines()] == ["n", "─", "1", "─", "2"]


def test_a_table_without_rows_is_its_heading(console: Console, screen: Screen) -> None:
    console.table(COLUMNS, [])
    assert len(screen.out.splitlines()) == 2


def test_what_others_wrote_is_never_markup_nor_control(console: Console, screen: Screen) -> None:
    console.answer("[red]x[/red] :smile: \x1b[31m \x07 \u202e https://a.example")
    assert screen.out == "[red]x[/red] :smile: \\x1b[31m \\x07 \\u202e https://a.example\n"


def test_stray_bytes_of_a_file_name_are_written_out(console: Console, screen: Screen) -> None:
    console.answer(os.fsdecode(b"caf\xe9"))
    assert screen.out == "caf\\udce9\n"


def test_a_long_line_is_left_to_the_terminal(console: Console, screen: Screen) -> None:
    console.answer("x" * 500)
    assert screen.out == "x" * 500 + "\n"


def test_secrets_are_masked_on_both_streams(console: Console, screen: Screen) -> None:
    console.answer("http://me:geheim@host")
    console.note("token=abcdef")
    console.fail(DevkitError("password=geheim", "http://me:geheim@h", "x --token abcdef   or so"))
    console.table([Column("url")], [("http://me:geheim@h",)])
    console.json({"url": "http://me:geheim@h", "token": "abcdef"})
    everything = screen.out + screen.err
    assert "geheim" not in everything
    assert "abcdef" not in everything


def test_quiet_says_the_answer_and_errors_only(console: Console, screen: Screen) -> None:
    console.quiet = True
    console.answer("the answer")
    console.note("n")
    console.done("d")
    console.warn("l")
    console.next("x")
    console.fail(DevkitError("it failed"))
    assert screen.out == "the answer\n"
    assert screen.err == "✗ it failed\n"


def test_json_is_the_only_thing_on_standard_output(console: Console, screen: Screen) -> None:
    console.as_json = True
    console.answer("words")
    console.answer_parts(("words", ""))
    console.table(COLUMNS, ROWS)
    console.json({"n": 1, "name": "中"})
    assert json.loads(screen.out) == {"n": 1, "name": "中"}


def test_json_is_strict(console: Console, screen: Screen) -> None:
    with pytest.raises(ValueError, match="JSON"):
        console.json({"x": float("nan")})
    assert screen.out == ""


def test_json_of_stray_bytes_can_be_printed(console: Console, screen: Screen) -> None:
    console.json({"name": os.fsdecode(b"caf\xe9")})
    assert json.loads(screen.out)["name"]


def test_verbose_shows_the_line_that_is_run(console: Console, screen: Screen) -> None:
    console.command(["git", "fetch"])
    console.verbose = True
    console.command(["git", "clone", "http://me:geheim@h", "a b"])
    assert screen.err == "$ git clone http://***@h 'a b'\n"


def test_progress_on_a_pipe_is_a_line(console: Console, screen: Screen) -> None:
    with console.progress("building", total=10) as progress:
        progress.update(done=5)
    assert screen.err == "building…\n"


def test_progress_on_a_terminal_is_gone_when_it_ends() -> None:
    code = (
        "import time\nfrom devkit.console import Console\n"
        "with Console().progress('building [x]', total=10) as bar:\n"
        "    bar.update(done=5, text='half \\x1b[31m'); time.sleep(0.3)\nprint('after')\n"
    )
    text = on_a_terminal(code)
    assert "half \\x1b[31m" in without_colour(text)
    assert "5/10" in without_colour(text)
    assert text.rpartition("after")[0].endswith(("\x1b[2K", "\x1b[1A\x1b[2K", "\x1b[?25h\r\x1b[1A\x1b[2K"))


@pytest.mark.parametrize(("width", "there", "gone"), [("40", "MiB", "━"), ("60", "MiB/s", "━"), ("100", "━", "…")])
def test_progress_on_a_narrow_terminal_stays_one_line_and_keeps_what_counts(width: str, there: str, gone: str) -> None:
    code = (
        "import time\nfrom devkit.console import Console\n"
        "with Console().progress('sending to somewhere', total=50 << 20, unit='bytes') as bar:\n"
        "    for done in range(8):\n        bar.update(done=done * 5 << 20); time.sleep(0.1)\nprint('after')\n"
    )
    text = on_a_terminal(code, COLUMNS=width)
    before = without_colour(text.rpartition("after")[0])
    assert there in before
    assert gone not in before
    assert "/50.0 MiB" in before
    assert before.count("\n") == 1  # the one that rich ends the line with, before it takes it back


def test_plan_prints_the_exact_lines(console: Console, screen: Screen) -> None:
    console.plan(["git fetch -- origin 'refs/pull/7/head'"])
    assert screen.out == "git fetch -- origin 'refs/pull/7/head'\n"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_line_that_its_program_overwrites_is_overwritten_here(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal, pipe = Terminal(), io.StringIO()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setattr(sys, "stdout", pipe)
    monkeypatch.setenv("COLUMNS", "10")
    console = Console()
    for done in "1 of 3", "2 of 3 and more":
        console.relay(Overwritten(done, due=False), error=True)
    console.relay("ended")
    console.relay("3 of 3", error=True)
    assert terminal.getvalue() == "1 of 3\r\x1b[K2 of 3 an\r\x1b[K3 of 3\n"
    assert pipe.getvalue() == "ended\n"


def test_on_a_pipe_of_overwritten_lines_one_a_second_is_seen(capsys: pytest.CaptureFixture[str]) -> None:
    for number, due in enumerate((False, True, False)):
        Console().relay(Overwritten(f"{number} of 3", due=due))
    assert capsys.readouterr().out == "1 of 3\n"
