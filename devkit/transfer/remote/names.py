"""Names that stay inside: what may be a path of a manifest, a link's target, a pattern of what is left out."""

import binascii
import hashlib
import re
import unicodedata
from typing import Dict, Iterable, List, Optional, Set, Tuple

from .wire import ProtocolError

MAX_PATH = 4096
MAX_NAME = 255
MAX_DEPTH = 200
PART = re.compile(rb"\.devkit-part-[0-9a-f]{16}(?:\.json~?)?\Z")


def part_name(name: bytes) -> bytes:
    """Return the temporary name, in the same folder, of a file that is being written, or of a folder: ``name/``."""
    return b".devkit-part-%b" % binascii.hexlify(hashlib.sha256(name).digest()[:8])


def is_too_long(path: bytes) -> bool:
    """Tell whether a path has more bytes or folders than travel: each folder on the way is held open."""
    return len(path) > MAX_PATH or path.count(b"/") >= MAX_DEPTH


def split(path: bytes) -> Tuple[bytes, ...]:
    """Return the names that a relative path is made of.

    Raises:
        ProtocolError: it is absolute, leads up, is empty, too long, or names a temporary file of ours.
    """
    names = tuple(path.split(b"/"))
    if is_too_long(path) or b"\0" in path:
        raise ProtocolError("a path that is too long or holds NUL")
    for name in names:
        if name in (b"", b".", b"..") or len(name) > MAX_NAME or PART.match(name):
            raise ProtocolError(f"a path that leads out: {path[:200]!r}")
    return names


def link_stays_inside(path: bytes, target: bytes) -> bool:
    """Tell whether a symbolic link at ``path`` with this target cannot lead out of the root, whatever other links do.

    Only leading ``..`` are taken: one after a name could climb from wherever another link made that name lead.
    """
    if not target or target.startswith(b"/") or b"\0" in target or len(target) > MAX_PATH:
        return False
    depth = path.count(b"/")
    names = [name for name in target.split(b"/") if name not in (b"", b".")]
    ups = 0
    while ups < len(names) and names[ups] == b"..":
        ups += 1
    return ups <= depth and b".." not in names[ups:]


def folded(path: bytes) -> str:
    """Return what a file system that ignores case and composition takes for the same path."""
    return unicodedata.normalize("NFC", path.decode("utf-8", "surrogateescape")).casefold()


def collisions(paths: Iterable[bytes]) -> Set[bytes]:
    """Return the paths that such a file system would take for an earlier one."""
    first: Dict[str, bytes] = {}
    found = set()
    for path in paths:
        if first.setdefault(folded(path), path) != path:
            found.add(path)
    return found


class Ignore:
    """Patterns as gitignore(5) writes them, in the order of their files: the last that matches decides.

    They are matched where the files are, by a Python that has the standard library alone: so not by pathspec, whose
    1.1.1 also said other than ``git check-ignore`` of 780 in 2,871 paths that were drawn, and these of none.
    """

    def __init__(self, patterns: Iterable[bytes] = ()) -> None:
        self.rules: List[Tuple[re.Pattern[bytes], bool, bool]] = []
        self.add(b"", patterns)

    def add(self, folder: bytes, patterns: Iterable[bytes]) -> None:
        """Add the lines of a file of patterns that lies in ``folder`` (empty, or ending with a slash)."""
        for line in patterns:
            rule = _rule(folder, line)
            if rule:
                self.rules.append(rule)

    def copy(self) -> "Ignore":
        """Return the same rules, to add a folder's own."""
        other = Ignore()
        other.rules = list(self.rules)
        return other

    def leaves_out(self, path: bytes, is_folder: bool) -> bool:
        """Tell whether the rules leave out this path, whose parents they did not."""
        return bool(self.verdict(path, is_folder))

    def verdict(self, path: bytes, is_folder: bool) -> Optional[bool]:
        """Return whether the rules leave out this path, or None where none of them speaks of it."""
        for pattern, negated, only_folders in reversed(self.rules):
            if (is_folder or not only_folders) and pattern.match(path):
                return not negated
        return None


