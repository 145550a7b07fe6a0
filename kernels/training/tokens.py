"""A tokenizer file (``tokenizer.json``): its vocabulary, a text's tokens, and the text of tokens."""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Iterator

from ..protocol import Refusal

if TYPE_CHECKING:
    import numpy as np

FILE = "tokenizer.json"
BYTES = 256
"""Tokens where there is no tokenizer: the bytes of the text."""
ALIGNED = 64
"""A model's vocabulary is a multiple of it, so that it divides over ranks."""
PIECE = 1 << 16
"""Characters that are encoded at once, up to the end of a line."""


@lru_cache(maxsize=4)
def vocabulary(path: str) -> int:
    """Return one more than the largest token that a tokenizer file knows.

    Raises:
        Refusal: it is not such a file.
    """
    try:
        settings = json.loads(Path(path).read_text(encoding="utf-8"))
        known = settings["model"]["vocab"]
        largest = max(known.values()) if isinstance(known, dict) else len(known) - 1
        return 1 + max([largest, *(token["id"] for token in settings.get("added_tokens") or [])])
    except OSError as error:
        raise Refusal(f"the tokenizer {path} cannot be read", f"{error.strerror}.", "--tokenizer FILE") from error
    except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise Refusal(
            f"{path} is not a tokenizer file",
            "It is the tokenizer.json that Hugging Face's tokenizers writes, with a model and its vocabulary.",
            "--tokenizer DIR/tokenizer.json",
        ) from error


def padded(path: str) -> int:
    """Return the vocabulary of a model that is made for a tokenizer."""
    return -(-vocabulary(path) // ALIGNED) * ALIGNED


class Tokens:
    """A tokenizer.

    Args:
        path: of its file.

    Raises:
        Refusal: the library is missing, or the file is none of it.
    """

    def __init__(self, path: str) -> None:
        vocabulary(path)
        try:
            from tokenizers import Tokenizer
        except ImportError as error:
            raise Refusal(
                "this environment cannot read a tokenizer",
                "The package tokenizers is not installed in it.",
                "devkit env install tokenizers",
            ) from error
        try:
            self._tokenizer: Any = Tokenizer.from_file(path)
        except Exception as error:
            raise Refusal(f"{path} is not a tokenizer file", f"{error}.", "--tokenizer DIR/tokenizer.json") from error

    def encode(self, text: str) -> list[int]:
        """Return the tokens of a text, without those that mark its ends."""
        return list(self._tokenizer.encode(text, add_special_tokens=False).ids)

    def decode(self, tokens: list[int]) -> str:
        """Return the text of tokens; those that are none of the tokenizer's are left out."""
        return str(self._tokenizer.decode([token for token in tokens if token < self._tokenizer.get_vocab_size()]))

    def array(self, data: bytes) -> np.ndarray:
        """Return the tokens of a text of any size, int32 [tokens], encoded in pieces that end with a line."""
        import numpy as np

        pieces = list(_pieces(data.decode(errors="replace")))
        encoded = self._tokenizer.encode_batch(pieces, add_special_tokens=False)
        return np.concatenate(
            [np.zeros(0, dtype=np.int32), *(np.array(encoding.ids, dtype=np.int32) for encoding in encoded)]
        )


def _pieces(text: str) -> Iterator[str]:
    begin = 0
    while begin < len(text):
        end = text.find("\n", begin + PIECE)
        end = len(text) if end < 0 else end + 1
        yield text[begin:end]
        begin = end


def beside(model: Path, options: dict[str, Any]) -> str | None:
    """Return the tokenizer of a model: that of its run, or the one in its folder of Hugging Face's names; or None."""
    named = options.get("tokenizer")
    if named:
        return str(named)
    here = model / FILE
    return str(here) if here.is_file() else None
