"""The screen: answers on standard output, progress and messages on standard error, one voice for all commands.

Nothing else in devkit prints. What a user or a forge wrote is never read as markup, and its control characters are
written out.
"""

from __future__ import annotations

import codecs
import contextlib
import json
import os
import re
import sys
from dataclasses import dataclass, replace
from functools import cached_property
from typing import IO, TYPE_CHECKING, Any, Literal

from devkit.errors import GAP, DevkitError, Hint
from devkit.redact import redact, redact_value
from devkit.text import Overwritten, in_cells, printable

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    import rich.console
    import rich.progress
    import rich.text


Tone = Literal["done", "warning", "failed", "type", "dim", "strong", ""]

STYLES: dict[Tone, str] = {
    "done": "green",
    "warning": "yellow",
    "failed": "red",
    "type": "cyan",
    "dim": "dim",
    "strong": "bold",
    "": "",
}
SYMBOLS = "✓!✗→─·×−≥≤…±"
ASCII = dict(zip(SYMBOLS, ("+", "!", "x", "->", "-", "|", "x", "-", ">=", "<=", "...", "+-"), strict=True))
WIDTH_OF_A_PIPE = 100
ERASE = "\x1b[K"
NARROWEST = 16  # cells that a column of words keeps


@dataclass(frozen=True)
class Column:
    """A column of an open table.

    Where the columns do not fit, words (aligned left) are wrapped, then the column of the least importance is left out,
    and said to be.
    """

    heading: str
    align: Literal["left", "right"] = "right"
    importance: int = 10


@dataclass(frozen=True)
class Cell:
    """A cell whose colour carries meaning."""

    text: str
    tone: Tone = ""


def say_what_it_can(stream: IO[str]) -> None:
    """Let ``stream`` write out what its encoding does not hold: a symbol as ASCII has it, the rest by its number."""
    if hasattr(stream, "reconfigure"):
        codecs.register_error("devkit", _written_out)
        stream.reconfigure(errors="devkit")


