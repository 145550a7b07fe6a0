"""uv, the engine of environments: its binary comes from PyPI, and what it complains of becomes what to type."""

from __future__ import annotations

import contextlib
import importlib
import os
import re
import shlex
import shutil
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from devkit import paths
from devkit.envs import pip_settings
from devkit.errors import DevkitError, Hint, UsageError
from devkit.process import Finished

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from devkit.app import App

# What would turn uv's eye from the environment that it is told of, or leak into it.
DROPPED = (
    "VIRTUAL_ENV", "CONDA_PREFIX", "UV_PYTHON", "UV_SYSTEM_PYTHON", "UV_TARGET", "UV_PREFIX", "UV_PROJECT_ENVIRONMENT",
    "PYTHONPATH", "PYTHONHOME", "UV_PROJECT", "UV_WORKING_DIRECTORY", "UV_VENV_CLEAR", "UV_VENV_SEED",
)  # fmt: skip
OLDEST_MINOR = 9  # of the device side
# What a shell may tell uv that decides what it finds, and what it will not do.
STEERING = (
    "UV_OFFLINE", "UV_CONFIG_FILE", "UV_DEFAULT_INDEX", "UV_INDEX_URL", "UV_INDEX", "UV_EXTRA_INDEX_URL", "UV_NO_INDEX",
    "UV_FIND_LINKS", "UV_REQUIRE_HASHES", "UV_CONSTRAINT", "UV_OVERRIDE", "UV_EXCLUDE_NEWER", "UV_NO_BINARY",
    "UV_ONLY_BINARY", "UV_NO_BUILD", "UV_NO_SOURCES", "UV_PRERELEASE", "UV_RESOLUTION", "UV_INDEX_STRATEGY",
)  # fmt: skip
PROXY_VARIABLES = ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "all_proxy")


@dataclass(frozen=True)
class Source:
    """Where packages come from.

    Attributes:
        index_url: in place of the default index, and of Paddle's own.
        paddle_index: Paddle's own, for a GPU build, asked before the default one.
        default_index: in place of uv's default one, but not of Paddle's own.
        proxy: over the configured one.
        offline: only what uv has in its cache.
        pip: what pip's own settings say, which hold where nothing above them speaks.
    """

    index_url: str = ""
    paddle_index: str | None = None
    proxy: str = ""
    offline: bool = False
    default_index: str = ""
    pip: Mapping[str, str] = field(default_factory=dict)

    def variables(self) -> dict[str, str]:
        """Return the variables that tell uv: never its command line, where others see a password."""
        default = self.index_url or self.default_index
        found = {"UV_PYTHON_DOWNLOADS": "never", **self.pip}
        if default:
            found = {name: value for name, value in found.items() if name not in pip_settings.INDEXES}
            found["UV_DEFAULT_INDEX"] = default
        if self.paddle_index and not self.index_url:
            found["UV_INDEX"] = " ".join(filter(None, (self.paddle_index, found.get("UV_INDEX", ""))))
        if self.proxy:
            found.update(dict.fromkeys(PROXY_VARIABLES, self.proxy))
        if self.offline:
            found["UV_OFFLINE"] = "1"
        return found


@dataclass(frozen=True)
class Line:
    """A line of uv: its words after ``uv``, its variables, and where it runs."""

    words: tuple[str, ...]
    variables: Mapping[str, str]
    folder: Path

    def shown(self) -> str:
        """Return the line as one would type it; the caller redacts."""
        own = {name: value for name, value in self.variables.items() if name not in PROXY_VARIABLES[1:]}
        return " ".join(
            (*(f"{name}={shlex.quote(value)}" for name, value in own.items()), shlex.join(("uv", *self.words)))
        )


def source(
    app: App,
    *,
    index_url: str = "",
    paddle_index: str | None = None,
    proxy: str = "",
    offline: bool = False,
    exact: bool = False,
) -> Source:
    """Return where packages come from here: the flags over devkit's settings over pip's.

    Args:
        app: whose settings they are.
        index_url: in place of the default index, and of Paddle's own.
        paddle_index: Paddle's own.
        proxy: over the configured one.
        offline: only what uv has in its cache.
        exact: whether a lock says what is installed, which pip's constraints do not change.

    Raises:
        UsageError: one of the addresses is none.
    """
    pip = pip_settings.read(os.environ, paths.user_home()).variables(app.child_environment())
    if exact:
        pip.pop("UV_CONSTRAINT", None)
    return Source(
        check_url("--index-url", index_url),
        paddle_index,
        check_url("--proxy", proxy),
        offline,
        check_url("env.index-url", app.config.get("env.index-url")),
        pip,
    )


