"""What a measured library offers the worker, and what all of them share."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Callable, ClassVar

import numpy as np

from ...machine import available_bytes
from ..clock import host_peak_mib, host_times_ms, sweep_caches

if TYPE_CHECKING:
    from ..case import Arrays, Case
    from ..reference import Result

Call = Callable[[], Any]

# How Paddle and torch say that they have no kernel for what was asked.
DECLINES = re.compile(
    r"not registered|not support|unsupported|unimplemented|not implemented|no available kernel", re.IGNORECASE
)
LONGEST_REASON = 400


@dataclass(frozen=True)
class Calls:
    """One implementation on one case's tensors. Each call has computed, or is queued on the device, when it returns."""

    forward: Call
    both: Call
    # Runs the forward pass and returns the call that runs the backward pass alone, as often as one likes.
    backward: Callable[[], Call]
    result: Callable[[], Result]

    def of(self, which: str) -> Call:
        """Return the call that runs a pass: fwd, bwd or fwdbwd."""
        if which == "bwd":
            return self.backward()
        return self.forward if which == "fwd" else self.both


class Library(ABC):
    """Paddle or torch, on one device (``cpu`` or ``gpu``) and with a number of threads."""

    name: ClassVar[str]
    implementations: tuple[str, ...]
    device: str

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """Return ``versions`` and ``gpus``, as in the ``device`` event."""

    @abstractmethod
    def declines(self, implementation: str, case: Case) -> str:
        """Return why the implementation does not do the case, where that is known without trying."""

    @abstractmethod
    def bytes_needed(self, implementation: str, case: Case) -> int:
        """Return about how much memory a forward and a backward pass take beyond what is allocated now."""

    @abstractmethod
    def calls(self, implementation: str, case: Case, inputs: Arrays) -> Calls:
        """Return the calls of an implementation; the tensors are on the device when this returns."""

    @abstractmethod
    def product(self, size: int, dtype: str) -> Call:
        """Return a call that multiplies two square matrices."""

    def isa(self, implementation: str, case: Case) -> str | None:  # noqa: ARG002 - for who can
        """Return the instruction set that an implementation computes a case with, where it says so."""
        return None

    def fma_gflops(self, dtype: str, seconds: float) -> float | None:  # noqa: ARG002 - for who can
        """Return what the processor's multiply-add units reach on registers alone, where that can be measured."""
        return None

    def bytes_available(self) -> int:
        """Return how much memory the device can still give."""
        return available_bytes() if self.device == "cpu" else self._gpu_bytes_available()

    def times_ms(self, call: Call, iterations: int, *, cold: bool = False) -> list[float]:
        """Return how long each of some calls took on the device, in milliseconds; cold: from memory, not its cache."""
        if self.device != "cpu":
            return self._gpu_times_ms(call, iterations, self._gpu_sweep() if cold else _nothing)
        return host_times_ms(call, iterations, before=sweep_caches if cold else _nothing)

    @abstractmethod
    def poison(self, case: Case) -> None:
        """Leave what is not a number in the memory that the next result may get, so that what is not written shows."""

    def peak_mib(self, call: Call) -> float:
        """Return by how many MiB memory grew at most during one call."""
        return host_peak_mib(call) if self.device == "cpu" else self._gpu_peak_mib(call)

    # What follows has not yet run on a GPU, in either library.

    @abstractmethod
    def _gpu_bytes_available(self) -> int: ...

    @abstractmethod
    def _gpu_times_ms(self, call: Call, iterations: int, before: Call) -> list[float]:
        """Between two CUDA events on the call's stream; ``before`` runs before the first of them."""

    @abstractmethod
    def _gpu_sweep(self) -> Call:
        """Return a call that writes over more memory than the device's cache holds."""

    @abstractmethod
    def _gpu_peak_mib(self, call: Call) -> float: ...


def _nothing() -> None:
    """Be what runs before a call where nothing has to."""


def reason(error: BaseException) -> str:
    """Return the line of a library's error that says what is wrong, without the stack that Paddle prints around it."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    telling = [line for line in lines if re.match(r"\((\w+)\) |\w*Error: ", line)]
    line = (telling or lines or [type(error).__name__])[0]
    return line if len(line) <= LONGEST_REASON else line[: LONGEST_REASON - 1] + "…"


def visible(case: Case) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Return which key each query sees, [batch or 1, 1, seqlen_q, seqlen_k]; a query that sees none is shown all.

    The softmax over nothing is not a number, in Paddle as in torch: what such a query gets is multiplied by 0 (see
    ``seeing``).
    """
    mask = _seen(case)
    mask[~mask.any(axis=-1)] = True
    return mask[:, None]


def seeing(case: Case) -> np.ndarray[Any, Any] | None:
    """Return 1 for each query that sees a key and 0 for each other, [batch or 1, seqlen_q]; None where all do."""
    some = np.asarray(_seen(case).any(axis=-1))
    return None if bool(some.all()) else some.astype(np.float32)


def added(case: Case) -> np.ndarray[Any, Any]:
    """Return what is added to the scores, -inf where a query does not see a key: as ``visible``."""
    hidden = np.where(visible(case), np.float32(0), np.float32(-np.inf))
    bias = case.added()
    return hidden if bias is None else hidden + bias


def _seen(case: Case) -> np.ndarray[Any, np.dtype[np.bool_]]:
    rows = case.batch if case.kind in ("varlen", "flashmask") else 1
    return np.stack([case.seen(b, 0, case.seqlen_q) for b in range(rows)])
