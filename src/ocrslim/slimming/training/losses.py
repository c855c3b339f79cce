"""Distillation losses: what the student is told about the teacher's answer.

Every function takes logits (before the final Softmax or Sigmoid), returns a scalar tensor and sends no gradient into
the teacher. Recognition logits are ``[N, T, C]`` with class 0 the CTC blank; detection logits are ``[N, 1, H, W]``.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ocrslim.slimming.parts import dot, in_parts

__all__ = ["ctc_frame_weights", "ctc_js", "ctc_kl", "db_map_loss", "feature_l2", "l2", "skd"]

BLANK = 0
IN_CACHE = 1 << 18  # values of the frames that are compared at a time on a CPU: 1 MB, of which some eight are alive
WHOLE = (torch.float32, torch.float64)


def l2(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean squared difference of two tensors of the same shape.

    >>> l2(torch.tensor([1.0, 3.0]), torch.tensor([0.0, 1.0])).item()
    2.5
    """
    teacher = teacher.detach()
    if student.device.type != "cpu" or student.dtype not in WHOLE or student.dtype != teacher.dtype:
        return F.mse_loss(student, teacher)
    # On a CPU it takes a third of the traffic of torch's between memory and cores.
    result: Tensor = _MeanSquare.apply(student, teacher)  # type: ignore[no-untyped-call]
    return result


def feature_l2(student: Tensor, teacher: Tensor, floor: float = 1e-6) -> Tensor:
    """Squared difference in units of the teacher's variance, so that layers of any range weigh the same.

    Args:
        student: any shape.
        teacher: the same shape.
        floor: smallest variance divided by.
    """
    teacher = teacher.detach()
    return l2(student, teacher) / teacher.var(unbiased=False).clamp_min(floor)


class _MeanSquare(torch.autograd.Function):
    """The mean squared difference, its sum made while a part of the difference is in the cache."""

    @staticmethod
    def forward(ctx: Any, student: Tensor, teacher: Tensor) -> Tensor:
        difference = torch.empty_like(student)
        total = student.new_zeros(())
        for learnt, taught, part in in_parts(student, teacher, difference):
            torch.sub(learnt, taught, out=part)
            total += dot(part, part)
        ctx.save_for_backward(difference)
        return total / max(1, student.numel())

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        (difference,) = ctx.saved_tensors
        return difference * (2.0 / max(1, difference.numel()) * upstream), None


def skd(student: Tensor, teacher: Tensor, temperature: float = 1.0, weights: Tensor | None = None) -> Tensor:
    """KL(teacher || student) over the last axis, softened, averaged over all other axes (Hinton, arXiv 1503.02531).

    Args:
        student: logits ``[..., C]``.
        teacher: logits of the same shape.
        temperature: both logits are divided by it; the loss is multiplied by its square, which keeps the size of
            the gradient.
        weights: ``[...]``, non-negative weight of each position; ``None`` weighs all the same.
    """
    log_p = F.log_softmax(teacher.detach() / temperature, dim=-1)
    log_q = F.log_softmax(student / temperature, dim=-1)
    divergence = (log_p.exp() * (log_p - log_q)).sum(dim=-1)
    if weights is None:
        return divergence.mean() * temperature**2
    return (divergence * weights).sum() / weights.sum().clamp_min(1e-6) * temperature**2


def ctc_frame_weights(teacher: Tensor, blank_weight: float = 0.1) -> Tensor:
    """Weight of each frame: the teacher's probability that it is no blank, but at least ``blank_weight``.

    Most frames of a line are blank and the two models agree there; a plain mean over frames would hardly look at
    the characters. Blank frames keep some weight, or else the student learns to write characters into the gaps.

    Args:
        teacher: logits ``[N, T, C]``.
        blank_weight: 0 to 1.

    Returns:
        Tensor: ``[N, T]``, without gradient.
    """
    with torch.no_grad():
        frames = teacher.flatten(0, -2)
        parts = [torch.softmax(frames[some].float(), dim=-1)[..., BLANK] for some in _few_frames(frames)]
        blank = torch.cat(parts).reshape(teacher.shape[:-1])
        return (1.0 - blank).clamp_min(blank_weight).to(teacher.dtype)


def ctc_kl(student: Tensor, teacher: Tensor, temperature: float = 1.0, blank_weight: float = 0.1) -> Tensor:
    """Frame-wise :func:`skd` of two CTC recognisers, weighted to the frames that hold characters.

    Args:
        student: logits ``[N, T, C]``.
        teacher: the same.
        temperature: see :func:`skd`.
        blank_weight: see :func:`ctc_frame_weights`.
    """
    return skd(student, teacher, temperature, ctc_frame_weights(teacher, blank_weight))


