"""``devkit bench attn``: which implementation of attention is right and how fast, side by side in one run.

Each implementation is checked against float64 first. The speeds come from interleaved rounds: in each, every implementation that
is right is timed once, so that a machine whose speed drifts drifts for all of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from devkit.bench.statistics import Summary

if TYPE_CHECKING:
    from collections.abc import Sequence

    from devkit.bench.cases import AttentionCase
    from devkit.envs.resolve import Environment

Status = Literal["ok", "wrong", "unsupported", "error"]

IMPLEMENTATIONS = ("devkit_cpu", "paddle_sdpa", "paddle_flash", "naive")
PADDLES_OWN = ("paddle_sdpa", "paddle_flash")
TORCH = "torch_sdpa"
MIN_ROUND_MS = 40.0


@dataclass(frozen=True)
class AttentionRequest:
    """What to measure.

    Attributes:
        implementations: names of ``IMPLEMENTATIONS``.
        cases: the shapes and passes.
        rounds: interleaved rounds a case.
        threads: threads of each process on a CPU.
        seed: of the inputs.
        peer: the environment with torch, or None.
        gpu: the GPU's index, or None for the CPU.
    """

    implementations: tuple[str, ...]
    cases: tuple[AttentionCase, ...]
    rounds: int
    threads: int
    seed: int
    peer: Environment | None = None
    gpu: int | None = None


@dataclass(frozen=True)
class AttentionResult:
    """One implementation on one case; times in ms, memory in MiB, errors absolute."""

    impl: str
    case: AttentionCase
    status: Status
    reason: str = ""
    time: Summary | None = None
    gflops: float | None = None
    percent_of_ceiling: float | None = None
    peak_mib: float | None = None
    max_error: float | None = None

    def as_json(self) -> dict[str, Any]:
        """Return the result with the keys that scripts read."""
        case = self.case.as_request()
        time = self.time
        return {
            "impl": self.impl,
            "status": self.status,
            "reason": self.reason,
            **case,
            "median_ms": time.median if time else None,
            "q1_ms": time.q1 if time else None,
            "q3_ms": time.q3 if time else None,
            "gflops": self.gflops,
            "percent_of_ceiling": self.percent_of_ceiling,
            "peak_mib": self.peak_mib,
            "max_error": self.max_error,
        }


@dataclass(frozen=True)
class AttentionReport:
    """What a run of the benchmark found."""

    device: dict[str, Any]
    versions: dict[str, str]
    ceiling: dict[str, float]
    results: tuple[AttentionResult, ...]

    @property
    def wrong(self) -> tuple[AttentionResult, ...]:
        """The results whose values or gradients are not attention's."""
        return tuple(each for each in self.results if each.status == "wrong")

    def as_json(self) -> dict[str, Any]:
        """Return the report as ``--json`` prints it and the record keeps it."""
        return {
            "device": self.device,
            "versions": self.versions,
            "ceiling": self.ceiling,
            "results": [each.as_json() for each in self.results],
        }


def over_paddle(result: AttentionResult, results: Sequence[AttentionResult]) -> float | None:
    """Return how many times as fast as the best of Paddle's own a result is, or None where there is no such time."""
    times = [
        each.time.median for each in results if each.case == result.case and each.impl in PADDLES_OWN and each.time
    ]
    return min(times) / result.time.median if times and result.time else None