def is_pylock(file: Path) -> bool:
    """Tell whether a file of requirements is a lock by its name (PEP 751)."""
    return bool(re.fullmatch(r"pylock(\.[^.]+)?\.toml", file.name))


def check_url(flag: str, url: str) -> str:
    """Return an address that ``flag`` was given, if uv can use it.

    Raises:
        UsageError: it is not an address.
    """
    from urllib.parse import urlsplit

    try:
        parts = urlsplit(url)
        good = parts.scheme in {"http", "https", "socks5", "socks5h", "file"} and (parts.hostname or parts.path)
        _ = parts.port
    except ValueError:
        good = None
    if url and not good:
        raise UsageError(f"{flag} {url} is not an address", "It begins with http:// or https://.")
    return url


def binary() -> str:
    """Return the path of uv's binary.

    Raises:
        DevkitError: the package is there without it.
    """
    beside = os.path.join(sys.prefix, "bin", "uv")  # noqa: PTH118 - where it nearly always is, and looked at for each line
    if os.access(beside, os.X_OK):
        return beside
    from uv import find_uv_bin

    try:
        return os.fspath(find_uv_bin())
    except FileNotFoundError as error:
        raise DevkitError("uv was not found", str(error), "pip install --force-reinstall uv") from error


def environ(app: App, line: Line) -> dict[str, str]:
    """Return the environment that a line of uv runs in."""
    inherited = {name: value for name, value in app.child_environment().items() if name not in DROPPED}
    kept = {}
    if paths.own_home():
        kept = {"UV_CACHE_DIR": str(paths.cache_home() / "uv")}
    elif not paths.can_be_made(Path(inherited.get("XDG_CACHE_HOME") or paths.user_home() / ".cache") / "uv"):
        kept = {"UV_CACHE_DIR": str(paths.private_folder() / "cache" / "uv")}
    return {**kept, **inherited, **line.variables}


def run(app: App, line: Line, *, log: Path | None = None, meanwhile: str = "", load: Sequence[str] = ()) -> Finished:
    """Run a line of uv to its end.

    Args:
        app: whose runner starts it.
        line: what to run.
        log: what it says is appended to it.
        meanwhile: what the screen says as it runs.
        load: modules that are needed then. As the screen's library they are loaded beside uv, and not after it.

    Raises:
        DevkitError: uv failed; what it said is sorted out.
    """
    child = app.runner.start([binary(), *line.words], cwd=line.folder, env=environ(app, line), log=log, keep=None)
    with app.console.progress(meanwhile) if meanwhile else contextlib.nullcontext():
        for module in load:
            importlib.import_module(module)
        status = app.runner.finish(child)
    if status != 0:
        raise diagnose(app, child.stderr.decode(errors="replace"), line)
    return Finished(child.argv, status, bytes(child.stdout), bytes(child.stderr), time.monotonic() - child.started)


@dataclass(frozen=True)
class _Sign:
    pattern: str
    what: str
    remedies: tuple[str, ...]

    def is_in(self, said: str) -> bool:
        return bool(re.search(self.pattern, said, re.IGNORECASE | re.DOTALL))


def _sign(pattern: str, what: str, *remedies: str) -> _Sign:
    return _Sign(pattern, what, remedies)


