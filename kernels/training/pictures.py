"""Pictures with a text that only who looks at them can finish: where a square is, of which colour, how bright the rest.

A sequence is [start | image tokens | end | text]; of the text the words that are to be seen have labels, and the rest
has none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .ops.labels import IGNORED

if TYPE_CHECKING:
    import numpy as np

    from .models.vision import Vision

COLOURS = {"red": (1, 0, 0), "green": (0, 1, 0), "blue": (0, 0, 1), "white": (1, 1, 1)}
PLACES = ("top left", "top right", "bottom left", "bottom right")
SIDE = 8
"""Patches of a picture's side."""


def length(vision: Vision, multiple: int = 1) -> int:
    """Return the tokens of a sequence, without the one that is only a label, filled up to a multiple."""
    tokens = (SIDE // vision.merge) ** 2 + 2 + len(_text("green", "bottom right")) - 1
    return -(-tokens // multiple) * multiple


def batch(
    vision: Vision, seed: int, step: int, sequences: int, tokens: int | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw tokens and labels, int64 [sequences, ``tokens``], and pixels [sequences · SIDE², vision.pixels].

    A sequence that is longer than what it says ends in spaces without labels.
    """
    import numpy as np

    draw = np.random.default_rng((seed, step))
    image = [vision.image_token] * (SIDE // vision.merge) ** 2
    rows, labels, pixels = [], [], []
    for _ in range(sequences):
        colour, place = draw.choice(list(COLOURS)), int(draw.integers(4))
        text = _text(str(colour), PLACES[place])
        row = [vision.start_token, *image, vision.end_token, *text]
        seen = np.full(len(row), IGNORED)
        begin = len(row) - len(text)
        seen[begin:] = list(text)
        end = (tokens or length(vision)) - len(row) + 1
        rows.append([*row[:-1], *[ord(" ")] * end])
        labels.append([*seen[1:], *[IGNORED] * end])
        pixels.append(_patches(vision, _picture(draw, vision, COLOURS[str(colour)], place)))
    return np.array(rows, dtype=np.int64), np.array(labels, dtype=np.int64), np.concatenate(pixels)


def _text(colour: str, place: str) -> bytes:
    return f"{colour} {place}".ljust(len("green bottom right")).encode()


def _picture(draw: np.random.Generator, vision: Vision, colour: tuple[int, int, int], place: int) -> np.ndarray:
    """Return [3, side, side] pixels: noise, and a square of a colour in a quarter."""
    import numpy as np

    side = SIDE * vision.patch
    pixels = draw.normal(0, 0.1, (3, side, side))
    row, column = divmod(place, 2)
    at = [draw.integers(0, side // 4) + quarter * side // 2 for quarter in (row, column)]
    square = tuple(slice(first, first + side // 4) for first in at)
    pixels[(slice(None), *square)] += np.array(colour)[:, None, None]
    return pixels.astype(np.float32)


def _patches(vision: Vision, picture: np.ndarray) -> np.ndarray:
    """Cut a picture into patches in the tower's order; a still picture fills every frame."""
    import numpy as np

    patch, merge = vision.patch, vision.merge
    cut = picture.reshape(3, SIDE // merge, merge, patch, SIDE // merge, merge, patch)
    cut = cut.transpose(1, 4, 2, 5, 0, 3, 6).reshape(SIDE**2, 3, 1, patch, patch)
    return np.repeat(cut, vision.frames, axis=2).reshape(SIDE**2, -1)
