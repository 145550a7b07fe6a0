"""Names as people are shown them."""

from __future__ import annotations

from devkit.text import printable


def shown(name: bytes) -> str:
    r"""Return a path in one line: what is not UTF-8, does not print or breaks lines written out (``\n``, ``\xff``)."""
    text = name.decode("utf-8", "backslashreplace")
    return printable(text).replace("\n", r"\n").replace("\t", r"\t")
