"""How much memory a build takes: all its programs together as sampled, and its largest one."""

from __future__ import annotations

import contextlib
import resource
import threading
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import psutil

INTERVAL_S = 0.2
SHARE = 20  # a sample may take a twentieth of the time
MIB = 1 << 20
KIB = 1 << 10


@dataclass(frozen=True)
class BuildMemory:
    """What a build's programs took, in MiB of resident memory.

    Attributes:
        together_mib: all of them at the fullest of the samples; what they share counts in each. 0: none was taken.
        samples: how many were taken.
        largest_mib: the largest program.
        largest_from: who says so: the kernel, which sees all that ended, or the samples, where the kernel's figure is
            that of an earlier program of this devkit.
        largest_name: what that program was, as far as a sample met it.
    """

    together_mib: float = 0.0
    samples: int = 0
    largest_mib: float = 0.0
    largest_from: Literal["kernel", "samples"] = "samples"
    largest_name: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Return what the record holds."""
        return asdict(self)


def from_dict(held: Mapping[str, Any]) -> BuildMemory:
    """Return what a record holds."""
    return BuildMemory(**held)


def fuller(one: BuildMemory, other: BuildMemory) -> BuildMemory:
    """Return two parts of a build as one: the peaks of each."""
    larger = max(one, other, key=lambda part: part.largest_mib)
    return BuildMemory(
        max(one.together_mib, other.together_mib),
        one.samples + other.samples,
        larger.largest_mib,
        larger.largest_from,
        larger.largest_name,
    )


class Sampler:
    """Samples all that runs below a process, until it is stopped."""

    def __init__(self, pid: int) -> None:
        import psutil

        self.samples = 0
        self.together = 0
        self.largest = 0
        self.name = ""
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(psutil.Process(pid),), daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End."""
        self._stop.set()
        self._thread.join()

    def _run(self, top: psutil.Process) -> None:
        import psutil

        while True:
            begin = time.perf_counter()
            try:
                below = top.children(recursive=True)
            except psutil.Error:
                return
            together = 0
            for process in below:
                with contextlib.suppress(psutil.Error):
                    held = process.memory_info().rss
                    together += held
                    if held > self.largest:
                        self.largest, self.name = held, process.name()
            if below:
                self.samples += 1
                self.together = max(self.together, together)
            if self._stop.wait(max(INTERVAL_S, SHARE * (time.perf_counter() - begin))):
                return


@contextlib.contextmanager
def sampled(pid: int) -> Iterator[list[BuildMemory]]:
    """Sample a program that was started, for as long as the block runs; what it took is in the list afterwards.

    The program must have been waited for when the block ends: only then does the kernel tell of it.
    """
    found: list[BuildMemory] = []
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    sampler = Sampler(pid)
    sampler.start()
    try:
        yield found
    finally:
        sampler.stop()
        after = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
        known = after > before and after * KIB >= sampler.largest
        found.append(
            BuildMemory(
                round(sampler.together / MIB, 1),
                sampler.samples,
                round((after * KIB if known else sampler.largest) / MIB, 1),
                "kernel" if known else "samples",
                sampler.name,
            )
        )
