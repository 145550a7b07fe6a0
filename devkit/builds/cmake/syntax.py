"""CMake's language: a text's commands, their arguments and their blocks."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

TOKEN = re.compile(
    r"(?P<comment>\#\[(?P<c>=*)\[.*?\](?P=c)\]|\#[^\n]*)"
    r"|\[(?P<b>=*)\[\n?(?P<bracket>.*?)\](?P=b)\]"
    r'|"(?P<quoted>(?:\\.|[^"\\])*)"'
    r"|(?P<paren>[()])"
    r'|(?P<plain>(?:\\.|\$(?:ENV)?\{[^}]*\}|[^\s()#"\\])+)',
    re.DOTALL,
)
BLOCKS = {"if": "endif", "foreach": "endforeach", "while": "endwhile", "function": "endfunction", "macro": "endmacro"}


@dataclass(frozen=True)
class Word:
    """An argument as it is written; ``exact`` is one in quotes or brackets, which is not a keyword and stays whole."""

    text: str
    exact: bool = False
    raw: bool = False


@dataclass(frozen=True)
class Call:
    """A command, and for one that begins a block what is inside: of an ``if`` a body for each of its conditions."""

    name: str
    words: tuple[Word, ...]
    bodies: tuple[tuple[tuple[Word, ...] | None, tuple[Call, ...]], ...] = ()


def calls(text: str) -> list[Call]:
    """Return the commands of a text, in order; what is not a CMake is passed over."""
    found: list[Call] = []
    words: list[Word] = []
    name, depth, last = "", 0, ""
    for match in TOKEN.finditer(text):
        kind = match.lastgroup if match.lastgroup not in {"b", "c"} else "bracket"
        if match["comment"] is not None:
            continue
        if match["paren"] is not None:
            depth += 1 if match["paren"] == "(" else -1
            if match["paren"] == "(" and depth == 1:
                name, words = last.lower(), []
            elif not depth:
                found.append(Call(name, tuple(words)))
            elif depth > 0:
                words.append(Word(match["paren"]))
            depth, last = max(depth, 0), ""
        elif depth:
            if match["bracket"] is not None:
                words.append(Word(match["bracket"], exact=True, raw=True))
            elif kind == "quoted":
                words.append(Word(re.sub(r"\\\n", "", match["quoted"]), exact=True))
            else:
                words.append(Word(match["plain"]))
        else:
            last = match["plain"] or ""
    return found


def blocks(flat: Sequence[Call]) -> tuple[Call, ...]:
    """Return commands with the bodies of their blocks inside them."""
    left = iter(flat)

    def body(ends: set[str]) -> tuple[list[Call], Call | None]:
        found: list[Call] = []
        for call in left:
            if call.name in ends:
                return found, call
            if call.name not in BLOCKS:
                found.append(call)
                continue
            end = BLOCKS[call.name]
            stops = {end, "elseif", "else"} if call.name == "if" else {end}
            bodies: list[tuple[tuple[Word, ...] | None, tuple[Call, ...]]] = []
            condition: tuple[Word, ...] | None = call.words
            while True:
                inside, stop = body(stops)
                bodies.append((condition, tuple(inside)))
                if stop is None or stop.name == end:
                    break
                condition = stop.words if stop.name == "elseif" else None
            found.append(Call(call.name, call.words, tuple(bodies)))
        return found, None

    return tuple(body(set())[0])
