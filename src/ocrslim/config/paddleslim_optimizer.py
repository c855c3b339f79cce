"""The optimiser and the learning rate of a PaddleSlim file's ``TrainConfig``.

Names and arguments are those of ``paddle.optimizer`` and ``paddle.optimizer.lr``; steps count batches.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

from ocrslim.config.located import Located, Section

__all__ = ["LearningRate", "Optimizer", "read_learning_rate", "read_optimizer"]

Warn = Callable[[str], None]
BETAS = (0.9, 0.999)
SCHEDULES = {
    "CosineAnnealingDecay": ("T_max", "eta_min"),
    "PiecewiseDecay": ("boundaries", "values"),
    "MultiStepDecay": ("milestones", "gamma"),
    "StepDecay": ("step_size", "gamma"),
    "LinearWarmup": ("warmup_steps", "start_lr", "end_lr"),
}
REPLACED = ("PolynomialDecay", "ExponentialDecay", "NaturalExpDecay", "InverseTimeDecay", "NoamDecay", "OneCycleLR")
OPTIMIZERS: dict[str, Literal["adam", "adamw", "sgd"]] = {
    "Adam": "adam",
    "AdamW": "adamw",
    "SGD": "sgd",
    "Momentum": "sgd",
}


@dataclass(frozen=True)
class LearningRate:
    """The learning rate over the run.

    Args:
        value: the highest. It is linear in the total batch: the example's 0.00005 belongs to batch 8; for batch 32 a
            file has 4 times that. What ``--devices`` and ``--accumulate`` make of a batch is counted in by themselves.
        kind: how it falls.
        steps: at which the cosine's half wave ends; ``None`` is the run's end.
        floor: what the cosine ends at, as a factor.
        boundaries: steps at which it changes; for ``piecewise``.
        values: factors, one more than boundaries; for ``piecewise``.
        every: steps between two falls by ``gamma`` after the warm-up, where a file gives no boundaries.
        gamma: see there.
        warmup: steps of linear rise.
    """

    value: float
    kind: Literal["cosine", "constant", "piecewise"] = "constant"
    steps: int | None = None
    floor: float = 0.0
    boundaries: tuple[int, ...] = ()
    values: tuple[float, ...] = ()
    every: int | None = None
    gamma: float = 1.0
    warmup: int = 0


@dataclass(frozen=True)
class Optimizer:
    """The optimiser.

    Args:
        kind: Paddle's ``Adam``, ``AdamW``, or ``SGD`` and ``Momentum``, which are one here.
        weight_decay: of the weights; added to the gradient (L2) by all but ``adamw``, as Paddle does.
        clip_norm: bound of the gradient's norm; ``None`` leaves it to us.
    """

    kind: Literal["adam", "adamw", "sgd"] = "sgd"
    weight_decay: float = 0.0
    clip_norm: float | None = None


def read_learning_rate(parent: Section, warn: Warn) -> LearningRate:
    """Read ``learning_rate``: a number, or a mapping with the type of a schedule.

    Args:
        parent: the section that holds it.
        warn: told what another schedule takes the place of.

    Raises:
        InputError: it is missing, or the schedule is unknown or lacks an argument.
    """
    if not isinstance(parent.node("learning_rate").value, dict):
        return LearningRate(parent.number("learning_rate", least=1e-12, most=10.0))
    node = parent.node("learning_rate")
    name = f"{parent.name}.learning_rate"
    if "type" not in node.value:  # perhaps misspelt: then the nearest of all keys is named
        every = dict.fromkeys(key for keys in SCHEDULES.values() for key in keys)
        Section(node, name, ("type", "learning_rate", "last_epoch", "verbose", *every))
    kind = Section(Located({"type": node.value.get("type", Located(None, node.where))}, node.where), name, ("type",))
    found = kind.choice("type", (*SCHEDULES, *REPLACED))
    if found in REPLACED:
        warn(f"{node.where}: {name}.type {found}: CosineAnnealingDecay over the run takes its place")
        rate = node.value.get("learning_rate", node.value.get("max_learning_rate", Located(None, node.where)))
        first = Section(Located({"learning_rate": rate}, node.where), name, ("learning_rate",))
        return LearningRate(first.number("learning_rate", 5e-5, 1e-12, 10.0), "cosine")
    section = Section(node, name, ("type", "learning_rate", "last_epoch", "verbose", *SCHEDULES[found]))
    section.without_effect(("last_epoch", "verbose"), warn, "a run begins at its first step")
    return _READERS[found](section, warn)


def _cosine(section: Section, warn: Warn) -> LearningRate:
    value = section.number("learning_rate", least=1e-12, most=10.0)
    steps = section.integer("T_max", 1, 1) if "T_max" in section else None
    return LearningRate(value, "cosine", steps, section.number("eta_min", 0.0, most=value) / value)


def _piecewise(section: Section, warn: Warn) -> LearningRate:
    boundaries, values = section.numbers("boundaries"), section.numbers("values")
    if len(values) != len(boundaries) + 1 or list(boundaries) != sorted(boundaries):
        raise section.error("boundaries", "must ascend, and values must have one more number than boundaries")
    highest = max(values)
    if highest <= 0 or min(values) < 0:
        raise section.error("values", "must not be negative, nor all 0")
    steps = tuple(int(step) for step in boundaries)
    return LearningRate(highest, "piecewise", boundaries=steps, values=tuple(value / highest for value in values))


def _multi_step(section: Section, warn: Warn) -> LearningRate:
    value, gamma = section.number("learning_rate", least=1e-12, most=10.0), section.number("gamma", 0.1, 0.0, 1.0)
    steps = tuple(int(step) for step in section.numbers("milestones"))
    if list(steps) != sorted(steps):
        raise section.error("milestones", "must ascend")
    values = tuple(gamma**index for index in range(len(steps) + 1))
    return LearningRate(value, "piecewise", boundaries=steps, values=values)


def _step(section: Section, warn: Warn) -> LearningRate:
    value, gamma = section.number("learning_rate", least=1e-12, most=10.0), section.number("gamma", 0.1, 0.0, 1.0)
    return LearningRate(value, "piecewise", every=section.integer("step_size", least=1), gamma=gamma)


def _warmup(section: Section, warn: Warn) -> LearningRate:
    after = read_learning_rate(section, warn)
    if section.number("start_lr", 0.0) > 0:
        warn(f"{section.node('start_lr').where}: {section.name}.start_lr: the rise begins at 0")
    section.number("end_lr", after.value)
    warmup = section.integer("warmup_steps")  # the other schedule begins when it ends, as in Paddle
    return replace(
        after,
        warmup=warmup,
        steps=None if after.steps is None else after.steps + warmup,
        boundaries=tuple(boundary + warmup for boundary in after.boundaries),
    )


_READERS: dict[str, Callable[[Section, Warn], LearningRate]] = {
    "CosineAnnealingDecay": _cosine,
    "PiecewiseDecay": _piecewise,
    "MultiStepDecay": _multi_step,
    "StepDecay": _step,
    "LinearWarmup": _warmup,
}


def read_optimizer(parent: Section, warn: Warn) -> Optimizer:
    """Read ``optimizer_builder``, or ``optimizer`` and ``optim_args`` as older files have them.

    Args:
        parent: ``TrainConfig``.
        warn: told what has no effect.

    Raises:
        InputError: an unknown optimiser or argument.
    """
    arguments = ("weight_decay", "grad_clip", "regularizer")
    if "optimizer_builder" not in parent:
        kind = _kind(parent, "optimizer", None, warn)
        older = Section(parent.node("optim_args"), f"{parent.name}.optim_args", (*arguments, "grad_clip_args"))
        return Optimizer(kind, _decay(older), _clip(older, older.node("grad_clip_args")))
    builder = Section(parent.node("optimizer_builder"), f"{parent.name}.optimizer_builder", ("optimizer", *arguments))
    node = builder.node("optimizer")
    known = ("type", "beta1", "beta2", "epsilon", "momentum", "use_nesterov", "weight_decay", "lazy_mode")
    own = Section(node, f"{builder.name}.optimizer", known)
    own.without_effect(("lazy_mode",), warn, "no gradient is sparse")
    decay = own.number("weight_decay", 0.0) if "weight_decay" in own else _decay(builder)
    return Optimizer(_kind(own, "type", own, warn), decay, _clip(builder, None))


def _kind(section: Section, key: str, arguments: Section | None, warn: Warn) -> Literal["adam", "adamw", "sgd"]:
    name = section.choice(key, tuple(OPTIMIZERS), "SGD")
    usual = {"beta1": BETAS[0], "beta2": BETAS[1], "epsilon": 1e-8, "momentum": 0.9}
    for argument, value in usual.items() if arguments is not None else ():
        if arguments is not None and arguments.number(argument, value) != value:
            warn(f"{arguments.node(argument).where}: {arguments.name}.{argument}: {value:g} is used")
    if arguments is not None and arguments.flag("use_nesterov", False):
        warn(f"{arguments.node('use_nesterov').where}: {arguments.name}.use_nesterov: plain momentum is used")
    if name == "SGD":
        warn(f"{section.node(key).where}: {section.name}.{key} SGD: has momentum 0.9")
    return OPTIMIZERS[name]


def _decay(section: Section) -> float:
    """Return the weight decay: a number, or Paddle's ``regularizer: {type: L2, factor: ...}``."""
    if "weight_decay" in section or "regularizer" not in section:
        return section.number("weight_decay", 0.0, most=1.0)
    inner = Section(section.node("regularizer"), f"{section.name}.regularizer", ("type", "name", "factor"))
    inner.choice("type" if "type" in inner else "name", ("L2", "L2Decay"), "L2")
    return inner.number("factor", 0.0, most=1.0)


def _clip(section: Section, arguments: Located | None) -> float | None:
    """Return the bound of the gradient's norm."""
    if "grad_clip" not in section:
        return None
    known = ("ClipGradByGlobalNorm", "ClipGradByNorm")
    node = section.node("grad_clip")
    if arguments is not None:  # the name apart from its arguments
        section.choice("grad_clip", known)
        return Section(arguments, f"{section.name}.grad_clip_args", ("clip_norm",)).number("clip_norm", 1.0)
    inner = Section(node, f"{section.name}.grad_clip", ("type", "clip_norm"))
    inner.choice("type", known)
    return inner.number("clip_norm", 1.0)
