"""What pip is told, for uv, which reads neither pip.conf nor ``PIP_*``: most mirrors and proxies are set there."""

from __future__ import annotations

import configparser
import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

SECTIONS = ("global", "install")
# pip's names, and uv's variables for the same.
READ = {
    "index-url": ("UV_DEFAULT_INDEX", "UV_INDEX_URL"),
    "extra-index-url": ("UV_INDEX", "UV_EXTRA_INDEX_URL"),
    "find-links": ("UV_FIND_LINKS",),
    "trusted-host": ("UV_INSECURE_HOST",),
    "no-index": ("UV_NO_INDEX",),
    "cert": ("SSL_CERT_FILE",),
    "proxy": ("https_proxy", "HTTPS_PROXY", "http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"),
    "constraint": ("UV_CONSTRAINT",),
    "timeout": ("UV_HTTP_TIMEOUT",),
    "pre": ("UV_PRERELEASE",),
    "require-hashes": ("UV_REQUIRE_HASHES",),
}
# What is not followed, and changes what is installed, or where.
PASSED_OVER = ("target", "prefix", "root", "user", "no-deps", "no-binary", "only-binary", "ignore-requires-python")
FLAGS = {"no-index": "1", "require-hashes": "1", "pre": "allow"}  # what uv's variable is, where pip's is true
# uv's variables for where packages come from: they do not hold where an index is named elsewhere.
INDEXES = ("UV_DEFAULT_INDEX", "UV_INDEX", "UV_INDEX_STRATEGY", "UV_FIND_LINKS", "UV_NO_INDEX")
TRUE, FALSE = {"1", "true", "yes", "on", "t", "y"}, {"0", "false", "no", "off", "f", "n"}


@dataclass(frozen=True)
class PipSettings:
    """pip's settings that concern what is installed, and from where: each with its value and where that stands.

    Attributes:
        values: those that uv is told.
        passed_over: those that it is not.
        unread: files of settings that are not understood, each with why.
    """

    values: Mapping[str, tuple[str, str]]
    passed_over: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    unread: Mapping[str, str] = field(default_factory=dict)

    def variables(self, environ: Mapping[str, str]) -> dict[str, str]:
        """Return the variables that tell uv the same; what uv is told already stays."""
        found = {}
        for name, (value, _) in self.values.items():
            names = READ[name]
            if any(environ.get(word) for word in names):
                continue
            if name in FLAGS:
                if value.lower() in TRUE:
                    found[names[0]] = FLAGS[name]
            elif name == "proxy":
                found.update(dict.fromkeys(names, value if "://" in value else f"http://{value}"))
            elif name == "timeout":
                if re.fullmatch(r"\d+(\.\d*)?", value):  # uv takes whole seconds
                    found[names[0]] = str(max(1, round(float(value))))
            elif name == "constraint":
                found[names[0]] = " ".join(str(Path(word).expanduser().absolute()) for word in value.split())
            else:
                found[names[0]] = (",".join if name == "find-links" else " ".join)(value.split())
        if "UV_INDEX" in found:  # pip takes the best version of all indexes
            found["UV_INDEX_STRATEGY"] = environ.get("UV_INDEX_STRATEGY") or "unsafe-best-match"
        return found

    def not_followed(self) -> str:
        """Return in words which of pip's settings do not hold here; empty where all do."""
        told = [
            f"{name} ({origin})" for name, (value, origin) in self.passed_over.items() if value.lower() not in FALSE
        ]
        told += [f"{path}, which is not understood: {why}" for path, why in self.unread.items()]
        return f"not followed, of pip's settings: {', '.join(told)}" if told else ""


def files(environ: Mapping[str, str], home: Path) -> Iterator[Path]:
    """Yield pip's configuration files, in the order in which later ones overrule."""
    if environ.get("PIP_CONFIG_FILE") == os.devnull:
        return
    for folder in reversed((environ.get("XDG_CONFIG_DIRS") or "/etc/xdg").split(os.pathsep)):
        yield Path(folder) / "pip" / "pip.conf"
    yield Path("/etc/pip.conf")
    yield home / ".pip" / "pip.conf"
    yield Path(environ.get("XDG_CONFIG_HOME") or home / ".config") / "pip" / "pip.conf"
    if environ.get("PIP_CONFIG_FILE"):
        yield Path(environ["PIP_CONFIG_FILE"])


def read(environ: Mapping[str, str], home: Path) -> PipSettings:
    """Return pip's settings as they hold here.

    What a section for ``pip install`` says overrules what one for all of pip's commands does, whatever the files.
    """
    parsers, unread = _parse(files(environ, home))
    values: dict[str, tuple[str, str]] = {}
    for section in SECTIONS:
        for path, parser in parsers.items():
            if parser.has_section(section):
                set_here = {key.replace("_", "-").lower(): value.strip() for key, value in parser.items(section)}
                values |= {name: (value, str(path)) for name, value in set_here.items() if value}
    for name in (*READ, *PASSED_OVER):
        variable = f"PIP_{name.upper().replace('-', '_')}"
        if environ.get(variable):
            values[name] = (environ[variable], variable)
    known, passed_over = ({name: values[name] for name in names if name in values} for names in (READ, PASSED_OVER))
    return PipSettings(known, passed_over, unread)


def _parse(paths: Iterable[Path]) -> tuple[dict[Path, configparser.RawConfigParser], dict[str, str]]:
    """Return what those of the files that are there set, and why some are not understood."""
    parsers: dict[Path, configparser.RawConfigParser] = {}
    unread: dict[str, str] = {}
    for path in paths:
        parser = configparser.RawConfigParser(strict=False)
        try:
            parser.read_string(path.read_text("utf-8-sig", errors="replace"))
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            unread[str(path)] = error.strerror or str(error)
        except configparser.Error as error:
            unread[str(path)] = str(error).splitlines()[0].rstrip(".")
        else:
            parsers[path] = parser
    return parsers, unread
