"""Which calls make the host wait for the device, and from where in the user's code."""

from __future__ import annotations

import contextlib
import functools
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Iterator

if TYPE_CHECKING:
    from types import FrameType

WAITING_METHODS = ("numpy", "item", "tolist", "cpu", "__float__", "__int__", "__bool__", "__index__", "__array__")
# A frame below one of these is the library's own.
LIBRARIES = ("paddle", "torch", "numpy")


@contextlib.contextmanager
def watched() -> Iterator[Counter[tuple[str, str]]]:
    """Count, while the block runs, the calls of Paddle that wait for the device: {(call, file:line): count}."""
    found: Counter[tuple[str, str]] = Counter()
    paddle = sys.modules.get("paddle")
    undo: list[tuple[Any, str, Any]] = []
    inside = _Inside()
    if paddle is not None:
        places = [(paddle.Tensor, name, f"Tensor.{name}") for name in WAITING_METHODS]
        places += [(paddle.device, "synchronize", "paddle.device.synchronize")]
        if hasattr(paddle.device, "cuda"):
            places += [(paddle.device.cuda, "synchronize", "paddle.device.cuda.synchronize")]
        for owner, name, call in places:
            original = owner.__dict__.get(name) if isinstance(owner, type) else getattr(owner, name, None)
            if original is None:
                continue
            setattr(owner, name, _counting(original, call, found, inside))
            undo.append((owner, name, original))
    try:
        yield found
    finally:
        for owner, name, original in undo:
            setattr(owner, name, original)


class _Inside:
    """Whether a counted call is under way: float() calls numpy(), and one wait is counted once."""

    now = False


def _counting(original: Any, call: str, found: Counter[tuple[str, str]], inside: _Inside) -> Any:
    @functools.wraps(original)
    def counted(*arguments: Any, **named: Any) -> Any:
        if inside.now:
            return original(*arguments, **named)
        found[call, _caller(sys._getframe(1))] += 1  # noqa: SLF001 - where it is called from
        inside.now = True
        try:
            return original(*arguments, **named)
        finally:
            inside.now = False

    return counted


def _caller(frame: FrameType | None) -> str:
    """Return file:line of the innermost frame that is the user's."""
    while frame is not None:
        path = Path(frame.f_code.co_filename)
        if not any(name in path.parts for name in LIBRARIES):
            return f"{path.name}:{frame.f_lineno}"
        frame = frame.f_back
    return "?"