_PROXY_PASSWORD = _sign(
    r"407 proxy|proxy authorization required", "the proxy wants a password",
    "devkit config set proxy.url -   and then, on a line of its own, http://USER:PASSWORD@HOST:PORT",
    "devkit env create --proxy http://USER:PASSWORD@HOST:PORT   for this once",
)  # fmt: skip
_DEAD_PROXY = _sign(
    r"tunnel error|proxy", "the proxy does not answer", "devkit config get proxy.url   shows the configured one",
    "env | grep -i proxy   shows the shell's", "devkit env create --proxy http://HOST:PORT",
)  # fmt: skip
_SIGNS = (
    _sign(r"no space left|os error 28|quota exceeded|os error 122", "the disk is full", "df -h   shows which",
          "uv cache prune   frees what uv no longer needs"),
    _sign(r"network was disabled|network connectivity is disabled|not found in the cache",
          "it is not in uv's cache, and --offline forbids to fetch it", "devkit env create   without --offline"),
    _sign(r"401 unauthorized|403 forbidden", "the index wants a name and a password",
          "devkit env create --index-url https://USER:PASSWORD@HOST/simple"),
    _sign(r"invalid `?SSL_CERT", "a file of certificates that is named is not there",
          "env | grep SSL_CERT   shows what is set", "unset SSL_CERT_FILE SSL_CERT_DIR"),
    _sign(r"invalid peer certificate|certificate", "the index's certificate is not trusted",
          "SSL_CERT_FILE=ca.pem devkit env create   names your company's authority"),
    _sign(r"dns error|failed to lookup", "the index's host was not found",
          "devkit env create --proxy http://HOST:PORT   if there is a proxy",
          "devkit env create --offline   uses uv's cache"),
    _sign(r"connection refused|timed out|connection reset|error sending request|network unreachable",
          "the index does not answer", "devkit env create --proxy http://HOST:PORT   if there is a proxy",
          "devkit env create --offline   uses uv's cache"),
    _sign(r"unexpected header|invalid (gzip|tar|zip)|failed to read from zip|invalid (wheel|archive)",
          "what was downloaded is no package", "curl -sL URL | head   shows what answers: perhaps a page to log in at"),
    _sign(r"not found in the package registry|404 not found|no such index|no versions of (?!.*(depends|only))",
          "the index does not have it", "devkit env create --index-url https://HOST/simple   asks another index"),
    _sign(r"HTTP status server error", "the index is out of order",
          "devkit env create --index-url https://HOST/simple   asks another index",
          "devkit env create --offline   uses uv's cache"),
    _sign(r"no wheels with a matching|no wheel.* python (abi|version)|requires python",
          "it has no wheel for this Python", "devkit env create --python 3.11"),
    _sign(r"there is no version of|only the following versions", "there is no such version",
          "devkit env create --paddle 3.3.1"),
    _sign(r"are incompatible|you require .* and .*unsatisfiable", "these requirements contradict each other",
          "devkit env create --paddle none --with 'PACKAGE'"),
    _sign(r"git operation failed", "git could not fetch a package's source",
          "git config --global http.proxy http://HOST:PORT   if there is a proxy"),
    _sign(r"error parsing included file|file not found", "a file that is named is not there"),
    _sign(r"does not match given name", "a package has another name than it is asked for by"),
    _sign(r'distribution not found at: file:|no such comparison operator "="',
          "a requirement is one of conda's, which leads to where conda built it",
          "pip list --format=freeze > requirements.txt   writes them for others, in the conda environment"),
    _sign(r"stream did not contain valid UTF-8", "a file of requirements is not in UTF-8",
          "iconv -f GB18030 -t UTF-8 FILE > NEW   where it has Chinese comments"),
    _sign(r"failed to parse|couldn't parse|not a valid", "a requirement is not understood",
          "devkit env create --with 'einops>=0.8'"),
    _sign(r"hash mismatch", "a file has another checksum than is asked for",
          "devkit env create --index-url https://HOST/simple"),
    _sign(r"failed to build|build backend returned an error", "a package could not be built from source",
          "devkit env create --python 3.11   a Python that it has a wheel for"),
    _sign(r"no solution found", "what was asked for cannot be installed together",
          "devkit env create --paddle none --with 'PACKAGE'"),
)  # fmt: skip


def diagnose(app: App, said: str, line: Line) -> DevkitError:
    """Return what uv's words mean; where an index seems to have nothing, it is looked at what answers there."""
    from devkit.envs import captive_portal

    error = explain(said, line)
    variables = environ(app, line)
    index = variables.get("UV_DEFAULT_INDEX") or variables.get("UV_INDEX_URL") or ""
    package = captive_portal.missing_package(said)
    if index.startswith("http") and package and not variables.get("UV_OFFLINE"):
        from devkit.redact import redact

        found = captive_portal.look(index, package, variables)
        if found:
            error.what = "uv failed: a web page answers where the index should"
            error.why = redact(
                f"{found[0]} is {repr(found[1]) if found[1] else 'one without a title'}: perhaps to log in at."
            )
            error.hints = (Hint.of("curl", "-sL", "--", redact(found[0]), purpose="shows it"), *error.hints)
    return error


def explain(said: str, line: Line) -> DevkitError:
    """Return what uv's words mean for the person who asked."""
    from devkit.redact import redact

    gist = _gist(said)
    why = redact("\n".join(gist)) or f"The line was: {redact(line.shown())}"
    proxied = any(line.variables.get(name) or os.environ.get(name) for name in PROXY_VARIABLES)
    if _PROXY_PASSWORD.is_in(said):
        return DevkitError(f"uv failed: {_PROXY_PASSWORD.what}", why, *_PROXY_PASSWORD.remedies)
    if re.search(r"tunnel error|proxyconnect|proxy.*(refused|error)", said, re.IGNORECASE) or (
        proxied and re.search(r"client error \(Connect\)", said) and "dns error" not in said
    ):
        return DevkitError(f"uv failed: {_DEAD_PROXY.what}", why, *_pips_proxy(line), *_DEAD_PROXY.remedies)
    steered = _steered(line)
    for sign in _SIGNS:
        if sign.is_in(said):
            what = sign.what
            if "--offline" in what and "UV_OFFLINE" not in line.variables and os.environ.get("UV_OFFLINE"):
                what = what.replace("--offline", "UV_OFFLINE")
                return DevkitError(f"uv failed: {what}", why, *steered)
            return DevkitError(f"uv failed: {what}", why, *_specific(sign, said), *_pips_index(said, line), *steered)
    denied = re.search(_DENIED, said, re.IGNORECASE | re.DOTALL)
    if denied:
        folder = str(Path(denied["path"]).parent)
        return DevkitError(
            f"uv failed: {folder} cannot be written",
            why,
            Hint.of("ls", "-ld", folder),
            Hint.of("findmnt", "-T", folder),
        )
    return DevkitError("uv failed", why, *steered)


