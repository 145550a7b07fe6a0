"""Settings and where each came from: ``DEVKIT_*`` over ``devkit.toml`` over the user's file over the defaults."""

from __future__ import annotations

import contextlib
import math
import os
import stat
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from devkit.errors import DevkitError, Hint, UsageError
from devkit.files import explained, new_file_mode, write_atomically
from devkit.locks import hold_open
from devkit.paths import can_be_made, config_home

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    import tomlkit

PROJECT_FILE = "devkit.toml"
CI = "https://paddle-github-action.bj.bcebos.com/PR"
CI_WHEELS = [
    f"{CI}/cpu_whl/{{number}}/{{sha}}/paddlepaddle-0.0.0-{{python}}-{{python}}-linux_x86_64.whl",
    f"{CI}/build/{{number}}/{{sha}}/paddlepaddle_gpu-0.0.0-{{python}}-{{python}}-linux_x86_64.whl",
]
SECRET = 0o600  # the user's own file may hold a password
KINDS = {str: "a text", int: "a whole number", float: "a number", bool: "true or false", list: "a list of texts"}


@dataclass(frozen=True)
class Setting:
    """A key that can be set: its default, whose type is the setting's type, and what it is for.

    Only the user sets one that names a program to run or a place that secrets go to: a project's devkit.toml is
    whoever's who wrote the project, or the pull request that is tried.
    """

    key: str
    default: str | int | float | bool | list[str]
    purpose: str
    project_sets: bool = True

    @property
    def variable(self) -> str:
        """The environment variable that sets it: ``DEVKIT_RUNS_KEEP`` for ``runs.keep``."""
        return "DEVKIT_" + self.key.upper().replace(".", "_").replace("-", "_")


SETTINGS = {
    setting.key: setting
    for setting in (
        Setting("build.jobs", 0, "how many compilers a build runs at once; 0 is as many as cores and memory carry"),
        Setting("build.profile", "", "the profile of a build, instead of the one that fits the machine"),
        Setting(
            "build.wheels",
            [],
            "wheels, or folders of them, that an overlay may take beside those that devkit finds",
            project_sets=False,
        ),
        Setting("env.default", "", "the environment that commands run in, instead of the project's .venv"),
        Setting(
            "env.index-url",
            "",
            "the index that environments are installed from, instead of uv's default",
            project_sets=False,
        ),
        Setting(
            "pr.api",
            "",
            "the address of the forge's API, where it is not the one that the remote's host says",
            project_sets=False,
        ),
        Setting("pr.base-branch", "", "the branch that requests go to, instead of the base remote's HEAD"),
        Setting("pr.base-remote", "", "the remote of the project, instead of upstream or the one that is found"),
        Setting("pr.fork-remote", "", "the remote that branches are pushed to, instead of git's remote.pushDefault"),
        Setting("pr.project", "PaddlePaddle", "the owner of the project, by which its remote is found"),
        Setting(
            "proxy.url",
            "",
            "the proxy of everything that devkit starts, over http_proxy and https_proxy",
            project_sets=False,
        ),
        Setting("proxy.bypass", [], "hosts and suffixes that go around the proxy, beside no_proxy", project_sets=False),
        Setting("runs.keep", 200, "how many run records are kept"),
        Setting("runs.max-mib", 2048, "MiB that the run records may take"),
        Setting("transfer.ssh", ["ssh"], "the words that start ssh for send and recv: ssh,-F,FILE", project_sets=False),
        Setting("try.bench", "", "the line that measures a request: pr try --bench runs it on both sides"),
        Setting("try.build", "", "the line that builds a request before its tests, for projects other than Paddle"),
        Setting("try.ctest", "", "the build folder in which ctest knows tests of a request"),
        Setting("try.keep", 3, "how many requests' work trees pr try leaves for the next time"),
        Setting("try.path", [], "the folders that a request's tests import from, instead of src and the top"),
        Setting("try.requirements", [], "packages that a request's tests need beside those that the project names"),
        Setting("try.test", "", "the line that runs a test {file}, and may write a JUnit {report}"),
        Setting(
            "try.wheels",
            CI_WHEELS,
            "the addresses of wheels that the project's CI builds, by {number}, {sha} and {python}",
            project_sets=False,
        ),
        Setting("undo.keep", 30, "how many changes of a repository can be undone", project_sets=False),
        Setting(
            "undo.max-mib",
            512,
            "MiB of uncommitted files that are kept before a change without asking",
            project_sets=False,
        ),
    )
}


