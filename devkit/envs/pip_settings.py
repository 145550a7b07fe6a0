"""What pip is told of indexes, for uv, which reads neither pip.conf nor ``PIP_*``: most mirrors are set there."""

from __future__ import annotations

import configparser
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

SECTIONS = ("global", "install")
# pip's names, and uv's variables for the same.
READ = {
    "index-url": ("UV_DEFAULT_INDEX", "UV_INDEX_URL"),
    "extra-index-url": ("UV_INDEX", "UV_EXTRA_INDEX_URL"),
    "find-links": ("UV_FIND_LINKS",),
    "trusted-host": ("UV_INSECURE_HOST",),
    "no-index": ("UV_NO_INDEX",),
    "cert": ("SSL_CERT_FILE",),
}
TRUE = {"1", "true", "yes", "on"}


@dataclass(frozen=True)
class PipSettings:
    """pip's settings that concern where packages come from: each with its value and where that stands."""

    values: Mapping[str, tuple[str, str]]

    def variables(self, environ: Mapping[str, str]) -> dict[str, str]:
        """Return the variables that tell uv the same; what uv is told already stays."""
        found = {}
        for name, (value, _) in self.values.items():
            names = READ[name]
            if any(environ.get(word) for word in names):
                continue
            if name == "no-index":
                if value.lower() in TRUE:
                    found[names[0]] = "1"
            else:
                found[names[0]] = (",".join if name == "find-links" else " ".join)(value.split())
        if "UV_INDEX" in found:  # pip takes the best version of all indexes
            found["UV_INDEX_STRATEGY"] = environ.get("UV_INDEX_STRATEGY") or "unsafe-best-match"
        return found

    def said(self) -> str:
        """Return where the index comes from, in words; empty where pip names none."""
        if "index-url" not in self.values:
            return ""
        url, origin = self.values["index-url"]
        return f"{url}, which {origin} names"


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
    """Return pip's settings as they hold here; a file that cannot be read says nothing."""
    values: dict[str, tuple[str, str]] = {}
    for path in files(environ, home):
        parser = configparser.RawConfigParser()
        try:
            parser.read(path, encoding="utf-8")
        except (configparser.Error, OSError, UnicodeDecodeError):
            continue
        for section in SECTIONS:
            if parser.has_section(section):
                for key, value in parser.items(section):
                    name = key.replace("_", "-").lower()
                    if name in READ and value.strip():
                        values[name] = (value.strip(), str(path))
    for name in READ:
        variable = f"PIP_{name.upper().replace('-', '_')}"
        if environ.get(variable):
            values[name] = (environ[variable], variable)
    return PipSettings(values)
