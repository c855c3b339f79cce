"""What labels teach a recogniser: another view of the same features, folded into the last layer.

The network up to its last layer stays as it is, so its answers for all images are computed once, and a training of
minutes moves only a square matrix and an offset before the last layer's weights: ``((x A + a) W + b)``, which is a last
layer again, ``x (A W) + (a W + b)``, as large and as fast as before.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["LastLayer", "Line", "fit_last_layer", "fits", "labels_loss"]

EPOCHS = 2
BATCH = 16  # lines
RATE = 1e-3  # of Adam, at its highest
WARM_UP = 20  # steps
NOISE = 0.5
"""Exponent q of the loss on labels: near 0 it is CTC's logarithm, at 1 the share of lines read otherwise."""

FAITHFUL = 3.0  # weight of the float model's answers on the same lines
ELSEWHERE = 10.0  # weight of those on frames of other text, whose words no label names
FRAMES = 256  # of other text in a step
MOST_FRAMES = 20_000  # of other text
RIVALS = 32  # classes of a frame of other text that are compared
UNLIKELY = 5.0  # a class whose logit is lower by so much in every frame, and that no label names, is left out
SORTED_TOGETHER = 8  # batches whose lines are sorted by length, to waste little on padding
AT_ONCE = 1024  # frames
MOST_PADDED = 4096  # frames of lines that are computed at once, with what pads them


@dataclass(frozen=True)
class LastLayer:
    """A linear layer.

    Args:
        weight: ``[C, K]``, features to classes.
        bias: ``[K]``.
    """

    weight: Tensor
    bias: Tensor

    def logits(self, features: Tensor) -> Tensor:
        """Return logits ``[..., K]`` of features ``[..., C]``."""
        return features @ self.weight + self.bias

    def after(self, matrix: Tensor, offset: Tensor) -> LastLayer:
        """Return the layer that answers to ``x`` as this one does to ``x @ matrix + offset``.

        >>> layer = LastLayer(torch.tensor([[1.0, 2.0]]), torch.tensor([0.0, 1.0]))
        >>> layer.after(torch.tensor([[3.0]]), torch.tensor([1.0])).logits(torch.tensor([2.0])).tolist()
        [7.0, 15.0]
        """
        return LastLayer(matrix @ self.weight, offset @ self.weight + self.bias)

    def only(self, classes: Tensor) -> LastLayer:
        """Return the layer of some of the classes."""
        return LastLayer(self.weight[:, classes].contiguous(), self.bias[classes])

    def best(self, features: Sequence[Tensor]) -> list[NDArray[np.int64]]:
        """Return the best class of each frame of each line; features of a line are ``[T, C]``."""
        found = torch.cat([self.logits(part).argmax(-1) for part in _parts(features)])
        return [line.numpy() for line in torch.split(found, [len(line) for line in features])]


@dataclass(frozen=True)
class Line:
    """A labelled line.

    Args:
        features: what the last layer reads, ``[T, C]``.
        classes: of the label's characters, int64 ``[L]``.
    """

    features: Tensor
    classes: Tensor

    @property
    def fits(self) -> bool:
        """Whether the frames can spell the label."""
        return fits(self.classes, len(self.features))


def fits(classes: Tensor, frames: int) -> bool:
    """Return whether so many frames can spell a label ``[L]``: equal neighbours need a blank between them.

    >>> fits(torch.tensor([5, 5]), 2), fits(torch.tensor([5, 5]), 3), fits(torch.tensor([]), 3)
    (False, True, False)
    """
    repeats = int((classes[1:] == classes[:-1]).sum())
    return 0 < len(classes) <= frames - repeats


def labels_loss(logits: Tensor, frames: Tensor, labels: Sequence[Tensor], noise: float = NOISE) -> Tensor:
    """Generalised cross-entropy of CTC, ``(1 - p^q) / q`` with ``p`` the probability of the label, mean of the lines.

    The logarithm of CTC goes without bound where a label is wrong or the line can't be read, and such lines would
    decide what is learned; here they count little, and lines on the edge between right and wrong count most (Zhang and
    Sabuncu, arXiv 1805.07836; CTC: Graves et al. 2006).

    Args:
        logits: ``[N, T, K]``, class 0 the blank.
        frames: int64 ``[N]``, of each line; what is behind them is padding.
        labels: classes of each line, int64 ``[L]``.
        noise: q, above 0 to 1.
    """
    lengths = torch.tensor([len(label) for label in labels])
    log_p = F.log_softmax(logits, -1).transpose(0, 1)
    cost = F.ctc_loss(log_p, torch.cat(list(labels)), frames, lengths, reduction="none", zero_infinity=True)
    return ((1.0 - torch.exp(-noise * cost)) / noise).mean()