@dataclass(frozen=True)
class Value:
    """A setting's value and its origin: ``default``, an environment variable or a file."""

    value: Any
    origin: str


@dataclass(frozen=True)
class SettingChange:
    """What is to be written into a file of settings.

    Attributes:
        value: None takes the key out.
        project: whether the file is the project's, which others read.
        private: whether the value holds a password: then nobody else may read the file.
    """

    path: Path
    key: str
    value: Any = None
    project: bool = False
    private: bool = False

    def lines(self) -> list[str]:
        """Return what changes, as the file has it."""
        import tomlkit

        section, name = self.key.split(".", 1)
        line = name if self.value is None else tomlkit.dumps({name: self.value}).strip()
        return [f"{self.path}: {'remove' if self.value is None else 'set'} [{section}] {line}"]

    def apply(self, text: str) -> str:
        """Return the file's text with the change in it; comments stay.

        Raises:
            DevkitError: it does not parse, or its section is not one.
        """
        import tomlkit

        document: Any = _parsed(self.path, text)
        found = _find(document.unwrap(), self.key, self.path)
        section, name = self.key.split(".", 1)
        if self.value is not None:
            document.setdefault(section, tomlkit.table())[name] = self.value
        elif found is not None:
            del document[section][name]
            if not document[section]:
                del document[section]
        return str(tomlkit.dumps(document))


