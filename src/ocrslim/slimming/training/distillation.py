"""Distillation of one graph into another: the criterion that the trainer minimises and the judge that picks the best.

Teacher and student are modules that return named values of their graph: ``module(x, fetch=names) -> dict``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ocrslim.config.profile import Task
from ocrslim.slimming.training.losses import ctc_js, ctc_kl, db_map_loss, feature_l2, l2, skd
from ocrslim.slimming.training.task_losses import LabelledBatch, TaskLoss
from ocrslim.slimming.training.trainer import Criterion, Score

__all__ = ["Distillation", "DistillationSettings", "LossJudge", "TeacherJudge", "compare", "distances"]


MASK_THRESHOLD = 0.3  # DB's default threshold of the probability map


@dataclass(frozen=True)
class DistillationSettings:
    """Which losses, and how much of each.

    Args:
        loss: ``auto`` is the task's own (``ctc_js`` for rec, ``db_map`` for det); ``skd`` the plain KL over all
            frames; ``l2`` the squared difference of the logits.
        temperature: of the KL.
        kd_ratio: weight of the loss on the logits.
        feature_ratio: weight of the loss on the features, shared out evenly among them.
        blank_weight: least weight of a frame that the teacher calls blank.
        label_ratio: weight of the loss against labels.
    """

    loss: Literal["auto", "ctc_kl", "ctc_js", "db_map", "skd", "l2"] = "auto"
    temperature: float = 1.0
    kd_ratio: float = 1.0
    feature_ratio: float = 0.1
    blank_weight: float = 0.1
    label_ratio: float = 0.5


class Distillation:
    """The criterion: batch -> (loss, its parts).

    Args:
        student: the module to train.
        teacher: the float module; never trained.
        task: decides what ``auto`` means.
        logits: name of the value before the final Softmax or Sigmoid.
        features: names of further values to match; they exist in both graphs.
        settings: see there.
        labels: a loss against the labels of batches that have them; ``None`` leaves it out.
        shared: names of values that both compute alike: the student goes on from the teacher's.
    """

    def __init__(
        self,
        student: nn.Module,
        teacher: nn.Module,
        task: Task,
        logits: str,
        features: Sequence[str],
        settings: DistillationSettings,
        labels: TaskLoss | None = None,
        shared: Sequence[str] = (),
    ) -> None:
        self.student = student
        self.teacher = teacher
        self.task = task
        self.logits = logits
        self.features = tuple(features) if settings.feature_ratio > 0 else ()
        self.settings = settings
        self.labels = labels
        self.shared = tuple(shared)

    def teach(self, batch: Tensor | LabelledBatch) -> dict[str, Tensor]:
        """Return the teacher's values for one batch, images ``[N, 3, H, W]``."""
        with torch.no_grad():
            taught: dict[str, Tensor] = self.teacher(_images(batch), fetch=(self.logits, *self.features, *self.shared))
        return taught

    def __call__(
        self, batch: Tensor | LabelledBatch, taught: Mapping[str, Tensor] | None = None
    ) -> tuple[Tensor, dict[str, float]]:
        """Return the loss of one batch, and its parts by name.

        Args:
            batch: images ``[N, 3, H, W]``, with labels or without.
            taught: what :meth:`teach` says of it; asked for here when ``None``.
        """
        taught = self.teach(batch) if taught is None else taught
        given = {"given": {name: taught[name] for name in self.shared}} if self.shared else {}
        learnt = self.student(_images(batch), fetch=(self.logits, *self.features), **given)
        main = self._on_logits(learnt[self.logits], taught[self.logits])
        loss = self.settings.kd_ratio * main
        parts = {"distillation": main.item()}
        if self.features:
            feature = torch.stack([feature_l2(learnt[name], taught[name]) for name in self.features]).mean()
            loss = loss + self.settings.feature_ratio * feature
            parts["feature"] = feature.item()
        if self.labels is not None and isinstance(batch, LabelledBatch):
            labels = self.labels(learnt[self.logits], batch.targets)
            loss = loss + self.settings.label_ratio * labels
            parts["labels"] = labels.item()
        return loss, parts | {"loss": loss.item()}

    def _on_logits(self, student: Tensor, teacher: Tensor) -> Tensor:
        kind = self.settings.loss
        if kind == "auto":
            kind = "ctc_js" if self.task == "rec" else "db_map"
        if kind == "ctc_kl":
            return ctc_kl(student, teacher, self.settings.temperature, self.settings.blank_weight)
        if kind == "ctc_js":
            return ctc_js(student, teacher, self.settings.blank_weight)
        if kind == "skd":
            return skd(student, teacher, self.settings.temperature)
        return db_map_loss(student, teacher) if kind == "db_map" else l2(student, teacher)


