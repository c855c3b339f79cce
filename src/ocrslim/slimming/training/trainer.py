"""One trainer: a student, perhaps a teacher, batches that are a function of the step, and a judge.

It knows nothing of quantization or pruning: the student is any module, and what is special about some of its
parameters (scales, weights) is said by their learning rates.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from ocrslim.errors import OcrslimError
from ocrslim.slimming.training.checkpoint import latest_checkpoint, refuse_another_run, save_checkpoint
from ocrslim.slimming.training.distributed import ALONE, Team
from ocrslim.slimming.training.memory import freed_memory_kept
from ocrslim.slimming.training.precision import FULL, Precision
from ocrslim.slimming.training.schedule import Schedule

__all__ = ["JUDGE_EVERY", "ParameterGroup", "Score", "Teaching", "TrainSettings", "Trainer", "TrainingResult"]

JUDGE_EVERY = 50  # steps

Criterion = Callable[..., tuple[Tensor, dict[str, float]]]
"""Batch -> (loss, its parts); a batch is images, or images with labels: whatever the criterion takes."""


@runtime_checkable
class Teaching(Protocol):
    """A criterion whose teacher can be asked before the student has learnt from the batch before.

    With several processes that is done while their gradients are on the way. In step with one another, all would wait
    for the slowest in every step, and want the memory at the same moments.
    """

    def teach(self, batch: Any) -> Any:
        """Return the teacher's answers to a batch; they don't depend on the student."""

    def __call__(self, batch: Any, taught: Any) -> tuple[Tensor, dict[str, float]]:
        """Return the loss and its parts.

        Args:
            batch: as of any criterion.
            taught: what :meth:`teach` returned for it.
        """


@dataclass(frozen=True)
class ParameterGroup:
    """Parameters that share a learning rate: ``TrainSettings.learning_rate`` times ``factor``."""

    name: str
    parameters: tuple[nn.Parameter, ...]
    factor: float = 1.0
    weight_decay: bool = True


@dataclass(frozen=True)
class TrainSettings:
    """How long and how fast to learn.

    Args:
        steps: optimiser steps; 0 only judges the student as it is.
        learning_rate: of the groups with factor 1.
        optimizer: ``adam``, ``adamw`` or ``sgd`` (momentum 0.9).
        weight_decay: of the groups that take it.
        schedule: factor over the run.
        accumulate: batches whose gradients are averaged before a step.
        clip_norm: bound of the gradient's norm; 0 switches it off.
        judge_every: steps between two looks at the held-back part.
        checkpoint_every: steps between two checkpoints.
        give_up_at: end at the first look from this step on, if none so far was better than the student as it came;
            ``None`` makes all steps.
    """

    steps: int
    learning_rate: float = 2e-5
    optimizer: Literal["adam", "adamw", "sgd"] = "adam"
    weight_decay: float = 0.0
    schedule: Schedule = field(default_factory=lambda: Schedule("cosine", warmup=10))
    accumulate: int = 1
    clip_norm: float = 1.0
    judge_every: int = JUDGE_EVERY
    checkpoint_every: int = 50
    give_up_at: int | None = None


@dataclass(frozen=True)
class Score:
    """What a judge says of a student: ``value`` decides (more is better), ``figures`` explain."""

    value: float
    figures: Mapping[str, float] = field(default_factory=dict)


@dataclass
class TrainingResult:
    """What a run did: steps made, which of them was best, and the curve."""

    steps: int
    best_step: int
    best: Score
    history: list[dict[str, float]]
    seconds: float


class Trainer:
    """Train ``student`` by ``criterion`` and leave in it the weights that the judge liked best.

    Args:
        student: changed in place.
        groups: the parameters to train; the others stay, and get no gradients.
        criterion: batch -> (loss to minimise, named parts of it to log). It runs student and teacher.
        judge: student -> :class:`Score` on a held-back part; called before the first step too, so a run can never
            end with worse than it began.
        settings: see there.
        folder: where checkpoints go; ``None`` keeps none.
        fingerprint: identifies the run, as JSON of its settings; a checkpoint with another one is refused.
        stop_at: end as soon as the judge's value is at least that; ``None`` makes all steps.
        progress: called after each step with (steps done, steps in all, figures).
        team: of the processes that train; each has batches of its own, rank 0 alone judges and keeps checkpoints.
        precision: on what device, and in what type, the loss is computed.
    """

    def __init__(
        self,
        student: nn.Module,
        groups: Iterable[ParameterGroup],
        criterion: Criterion,
        judge: Callable[[], Score],
        settings: TrainSettings,
        *,
        folder: Path | None = None,
        fingerprint: str = "",
        stop_at: float | None = None,
        progress: Callable[[int, int, Mapping[str, float]], None] = lambda done, total, figures: None,
        team: Team = ALONE,
        precision: Precision = FULL,
    ) -> None:
        self.student = student
        self.groups = tuple(group for group in groups if group.parameters)
        self.criterion = criterion
        self.judge = judge
        self.settings = settings
        self.folder = folder
        self.fingerprint = fingerprint
        self.stop_at = stop_at
        self.progress = progress
        self.team = team
        self.precision = precision
        learning = {id(parameter) for parameter in self._parameters()}
        for parameter in student.parameters():  # gradients that nobody reads would take half of a step's time
            parameter.requires_grad_(id(parameter) in learning)
        self.optimizer = _optimizer(self.groups, settings)
        self.step = 0
        self.best_step = 0
        self.best: Score | None = None
        self.best_tensors: dict[str, Tensor] = {}
        self.history: list[dict[str, float]] = []
        self._reached = False
        self._ahead: list[tuple[Any, ...]] = []  # the next batch, with what the teacher says of it
        self._is_whole = False  # nothing of a step, or of the look after it, is done by half

    def resume(self) -> bool:
        """Continue from the newest readable checkpoint; return whether there was one.

        Rank 0 alone reads it; the others are given what it holds when :meth:`run` begins.

        Raises:
            OcrslimError: the checkpoint belongs to a run with other settings, which the message names, or to a student
                with other parts.
        """
        found = latest_checkpoint(self.folder) if self.folder and self.team.leads else None
        if found is None or self.folder is None:
            return False
        tensors, state = found
        refuse_another_run(self.folder, state["fingerprint"], self.fingerprint)
        own = self.student.state_dict()
        if {name.removeprefix("student.") for name in tensors if name.startswith("student.")} != own.keys():
            raise OcrslimError(f"{self.folder}: holds checkpoints of another candidate of the climb; delete them")
        self.student.load_state_dict({name: tensors[f"student.{name}"] for name in own})
        self._load_optimizer(tensors)
        self.best_tensors = {name: tensors[f"best.{name}"] for name in own}
        self.precision.restore(state.get("loss_scale"))
        self.step, self.best_step = state["step"], state["best_step"]
        self.best = Score(state["best"]["value"], state["best"]["figures"])
        self.history = state["history"]
        self._reached = state["reached"]
        return True

    @freed_memory_kept()
    def run(self, batches: Callable[[int, int], Iterable[Any]]) -> TrainingResult:
        """Train to the end and load the best weights into the student.

        Args:
            batches: (first batch, number of batches) -> those batches, in order; with several processes, of those that
                are this one's.

        Raises:
            OcrslimError: the loss stopped being a number, or no score of the judge was one.
            LostRankError: another process of the team is gone.
        """
        started = time.monotonic()
        settings = self.settings
        self._ahead.clear()
        if self.best is None and self.team.leads:
            self._judge({})
        self._align(self.student.state_dict())
        todo = 0 if self._reached else (settings.steps - self.step) * settings.accumulate
        stream = iter(batches(self.step * settings.accumulate, todo)) if todo > 0 else iter(())
        while self.step < settings.steps and not self._reached:
            self._is_whole = True
            figures = self._one_step(stream)
            self.step += 1
            self.progress(self.step, settings.steps, figures)
            if self.step % settings.judge_every == 0 or self.step == settings.steps:
                if self.team.leads:
                    self._judge(figures)
                self._align({})
            if self.folder and (self.step % settings.checkpoint_every == 0 or self.step == settings.steps):
                self.save()
        if not self.team.leads:  # rank 0 has the best weights, and all that comes of them
            return TrainingResult(self.step, self.step, Score(0.0), [], time.monotonic() - started)
        self.student.load_state_dict(self.best_tensors)
        assert self.best is not None  # _judge ran before the first step
        if math.isnan(self.best.value):
            raise OcrslimError(
                f"the model answers with what is no number, before the training and after {self.step} steps of it: the"
                " ranges of its values do not fit; try another --observer"
            )
        return TrainingResult(self.step, self.best_step, self.best, self.history, time.monotonic() - started)

    def save_interrupted(self) -> None:
        """Save where a run was stopped, if that is between two steps; else the checkpoint before has to do.

        What is saved in the middle of a step, or before the look that is due after it, would end in another file.
        """
        if self._is_whole:
            self.save()

    def save(self) -> None:
        """Write a checkpoint of all that :meth:`resume` needs."""
        if self.folder is None or self.best is None or not self.team.leads:
            return
        tensors = {f"student.{name}": tensor for name, tensor in self.student.state_dict().items()}
        tensors |= {f"best.{name}": tensor for name, tensor in self.best_tensors.items()}
        for index, state in enumerate(self._optimizer_state()):
            tensors |= {f"optimizer.{index}.{key}": value for key, value in state.items()}
        save_checkpoint(
            self.folder,
            self.step,
            tensors,
            {
                "fingerprint": self.fingerprint,
                "best_step": self.best_step,
                "best": {"value": self.best.value, "figures": dict(self.best.figures)},
                "history": self.history,
                "reached": self._reached,
                "loss_scale": self.precision.state(),
                "settings": asdict(self.settings),
            },
        )

    def _align(self, tensors: Mapping[str, Tensor]) -> None:
        """Give all processes what rank 0 has: ``tensors`` of the student, what learns, and whether that is the end.

        All of them make the same steps in any case, to the last bit where they run on the same hardware; so they begin
        at one point, and after each look at the held-back part are at one again, whatever they run on.
        """
        if self.team.size == 1:
            return
        parameters = self._parameters()
        sent = {f"student.{name}": tensor for name, tensor in tensors.items()}
        sent |= {f"learnt.{index}": parameter for index, parameter in enumerate(parameters)}
        for index, kept in enumerate(self._optimizer_state()):
            sent |= {f"optimizer.{index}.{key}": value for key, value in kept.items()}
        factors = [group.factor for group in self.groups]
        said = {"step": self.step, "reached": self._reached, "factors": factors, "scale": self.precision.state()}
        found, state = self.team.share(sent, said)
        if self.team.leads:
            return
        if tensors:
            self.student.load_state_dict({name: found[f"student.{name}"] for name in tensors})
        with torch.no_grad():
            for index, parameter in enumerate(parameters):
                parameter.copy_(found[f"learnt.{index}"])
        self._load_optimizer(found)
        self.precision.restore(state["scale"])
        self.step, self._reached = state["step"], state["reached"]
        self.groups = tuple(
            replace(group, factor=factor) for group, factor in zip(self.groups, state["factors"], strict=True)
        )

    def _is_over(self) -> bool:
        give_up_at = self.settings.give_up_at
        if give_up_at is not None and self.step >= give_up_at and self.best_step == 0:
            return True
        return self.stop_at is not None and self.best is not None and self.best.value >= self.stop_at

    def _one_step(self, stream: Iterator[Any]) -> dict[str, float]:
        factor = self.settings.schedule.factor(self.step, self.settings.steps)
        for group, declared in zip(self.optimizer.param_groups, self.groups, strict=True):
            group["lr"] = self.settings.learning_rate * declared.factor * factor
        self.optimizer.zero_grad(set_to_none=True)
        self.student.train()
        figures: dict[str, float] = {}
        for _ in range(self.settings.accumulate):
            asked = self._ahead.pop() if self._ahead else self._ask(stream)
            with self.precision.autocast():
                loss, parts = self.criterion(*asked)
            del asked  # the teacher's values are not wanted by the backward pass
            self.precision.backward(loss / self.settings.accumulate)
            for name, value in parts.items():
                figures[name] = figures.get(name, 0.0) + value / self.settings.accumulate
        del loss  # its memory is wanted for the next batch
        figures = self.team.average(self._parameters(), figures, lambda: self._look_ahead(stream))
        if not all(math.isfinite(value) for value in figures.values()):
            raise OcrslimError(f"step {self.step}: the loss is {figures}; lower --learning-rate and run again")
        self._is_whole = False
        self.precision.step(self.optimizer, self._parameters(), self.settings.clip_norm)
        return figures | {"learning_rate": self.settings.learning_rate * factor}

    def _ask(self, stream: Iterator[Any]) -> tuple[Any, ...]:
        """Return what the criterion takes: the next batch, and the teacher's answers where it can be asked alone."""
        batch = self.precision.place(next(stream))
        if not isinstance(self.criterion, Teaching):
            return (batch,)
        with self.precision.autocast():
            return batch, self.criterion.teach(batch)

    def _look_ahead(self, stream: Iterator[Any]) -> None:
        if self.step + 1 < self.settings.steps:
            self._ahead.append(self._ask(stream))

    def _judge(self, figures: Mapping[str, float]) -> None:
        self.student.eval()
        score = self.judge()
        seen = {"step": float(self.step), **figures, **score.figures, "score": score.value}
        self.history.append({name: value for name, value in seen.items() if math.isfinite(value)})  # JSON has no NaN
        # Nothing is more than NaN: a first score that is none must be left behind by hand.
        if self.best is None or math.isnan(self.best.value) or score.value > self.best.value:
            self.best, self.best_step = score, self.step
            self.best_tensors = {name: tensor.detach().clone() for name, tensor in self.student.state_dict().items()}
        self._reached = self._is_over()

    def _parameters(self) -> list[nn.Parameter]:
        return [parameter for group in self.groups for parameter in group.parameters]

    def _optimizer_state(self) -> list[dict[str, Tensor]]:
        """Return the optimiser's tensors of each parameter, in the order of the groups."""
        states = (self.optimizer.state.get(parameter, {}) for parameter in self._parameters())
        return [{key: value for key, value in state.items() if isinstance(value, Tensor)} for state in states]

    def _load_optimizer(self, tensors: Mapping[str, Tensor]) -> None:
        for index, parameter in enumerate(self._parameters()):
            prefix = f"optimizer.{index}."
            found = {name.removeprefix(prefix): tensors[name] for name in tensors if name.startswith(prefix)}
            # Adam's count of steps stays on the CPU; moments lie in memory as their parameter does, or sums round
            # otherwise than in a run that was never stopped.
            state: dict[str, Any] = {
                name: value.clone() if name == "step" else torch.empty_like(parameter).copy_(value)
                for name, value in found.items()
            }
            if state:
                self.optimizer.state[parameter] = state


def _optimizer(groups: Iterable[ParameterGroup], settings: TrainSettings) -> torch.optim.Optimizer:
    """Build the optimiser; learning rates are set at each step."""
    options = [
        {"params": list(group.parameters), "weight_decay": settings.weight_decay if group.weight_decay else 0.0}
        for group in groups
    ]
    if settings.optimizer == "sgd":
        return torch.optim.SGD(options, lr=settings.learning_rate, momentum=0.9)
    kind = torch.optim.AdamW if settings.optimizer == "adamw" else torch.optim.Adam
    return kind(options, lr=settings.learning_rate)
