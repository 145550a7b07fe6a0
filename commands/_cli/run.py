"""Running one command: signals in, an exit status out, nothing left behind."""

from __future__ import annotations

import os
import signal
import sys
import traceback
from typing import TYPE_CHECKING, Any

import typer
from typer._click.exceptions import ClickException  # where Typer keeps what it raises for a usage error

from devkit.app import App
from devkit.console import answering, mute, say_what_it_can
from devkit.errors import DevkitError, ExitStatus, UsageError
from devkit.files import refusal
from devkit.text import counted

if TYPE_CHECKING:
    from collections.abc import Callable

    from devkit.commands._cli.tree import Node
    from devkit.errors import Hint

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Ended(KeyboardInterrupt):
    """Ctrl-C, SIGTERM or SIGHUP: one way out, and a status that names the signal."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


def run(node: Node, rest: list[str], words: list[str]) -> int:
    """Run the command at ``node`` with the words that are ``rest``, and return the exit status."""
    app = App(words)
    for stream in (sys.stdout, sys.stderr):
        say_what_it_can(stream)
    end = _once(app)
    for number in ENDING:
        if not _stays_ignored(number):
            signal.signal(number, end)
    try:
        _stand_somewhere()
        return _run(app, node, rest)
    except DevkitError as error:
        error.hints = tuple(hint for hint in error.hints if _is_of(node, hint))
        app.console.fail(error, line=" ".join(("devkit", *node.words)))
        return int(error.status)
    except KeyboardInterrupt as error:
        return _interrupted(app, error)
    except BrokenPipeError:
        mute(1)
        return 128 + signal.SIGPIPE
    except Exception as error:  # noqa: BLE001 - the one place where a bug of ours becomes a log and a status
        refused = refusal(error)
        if refused is None:
            return _bug(app, words)
        app.console.fail(refused)
        return int(refused.status)
    finally:
        app.runner.end_all()


def _is_of(node: Node, hint: Hint) -> bool:
    """Tell whether a hint holds for the command that was typed: what several share advises flags that one may lack."""
    if node.own_command is None or not hint.command.startswith("--"):
        return True
    from devkit.commands._cli.typer_command import load

    flag = hint.command.split()[0].partition("=")[0]
    return any(flag in (*param.opts, *param.secondary_opts) for param in load(node).params)


def _stays_ignored(number: int) -> bool:
    """Tell whether a signal was ignored when devkit began, on purpose, as by nohup.

    A script's ``&`` ignores SIGINT and SIGQUIT together, against the keys of the terminal: who sends SIGINT to such a
    devkit by hand means it.
    """
    by_a_script = number == signal.SIGINT and signal.getsignal(signal.SIGQUIT) is signal.SIG_IGN
    return signal.getsignal(number) is signal.SIG_IGN and not by_a_script


def _run(app: App, node: Node, rest: list[str]) -> int:
    if node.own_command is None:
        raise _unknown(node, rest[0])
    from devkit.commands._cli.typer_command import load

    line = " ".join(("devkit", *node.words))
    try:
        loaded = load(node)
        with loaded.make_context(line, rest, obj=app) as context:
            done: Any = loaded.invoke(context)
    except typer.Abort as error:  # the end of the input, where an answer was asked for
        raise KeyboardInterrupt from error
    except typer.Exit as leaving:
        done = leaving.exit_code
    except ClickException as error:
        raise UsageError(error.format_message(), "", f"{line} --help") from error
    with answering():
        sys.stdout.flush()
    return done if isinstance(done, int) else 0


def _stand_somewhere() -> None:
    try:
        os.getcwd()  # noqa: PTH109 - its failure is the point
    except FileNotFoundError as error:
        raise DevkitError(
            "the current directory is gone", "It was removed or moved while this shell stood in it.", "cd"
        ) from error


def _unknown(node: Node, word: str) -> UsageError:
    from devkit.commands._cli.meanings import guesses

    line = " ".join(("devkit", *node.words))
    what = f"{line} has no flag {word}" if word.startswith("-") else f"there is no command {line} {word}"
    return UsageError(what, "", *guesses(node, word) or [f"{line} --help   lists the commands"])


def _once(app: App) -> Callable[[int, object], None]:
    """Return a handler that raises at the first signal: a second one must not interrupt what that lets clean up."""

    def end(number: int, _frame: object) -> None:
        if not app.ending:
            app.ending = True
            raise Ended(number)

    return end


def _interrupted(app: App, error: KeyboardInterrupt) -> int:
    ended = app.runner.end_all()
    app.console.warn("interrupted" + (f"; {counted(ended, 'program')} ended" if ended else ""))
    for line in app.restored:
        app.console.note(f"  {line}")
    for number in ENDING:  # one more must not end Python while it takes itself apart: it would be another status
        signal.signal(number, signal.SIG_IGN)
    return 128 + (error.number if isinstance(error, Ended) else signal.SIGINT)


def _bug(app: App, words: list[str]) -> int:
    import datetime as dt
    import platform
    import shlex

    from devkit import __version__
    from devkit.files import write_atomically
    from devkit.paths import state_home
    from devkit.redact import redact

    report = "\n".join(
        (
            f"devkit {__version__}, Python {platform.python_version()}, {platform.platform()}",
            f"$ {shlex.join(['devkit', *words])}",
            "",
            traceback.format_exc(),
        )
    )
    path = state_home() / "bugs" / f"{dt.datetime.now(dt.timezone.utc):%Y%m%dT%H%M%S}-{os.getpid()}.log"
    error = sys.exc_info()[1]
    what = f"a bug in devkit: {type(error).__name__}: {error}"
    try:
        write_atomically(path, redact(report).encode(), mode=0o600)
    except DevkitError as refused:
        app.console.fail(DevkitError(what, f"Its log could not be written: {refused.why}\n{report}"))
    else:
        app.console.fail(DevkitError(what, f"All that is known of it is in {path}", f"less {path}"))
    return int(ExitStatus.BUG)