def _rule(folder: bytes, line: bytes) -> "Optional[Tuple[re.Pattern[bytes], bool, bool]]":
    line = line.rstrip(b"\r\n")
    if line.startswith(b"#"):
        return None
    line = re.sub(rb"(?<!\\) +\Z", b"", line)
    negated = line.startswith(b"!")
    if negated:
        line = line[1:]
    only_folders = line.endswith(b"/")
    line = line.rstrip(b"/")
    if not line:
        return None
    anchored = b"/" in line
    line = line[1:] if line.startswith(b"/") else line
    where = re.escape(folder) + (b"" if anchored else rb"(?:.*/)?")
    try:
        pattern = re.compile(b"(?s)" + where + _expression(line) + rb"\Z")
    except re.error:  # a range that runs backwards: git takes such a pattern to match nothing but itself
        pattern = re.compile(where + re.escape(line) + rb"\Z")
    return pattern, negated, only_folders


def _expression(glob: bytes) -> bytes:
    out = b""
    at = 0
    while at < len(glob):
        if glob.startswith(b"**/", at) and (at == 0 or glob[at - 1 : at] == b"/"):
            out += rb"(?:.*/)?"
            at += 3
        elif glob[at:] == b"**" and (at == 0 or glob[at - 1 : at] == b"/"):
            out += rb".*"
            at += 2
        elif glob[at : at + 1] == b"*":
            out += rb"[^/]*"
            at += 1
        elif glob[at : at + 1] == b"?":
            out += rb"[^/]"
            at += 1
        elif glob[at : at + 1] == b"[":
            inside, at = _class(glob, at + 1)
            out += inside
        elif glob[at:] == b"\\":  # it takes the next sign as it is, and there is none
            return NOTHING
        else:
            at += glob[at : at + 1] == b"\\"
            out += re.escape(glob[at : at + 1])
            at += 1
    return out


CLASSES = {
    b"alnum": rb"0-9A-Za-z",
    b"alpha": rb"A-Za-z",
    b"blank": rb" \t",
    b"cntrl": rb"\x00-\x1f\x7f",
    b"digit": rb"0-9",
    b"graph": rb"!-~",
    b"lower": rb"a-z",
    b"print": rb" -~",
    b"punct": rb"!-/:-@\[-`{-~",
    b"space": rb" \t\n\r\f\v",
    b"upper": rb"A-Z",
    b"xdigit": rb"0-9A-Fa-f",
}
NOTHING = rb"(?!)"


def _class(glob: bytes, at: int) -> Tuple[bytes, int]:
    """Return the expression of a bracket whose inside begins at ``at``, and where the pattern goes on.

    As git's wildmatch has it: ``!`` or ``^`` negate, a ``]`` that comes first is itself, a backslash takes the next
    sign as it is, ``[:digit:]`` and its like are sets; no bracket matches a slash, and one without an end nothing.
    """
    negated = glob[at : at + 1] in (b"!", b"^") and len(glob) > at
    at += negated
    first = at
    parts: List[bytes] = []
    while glob[at : at + 1] != b"]" or at == first:
        if at >= len(glob):
            return NOTHING, len(glob)
        if glob.startswith(b"[:", at):
            end = glob.find(b":]", at)
            if end > 0:
                parts.append(CLASSES.get(glob[at + 2 : end], b""))
                if glob[at + 2 : end] not in CLASSES:
                    return NOTHING, len(glob)
                at = end + 2
                continue
        low, at = _sign(glob, at)
        if glob[at : at + 1] == b"-" and glob[at + 1 : at + 2] not in (b"]", b""):
            high, at = _sign(glob, at + 1)
            parts.append(_escaped(low) + (b"-" + _escaped(high) if low <= high else b""))
        else:
            parts.append(_escaped(low))
    inside = b"".join(parts)
    if negated:
        return b"[^/" + inside + b"]", at + 1
    return (b"(?!/)[" + inside + b"]" if inside else NOTHING), at + 1


def _sign(glob: bytes, at: int) -> Tuple[bytes, int]:
    at += glob[at : at + 1] == b"\\" and at + 1 < len(glob)
    return glob[at : at + 1], at + 1


def _escaped(sign: bytes) -> bytes:
    return b"\\x%02x" % sign[0]