def _written_out(error: UnicodeError) -> tuple[str | bytes, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    letter = error.object[error.start]
    return ASCII.get(letter) or letter.encode("ascii", "backslashreplace").decode(), error.start + 1


def speaks(stream: IO[str], text: str) -> bool:
    """Tell whether ``stream``'s encoding holds ``text``."""
    try:
        text.encode(getattr(stream, "encoding", None) or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def mute(descriptor: int) -> None:
    """Let what is still to be written to a standard stream go nowhere: it was refused once."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, descriptor)
    os.close(null)


@contextlib.contextmanager
def answering() -> Iterator[None]:
    """Turn the system's refusal of standard output into an error; a reader that went away is another matter.

    Raises:
        DevkitError: the disk that it leads to is full.
    """
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        mute(1)
        why = f"{error.strerror or error}."
        raise DevkitError("the answer could not be written", why, "df -h   shows what is full") from error


@contextlib.contextmanager
def talking() -> Iterator[None]:
    """Go on where standard error takes no more: the work does not depend on what is said of it."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError:
        mute(2)


class Progress:
    """One line that shows how far a task is, and is gone when it ends; on a pipe, a line at its start."""

    def __init__(self, bar: rich.progress.Progress | None, task: Any) -> None:
        self._bar = bar
        self._task = task

    def update(self, *, done: float | None = None, total: float | None = None, text: str | None = None) -> None:
        """Set what is done of the total, and what the line says."""
        if self._bar is not None:
            shown = None if text is None else printable(redact(text))
            self._bar.update(self._task, completed=done, total=total, description=shown)


FORCED = frozenset(("FORCE_COLOR", "TTY_COMPATIBLE"))  # rich takes any stream for a terminal then


class Bars:
    """A bar a part, each made when it is first heard of."""

    def __init__(self, bar: rich.progress.Progress | None, console: Console) -> None:
        self._bar = bar
        self._console = console
        self._tasks: dict[str, Any] = {}

    def update(self, part: str, *, done: float, total: float | None, text: str) -> None:
        """Set what is done of a part, and what its line says."""
        if self._bar is None:
            return
        shown = self._console.shown(text)
        if part not in self._tasks:
            self._tasks[part] = self._bar.add_task(shown, total=total)
        self._bar.update(self._tasks[part], completed=done, total=total, description=shown)


def _for_user(hint: Hint) -> Hint:
    """Return the hint that a user with the rights of this one can follow."""
    from devkit import rights

    return Hint.parse(rights.adapted(str(hint), rights.here())) if rights.NEEDS_ROOT.match(hint.command) else hint


class Console:
    """Where devkit speaks.

    Args:
        quiet: say nothing but errors and the answer.
        verbose: show each line that is run.
        as_json: standard output holds JSON and nothing else.
    """

    def __init__(self, *, quiet: bool = False, verbose: bool = False, as_json: bool = False) -> None:
        self.quiet = quiet
        self.verbose = verbose
        self.as_json = as_json
        self._recorded = False
        self._part: list[Any] | None = None
        self._overwritten: IO[str] | None = None  # the terminal whose last line is to be overwritten

    @cached_property
    def out(self) -> rich.console.Console:
        """Standard output: the answer."""
        return self._open(sys.stdout)

    @cached_property
    def err(self) -> rich.console.Console:
        """Standard error: progress and messages."""
        return self._open(sys.stderr)

    @property
    def interactive(self) -> bool:
        """Whether a person is watching standard error."""
        if self.quiet or not (sys.stderr.isatty() or FORCED & os.environ.keys()):
            return False  # what draws on a terminal is not imported for that
        return self.err.is_terminal and not self.err.is_dumb_terminal

    def _open(self, stream: IO[str]) -> rich.console.Console:
        from rich.console import Console as RichConsole

        class Screen(RichConsole):
            def on_broken_pipe(self) -> None:
                raise  # noqa: PLE0704 - rich calls this where it caught it, and would exit with a failure's status

        say_what_it_can(stream)
        asked = os.environ.get("COLUMNS", "")
        width = int(asked) if asked.isdecimal() and int(asked) else None  # 0 means that it is not known, as to ncurses
        if width is None and not stream.isatty():
            width = WIDTH_OF_A_PIPE
        elif width is None and asked:
            import shutil

            width = shutil.get_terminal_size().columns
        kept = self._recorded and stream is sys.stdout
        return Screen(file=stream, width=width, markup=False, highlight=False, emoji=False, soft_wrap=True, record=kept)

    def record(self) -> None:
        """Keep what the answer says from now on, for ``save_svg``; before anything is said."""
        self._recorded = True

    def save_svg(self, path: Path, *, title: str) -> None:
        """Draw the answer as it stands on the screen into an SVG file.

        Raises:
            DevkitError: the file cannot be written.
        """
        from devkit.files import write_atomically

        write_atomically(path, terminal_svg(self.out, self._plain(sys.stdout, title)).encode())

    def _say(self, stream: IO[str], *parts: tuple[str, Tone]) -> None:
        """Print a line; on a pipe without rich, which takes as long to load as many a command to run."""
        answers = stream is sys.stdout
        with answering() if answers else talking():
            self._erase()
            if self._recorded or stream.isatty() or FORCED & os.environ.keys():
                (self.out if answers else self.err).print(self._text(stream, *parts))
            else:
                say_what_it_can(stream)
                stream.write("".join(self._plain(stream, words) for words, _ in parts).expandtabs() + "\n")
                stream.flush()

    def _text(self, stream: IO[str], *parts: tuple[str, Tone]) -> rich.text.Text:
        from rich.text import Text

        text = Text()
        for words, tone in parts:
            text.append(self._plain(stream, words), STYLES[tone])
        return text

    @staticmethod
    def _plain(stream: IO[str], words: str) -> str:
        words = printable(redact(words))
        if speaks(stream, SYMBOLS):
            return words
        return "".join(ASCII.get(letter, letter) for letter in words)

    def shown(self, words: str) -> str:
        """Return words as standard error shows them: redacted, printable, in its encoding."""
        return self._plain(sys.stderr, words)

    def answer(self, line: str = "", tone: Tone = "") -> None:
        """Print a line of the answer on standard output."""
        if not self.as_json:
            self._say(sys.stdout, (line, tone))

    def answer_parts(self, *parts: tuple[str, Tone]) -> None:
        """Print a line of the answer whose parts differ in tone."""
        if not self.as_json:
            self._say(sys.stdout, *parts)

    def relay(self, line: str, *, error: bool = False) -> None:
        """Print a line of another program's where that printed it: as ``answer`` and ``note`` do, twenty times as fast.

        Only where nothing is live on the terminal, where a line that is overwritten there is overwritten here.
        """
        if self.quiet if error else self.as_json:
            return
        stream = sys.stderr if error else sys.stdout
        words = self._plain(stream, line)
        with talking() if error else answering():
            if not isinstance(line, Overwritten):
                self._erase()
                stream.write(f"{words}\n")
            elif stream.isatty():
                from rich.cells import chop_cells

                self._erase()
                self._overwritten = stream
                stream.write(f"{chop_cells(words, self.err.width - 1)[0]}\r")
            elif line.due:
                stream.write(f"{words}\n")
            stream.flush()

    def _erase(self) -> None:
        """Clear the line on the terminal that the next one overwrites, where there is one."""
        if self._overwritten:
            self._overwritten.write(ERASE)
            self._overwritten.flush()
            self._overwritten = None

    def json(self, value: Any, *, one_line: bool = False) -> None:
        """Print ``value`` as JSON on standard output: strictly JSON, credentials masked."""
        if self._part is not None:
            self._part.append(value)
            return
        plain, indent = redact_value(value), None if one_line else 2
        text = json.dumps(plain, indent=indent, ensure_ascii=False, allow_nan=False)
        if not speaks(sys.stdout, text):
            text = json.dumps(plain, indent=indent)
        with answering():
            self._erase()
            sys.stdout.write(text + "\n")
            sys.stdout.flush()

    @contextlib.contextmanager
    def part(self) -> Iterator[list[Any]]:
        """Let a command be a part of another: its JSON goes into the list, and what one would type next is not said."""
        before = self.quiet, self.verbose, self.as_json
        found: list[Any] = []
        self._part = found
        try:
            yield found
        finally:
            self._part = None
            self.quiet, self.verbose, self.as_json = before

    def table(
        self, columns: Sequence[Column], rows: Sequence[Sequence[str | Cell]], *, rules: Sequence[int] = ()
    ) -> None:
        """Print an open table on standard output: a heading line, a rule, the rows.

        Args:
            columns: headings, units included.
            rows: a cell a column.
            rules: a rule is drawn before each row of these indices too.
        """
        if self.as_json:
            return
        from rich.cells import cell_len

        cells = [[cell if isinstance(cell, Cell) else Cell(cell) for cell in row] for row in rows]
        plain = [[self._plain(sys.stdout, cell.text).replace("\n", " ") for cell in row] for row in cells]
        widths = [
            max([cell_len(column.heading), *(cell_len(row[index]) for row in plain)])
            for index, column in enumerate(columns)
        ]
        indent, gap = "  ", "  "
        shown, widths, dropped = self._fit(columns, plain, widths, self.out.width - len(indent), len(gap))

        def line(texts: Sequence[str], tones: Sequence[Tone]) -> None:
            wrapped = {i: in_cells(texts[i], widths[i]) for i in shown}
            for row in range(max(map(len, wrapped.values()))):
                parts: list[tuple[str, Tone]] = [(indent, "")]
                for index in shown:
                    text = wrapped[index][row] if row < len(wrapped[index]) else ""
                    space = " " * (widths[index] - cell_len(text))
                    padded = space + text if columns[index].align == "right" else text + space
                    parts += [(padded, tones[index]), (gap, "")]
                while len(parts) > 1 and not parts[-1][0].strip():
                    parts.pop()
                text, tone = parts.pop()
                self._say(sys.stdout, *parts, (text.rstrip(), tone))

        rule = indent + "─" * (sum(widths[index] for index in shown) + len(gap) * (len(shown) - 1))
        line([column.heading for column in columns], ["dim"] * len(columns))
        self._say(sys.stdout, (rule, "dim"))
        for number, (texts, row) in enumerate(zip(plain, cells, strict=True)):
            if number in rules:
                self._say(sys.stdout, (rule, "dim"))
            line(texts, [cell.tone for cell in row])
        if dropped:
            names = ", ".join(columns[index].heading for index in dropped)
            self._say(sys.stderr, (f"  not shown, for want of room: {names}", "dim"))

    @staticmethod
    def _fit(
        columns: Sequence[Column], rows: Sequence[Sequence[str]], widths: list[int], room: int, gap: int
    ) -> tuple[list[int], list[int], list[int]]:
        """Return which columns are shown, their widths, and which are left out.

        Words are wrapped first, where that makes the fewest lines and breaks the fewest words, and of several such
        columns the widest; figures never are. Where that does not do, the column of the least importance goes.
        """
        from rich.cells import cell_len

        lengths = [
            [(cell_len(row[i]), max(map(cell_len, row[i].split(" ")))) for row in rows] for i in range(len(columns))
        ]

        def lines(column: int, width: int) -> int:
            return sum(-(-whole // width) + (longest > width) for whole, longest in lengths[column])

        shown, dropped = list(range(len(columns))), list[int]()
        while True:
            fitted = list(widths)
            least = {i: min(widths[i], max(cell_len(columns[i].heading), NARROWEST)) for i in shown}
            soft = [i for i in shown if columns[i].align == "left" and widths[i] > least[i]]
            added = {i: lines(i, fitted[i] - 1) - lines(i, fitted[i]) for i in soft}
            while soft and sum(fitted[i] for i in shown) + gap * (len(shown) - 1) > room:
                next_ = min(soft, key=lambda i: (added[i], -fitted[i], -i))
                fitted[next_] -= 1
                added[next_] = lines(next_, fitted[next_] - 1) - lines(next_, fitted[next_])
                if fitted[next_] == least[next_]:
                    soft.remove(next_)
            if len(shown) == 1 or sum(fitted[i] for i in shown) + gap * (len(shown) - 1) <= room:
                return shown, fitted, dropped
            dropped.append(min(reversed(shown), key=lambda i: columns[i].importance))
            shown.remove(dropped[-1])

    def note(self, line: str, tone: Tone = "") -> None:
        """Print a line on standard error."""
        if not self.quiet:
            self._say(sys.stderr, (line, tone))

    def done(self, line: str) -> None:
        """Say what was done."""
        if not self.quiet:
            self._say(sys.stderr, ("✓ ", "done"), (line, ""))

    def warn(self, line: str) -> None:
        """Warn of what deserves a look."""
        if not self.quiet:
            self._say(sys.stderr, ("! ", "warning"), (line, ""))

    def next(self, *hints: Hint | str) -> None:
        """Say, dim, what one would type next: hints, or lines with three spaces before what they are good for."""
        if not self.quiet and self._part is None:
            for hint in hints:
                self._hint(hint if isinstance(hint, Hint) else Hint.parse(hint), dim=True)

    def command(self, argv: Sequence[str]) -> None:
        """Show a line that is run (with ``-v``)."""
        if self.verbose:
            import shlex

            self._say(sys.stderr, (f"$ {shlex.join(argv)}", "dim"))

    def plan(self, lines: Sequence[str]) -> None:
        """Print the exact lines that would be run: what ``--dry-run`` answers; with ``--json`` as ``{"plan": […]}``."""
        if self.as_json:
            self.json({"plan": list(lines)})
            return
        for line in lines:
            self._say(sys.stdout, (line, "type"))

    def fail(self, error: DevkitError, *, line: str = "") -> None:
        """Say what happened, why, and what to type.

        Args:
            error: what is said.
            line: the command that was typed; a remedy that begins with a flag is a flag of it.
        """
        self._say(sys.stderr, ("✗ ", "failed"), (error.what, ""))
        for reason in error.why.splitlines():
            self._say(sys.stderr, (f"  {reason}", ""))
        for hint in error.hints:
            flag = line and hint.command.startswith("--")
            self._hint(replace(hint, command=f"{line} {hint.command}") if flag else _for_user(hint))

    def _hint(self, hint: Hint, *, dim: bool = False) -> None:
        purpose = f"{GAP}{hint.purpose}" if hint.purpose else ""
        self._say(sys.stderr, ("  → ", "dim"), (hint.command, "type"), (purpose, "dim" if dim else ""))

    @contextlib.contextmanager
    def bars(self, text: str) -> Iterator[Bars]:
        """Show a bar a part (a layer of an image) for as long as the block runs; on a pipe, a line at its start."""
        self.note(text + "…", "dim")
        if not self.interactive:
            yield Bars(None, self)
            return
        from rich import progress as rich_progress

        with rich_progress.Progress(
            rich_progress.TextColumn("  {task.description}", markup=False),
            rich_progress.BarColumn(bar_width=24),
            rich_progress.DownloadColumn(binary_units=True),
            console=self.err,
            transient=True,
        ) as bar:
            yield Bars(bar, self)

    def confirm(self, question: str) -> bool:
        """Ask the person at the terminal; without one, the answer is no."""
        if not (self.interactive and sys.stdin.isatty()):
            return False
        self.err.print(self._text(sys.stderr, (f"{question} [y/N] ", "warning")), end="")
        return sys.stdin.readline().strip().lower() in {"y", "yes"}

    def choose(self, question: str, answers: Sequence[str]) -> int | None:
        """Ask the person at the terminal for one of some answers, and return which; without one, or a number, None."""
        if not (self.interactive and sys.stdin.isatty()):
            return None
        self._say(sys.stderr, (question, "warning"))
        for number, answer in enumerate(answers, 1):
            self._say(sys.stderr, (f"  {number}  {answer}", ""))
        self.err.print(self._text(sys.stderr, (f"1 to {len(answers)}, or nothing: ", "warning")), end="")
        text = sys.stdin.readline().strip()
        return int(text) - 1 if text.isdecimal() and 1 <= int(text) <= len(answers) else None

    @contextlib.contextmanager
    def progress(self, text: str, *, total: float | None = None, unit: Literal["", "bytes"] = "") -> Iterator[Progress]:
        """Show a task's progress for as long as the block runs; ``total=None`` is a spinner."""
        if not self.interactive:
            self.note(text + "…", "dim")
            yield Progress(None, None)
            return
        from rich import progress as rich_progress

        from devkit.progress import columns

        spinner = "dots" if speaks(sys.stderr, "⠋") else "line"
        shown = columns(self.err.width, spinner=spinner, counted=total is not None, in_bytes=unit == "bytes")
        with rich_progress.Progress(*shown, console=self.err, transient=True) as bar:
            yield Progress(bar, bar.add_task(self._plain(sys.stderr, text), total=total))


def terminal_svg(recorded: rich.console.Console, title: str) -> str:
    """Return an SVG of what a console recorded, light and dark; it fetches nothing and keeps its spaces.

    A viewer that knows no media query shows the light one.
    """
    from rich.terminal_theme import DEFAULT_TERMINAL_THEME, SVG_EXPORT_THEME

    light, dark = (
        recorded.export_svg(title=title, theme=theme, clear=False, unique_id="devkit")
        for theme in (DEFAULT_TERMINAL_THEME, SVG_EXPORT_THEME)
    )
    rules = re.findall(r"^\s*(\.devkit-r\d+ \{[^}]*\})", dark, re.MULTILINE)
    ground = re.search(r'<rect fill="(#\w+)"', dark)
    rules += [f".devkit-ground {{ fill: {ground[1]} }}", ".devkit-title { fill: #c5c8c6 }"] if ground else []
    light = re.sub(r"@font-face \{.*?\}\s*", "", light, flags=re.DOTALL)
    light = light.replace(
        "</style>", f"    @media (prefers-color-scheme: dark) {{ {' '.join(rules)} }}\n    </style>", 1
    )
    light = light.replace("<rect fill=", '<rect class="devkit-ground" fill=', 1)
    return light.replace("<svg ", '<svg xml:space="preserve" ', 1)
