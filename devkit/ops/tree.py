"""Where an operator lives in a tree of Paddle, and which operators a change touches: read from its files."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping
    from pathlib import Path

YAML = ("paddle/phi/ops/yaml", "paddle/phi/api/yaml")
INFER_META = "paddle/phi/infermeta"
KERNELS = "paddle/phi/kernels"
API = "python/paddle"
TESTS = ("test", "python/paddle/fluid/tests/unittests")
SHOWN = 40
ENTRY = re.compile(r"^- (?P<kind>op|backward_op|api|backward_api)\s*:\s*(?P<name>\w+)", re.MULTILINE)
KERNEL_FILE = re.compile(r"(?:^|/)kernels/(?:.*/)?(?P<op>\w+?)(?:_grad)?_kernel(?:_impl)?\.\w+$")
TABLE = re.compile(r"(?:^|/)[\w.]*(?:ops|backward)\w*\.ya?ml$")
KERNEL_FUNCTION = re.compile(r"^\s*(?:PADDLE_API\s+)?(?:inline\s+)?void (?P<name>[A-Z]\w*)Kernel\(")
REGISTRATION = re.compile(r"PD_REGISTER_(?:STRUCT_)?KERNEL(?:_FOR_ALL_DTYPE)?\(\s*(?P<name>\w+)", re.DOTALL)
GRADIENT = re.compile(r"(?:_double|_triple)?(?:_grad)+$")


@dataclass(frozen=True)
class SourceLine:
    """A line of a file, and what it says."""

    file: str
    line: int
    text: str


@dataclass(frozen=True)
class OperatorEntry:
    """An operator's entry in a YAML file.

    Attributes:
        infer_meta: the InferMeta function.
        kernels: the kernels' names.
        backward: the operator of its gradient.
        first, last: its lines.
    """

    name: str
    file: str
    first: int
    last: int
    infer_meta: str = ""
    kernels: tuple[str, ...] = ()
    backward: str = ""
    forward: str = ""


@dataclass(frozen=True)
class Lives:
    """Where an operator lives."""

    entries: tuple[OperatorEntry, ...]
    infer_meta: tuple[SourceLine, ...]
    kernels: tuple[SourceLine, ...]
    api: tuple[SourceLine, ...]
    tests: tuple[SourceLine, ...]


def parse_entries(text: str, file: str) -> list[OperatorEntry]:
    """Return the entries of a YAML file of operators, with their lines; it need not parse as a whole."""
    rows = text.split("\n")
    starts = [number for number, row in enumerate(rows) if ENTRY.match(row)]
    found = []
    for place, start in enumerate(starts):
        end = starts[place + 1] if place + 1 < len(starts) else len(rows)
        while end > start + 1 and (not rows[end - 1].strip() or rows[end - 1].lstrip().startswith("#")):
            end -= 1
        block = "\n".join(rows[start:end])
        match = ENTRY.match(rows[start])
        if match is None:
            continue
        meta = re.search(r"^  infer_meta\s*:.*?\n(?:    .*\n)*?    func\s*:\s*(\w+)", block + "\n", re.MULTILINE)
        kernel = re.search(r"^  kernel\s*:.*?\n(?:    .*\n)*?    func\s*:\s*(.+)", block + "\n", re.MULTILINE)
        names = re.sub(r"\{[^}]*\}|\([^)]*\)", " ", kernel[1]) if kernel else ""
        backward = re.search(r"^  backward\s*:\s*(\w+)", block, re.MULTILINE)
        forward = re.search(r"^  forward\s*:\s*(\w+)", block, re.MULTILINE)
        found.append(
            OperatorEntry(
                match["name"],
                file,
                start + 1,
                end,
                meta[1] if meta else "",
                tuple(re.findall(r"\w+", names.partition("->")[0])),
                backward[1] if backward else "",
                forward[1] if forward else "",
            )
        )
    return found


def entries(root: Path) -> list[OperatorEntry]:
    """Return the entries of all YAML files of a tree."""
    found = []
    for folder in YAML:
        for path in sorted((root / folder).rglob("*.yaml")):
            if "compat" not in path.name:
                found += parse_entries(path.read_text("utf-8", "replace"), str(path.relative_to(root)))
    return found


def is_read(path: str) -> bool:
    """Tell whether ``touched`` reads a file: a table of operators, or the source of a kernel."""
    return bool(TABLE.search(path) or KERNEL_FILE.search(path))


def touched(changes: Mapping[str, Collection[int]], texts: Mapping[str, str]) -> list[str]:
    """Return the operators whose kernels or YAML entries are among changed lines.

    A kernel's file stands for the operator of its name where its text is not given, or no kernel is at those lines.

    Args:
        changes: file → its changed lines, on one side of the change.
        texts: file → what it holds on that side.
    """
    found: set[str] = set()
    for path, lines in changes.items():
        text = texts.get(path, "")
        if match := KERNEL_FILE.search(path):
            found |= _kernels_at(text, lines) or {match["op"]}
        elif TABLE.search(path):
            for entry in parse_entries(text, path):
                if any(entry.first <= number <= entry.last for number in lines):
                    found.add(GRADIENT.sub("", entry.forward or entry.name))
    return sorted(found)


def _kernels_at(text: str, lines: Collection[int]) -> set[str]:
    """Return the operators of the kernels' functions and registrations that hold some lines of a file."""
    rows = text.split("\n")
    starts: list[tuple[int, str]] = []
    for number, row in enumerate(rows, 1):
        if match := KERNEL_FUNCTION.match(row):
            name = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", match["name"]).lower()
        elif match := REGISTRATION.match("\n".join(rows[number - 1 : number + 1])):
            name = match["name"]
        else:
            continue
        starts.append((number, GRADIENT.sub("", name)))
    found = set()
    for line in lines:
        above = [name for number, name in starts if number <= line]
        found |= {above[-1]} if above else set()
    return found


