"""Bytes of real text, split into training and validation the same way on every rank.

By default the text is the Python standard library's own source files, found at run time and split by file: a file is
kept for validation when a hash of its relative name says so, about one in ten. A single file gives its last tenth.
"""

from __future__ import annotations

import hashlib
import math
import os
import shlex
import sysconfig
import zlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import FrozenSet

import numpy as np

from ..protocol import Refusal
from .tokens import Tokens

HELD_OUT = 10
"""One file in this many, or one byte in this many of a single file, is kept for validation."""
_LEFT_OUT = frozenset({"__pycache__", "site-packages", "dist-packages", "node_modules", "test", "tests", "idle_test"})
"""Folders of the standard library that are not part of it, or its tests: two thirds of the bytes, of another kind."""
LEAST_HELD, MOST_HELD = 0.01, 0.5
"""Shares of the text between which the files kept for validation must be."""
START = 8192
"""Bytes by which text is told from other data."""
LARGEST = 4 * 2**30
"""Bytes of text that are taken into memory, on each rank."""


@dataclass(frozen=True)
class Text:
    """Two arrays of tokens, which are bytes without a tokenizer, and where they came from."""

    train: np.ndarray
    validation: np.ndarray
    source: str
    files: int
    skipped: int
    lengths: tuple[int, int] = (0, 0)
    """Bytes of both, where they are tokens; else their own lengths are."""

    @property
    def unit(self) -> str:
        """What is counted."""
        return "tokens" if self.lengths != (0, 0) else "bytes"

    @property
    def train_bytes(self) -> int:
        """Bytes to train on."""
        return self.lengths[0] or int(self.train.size)

    @property
    def validation_bytes(self) -> int:
        """Bytes to validate on."""
        return self.lengths[1] or int(self.validation.size)

    @property
    def digest(self) -> str:
        """A name for exactly this text and split, by which ranks on several machines agree that theirs is the same."""
        seen = hashlib.sha256(self.train.data)
        seen.update(b"|")
        seen.update(self.validation.data)
        return seen.hexdigest()[:16]


def load(path: str | None, tokenizer: str | None = None) -> Text:
    """Read the text under ``path``, or the standard library's, as bytes or as the tokens of a tokenizer file.

    Raises:
        Refusal: there is nothing there, nothing in it, or it is not text.
    """
    text = _read(path)
    if tokenizer is None:
        return text
    made = Tokens(tokenizer)
    lengths = int(text.train.size), int(text.validation.size)
    return replace(
        text, train=made.array(bytes(text.train)), validation=made.array(bytes(text.validation)), lengths=lengths
    )


def _read(path: str | None) -> Text:
    if path is None:
        return _from_folder(Path(sysconfig.get_paths()["stdlib"]), "*.py", "the standard library's sources", _LEFT_OUT)
    root = Path(path)
    try:
        if root.is_dir():
            return _from_folder(root, "*", str(root))
        if root.exists() and not root.is_file():
            raise Refusal(f"{root} is neither a file nor a folder", "Text is read from files.")
        if root.stat().st_size and not begins_as_text(root):
            raise Refusal(
                f"{root} is not text",
                "It holds bytes that no UTF-8 text has.",
                "--data PATH   a text file, or a folder of them",
                f"iconv -f GB18030 -t UTF-8 -o text.utf8 -- {shlex.quote(str(root))}   makes UTF-8 of Chinese text",
            )
        if root.stat().st_size > LARGEST:
            raise Refusal(f"{root} is larger than {LARGEST // 2**30} GiB", "Every rank holds the whole text in memory.")
        data = root.read_bytes()
    except OSError as error:
        raise Refusal(
            f"the text {root} cannot be read", f"{error.strerror}.", "--data PATH   any text file or folder"
        ) from error
    if not data:
        raise Refusal(
            f"the text {root} is empty", "There is nothing to learn from.", "--data PATH   a file with text in it"
        )
    held = len(data) // HELD_OUT
    array = np.frombuffer(data, dtype=np.uint8)
    return Text(array[: len(data) - held], array[len(data) - held :], str(root), files=1, skipped=0)