def _steered(line: Line) -> tuple[Hint, ...]:
    """Return what else tells uv what to do: variables of the shell, and the uv.toml that it finds upwards."""
    found = [name for name in STEERING if os.environ.get(name) and name not in line.variables]
    hints = [Hint(f"unset {' '.join(found)}", "if uv should not be told so by your shell")] if found else []
    folders = (line.folder, *line.folder.parents)
    settings = next((folder / "uv.toml" for folder in folders if (folder / "uv.toml").is_file()), None)
    if settings:
        hints.append(Hint.of("cat", str(settings), purpose="uv follows it too"))
    return tuple(hints)


_DENIED = r"`(?P<path>/[^`\n]+)`[^\n]*(permission denied|os error 13|read-only|os error 30)"


def _specific(sign: _Sign, said: str) -> tuple[Hint | str, ...]:
    """Return a sign's remedies, with the package and the Pythons that uv named where it named some."""
    version = re.search(r"no version of ([\w.-]+)(?:\[[^\]]*\])?==(\S+)", said)
    if version and sign.what == "there is no such version" and not version[1].startswith("paddlepaddle"):
        name = version[1]
        return (Hint.of("devkit", "env", "create", "--with", name, purpose=f"takes the newest {name} that there is"),)
    tags = sorted({int(found) for found in re.findall(r"`cp3(\d+)`", said.partition("we only found wheels")[2])})
    suitable = [tag for tag in tags if tag >= OLDEST_MINOR]
    if sign.what == "it has no wheel for this Python" and suitable:
        return (f"devkit env create --python 3.{suitable[-1]}",)
    url = re.search(r"https?://[^\s`)]+", said)
    if sign.what == "what was downloaded is no package" and url:
        from devkit.redact import redact

        return tuple(remedy.replace("URL", shlex.join(("--", redact(url[0])))) for remedy in sign.remedies)
    own = "" if shutil.which("uv") else shlex.quote(binary())
    return tuple(f"{own}{remedy[2:]}" if own and remedy.startswith("uv ") else remedy for remedy in sign.remedies)


def _pips_proxy(line: Line) -> tuple[Hint, ...]:
    """Return where pip's settings name the proxy that was asked."""
    value, origin = pip_settings.read(os.environ, paths.user_home()).values.get("proxy", ("", ""))
    if not value or value not in line.variables.get("http_proxy", ""):
        return ()
    return (Hint.of("cat", origin, purpose="names it") if "/" in origin else Hint(f"unset {origin}", "names it"),)


def _pips_index(said: str, line: Line) -> tuple[Hint | str, ...]:
    """Return the index that pip's settings name, where another one was asked and does not help."""
    if not re.search(r"failed to fetch|not found in the package registry|no versions of", said, re.IGNORECASE):
        return ()
    known = pip_settings.read(os.environ, paths.user_home())
    url = known.values.get("index-url", ("", ""))[0]
    if not url or line.variables.get("UV_DEFAULT_INDEX") == url:
        return ()
    return (
        Hint.of("devkit", "env", "create", "--index-url", url, purpose=f"as {known.values['index-url'][1]} has it"),
    )


def _gist(said: str) -> Sequence[str]:
    """Return the lines of uv that say what went wrong, without its progress and its hints for other commands."""
    lines = [line.rstrip() for line in said.splitlines() if line.strip()]
    begin = next((index for index, line in enumerate(lines) if re.match(r"\s*(error|×)", line)), 0)
    kept = [line for line in lines[begin:] if not re.match(r"\s*(hint|warning):", line)]
    # What uv warns of before it fails is often why: a certificate's file that is not there, a setting that it ignores.
    warned = [
        line for line in lines if re.match(r"\s*warning:.*(SSL_CERT|certificate|invalid|ignor)", line, re.IGNORECASE)
    ]
    refused = [line for line in lines if re.match(r"\s*hint:.*\b40[13]\b", line)]
    return [
        re.sub(r"^\s*(error:|cause:|warning:|hint:|×|╰─▶|├─▶|│)\s*", "", line)
        for line in (*warned, *kept[:8], *refused)
    ]
