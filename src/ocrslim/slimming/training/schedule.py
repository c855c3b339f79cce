"""Learning-rate schedules as pure functions of the step, so that a resumed run needs no state of theirs."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

__all__ = ["Schedule"]


@dataclass(frozen=True)
class Schedule:
    """A factor for every learning rate.

    Args:
        kind: ``cosine`` falls from 1 to ``floor`` over the run, ``constant`` stays 1, ``piecewise`` takes
            ``values[i]`` up to ``boundaries[i]`` steps.
        warmup: steps of linear rise from 0 before that.
        floor: what cosine ends at.
        boundaries: ascending steps; for ``piecewise``.
        values: one more than ``boundaries``; factors.
        length: step at which cosine arrives at ``floor``, to stay there; 0 is the end of the run.

    Raises:
        ValueError: ``piecewise`` with lists that do not fit.

    >>> [round(Schedule("cosine").factor(step, 4), 2) for step in range(5)]
    [1.0, 0.85, 0.5, 0.15, 0.0]
    >>> Schedule("piecewise", boundaries=(2,), values=(1.0, 0.1)).factor(2, 4)
    0.1
    """

    kind: Literal["cosine", "constant", "piecewise"] = "cosine"
    warmup: int = 0
    floor: float = 0.0
    boundaries: tuple[int, ...] = field(default=())
    values: tuple[float, ...] = field(default=())
    length: int = 0

    def __post_init__(self) -> None:
        if self.kind not in ("cosine", "constant", "piecewise"):
            raise ValueError(f"schedule {self.kind!r}: use cosine, constant or piecewise")
        if self.kind == "piecewise" and len(self.values) != len(self.boundaries) + 1:
            raise ValueError(f"piecewise needs one value more than boundaries: {self.values} and {self.boundaries}")

    def factor(self, step: int, steps: int) -> float:
        """Return the factor at ``step`` (from 0) of a run of ``steps``."""
        if step < self.warmup:
            return (step + 1) / (self.warmup + 1)
        if self.kind == "constant":
            return 1.0
        if self.kind == "piecewise":
            return self.values[sum(step >= boundary for boundary in self.boundaries)]
        progress = (step - self.warmup) / max(1, (self.length or steps) - self.warmup)
        return self.floor + (1.0 - self.floor) * 0.5 * (1.0 + math.cos(math.pi * min(1.0, progress)))
