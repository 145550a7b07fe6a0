"""What the trainer asks of an engine; ``Zero`` is one, ``Parallelized`` another."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Iterator, Protocol

if TYPE_CHECKING:
    import numpy as np

    from ..models.param import Param
    from ..models.parameters import Piece
    from ..parallel.zero import Reduced
    from ..run.memory import Meter

Tensor = Any


class Engine(Protocol):
    """Takes a model layer by layer and trains it: a step is ``backward`` a micro-batch, ``reduced`` and ``step``."""

    place: int
    """Which share of a batch this rank takes."""
    shares: int
    """How many there are."""
    speaks: bool
    """Whether this rank's loss counts: of ranks that have the same one, one does."""

    def add(self, name: str, layer: Any) -> None:
        """Take a layer, as soon as it is made."""

    def root(self, model: Any) -> Any:
        """Take the whole model, and return the one to run."""

    def tensor(self, rows: np.ndarray) -> Tensor:
        """Return what the model takes for rows of a batch."""

    def backward(self, output: Tensor, gradient: Tensor | None = None, *, last: bool = True) -> None:
        """Run backward; ``last`` says that no micro-batch follows."""

    def reduced(self, loss: float, meter: Meter) -> Reduced:
        """Agree with the other ranks on the step."""

    def step(self, reduced: Reduced, lr: float, clip: float) -> None:
        """Step the optimizer."""

    def held(self) -> dict[str, tuple[Param, int]]:
        """Return the trained parameters of this rank, and how often each was stepped."""

    def pieces(self) -> Iterator[Piece]:
        """Yield what this rank saves."""

    def load(self, name_to_part: Any, steps: dict[str, int]) -> None:
        """Take values and states."""

    def whole(self, tensor: Tensor) -> np.ndarray:
        """Return all of a tensor, of which this rank may have a part; all ranks call it."""

    def frozen_norm(self) -> float:
        """Return the norm of what is not trained."""