def _images(batch: Tensor | LabelledBatch) -> Tensor:
    return batch.images if isinstance(batch, LabelledBatch) else batch


class TeacherJudge:
    """Scores the student by how near it is to the teacher on held-back batches; needs no labels.

    The value is the negative mean of :func:`distances`, which tells apart students that read every line alike; the
    figures are what a person would ask for: the share of frames with the same class, or the overlap of the text masks.

    Args:
        student: judged as it is at the time of the call.
        teacher: run once, at construction.
        task: det or rec.
        logits: see :class:`Distillation`.
        batches: ``[N, 3, H, W]`` each; kept in memory.
    """

    def __init__(
        self, student: nn.Module, teacher: nn.Module, task: Task, logits: str, batches: Iterable[Tensor]
    ) -> None:
        self.student = student
        self.task = task
        self.logits = logits
        self.batches = list(batches)
        with torch.no_grad():  # half precision: 100 lines of 18,710 classes are 225 MB
            self.taught = [teacher(images, fetch=(logits,))[logits].half() for images in self.batches]

    def __call__(self) -> Score:
        """Return the score; more is better, 0 is the teacher itself."""
        far, decisions = [], []
        with torch.no_grad():
            for images, taught in zip(self.batches, self.taught, strict=True):
                pair = self.student(images, fetch=(self.logits,))[self.logits], taught.float()
                far.append(distances(self.task, *pair))
                decisions.append(_decisions(self.task, *pair))
        named = "frame_agreement" if self.task == "rec" else "mask_iou"
        return Score(-torch.cat(far).mean().item(), {named: _share(decisions)})


class LossJudge:
    """Scores the student by the criterion itself on held-back batches.

    Args:
        criterion: batch -> (loss, its parts).
        batches: kept in memory.
    """

    def __init__(self, criterion: Criterion, batches: Iterable[Any]) -> None:
        self.criterion = criterion
        self.batches = list(batches)

    def __call__(self) -> Score:
        """Return the score, the negative mean loss of a batch, and the mean of each part."""
        with torch.no_grad():
            found = [self.criterion(batch)[1] for batch in self.batches]
        means = {f"held_{name}": sum(parts[name] for parts in found) / len(found) for name in found[0]}
        return Score(-means["held_loss"], means)


def compare(task: Task, answers: Iterable[Tensor], targets: Iterable[Tensor]) -> tuple[float, float]:
    """Return how far a student's answers are from the teacher's, and the share of decisions that are the same.

    Args:
        task: rec compares by :func:`ctc_js` and the class of each frame, det by :func:`db_map_loss` and the overlap
            (intersection over union) of the masks of text.
        answers: logits of the student, a tensor for each batch.
        targets: the teacher's.

    Returns:
        tuple: mean divergence of an image, 0 for equal answers; the share, 0 to 1.
    """
    loss = ctc_js if task == "rec" else db_map_loss
    divergence, images, decisions = 0.0, 0, []
    for answer, target in zip(answers, targets, strict=True):
        images += len(target)
        divergence += loss(answer, target).item() * len(target)
        decisions.append(_decisions(task, answer, target))
    return divergence / max(1, images), _share(decisions)


def _decisions(task: Task, answer: Tensor, target: Tensor) -> tuple[int, int]:
    """Return how many decisions are the same, and of how many: frames, or pixels of text in either mask."""
    if task == "rec":
        equal = answer.argmax(-1) == target.argmax(-1)
        return int(equal.sum()), equal.numel()
    a, b = torch.sigmoid(answer) > MASK_THRESHOLD, torch.sigmoid(target) > MASK_THRESHOLD
    return int((a & b).sum()), int((a | b).sum())


def _share(decisions: Sequence[tuple[int, int]]) -> float:
    return sum(same for same, _ in decisions) / max(1, sum(total for _, total in decisions))


def distances(task: Task, answer: Tensor, target: Tensor) -> Tensor:
    """Return how far a batch's answers are from the teacher's, ``[N]``.

    Of a line it is the root of :func:`ctc_js`, the Jensen-Shannon distance (Endres and Schindelin, IEEE Transactions on
    Information Theory 49, 2003): as the texts that are read otherwise, it grows with the noise, not with its square, so
    that its mean is not that of the few lines that nobody can read. Of a page it is :func:`db_map_loss`.

    Args:
        task: det or rec.
        answer: logits of the student.
        target: the teacher's.
    """
    pairs = [(answer[index : index + 1], target[index : index + 1]) for index in range(len(target))]
    if task == "rec":
        return torch.stack([ctc_js(*pair).clamp(min=0.0).sqrt() for pair in pairs])
    return torch.stack([db_map_loss(*pair) for pair in pairs])