def fit_last_layer(
    layer: LastLayer,
    lines: Sequence[Line],
    others: Tensor,
    seed: int,
    weight: float = 1.0,
    progress: Callable[[int, int], None] | None = None,
) -> LastLayer:
    """Return the layer that reads the lines as their labels say, and answers as before where no label speaks.

    Args:
        layer: to begin with; its answers are kept to.
        lines: those that don't fit (:attr:`Line.fits`) are left out.
        others: features of frames of other text ``[n, C]``; may be empty.
        seed: of the order.
        weight: of the labels.
        progress: told (done, total) after each step.
    """
    lines = [line for line in lines if line.fits]
    if not lines:
        return layer
    used = _classes(layer, lines)
    few, number = layer.only(used), torch.zeros(len(layer.bias), dtype=torch.long)
    number[used] = torch.arange(len(used))
    lines = [Line(line.features, number[line.classes]) for line in lines]
    anchor = _Anchor(layer, others)
    count = len(layer.weight)
    matrix, offset = torch.eye(count, requires_grad=True), torch.zeros(count, requires_grad=True)
    optimizer = torch.optim.Adam([matrix, offset], RATE)
    rng = np.random.default_rng([seed, len(lines)])
    steps = EPOCHS * math.ceil(len(lines) / BATCH)
    for step, batch in enumerate(_batches(lines, rng)):
        for group in optimizer.param_groups:
            group["lr"] = RATE * min(1.0, (step + 1) / WARM_UP) * 0.5 * (1.0 + math.cos(math.pi * step / steps))
        optimizer.zero_grad()
        (ELSEWHERE * anchor.loss(matrix, offset, rng)).backward()  # type: ignore[no-untyped-call]
        whole = sum(len(line.features) for line in batch)
        for part in _pieces(batch):
            labels, answers = _costs(few, part, matrix, offset)
            share, frames = len(part) / len(batch), sum(len(line.features) for line in part) / whole
            (weight * share * labels + FAITHFUL * frames * answers).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        if progress is not None:
            progress(step + 1, steps)
    return layer.after(matrix.detach(), offset.detach())


def _pieces(batch: list[Line]) -> Iterator[list[Line]]:
    """Split a batch of very long lines: a frame has a number for each of thousands of classes, several times."""
    longest = max(len(line.features) for line in batch)
    count = max(1, MOST_PADDED // longest)
    for first in range(0, len(batch), count):
        yield batch[first : first + count]


def _costs(layer: LastLayer, lines: list[Line], matrix: Tensor, offset: Tensor) -> tuple[Tensor, Tensor]:
    """Return the loss on the labels, the mean of lines, and the divergence from the layer's answers, that of frames."""
    frames = torch.tensor([len(line.features) for line in lines])
    features = torch.nn.utils.rnn.pad_sequence([line.features for line in lines], batch_first=True)
    answer = layer.logits(features @ matrix + offset)
    real = torch.arange(features.shape[1]) < frames[:, None]
    labels = labels_loss(answer, frames, [line.classes for line in lines])
    return labels, _divergence(answer[real], layer.logits(features[real]))


class _Anchor:
    """Frames of other text, and the classes that the layer takes into account in each of them."""

    def __init__(self, layer: LastLayer, features: Tensor) -> None:
        order = np.random.default_rng(len(features)).permutation(len(features))[:MOST_FRAMES]
        self._features = features[torch.from_numpy(order)]
        self._weight, self._bias = layer.weight.T.contiguous(), layer.bias
        rivals = min(RIVALS, len(layer.bias))
        parts = [layer.logits(part).topk(rivals).indices for part in torch.split(self._features, AT_ONCE)]
        self._rivals = torch.cat(parts)

    def loss(self, matrix: Tensor, offset: Tensor, rng: np.random.Generator) -> Tensor:
        """Return the divergence from the layer's own answers on a few frames, 0 where there is no other text."""
        if not len(self._features):
            return 0.0 * offset.sum()
        chosen = torch.from_numpy(rng.integers(0, len(self._features), FRAMES))
        features, rivals = self._features[chosen], self._rivals[chosen]
        weights, biases = self._weight[rivals], self._bias[rivals]

        def logits(values: Tensor) -> Tensor:
            return torch.einsum("fc,fkc->fk", values, weights) + biases

        return _divergence(logits(features @ matrix + offset), logits(features))


def _divergence(student: Tensor, teacher: Tensor) -> Tensor:
    """Kullback-Leibler divergence of the student's answers from the teacher's, the mean of frames ``[n, K]``."""
    wanted = F.log_softmax(teacher, -1)
    return F.kl_div(F.log_softmax(student, -1), wanted, reduction="batchmean", log_target=True)


def _classes(layer: LastLayer, lines: Sequence[Line]) -> Tensor:
    """Return the classes that the lines are about: those of the labels, and what a frame might be taken for."""
    used = torch.zeros(len(layer.bias), dtype=torch.bool)
    used[0] = True
    used[torch.cat([line.classes for line in lines])] = True
    for part in _parts([line.features for line in lines]):
        logits = layer.logits(part)
        used |= (logits > logits.amax(-1, keepdim=True) - UNLIKELY).any(0)
    return used.nonzero()[:, 0]


def _parts(features: Sequence[Tensor]) -> Iterator[Tensor]:
    """Yield the frames of all lines, some :data:`AT_ONCE` at a time: all at once would be a second copy."""
    held: list[Tensor] = []
    for line in features:
        held.append(line)
        if sum(map(len, held)) >= AT_ONCE:
            yield torch.cat(held)
            held = []
    if held:
        yield torch.cat(held)


def _batches(lines: Sequence[Line], rng: np.random.Generator) -> Iterator[list[Line]]:
    """Yield all lines in each epoch, in an order of its own, those of a batch of similar lengths."""
    for _ in range(EPOCHS):
        order = rng.permutation(len(lines))
        batches: list[NDArray[np.int64]] = []
        for first in range(0, len(order), BATCH * SORTED_TOGETHER):
            part = order[first : first + BATCH * SORTED_TOGETHER]
            part = part[np.argsort([len(lines[index].features) for index in part], kind="stable")]
            batches += [part[at : at + BATCH] for at in range(0, len(part), BATCH)]
        for batch in rng.permutation(len(batches)):
            yield [lines[index] for index in batches[batch]]
