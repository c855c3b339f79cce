"""The criterion of a PaddleSlim file: distillation on the values that it names, and a loss against the labels.

It takes the place of :class:`ocrslim.slimming.training.distillation.Distillation` where batches have labels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ocrslim.errors import InputError
from ocrslim.slimming.training.losses import l2
from ocrslim.slimming.training.task_losses import LabelledBatch, TaskLoss

__all__ = ["LabelledDistillation", "NamedTerm", "soft_label", "spherical"]


@dataclass(frozen=True)
class NamedTerm:
    """One distillation loss: its kind, its weight, the graph's values that it compares; where a file names them."""

    loss: Literal["l2", "skd", "soft_label"]
    weight: float
    values: tuple[str, ...]
    where: str = ""


class LabelledDistillation:
    """The criterion: labelled batch -> (loss, its parts).

    ``sum over terms of weight * sum over values of loss(student, teacher) + task_ratio * task loss``.

    Args:
        student: the module to train; returns named values of its graph, as the teacher does.
        teacher: the float module; never trained.
        terms: what is distilled.
        logits: name of the value before the final Softmax or Sigmoid.
        task: the loss against labels; ``None`` leaves it out, and a batch without its targets does too.
        task_ratio: its weight.
        taught_logits: what the teacher's graph calls the logits, where another than the student's.
    """

    def __init__(
        self,
        student: nn.Module,
        teacher: nn.Module,
        terms: Sequence[NamedTerm],
        logits: str,
        task: TaskLoss | None = None,
        task_ratio: float = 1.0,
        taught_logits: str | None = None,
    ) -> None:
        self.student = student
        self.teacher = teacher
        self.terms = tuple(terms)
        self.logits = logits
        self.task = task
        self.task_ratio = task_ratio
        self.in_teacher = {logits: taught_logits} if taught_logits is not None else {}

    def teach(self, batch: LabelledBatch) -> dict[str, Tensor]:
        """Return the teacher's values for one batch, by their names in the student."""
        names = tuple(dict.fromkeys(name for term in self.terms for name in term.values))
        called = {name: self.in_teacher.get(name, name) for name in names}
        with torch.no_grad():
            found = self.teacher(batch.images, fetch=tuple(called.values())) if called else {}
        return {name: found[theirs] for name, theirs in called.items()}

    def __call__(
        self, batch: LabelledBatch, taught: Mapping[str, Tensor] | None = None
    ) -> tuple[Tensor, dict[str, float]]:
        """Return the loss of one batch and its parts by name.

        Args:
            batch: images with labels.
            taught: what :meth:`teach` says of it; asked for here when ``None``.

        Raises:
            InputError: a teacher of another architecture has another shape at a node.
        """
        taught = self.teach(batch) if taught is None else taught
        learnt = self.student(batch.images, fetch=tuple(dict.fromkeys((*taught, self.logits))))
        loss = learnt[self.logits].new_zeros(())
        parts: dict[str, float] = {}
        for term in self.terms:
            _check_alike(term, learnt, taught)
            part = sum((_LOSSES[term.loss](learnt[name], taught[name]) for name in term.values), loss.new_zeros(()))
            loss = loss + term.weight * part
            parts[term.loss] = parts.get(term.loss, 0.0) + part.item()
        if self.task is not None and all(name in batch.targets for name in self.task.needs):
            part = self.task(learnt[self.logits], batch.targets)
            loss = loss + self.task_ratio * part
            parts["labels"] = part.item()
        return loss, parts | {"loss": loss.item()}


def _check_alike(term: NamedTerm, learnt: Mapping[str, Tensor], taught: Mapping[str, Tensor]) -> None:
    """Refuse values of other shapes: Paddle numbers its nodes, so that two architectures have the same names."""
    for name in term.values:
        ours, theirs = list(learnt[name].shape), list(taught[name].shape)
        if ours != theirs:
            raise InputError(
                f"{term.where and term.where + ': '}Distillation.node {name}: is {theirs} in the teacher and {ours} in"
                " the model; name nodes that are alike in both, or another teacher_model_dir"
            )


def spherical(student: Tensor, teacher: Tensor) -> Tensor:
    """Spherical distillation (Guo et al., arXiv 2010.07485): the KL of logits brought to the teacher's norm.

    Each frame's logits are brought to mean 0 and variance 1 over the classes, then times the teacher's deviation: only
    the direction is taught. PaddleSlim's ``skd`` normalises over frames and classes together and takes the softmax
    over the frames, as its axis 1 is the classes of images only; here both are over the classes. Its cross-entropy is
    this KL and a constant.

    Args:
        student: logits ``[..., C]``; of a detector, ``[N, 1, H, W]``, see below.
        teacher: the same shape.

    Returns:
        Tensor: the mean over all axes but the last; for a single class (dimension 1 of a detector's map) the mean
        squared difference, as there is no direction.
    """
    teacher = teacher.detach()
    if student.dim() == 4 and student.shape[1] == 1:
        return l2(student, teacher)
    shape = student.shape[-1:]
    norm = teacher.std(-1, keepdim=True)
    learnt = F.log_softmax(F.layer_norm(student, shape) * norm, dim=-1)
    taught = F.log_softmax(F.layer_norm(teacher, shape) * norm, dim=-1)
    return F.kl_div(learnt, taught, reduction="none", log_target=True).sum(-1).mean()


def soft_label(student: Tensor, teacher: Tensor) -> Tensor:
    """Cross-entropy with the teacher's softmax over the last axis, averaged over all other axes.

    Args:
        student: logits ``[..., C]``; for a detector's map ``[N, 1, H, W]`` the two classes of a Sigmoid are meant.
        teacher: the same shape.
    """
    teacher = teacher.detach()
    if student.dim() == 4 and student.shape[1] == 1:
        return F.binary_cross_entropy_with_logits(student, torch.sigmoid(teacher))
    return -(F.softmax(teacher, dim=-1) * F.log_softmax(student, dim=-1)).sum(-1).mean()


_LOSSES = {"l2": l2, "skd": spherical, "soft_label": soft_label}