@dataclass(frozen=True)
class Config:
    """The settings of one run of devkit."""

    user_file: Path
    project_file: Path | None
    environ: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))

    @classmethod
    def load(cls, directory: Path | None = None) -> Config:
        """Return the settings that hold in ``directory`` (the current one by default)."""
        start = (directory or Path.cwd()).resolve()
        project = next(
            (path / PROJECT_FILE for path in (start, *start.parents) if (path / PROJECT_FILE).is_file()), None
        )
        return cls(config_home() / "config.toml", project)

    def get(self, key: str) -> Any:
        """Return the value of ``key``."""
        return self.lookup(key).value

    def lookup(self, key: str) -> Value:
        """Return the value of ``key`` and where it came from.

        Raises:
            UsageError: there is no such setting.
            DevkitError: a file does not parse, or a value is of the wrong type.
        """
        setting = known(key)
        if setting.variable in self.environ:
            return Value(parse(setting, self.environ[setting.variable], setting.variable), setting.variable)
        for path in (self.project_file if setting.project_sets else None, self.user_file):
            text = _text(path) if path else ""
            if path and text and (found := _find(_values(path, text), key, path)) is not None:
                return Value(check(setting, found, str(path)), str(path))
        return Value(setting.default, "default")

    def plan_set(self, key: str, text: str, *, project: bool = False) -> SettingChange:
        """Return what setting ``key`` in the user's file, or the project's, comes to; nothing is changed.

        Raises:
            UsageError: there is no such setting, it is not such a value, or a project cannot set it.
            DevkitError: the file does not parse, or cannot be written.
        """
        setting = known(key, "set", "-" if "@" in text else text)
        if project and not setting.project_sets:
            why = "It names a program to run or a place that secrets go to, and a project is not only yours."
            raise UsageError(f"a project cannot set {key}", why, f"devkit config set {key} VALUE")
        value = parse(setting, text, "the command line")
        private = "@" in text and not setting.project_sets  # an address with a password in it
        return self._planned(SettingChange(self.file(project=project), key, value, project=project, private=private))

    def plan_unset(self, key: str, *, project: bool = False) -> SettingChange | None:
        """Return what taking ``key`` out of the user's file, or the project's, comes to; None where it is not in it.

        Raises:
            UsageError: there is no such setting.
            DevkitError: the file does not parse, or cannot be written.
        """
        known(key, "unset")
        path = self.file(project=project)
        if not path.is_file() or _find(_parsed(path, _text(path)).unwrap(), key, path) is None:
            return None
        return self._planned(SettingChange(path, key, project=project))

    @staticmethod
    def _planned(change: SettingChange) -> SettingChange:
        change.apply(_text(change.path))
        folder = change.path.resolve().parent
        if not can_be_made(folder):
            why = "Permission denied." if folder.is_dir() else "Its folder cannot be made."
            raise DevkitError(f"{change.path} cannot be written", why, Hint.of("ls", "-ld", str(folder)))
        return change

    def execute(self, change: SettingChange, say: Callable[[str], None] = lambda _: None) -> None:
        """Write a change that was planned: to the file as it is by then, so that no other writer's is lost.

        ``say`` takes the warning that the file system has no locks.
        """
        with _changing(change.path, say) as (target, mode):
            new = new_file_mode() if change.project else SECRET
            text = change.apply(_text(change.path))
            write_atomically(target, text.encode(), mode=(mode & SECRET if change.private else mode) or new)

    def set(self, key: str, text: str, *, project: bool = False) -> Path:
        """Write ``key`` into the user's file, or the project's, and return that file's path; comments stay."""
        change = self.plan_set(key, text, project=project)
        self.execute(change)
        return change.path

    def unset(self, key: str, *, project: bool = False) -> Path | None:
        """Take ``key`` out of the user's file, or the project's; return that file's path, None where it was not in it.

        Raises:
            UsageError: there is no such setting.
        """
        change = self.plan_unset(key, project=project)
        if change is not None:
            self.execute(change)
        return change.path if change else None

    def file(self, *, project: bool = False) -> Path:
        """Return the user's file, or the project's: ``devkit.toml`` here where there is none above."""
        return (self.project_file or Path.cwd() / PROJECT_FILE) if project else self.user_file

    def problems(self) -> list[str]:
        """Return what in the files has no effect: keys that are not settings, and those that a project cannot set."""
        import difflib

        found = []
        for path in filter(None, (self.project_file, self.user_file)):
            text = _text(path)
            for section, table in _parsed(path, text).unwrap().items() if text else ():
                if not isinstance(table, dict):
                    found.append(f"{section} in {path} is not a setting")
                    continue
                for name in table:
                    key = f"{section}.{name}"
                    near = difflib.get_close_matches(key, SETTINGS, n=1)
                    if key not in SETTINGS:
                        found.append(f"{key} in {path} is not a setting" + (f"; {near[0]} is" if near else ""))
                    elif path == self.project_file and not SETTINGS[key].project_sets:
                        found.append(f"{key} in {path} is ignored: a project cannot set it")
        return found