def _from_folder(root: Path, pattern: str, source: str, left_out: FrozenSet[str] = frozenset({"__pycache__"})) -> Text:
    texts: list[tuple[str, bytes]] = []
    total = skipped = 0
    for path in _files(root, pattern, left_out):
        name = path.relative_to(root).as_posix()
        try:
            size = path.stat().st_size
            if not size or not begins_as_text(path):
                skipped += 1
                continue
            total += size
            if total > LARGEST:
                raise Refusal(
                    f"{root} holds more than {LARGEST // 2**30} GiB of text",
                    "Every rank holds the whole text in memory.",
                )
            texts.append((name, path.read_bytes()))
        except OSError:
            skipped += 1
    train, validation = (np.frombuffer(b"".join(part), dtype=np.uint8) for part in split(texts))
    if not train.size + validation.size:
        raise Refusal(
            f"no text was found under {root}",
            f"{skipped} files are empty, binary or unreadable." if skipped else "There is no file.",
            "--data PATH   a text file, or a folder of them",
        )
    return Text(train, validation, source, files=len(texts), skipped=skipped)


def _files(root: Path, pattern: str, left_out: FrozenSet[str]) -> list[Path]:
    found = []
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name not in left_out)
        here = Path(folder)
        for name in sorted(names):
            path = here / name
            if not name.startswith(".") and path.match(pattern) and path.is_file():
                found.append(path)
    return found


def split(texts: list[tuple[str, bytes]]) -> tuple[list[bytes], list[bytes]]:
    """Part files, by relative name and content, into training and validation.

    One file in ten is kept for validation, by a hash of its name. Where that leaves either side nearly nothing, as with
    few files, each gives its last tenth.
    """
    parts: tuple[list[bytes], list[bytes]] = ([], [])
    for name, data in texts:
        parts[zlib.crc32(name.encode()) % HELD_OUT == 0].append(data)
    total = sum(len(data) for _, data in texts)
    held = sum(map(len, parts[1]))
    if LEAST_HELD * total <= held <= MOST_HELD * total:
        return parts
    cuts = [(data, len(data) - len(data) // HELD_OUT) for _, data in texts]
    return [data[:cut] for data, cut in cuts], [data[cut:] for data, cut in cuts]


def begins_as_text(path: Path) -> bool:
    """Return whether a file starts as text does; of a file of any size its beginning is read.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        return is_text(file.read(START + 1))


def is_text(data: bytes) -> bool:
    """Return whether ``data`` starts as text does: UTF-8 (a character cut at the end is fine) without a zero byte."""
    start = data[:START]
    try:
        start.decode()
    except UnicodeDecodeError as error:
        if error.start < len(start) - 3 or len(start) == len(data):
            return False
    return b"\0" not in start


def entropy(text: np.ndarray) -> float:
    """Return the entropy of the byte frequencies of ``text``, in nats a token: no unigram model does better on it."""
    counts = np.bincount(text, minlength=256).astype(np.float64)
    shares = counts[counts > 0] / counts.sum()
    return float(-(shares * np.log(shares)).sum()) if counts.sum() else math.nan


def require(text: Text, batch: int, seqlen: int) -> None:
    """Refuse a text that cannot fill one batch.

    Raises:
        Refusal: the training part is shorter than a batch, or the validation part than one sequence.
    """
    need = batch * seqlen + 1
    if text.train.size < need:
        raise Refusal(
            f"{text.source} is shorter than one batch",
            f"It has {text.train.size} {text.unit} to train on; {batch} sequences of {seqlen} need {need}.",
            "--batch N --seqlen N   smaller ones",
            "--data PATH   with more text",
        )
    if text.validation.size < seqlen + 1:
        raise Refusal(
            f"{text.source} leaves too little text for validation",
            f"One in {HELD_OUT} is kept for it: {text.validation.size} {text.unit}; a sequence needs {seqlen + 1}.",
            "--seqlen N   a smaller one",
            "--data PATH   with more text",
        )


def batch(text: np.ndarray, seed: int, step: int, sequences: int, seqlen: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw the batch of a step: inputs and labels, each int64 [sequences, seqlen], labels the inputs shifted by one.

    The draw depends on ``seed`` and ``step`` alone, so ranks share a batch by rows, and a resumed run sees the same.
    """
    starts = np.random.default_rng((seed, step)).integers(0, text.size - seqlen, size=sequences)
    windows = text[starts[:, None] + np.arange(seqlen + 1)].astype(np.int64)
    return np.ascontiguousarray(windows[:, :-1]), np.ascontiguousarray(windows[:, 1:])
