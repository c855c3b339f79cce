"""Which of several models are not beaten, when both time and loss count."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["pareto_front"]


def pareto_front(points: Sequence[tuple[float | None, float]]) -> set[int]:
    """Return which of some candidates are not beaten: none is as fast and loses as little, nor is the float model.

    Args:
        points: time as a share of float's, ``None`` for what was not timed and is left out; points lost.

    >>> sorted(pareto_front([(0.6, 0.1), (0.5, 0.3), (0.6, 0.2), (None, -9.0), (1.1, -0.2)]))
    [0, 1, 4]
    """
    known = [(time, loss, index) for index, (time, loss) in enumerate(points) if time is not None]
    rivals = [*known, (1.0, 0.0, -1)]
    return {
        index
        for time, loss, index in known
        if not any(t <= time and p <= loss and (t < time or p < loss) for t, p, _ in rivals)
    }