@contextlib.contextmanager
def _changing(path: Path, say: Callable[[str], None]) -> Iterator[tuple[Path, int]]:
    """Keep other writers out for as long as the block runs; yields the file that ``path`` leads to, and its mode or 0.

    The lock is the folder's: no file is left beside the settings.
    """
    target = path.resolve()
    with explained(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        folder = os.open(target.parent, os.O_RDONLY)
    try:
        with hold_open(folder, target, say=say, wait_s=math.inf):
            yield target, stat.S_IMODE(target.stat().st_mode) if target.exists() else 0
    finally:
        os.close(folder)


def known(key: str, verb: str = "get", value: str = "") -> Setting:
    """Return the setting named ``key``.

    Args:
        key: what was typed.
        verb: the command that it was typed after.
        value: what was typed after it.

    Raises:
        UsageError: there is none; the nearest names are its remedy.
    """
    import difflib

    if key in SETTINGS:
        return SETTINGS[key]
    near = difflib.get_close_matches(key, SETTINGS, n=2)
    typed = [Hint.of("devkit", "config", verb, name, *([value] if value else [])) for name in near]
    all_ = Hint("devkit config show", "lists all")
    raise UsageError(f"there is no setting named {key}", "", *(typed or [all_]))


def parse(setting: Setting, text: str, origin: str) -> Any:
    """Turn the text of a variable or an argument into a value of the setting's type.

    Raises:
        UsageError: the text is not such a value.
    """
    default = setting.default
    if isinstance(default, bool):
        words = {
            "true": True,
            "1": True,
            "yes": True,
            "on": True,
            "false": False,
            "0": False,
            "no": False,
            "off": False,
        }
        if text.lower() in words:
            return words[text.lower()]
        raise UsageError(f"{setting.key} is true or false, not {text!r}", f"It came from {origin}.")
    if isinstance(default, list):
        return [part.strip() for part in text.split(",") if part.strip()]
    try:
        value = type(default)(text)
    except ValueError as error:
        raise UsageError(f"{setting.key} is {KINDS[type(default)]}, not {text!r}", f"It came from {origin}.") from error
    if isinstance(value, int) and value < 0:
        raise UsageError(f"{setting.key} is 0 or more, not {text}", f"It came from {origin}.")
    return value


def check(setting: Setting, value: Any, origin: str) -> Any:
    """Return a file's value if it is of the setting's type.

    Raises:
        DevkitError: it is not.
    """
    wanted = type(setting.default)
    fits = (isinstance(value, wanted) and isinstance(value, bool) == (wanted is bool)) or (
        wanted is float and type(value) is int
    )
    negative = type(value) is int and value < 0
    if fits and not negative and (wanted is not list or all(isinstance(item, str) for item in value)):
        return value
    raise DevkitError(
        f"{setting.key} in {origin} is {value!r}",
        f"It must be {'0 or more' if negative else KINDS[wanted]}.",
        f"devkit config set {setting.key} {_example(setting)}",
    )


def _example(setting: Setting) -> str:
    default = setting.default
    return ",".join(default) or "a,b" if isinstance(default, list) else str(default) or "TEXT"


def _text(path: Path) -> str:
    if path.is_fifo():
        raise DevkitError(f"{path} cannot be read", "It is a pipe, and nobody may ever write to it.")
    try:
        return path.read_text("utf-8")
    except FileNotFoundError:
        return ""
    except UnicodeDecodeError as error:
        raise _unparsed(path, error) from error
    except OSError as error:
        raise DevkitError(f"{path} cannot be read", error.strerror or str(error)) from error


@lru_cache
def _values(path: Path, text: str) -> Mapping[str, Any]:
    """Return what a file sets; tomlkit, which keeps comments, takes ten times as long as what only reads."""
    with contextlib.suppress(ImportError, ValueError):  # before Python 3.11 it is not there; tomlkit says what is wrong
        import tomllib

        return tomllib.loads(text)
    values: dict[str, Any] = _parsed(path, text).unwrap()
    return values


def _parsed(path: Path, text: str) -> tomlkit.TOMLDocument:
    import tomlkit
    from tomlkit.exceptions import TOMLKitError

    try:
        return tomlkit.parse(text)
    except TOMLKitError as error:
        raise _unparsed(path, error) from error


def _unparsed(path: Path, error: Exception) -> DevkitError:
    return DevkitError(f"{path} does not parse as TOML", str(error), f"$EDITOR {path}   to mend it")


def _find(document: Mapping[str, Any], key: str, path: Path) -> Any:
    section, name = key.split(".", 1)
    table = document.get(section, {})
    if not isinstance(table, dict):
        raise DevkitError(f"{section} in {path} is {table!r}", "It must be a section.", f"$EDITOR {path}   to mend it")
    return table.get(name)