def ctc_js(student: Tensor, teacher: Tensor, blank_weight: float = 0.1) -> Tensor:
    """Frame-wise Jensen-Shannon divergence of two CTC recognisers, weighted as :func:`ctc_kl`; 0 to ln 2.

    Where one model writes a character a frame later than the other, both are sure and the KL divergence is some 10; a
    few such frames decide the mean, though the text is the same. This divergence is bounded.

    Args:
        student: logits ``[N, T, C]``.
        teacher: the same.
        blank_weight: see :func:`ctc_frame_weights`.
    """
    weights = ctc_frame_weights(teacher, blank_weight)
    result: Tensor = _JsOfFrames.apply(student, teacher.detach(), weights)  # type: ignore[no-untyped-call]
    return result


class _JsOfFrames(torch.autograd.Function):
    """The weighted mean of the frames' Jensen-Shannon divergences, and its gradient, a few frames at a time.

    Each frame stands for itself, so that what is in between need not go to memory and back: the logits of eight lines
    are 17 MB and the terms of the divergence ten times that. The gradient is made on the way forward and waits.
    """

    @staticmethod
    def forward(ctx: Any, student: Tensor, teacher: Tensor, weights: Tensor) -> Tensor:
        learnt, taught, each = student.flatten(0, -2), teacher.flatten(0, -2), weights.flatten()
        total = each.sum().clamp_min(1e-6)
        kind = torch.promote_types(learnt.dtype, torch.float32)  # small gradients vanish in a half type
        gradient = torch.empty_like(learnt, dtype=kind) if ctx.needs_input_grad[0] else None
        parts = []
        for some in _few_frames(learnt):
            divergence, slope = _js(learnt[some], taught[some], kind, gradient is not None)
            if gradient is not None and slope is not None:
                gradient[some] = slope.mul_((each[some] / total)[:, None])
            parts.append(divergence)
        ctx.save_for_backward(gradient)
        ctx.shape, ctx.kind = student.shape, student.dtype
        return (torch.cat(parts) * each).sum() / total

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = ctx.saved_tensors
        if gradient is None:
            return None, None, None
        if upstream.device.type != "cpu" or upstream.item() != 1.0:  # usually 1: then a pass over memory is spared
            gradient = gradient * upstream.to(gradient.dtype)
        return gradient.reshape(ctx.shape).to(ctx.kind), None, None


def _js(student: Tensor, teacher: Tensor, kind: torch.dtype, learns: bool) -> tuple[Tensor, Tensor | None]:
    """Return the Jensen-Shannon divergence of each frame ``[F]`` of logits ``[F, C]``, and its gradient where asked.

    With p and q the probabilities of teacher and student and m their mean, the divergence is half of
    ``sum(p log(p / m)) + sum(q log(q / m))``; its derivative by q is ``log(q / m) / 2``, which the Softmax makes
    ``q (log(q / m) - sum(q log(q / m))) / 2`` by logits. A third of the time of what autograd finds by itself.
    """
    log_p, log_q = F.log_softmax(teacher, dim=-1, dtype=kind), F.log_softmax(student, dim=-1, dtype=kind)
    p, q = log_p.exp(), log_q.exp()
    log_m = (p + q).clamp_min_(torch.finfo(kind).tiny).log_().sub_(math.log(2.0))  # 0 log(0 / tiny) counts nothing
    of_p, of_q = log_p.sub_(log_m), log_q.sub_(log_m)
    from_q = (q * of_q).sum(dim=-1)
    divergence = 0.5 * (p.mul_(of_p).sum(dim=-1) + from_q)
    return divergence, of_q.sub_(from_q[:, None]).mul_(q).mul_(0.5) if learns else None


def _few_frames(frames: Tensor) -> Iterator[slice]:
    """Yield slices of frames ``[F, C]`` that fit in a processor's cache; on another device, of all of them at once."""
    count, classes = frames.shape
    some = max(1, IN_CACHE // classes) if frames.device.type == "cpu" else max(1, count)
    for start in range(0, max(1, count), some):
        yield slice(start, start + some)


def db_map_loss(student: Tensor, teacher: Tensor, text_weight: float = 5.0) -> Tensor:
    """Difference of two DB probability maps (arXiv 1911.08947): binary KL, weighted to text, and a soft dice term.

    The KL of two Bernoulli variables is 0 where the maps agree, so the loss of a perfect student is 0. Pixels count
    ``1 + text_weight * p`` with ``p`` the teacher's probability: text is a few per cent of a page.

    Args:
        student: logits ``[N, 1, H, W]``.
        teacher: the same.
        text_weight: see above.
    """
    teacher = teacher.detach()
    target = torch.sigmoid(teacher)
    weights = 1.0 + text_weight * target
    entropy = F.binary_cross_entropy_with_logits(teacher, target, reduction="none")
    divergence = F.binary_cross_entropy_with_logits(student, target, reduction="none") - entropy
    kl = (divergence * weights).sum() / weights.sum()
    probability = torch.sigmoid(student)
    overlap = 2.0 * (probability * target).sum()
    total = (probability * probability).sum() + (target * target).sum()
    return kl + 1.0 - (overlap + 1.0) / (total + 1.0)
