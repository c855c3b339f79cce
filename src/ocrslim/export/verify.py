"""Does the engine compute what the trained model computed? Measured by decisions, since values differ by rounding.

A step of a grid is a large difference of one value and none of the text; so recognisers are compared by the class of
each frame, detectors by the mask of text.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ocrslim.engines.session import InferenceSession
from ocrslim.errors import VerifyError

__all__ = ["Verification", "verify_det", "verify_rec"]

REQUIRED_AGREEMENT = 0.99  # of frames
REQUIRED_IOU = 0.98
FEW = {"frame_agreement": 30, "mask_iou": 5}  # images; among fewer, values on a tie between two integers may decide
THRESHOLD = 0.3  # DB's default: a pixel of a higher probability is text

Forward = Callable[[NDArray[np.float32]], NDArray[np.float32]]


@dataclass(frozen=True)
class Verification:
    """What a comparison found.

    Args:
        kind: ``frame_agreement`` or ``mask_iou``.
        value: found, 0 to 1.
        required: at least.
        passed: whether it was reached.
        n: frames, or pixels of text in either mask.
        images: that were compared.
    """

    kind: str
    value: float
    required: float
    passed: bool
    n: int
    images: int

    def check(self) -> None:
        """Raise unless passed.

        Raises:
            VerifyError: the engine computes something else.
        """
        if not self.passed:
            of = "frames" if self.kind == "frame_agreement" else "pixels of text"
            few = (
                f". Only {self.images} held-back images were compared, so few that ties in rounding alone can decide:"
                " give more --data, of which a part is held back"
            )
            raise VerifyError(
                f"the exported model disagrees with the trained one in the engine: {self.kind} {self.value:.4f} of "
                f"{self.n} {of} in {self.images} images, at least {self.required} is required; the file is not fit for"
                f" use, keep the float model{few if self.images < FEW.get(self.kind, 0) else ''}"
            )


def verify_rec(
    forward: Forward,
    session: InferenceSession,
    inputs: Iterable[NDArray[np.float32]],
    required: float | None = None,
) -> Verification:
    """Compare the class of each frame.

    Args:
        forward: the trained model: ``[N, 3, H, W]`` -> ``[N, T, classes]``.
        session: the exported model in its engine.
        inputs: batches; nothing to compare does not pass.
        required: share of frames that must agree; :data:`REQUIRED_AGREEMENT` by default.
    """
    same = total = images = 0
    for batch in inputs:
        images += len(batch)
        ours, theirs = forward(batch).argmax(-1), session.run(batch).argmax(-1)
        same += int((ours == theirs).sum())
        total += ours.size
    return _verification("frame_agreement", same, total, images, REQUIRED_AGREEMENT if required is None else required)


def verify_det(
    forward: Forward, session: InferenceSession, inputs: Iterable[NDArray[np.float32]], required: float | None = None
) -> Verification:
    """Compare the masks of text by intersection over union, pooled over all images.

    Where neither finds text on any of them, 1 less the mean difference of the probabilities stands in for it.

    Args:
        forward: the trained model: ``[N, 3, H, W]`` -> probabilities ``[N, 1, H, W]``.
        session: the exported model in its engine.
        inputs: batches; nothing to compare does not pass.
        required: least intersection over union; :data:`REQUIRED_IOU` by default.
    """
    both = either = images = pixels = 0
    apart = 0.0
    for batch in inputs:
        images += len(batch)
        ours, theirs = forward(batch), session.run(batch)
        apart, pixels = apart + float(np.abs(ours - theirs).sum(dtype=np.float64)), pixels + ours.size
        both += int(((ours > THRESHOLD) & (theirs > THRESHOLD)).sum())
        either += int(((ours > THRESHOLD) | (theirs > THRESHOLD)).sum())
    wanted = REQUIRED_IOU if required is None else required
    blank = 1 - apart / pixels if pixels else 0.0
    return _verification("mask_iou", both, either, images, wanted, blank)


def _verification(
    kind: str, same: int, total: int, images: int, required: float, otherwise: float = 0.0
) -> Verification:
    value = same / total if total else otherwise
    return Verification(kind, value, required, value >= required, total, images)
