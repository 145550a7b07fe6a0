"""What people type for a command of another name: other programs' words, and mistyped ones."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

from devkit.commands._cli import tree

if TYPE_CHECKING:
    from devkit.commands._cli.tree import Node

# Words of git, gh, docker, conda, pip, make and scp at the top, and the lines that do that here.
AT_THE_TOP = {
    "activate": ("env activate", "env shell"),
    "apply": ("wip restore",),
    "benchmark": ("bench attn",),
    "checkout": ("pr fetch",),
    "clone": ("env clone", "pr fetch"),
    "cmake": ("build",),
    "compile": ("build",),
    "copy": ("send", "env cp"),
    "cp": ("send", "env cp"),
    "create": ("env create",),
    "diff": ("pr diff",),
    "download": ("get",),
    "exec": ("env run",),
    "fetch": ("pr fetch", "get"),
    "finetune": ("train",),
    "freeze": ("env freeze",),
    "history": ("runs list",),
    "info": ("doctor", "env show"),
    "install": ("env install", "env create"),
    "list": ("env list", "pr list", "runs list"),
    "log": ("runs list", "pr list"),
    "logs": ("runs show", "env logs"),
    "ls": ("env list", "pr list", "runs list"),
    "make": ("build",),
    "pip": ("env install",),
    "pop": ("wip restore",),
    "pull": ("pr fetch", "pr sync"),
    "push": ("pr push",),
    "python": ("env run -- python",),
    "rebase": ("pr rebase",),
    "receive": ("recv",),
    "remove": ("env remove",),
    "rm": ("env remove", "runs clean"),
    "run": ("env run", "train"),
    "scp": ("send", "recv"),
    "set": ("config set",),
    "settings": ("config show",),
    "share": ("serve",),
    "shell": ("env shell",),
    "ssh": ("send", "recv"),
    "start": ("env shell", "pr start"),
    "stash": ("wip save",),
    "status": ("pr list", "doctor"),
    "stop": ("env stop",),
    "sync": ("pr sync",),
    "test": ("build test",),
    "upgrade": ("env upgrade",),
    "upload": ("send",),
    "venv": ("env create",),
    "wget": ("get",),
    "curl": ("get",),
}
# The same below a group: of the names, those that the group has.
IN_A_GROUP = {
    "add": ("install", "create", "save", "set"),
    "apply": ("restore",),
    "attach": ("adopt", "shell"),
    "check": ("doctor", "preflight"),
    "checkout": ("fetch",),
    "copy": ("cp", "clone"),
    "create": ("start",),
    "default": ("set",),
    "del": ("remove", "drop", "unset", "clean"),
    "delete": ("remove", "drop", "unset", "clean"),
    "describe": ("show",),
    "duplicate": ("clone",),
    "edit": ("set", "path"),
    "enter": ("shell",),
    "exec": ("run",),
    "export": ("freeze",),
    "fix": ("doctor",),
    "import": ("adopt", "create"),
    "info": ("show",),
    "inspect": ("show",),
    "kill": ("stop", "abort"),
    "list": ("show",),
    "lock": ("freeze",),
    "log": ("list", "logs", "show"),
    "ls": ("list", "show"),
    "make": ("create",),
    "new": ("create", "start"),
    "open": ("shell", "show"),
    "pop": ("restore",),
    "prune": ("clean",),
    "ps": ("list",),
    "pull": ("fetch", "sync", "images"),
    "purge": ("clean", "remove"),
    "remove": ("uninstall", "drop", "unset", "clean"),
    "reset": ("unset", "drop"),
    "rm": ("remove", "drop", "unset", "clean"),
    "start": ("shell", "create"),
    "stash": ("save",),
    "status": ("list", "show"),
    "stop": ("abort",),
    "switch": ("fetch", "shell"),
    "sync": ("install",),
    "undo": ("drop", "abort"),
    "update": ("upgrade", "sync"),
    "use": ("activate", "shell"),
    "view": ("show",),
}
MOST = 3


def guesses(node: Node, word: str) -> list[str]:
    """Return the lines that someone who typed ``word`` below ``node`` may have meant, the likeliest first."""
    line = " ".join(("devkit", *node.words))
    children = node.children()
    near = [f"{line} {name}" for name in difflib.get_close_matches(word, children, n=2)]
    if node.words:
        meant = [f"{line} {name}" for name in IN_A_GROUP.get(word, ()) if name in children]
    else:
        meant = [f"devkit {words}" for words in AT_THE_TOP.get(word, ()) if _is_there(words)]
    return list(dict.fromkeys([*meant, *near]))[:MOST]


def _is_there(words: str) -> bool:
    node, rest = tree.resolve(words.partition(" -- ")[0].split())
    return node.own_command is not None and not rest
