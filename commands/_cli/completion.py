"""Completion for bash, zsh and fish, by Typer's own machinery over the lazy tree."""

from __future__ import annotations

import os

import typer.completion
from typer._completion_classes import completion_init
from typer._completion_shared import get_completion_script

from devkit.commands._cli.typer_command import root

VARIABLE = "_DEVKIT_COMPLETE"
ZSH_LOADS_COMPLETION = "\n(( $+functions[compdef] )) || { autoload -Uz compinit && compinit -i }\n"


def script(shell: str) -> str:
    """Return what a shell must read to complete devkit's words."""
    text = get_completion_script(prog_name="devkit", complete_var=VARIABLE, shell=shell)
    return text.replace("\n", ZSH_LOADS_COMPLETION, 1) if shell == "zsh" else text


def complete() -> int:
    """Answer a shell's request, which is in the environment."""
    completion_init()
    try:
        return typer.completion.shell_complete(root(), {}, "devkit", VARIABLE, os.environ[VARIABLE])
    except Exception:  # noqa: BLE001 - nothing may be printed into a line that is being typed
        return 1