def locate(root: Path, name: str) -> Lives:
    """Return where an operator lives in a tree."""
    every = entries(root)
    own = [operator_entry for operator_entry in every if operator_entry.name == name]
    own += [operator_entry for operator_entry in every if operator_entry.forward == name and operator_entry not in own]
    metas = {operator_entry.infer_meta for operator_entry in own if operator_entry.infer_meta}
    kernels = {word for operator_entry in own for word in operator_entry.kernels} | {name, f"{name}_grad"}
    return Lives(
        tuple(own),
        tuple(
            _grep(root, [INFER_META], "*.cc", rf"^void ({'|'.join(map(re.escape, sorted(metas)))})\(") if metas else ()
        ),
        tuple(_registrations(root, kernels)),
        tuple(_grep(root, [API], "*.py", rf"^def {re.escape(name)}_?\(|_C_ops\.{re.escape(name)}_?\(")),
        tuple(_tests(root, name)),
    )


def _grep(root: Path, folders: Iterable[str], glob: str, pattern: str) -> Iterable[SourceLine]:
    wanted = re.compile(pattern)
    needle = re.compile(pattern, re.MULTILINE)
    for folder in folders:
        for path in sorted((root / folder).rglob(glob)):
            text = path.read_text("utf-8", "replace")
            if needle.search(text):
                for number, row in enumerate(text.split("\n"), 1):
                    if wanted.search(row):
                        yield SourceLine(str(path.relative_to(root)), number, row.strip())


def _registrations(root: Path, names: set[str]) -> Iterable[SourceLine]:
    """Yield the registrations of kernels: ``name, device, layout, dtypes``."""
    macro = re.compile(r"PD_REGISTER_(?:STRUCT_)?KERNEL(?:_FOR_ALL_DTYPE)?\(\s*([^)]*?)\)", re.DOTALL)
    wanted = re.compile(rf"\b(?:{'|'.join(map(re.escape, sorted(names)))})\b")
    for path in sorted(
        [*(root / KERNELS).rglob("*.cc"), *(root / KERNELS).rglob("*.cu"), *(root / KERNELS).rglob("*.kps")]
    ):
        text = path.read_text("utf-8", "replace")
        if not wanted.search(text):
            continue
        for match in macro.finditer(text):
            words = [word.strip() for word in match[1].split(",")]
            if words[0] in names:
                line = text.count("\n", 0, match.start()) + 1
                device, dtypes = words[1] if len(words) > 1 else "", " ".join(words[4:])
                yield SourceLine(str(path.relative_to(root)), line, f"{words[0]} {device} {dtypes}".strip())


def _tests(root: Path, name: str) -> Iterable[SourceLine]:
    first = re.compile(rf"op_type\s*=\s*['\"]{re.escape(name)}['\"]|\b(?:paddle|F)\.(?:\w+\.)*{re.escape(name)}\(")
    for folder in TESTS:
        for path in sorted((root / folder).rglob("test_*.py")):
            text = path.read_text("utf-8", "replace")
            match = first.search(text)
            if match:
                line = text.count("\n", 0, match.start()) + 1
                yield SourceLine(str(path.relative_to(root)), line, text.split("\n")[line - 1].strip())
