"""Which of two candidates of a climb is the better one: what is luck, and what is not."""

from __future__ import annotations

from ocrslim.scene import Candidate

__all__ = ["MUCH_NEARER", "is_better", "standard_error"]

MUCH_NEARER = {"rec": 0.8, "det": 0.7}  # a line's is a root
"""Share of the divergence from which on a candidate counts as better though it seems to lose a little more: on a
thousand lines the loss is known to half a point: PP-OCRv6 small rec, which seemed to gain 0.3, lost 0.5 on others.
Against the float model's own answers every change counts as a loss, so that only what is much nearer is better."""


def is_better(candidate: Candidate, best: Candidate, by_labels: bool, much: float) -> bool:
    """Tell whether a candidate loses less and is nearer to float.

    A few images more or less are luck; what is no nearer to the float model is no better for it, and what is much
    nearer is better unless it loses a standard error more. What learned from labels too may go away from float, but
    then it must lose less by a standard error: PP-OCRv4 det, which gained 0.8 points (-0.8 to +2.7) on 150 held-back
    pages, lost 1.1 on 177 others.
    """
    assert candidate.judged is not None
    if candidate.divergence <= much * best.divergence:
        return candidate.points <= best.points + standard_error(candidate)
    if candidate.divergence < (1.0 if candidate.judged.drop["against"] == "labels" else much) * best.divergence:
        return candidate.points < best.points
    return by_labels and candidate.points + standard_error(candidate) < best.points


def standard_error(candidate: Candidate) -> float:
    """Return that of the loss, in points, from its 95 % interval; 0 where no image differs: a bound is no scatter.

    Args:
        candidate: judged.
    """
    assert candidate.judged is not None
    drop = candidate.judged.worse_drop
    if drop.get("same"):
        return 0.0
    return float(drop["high"] - drop["low"]) / (2 * 1.96)
