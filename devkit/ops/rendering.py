"""New files from templates: what will be written is a plan, and nothing that is there is replaced."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from devkit.errors import DevkitError, Hint, UsageError
from devkit.files import write_atomically

if TYPE_CHECKING:
    from collections.abc import Mapping

TEMPLATES = Path(__file__).parent.parent / "templates"
NAME = re.compile(r"[a-z][a-z0-9_]*")
LONGEST = 60
# What a module of this name would hide, or what C++ would not take.
RESERVED = frozenset({
    "and", "as", "assert", "async", "auto", "await", "backward_cpu", "bool", "break", "build", "case", "catch",
    "char", "check", "class", "compute", "const", "continue", "def", "default", "del", "delete", "do", "double",
    "elif", "else", "enum", "except", "exp", "export", "extern", "false", "finally", "float", "for", "forward_cpu",
    "friend", "from", "functools", "global", "goto", "gradient", "if", "import", "in", "inline", "int", "is",
    "lambda", "long", "main", "namespace", "new", "none", "nonlocal", "not", "numpy", "operator", "or", "paddle",
    "pass", "private", "protected", "public", "pytest", "raise", "reference", "register", "return", "samples",
    "short", "sigmoid", "signed", "sizeof", "static", "std", "struct", "switch", "template", "test", "this",
    "throw", "true", "try", "typedef", "typename", "union", "unsigned", "using", "virtual", "void", "volatile",
    "while", "with", "xor", "yield",
})  # fmt: skip


@dataclass(frozen=True)
class NewFile:
    """A file to write: its path, and its text."""

    path: Path
    text: str
    executable: bool = False


def check_name(name: str) -> str:
    """Return a name that Python, C++ and a file system take.

    Raises:
        UsageError: it is none.
    """
    if not NAME.fullmatch(name) or name in RESERVED or len(name) > LONGEST:
        why = (
            "It begins with a letter a-z, and goes on with letters, digits and _."
            if name not in RESERVED
            else ("Python, C++ or the template uses it already.")
        )
        raise UsageError(f"{name!r} cannot be a name", why)
    return name


def is_of_paddle(environment: Path, name: str) -> bool:
    """Tell whether the Paddle of an environment, by its header of operators, has one of this name."""
    headers = environment.glob("lib/python3*/site-packages/paddle/include/paddle/phi/api/include/api.h")
    declared = re.compile(rf"^PADDLE_API .*\b{name}\(", re.MULTILINE)
    return any(declared.search(header.read_text("utf-8", "replace")) for header in headers)


def render(kind: str, folder: Path, **values: object) -> list[NewFile]:
    """Return the files of a template folder; ``NAME`` in a file's name is the value ``name``."""
    import jinja2

    source = TEMPLATES / kind
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(source),
        autoescape=False,  # noqa: S701 - what is rendered is source code, and its values are checked names
        keep_trailing_newline=True,
        trim_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    found = []
    for path in sorted(source.rglob("*.j2")):
        name = str(path.relative_to(source)).removesuffix(".j2").replace("NAME", str(values.get("name", "")))
        name = "/".join(f".{part[4:]}" if part.startswith("dot_") else part for part in name.split("/"))
        text = environment.get_template(str(path.relative_to(source))).render(**values)
        found.append(NewFile(folder / name, text, name.endswith(".sh")))
    return found


def check_new(files: list[NewFile]) -> None:
    """Check that none of the files is there.

    Raises:
        DevkitError: one is.
    """
    there = [file.path for file in files if os.path.lexists(file.path)]
    if there:
        which = [Hint.of("mv", "--", str(path), f"{path}.old", purpose="puts it aside") for path in there]
        others = f"So {'is' if len(there) == 2 else 'are'} {', '.join(map(str, there[1:]))}. " if there[1:] else ""  # noqa: PLR2004 - one other
        raise DevkitError(f"{there[0]} is there already", f"{others}Nothing was written.", *which)


def write(files: list[NewFile]) -> None:
    """Write new files.

    Raises:
        DevkitError: one is there already; then none is written.
    """
    check_new(files)
    for file in files:
        write_atomically(file.path, file.text.encode(), mode=0o755 if file.executable else 0o644)


def outcome(files: list[NewFile]) -> Mapping[str, object]:
    """Return what ``--json`` says."""
    return {"files": [str(file.path) for file in files]}
