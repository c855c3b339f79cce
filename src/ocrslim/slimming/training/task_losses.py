"""Losses against labels, beside distillation: DB's for detectors (arXiv 1911.08947), CTC for recognisers.

Both take logits (before the final Sigmoid or Softmax) and targets by the names that the transforms give them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from ocrslim.config.profile import Task
from ocrslim.errors import InputError
from ocrslim.slimming.training.labelled_loader import ArrayBatch, LabelledBatches, make_ahead
from ocrslim.slimming.training.last_layer import fits, labels_loss

__all__ = [
    "CtcLoss",
    "DbLoss",
    "LabelledBatch",
    "RobustCtcLoss",
    "TaskLoss",
    "balanced_bce",
    "dice",
    "labelled_batches",
    "task_loss",
]

EPSILON = 1e-6
STEEPNESS = 50.0  # DB's k: how sharply the approximate binary map cuts
SATURATED = 13.8  # logit of 1 - 1e-6, where PaddleOCR's cross-entropy on probabilities ends too


@dataclass(frozen=True)
class LabelledBatch:
    """Images f32 ``[N, 3, H, W]`` and their targets by name, each ``[N, ...]``."""

    images: Tensor
    targets: Mapping[str, Tensor]


class TaskLoss(Protocol):
    """A loss against labels."""

    needs: tuple[str, ...]
    """Names of the targets that it reads."""

    def __call__(self, logits: Tensor, targets: Mapping[str, Tensor]) -> Tensor:
        """Return the loss, a scalar."""
        ...


class DbLoss:
    """DB's loss on the probability map P: ``alpha * balanced BCE(P) + dice(B)``, both within the shrink mask.

    Training from scratch has two more maps: the thresholds T, with an L1 loss of their own, and the approximate binary
    map ``B = 1 / (1 + exp(-50 (P - T)))``. An exported graph has P alone. So there is no L1 loss; and for B the labels'
    own threshold map (``MakeBorderMap``) is put for T. Where the file makes none, the dice term is taken on P.

    Args:
        alpha: weight of the cross-entropy.
        ratio: of negative to positive pixels that count; the hardest negatives (OHEM).
    """

    needs: tuple[str, ...] = ("shrink_map", "shrink_mask")

    def __init__(self, alpha: float = 5.0, ratio: float = 3.0) -> None:
        self.alpha = alpha
        self.ratio = ratio

    def __call__(self, logits: Tensor, targets: Mapping[str, Tensor]) -> Tensor:
        """Return the loss.

        Args:
            logits: ``[N, 1, H, W]``.
            targets: ``shrink_map`` and ``shrink_mask``, perhaps ``threshold_map``, each ``[N, H, W]``.
        """
        text, mask = targets["shrink_map"], targets["shrink_mask"]
        # Exported detectors answer with logits of several hundred: a few such pixels would decide the mean.
        logits = logits[:, 0].clamp(-SATURATED, SATURATED)
        cross_entropy = balanced_bce(logits, text, mask, self.ratio)
        probability = torch.sigmoid(logits)
        if "threshold_map" in targets:
            probability = torch.sigmoid(STEEPNESS * (probability - targets["threshold_map"]))
        return self.alpha * cross_entropy + dice(probability, text, mask)


class CtcLoss:
    """CTC (Graves et al. 2006) on logits, class 0 the blank, averaged over characters and lines.

    PaddleOCR's is the sum over a line's characters, averaged over lines: the same gradient direction for a line, other
    weights of long and short lines. A line with more characters than frames costs nothing.
    """

    needs: tuple[str, ...] = ("label_ctc", "length")

    def __call__(self, logits: Tensor, targets: Mapping[str, Tensor]) -> Tensor:
        """Return the loss.

        Args:
            logits: ``[N, T, C]``.
            targets: ``label_ctc`` ``[N, L]``, padded, and ``length`` ``[N]``.
        """
        count, frames, _ = logits.shape
        probabilities = F.log_softmax(logits.float(), dim=-1).transpose(0, 1)
        lengths = torch.full((count,), frames, dtype=torch.long)
        # On the CPU the lengths must be there; on a GPU too, where the native kernel is used.
        return F.ctc_loss(
            probabilities, targets["label_ctc"], lengths, targets["length"].cpu(), blank=0, zero_infinity=True
        )


class RobustCtcLoss:
    """:func:`.last_layer.labels_loss` of the lines that have a label which their frames can spell."""

    needs: tuple[str, ...] = ("label_ctc", "length")

    def __call__(self, logits: Tensor, targets: Mapping[str, Tensor]) -> Tensor:
        """Return the loss, in which a line without such a label counts as read.

        Args:
            logits: ``[N, T, C]``.
            targets: ``label_ctc`` ``[N, L]``, padded, and ``length`` ``[N]``, 0 without a label.
        """
        count, frames, _ = logits.shape
        pairs = zip(targets["label_ctc"], targets["length"].tolist(), strict=True)
        labels = {index: row[:length] for index, (row, length) in enumerate(pairs) if fits(row[:length], frames)}
        if not labels:
            return logits.new_zeros(())
        cost = labels_loss(logits[[*labels]].float(), torch.full((len(labels),), frames), [*labels.values()])
        return cost * (len(labels) / count)


def task_loss(task: Task) -> TaskLoss:
    """Return the loss of a task."""
    return DbLoss() if task == "det" else CtcLoss()


def balanced_bce(logits: Tensor, text: Tensor, mask: Tensor, ratio: float = 3.0) -> Tensor:
    """Binary cross-entropy over all text pixels and ``ratio`` times as many others, those with the highest loss.

    Args:
        logits: any shape.
        text: the same shape, 0 or 1.
        mask: the same, 0 where nothing is said.
        ratio: see above; a batch without any text costs nothing.

    >>> round(balanced_bce(torch.zeros(1, 4), torch.tensor([[1.0, 0, 0, 0]]), torch.ones(1, 4)).item(), 4)
    0.6931
    """
    loss = F.binary_cross_entropy_with_logits(logits, text, reduction="none")
    positive, negative = text * mask, (1.0 - text) * mask
    positives = positive.sum()
    wanted = int(min(negative.sum().item(), positives.item() * ratio))
    total = (loss * positive).sum()
    if wanted > 0:
        total = total + _hardest(loss[negative > 0], wanted)
    return total / (positives + wanted + EPSILON)


def dice(probability: Tensor, text: Tensor, mask: Tensor) -> Tensor:
    """One less twice the overlap over the sum: ``1 - 2 sum(p t m) / (sum(p m) + sum(t m))``.

    Args:
        probability: any shape, 0 to 1.
        text: the same shape, 0 or 1.
        mask: the same.
    """
    overlap = (probability * text * mask).sum()
    return 1.0 - 2.0 * overlap / ((probability * mask).sum() + (text * mask).sum() + EPSILON)


def labelled_batches(
    batches: LabelledBatches, start: int, count: int, workers: int = 0, parts: int = 1
) -> Iterator[LabelledBatch]:
    """Yield batches as tensors, each in ``parts`` of nearly equal size, so that large ones fit into the memory.

    The trainer's ``accumulate`` is then ``parts``, and ``start`` and ``count`` count parts. A batch with fewer samples
    than parts, the last of an epoch, begins again from its first.

    Args:
        batches: makes each.
        start: first part.
        count: parts.
        workers: threads that make batches ahead.
        parts: in a batch.

    Raises:
        InputError: a batch has no image.
    """
    first, skipped = divmod(start, parts)
    steps = -(-(skipped + count) // parts)
    index = 0
    for arrays in make_ahead(batches, first, steps, workers):
        if "image" not in arrays:
            raise InputError("transforms: KeepKeys must keep image")
        for part in np.array_split(np.arange(max(parts, len(arrays["image"]))) % len(arrays["image"]), parts):
            if skipped <= index < skipped + count:
                yield _part(arrays, part)
            index += 1


def _part(arrays: ArrayBatch, indexes: NDArray[np.int64]) -> LabelledBatch:
    """Return some samples of a batch; lists, such as polygons, are no targets of a loss."""
    tensors = {key: torch.from_numpy(value[indexes]) for key, value in arrays.items() if isinstance(value, np.ndarray)}
    if "label" in tensors:  # of CTCLabelEncode, which calls so what MultiLabelEncode calls label_ctc
        tensors.setdefault("label_ctc", tensors["label"])
    return LabelledBatch(tensors.pop("image"), tensors)


def _hardest(loss: Tensor, count: int) -> Tensor:
    """Return the sum of the ``count`` highest of ``loss`` ``[n]``; equal values at the bound share the gradient.

    Selection in linear time: a sort of the millions of pixels of a batch takes longer than the student's forward pass.
    """
    if count >= loss.numel():
        return loss.sum()
    bound = loss.detach().kthvalue(loss.numel() - count + 1).values
    above, at = loss > bound, loss == bound
    share = (count - above.sum()) / at.sum()
    return loss[above].sum() + share * loss[at].sum()
