"""Which of git's variables a program that devkit starts may see."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


# What a user sets on purpose: identity, transport and credentials, configuration, tracing. The others (GIT_DIR,
# GIT_INDEX_FILE, GIT_OBJECT_DIRECTORY, GIT_EXTERNAL_DIFF, …) come from a hook or a wrapper, and would send a
# command to another repository, or start a program.
KEPT = re.compile(
    r"GIT_(ASKPASS|SSH|SSH_COMMAND|SSH_VARIANT|SSL_\w+|EXEC_PATH|CONFIG_GLOBAL|CONFIG_SYSTEM|CONFIG_NOSYSTEM"
    r"|CONFIG_COUNT|CONFIG_KEY_\d+|CONFIG_VALUE_\d+|CONFIG_PARAMETERS|DISCOVERY_ACROSS_FILESYSTEM|CEILING_DIRECTORIES"
    r"|AUTHOR_\w+|COMMITTER_\w+|HTTP_\w+|PROXY_\w+|TRACE\w*"
    r"|CURL_VERBOSE|ALLOW_PROTOCOL|DEFAULT_HASH)"
)

# Whether a clone has a commit, read by what it prints. One made with --filter would ask its remote for a commit that it
# lacks, and for all that leads to it, or read all that it has first: a minute in Paddle's. This asks for nothing.
LOOK_UP = ("rev-list", "--no-walk", "--missing=allow-any")


def without_redirection(base: Mapping[str, str]) -> dict[str, str]:
    """Return an environment without the variables that would turn git to another repository, or start a program."""
    return {name: value for name, value in base.items() if not name.startswith("GIT_") or KEPT.fullmatch(name)}


def with_settings(environ: Mapping[str, str], settings: Mapping[str, str]) -> dict[str, str]:
    """Return an environment that gives git these settings too, before those of its files.

    As ``git -c`` does it, which git has read since 1.7.3, while ``GIT_CONFIG_COUNT`` is not known to 2.30 and before.
    """
    words = [f"{key}={value}".replace("'", "'\\''") for key, value in settings.items()]
    given = environ.get("GIT_CONFIG_PARAMETERS", "")
    return {
        **environ,
        "GIT_CONFIG_PARAMETERS": " ".join([*([given] if given else []), *(f"'{word}'" for word in words)]),
    }
