"""Models of either library, by the one that this process has; nothing here is run by pytest itself."""

import importlib
from typing import Any

import numpy as np

try:
    lib: Any = importlib.import_module("paddle")
except ImportError:
    lib = importlib.import_module("torch")
PADDLE = lib.__name__ == "paddle"
nn = lib.nn
Module: Any = nn.Layer if PADDLE else nn.Module
BatchNorm: Any = nn.BatchNorm1D if PADDLE else nn.BatchNorm1d


def inputs() -> Any:
    generator = np.random.default_rng(0)
    return [generator.integers(0, 10, (6,)), generator.normal(size=(6, 8))]


class Net(Module):
    """An embedding under another name on each side, a square Linear, batch norm, dropout, a recurrent layer unused."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(10, 8)
        self.square = nn.Linear(8, 8)
        self.norm = BatchNorm(8)
        self.drop = nn.Dropout(0.5)
        self.unused = nn.LSTM(8, 8)
        if not PADDLE:
            self.tokens, self.words = self.words, None

    def forward(self, ids: Any, x: Any) -> Any:
        words = self.words if PADDLE else self.tokens
        return self.drop(self.norm(self.square(words(ids) + x)))


class Tied(Module):
    """Its head is its embedding."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(10, 8)

    def forward(self, ids: Any, x: Any) -> Any:
        return lib.matmul(self.words(ids) + x, self.words.weight.T)


class Several(Module):
    """One layer called twice, and a dictionary of outputs; the second call and the second output may be changed."""

    def __init__(self, second: float = 0.0, loss: float = 0.0) -> None:
        super().__init__()
        self.square = nn.Linear(8, 8)
        self.second, self.loss = second, loss
        self.calls = 0

    def forward(self, ids: Any, x: Any) -> Any:
        del ids
        hidden = self.square(x)
        hidden = self.square(hidden + self.second)
        return {"n": 3, "logits": hidden, "loss": hidden.mean() + self.loss}


class Spectrum(Module):
    def __init__(self, *, conjugate: bool = False) -> None:
        super().__init__()
        self.square = nn.Linear(8, 8)
        self.conjugate = conjugate

    def forward(self, ids: Any, x: Any) -> Any:
        del ids
        found = lib.fft.rfft(self.square(x))
        return lib.conj(found) if self.conjugate else found


def net() -> Any:
    return Net()


def tied() -> Any:
    return Tied()


def several() -> Any:
    return Several()


def second_call() -> Any:
    return Several(second=0.5)


def second_output() -> Any:
    return Several(loss=1.0)


def spectrum() -> Any:
    return Spectrum()


def conjugate() -> Any:
    return Spectrum(conjugate=True)


def plain() -> Any:
    return lambda _, x: lib.exp(x) / lib.exp(x).sum(-1, keepdim=True)


def softmax() -> Any:
    return lambda _, x: nn.functional.softmax(x, -1)


def detached() -> Any:
    return lambda _, x: lib.exp(x) / lib.exp(x).sum(-1, keepdim=True).detach()


def pair() -> Any:
    return lambda _, x: (x * 2, x * 3)


def one() -> Any:
    return lambda _, x: x * 2


def nothing() -> Any:
    return None


def failing() -> Any:
    raise ValueError("there is no such model")


def number() -> Any:
    return lambda *_: 3
