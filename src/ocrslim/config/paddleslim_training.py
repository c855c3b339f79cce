"""The sections of a PaddleSlim file that say how to compress and train, as typed frozen settings.

``Distillation``, ``QuantAware`` (``Quantization`` in older files), ``QuantPost``, ``ChannelPrune`` and ``TrainConfig``.
Where a key cannot have its effect here, a warning says what happens instead.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast

from ocrslim.config.located import Located, Section, nearest
from ocrslim.config.paddleslim_optimizer import LearningRate, Optimizer, read_learning_rate, read_optimizer

__all__ = [
    "ExampleDistillation",
    "ExampleQuantization",
    "ExampleTraining",
    "PostQuantization",
    "Pruning",
    "Term",
    "read_distillation",
    "read_post_quantization",
    "read_pruning",
    "read_quantization",
    "read_training",
]

Warn = Callable[[str], None]
TermLoss = Literal["l2", "skd", "soft_label"]

OPERATORS = {
    "conv2d": "Conv",
    "depthwise_conv2d": "depthwise Conv",
    "conv2d_transpose": "ConvTranspose",
    "mul": "MatMul",
    "matmul": "MatMul",
    "matmul_v2": "MatMul",
}
"""Paddle's operators that have weights, and what they are in ONNX."""
ALL_OPERATORS = tuple(OPERATORS)
_WEIGHTLESS = """
abs argmax arg_max batch_norm bilinear_interp bilinear_interp_v2 clip concat dropout elementwise_add elementwise_div
elementwise_max elementwise_min elementwise_mul elementwise_pow elementwise_sub equal exp flatten2
flatten_contiguous_range gather gelu hard_sigmoid hard_swish layer_norm leaky_relu log max mean min nearest_interp
nearest_interp_v2 pad2d pool2d prelu reduce_max reduce_mean reduce_sum relu relu6 reshape reshape2 scale shape sigmoid
slice softmax split sqrt squeeze squeeze2 stack sum swish tanh transpose transpose2 unsqueeze unsqueeze2
"""
WEIGHTLESS = frozenset(_WEIGHTLESS.split())
"""Paddle's operators that PaddleSlim quantizes the inputs of, and that have no weights to make int8 worth it."""
FLOAT_OPERATORS = ("depthwise_conv2d", "conv2d_transpose")
OBSERVERS = {
    "moving_average_abs_max": "moving_average",
    "range_abs_max": "minmax",
    "abs_max": "minmax",
}
ALGORITHMS = {
    "hist": "percentile",
    "mse": "mse",
    "emd": "mse",
    "KL": "mse",
    "avg": "moving_average",
    "abs_max": "minmax",
    "min_max": "minmax",
    "ptf": "minmax",
}
"""Paddle's calibration algorithms, and the observers that take their place."""


@dataclass(frozen=True)
class Term:
    """One distillation loss.

    Args:
        loss: ``l2`` is the mean squared difference, ``skd`` spherical distillation, ``soft_label`` the cross-entropy.
        alpha: its weight.
        nodes: the values of the graph that are compared; empty stands for the logits.
        where: of the names in the file, for messages.
    """

    loss: TermLoss
    alpha: float
    nodes: tuple[str, ...]
    where: str


@dataclass(frozen=True)
class ExampleDistillation:
    """What is distilled, and from which teacher.

    Args:
        terms: in the file's order.
        teacher_dir: folder of the teacher; ``None`` is the float model itself.
        teacher_model: file in it.
        teacher_params: file in it.
    """

    terms: tuple[Term, ...]
    teacher_dir: Path | None = None
    teacher_model: str | None = None
    teacher_params: str | None = None


@dataclass(frozen=True)
class ExampleQuantization:
    """What becomes int8.

    Args:
        operators: Paddle's names, as in the file.
        weight_bits: 2 to 8.
        activation_bits: 2 to 8.
        keep_float: parts of names of nodes that stay float.
        pact: the activations' ranges are learned.
        per_channel: weights have a scale for each output channel.
        observer: of activations, by our name; ``None`` where the file names none.
    """

    operators: tuple[str, ...] = ALL_OPERATORS
    weight_bits: int = 8
    activation_bits: int = 8
    keep_float: tuple[str, ...] = ("skip_quant",)
    pact: bool = False
    per_channel: bool = True
    observer: str | None = None


@dataclass(frozen=True)
class PostQuantization:
    """Calibration without training.

    Args:
        observer: of activations, by our name.
        batches: to calibrate on; ``None`` leaves the number to us.
        batch: images in each.
        bias_correction: mend the means of the outputs afterwards.
        quantization: what becomes int8.
    """

    observer: str
    batches: int | None
    batch: int
    bias_correction: bool
    quantization: ExampleQuantization


@dataclass(frozen=True)
class Pruning:
    """Channels to take away: the ratio, of which weights (none named: all), and by what they are ranked."""

    ratio: tuple[float, ...]
    parameters: tuple[str, ...]
    criterion: str


@dataclass(frozen=True)
class ExampleTraining:
    """How long and how fast to train.

    Args:
        epochs: rounds over the data; counts where there are no ``steps``.
        steps: Paddle's ``train_iter``.
        judge_every: steps between two evaluations.
        log_every: steps between two lines of the log.
        learning_rate: see there.
        optimizer: see there.
        origin_metric: what the user says that the float model scores.
        target_metric: stop as soon as this is reached.
        amp: the file asks for mixed precision; ``--amp`` decides.
    """

    epochs: int
    steps: int | None
    judge_every: int
    log_every: int
    learning_rate: LearningRate
    optimizer: Optimizer
    origin_metric: float | None
    target_metric: float | None
    amp: bool


def read_distillation(node: Located, warn: Warn) -> ExampleDistillation:
    """Read ``Distillation``.

    Raises:
        InputError: loss, alpha and node are not lists of one length, or a loss is unknown.
    """
    teacher = ("teacher_model_dir", "teacher_model_filename", "teacher_params_filename")
    section = Section(node, "Distillation", ("alpha", "loss", "node", *teacher, "merge_feed"))
    section.without_effect(("merge_feed",), warn, "student and teacher see the same images in any case")
    losses = section.texts("loss", ("l2",))
    alphas = section.numbers("alpha", [1.0] * len(losses))
    groups = _groups(section)
    if len(alphas) != len(losses):
        raise section.error("alpha", f"has {len(alphas)} weights for {len(losses)} losses; give one for each")
    if groups and len(groups) != len(losses):
        raise section.error("node", f"has {len(groups)} lists of nodes for {len(losses)} losses; give one for each")
    terms = tuple(
        Term(_loss(section, loss, warn), alpha, groups[index] if groups else (), section.node("node").where)
        for index, (loss, alpha) in enumerate(zip(losses, alphas, strict=True))
    )
    folder = section.optional_text(teacher[0])
    names = (section.optional_text(key) for key in teacher[1:])
    return ExampleDistillation(terms, Path(folder) if folder else None, *names)


def _groups(section: Section) -> list[tuple[str, ...]]:
    """Return the nodes of each loss; the plain list of names that one loss may have is one group."""
    entries = section.items("node")
    if all(isinstance(entry.value, str) for entry in entries):
        return [tuple(entry.value for entry in entries)] if entries else []
    key = "node"
    return [Section(Located({key: entry}, entry.where), "Distillation", (key,)).texts(key) for entry in entries]


def _loss(section: Section, name: str, warn: Warn) -> TermLoss:
    known = ("l2", "skd", "soft_label")
    if name in known:
        return cast(TermLoss, name)
    others = ("fsp", "dkd")
    if name not in others:
        raise section.error("loss", f"{name!r} is unknown; {nearest(name, (*known, *others))}")
    warn(f"{section.node('loss').where}: Distillation.loss {name}: skd takes its place")
    return "skd"


def read_quantization(node: Located, name: str, warn: Warn) -> ExampleQuantization:
    """Read ``QuantAware``, or ``Quantization`` as older files call it.

    Raises:
        InputError: an unknown key or operator, or a wrong type.
    """
    known = (
        *("quantize_op_types", "weight_bits", "activation_bits", "not_quant_pattern", "use_pact"),
        *("activation_quantize_type", "weight_quantize_type", "dtype", "window_size", "moving_rate"),
        *("for_tensorrt", "onnx_format", "is_full_quantize"),
    )
    section = Section(node, name, known)
    kind = section.choice("activation_quantize_type", tuple(OBSERVERS), "moving_average_abs_max")
    section.integer("window_size", 10000, 1)
    section.without_effect(("window_size",), warn, "nothing is averaged over a window")
    if section.number("moving_rate", 0.9, most=0.9999) != 0.9:
        warn(f"{section.node('moving_rate').where}: {name}.moving_rate: 0.9 is used")
    if section.choice("dtype", ("int8", "uint8"), "int8") == "uint8":
        warn(f"{section.node('dtype').where}: {name}.dtype: the target's engine decides; weights are int8 in all")
    if section.flag("for_tensorrt", False):
        warn(f"{section.node('for_tensorrt').where}: {name}.for_tensorrt: the operators are those of --target")
    if not section.flag("onnx_format", True):
        where = section.node("onnx_format").where
        warn(f"{where}: {name}.onnx_format false: the model is written in the onnx_format all the same")
    return ExampleQuantization(
        _operators(section, warn),
        section.integer("weight_bits", 8, 2) if _bits(section, "weight_bits") else 8,
        section.integer("activation_bits", 8, 2) if _bits(section, "activation_bits") else 8,
        section.texts("not_quant_pattern", ("skip_quant",)),
        section.flag("use_pact", False),
        section.choice("weight_quantize_type", ("channel_wise_abs_max", "abs_max"), "channel_wise_abs_max")
        != "abs_max",
        OBSERVERS[kind] if "activation_quantize_type" in section else None,
    )


def _bits(section: Section, key: str) -> bool:
    """Say whether the key is there; more than 8 bits are refused."""
    if key in section and section.integer(key, 8, 2) > 8:
        raise section.error(key, "must be 2 to 8")
    return key in section


def _operators(section: Section, warn: Warn) -> tuple[str, ...]:
    where = section.node("quantize_op_types").where
    found = section.texts("quantize_op_types", ALL_OPERATORS)
    if section.flag("is_full_quantize", False):
        warn(f"{section.where}: {section.name}.is_full_quantize: all operators with weights; adds and pools stay float")
        found = tuple(dict.fromkeys((*found, *ALL_OPERATORS)))
    for name in found:
        if name in WEIGHTLESS:
            warn(f"{where}: {section.name}.quantize_op_types: {name} stays float, it multiplies by no weights")
        elif name not in OPERATORS:
            raise section.error("quantize_op_types", f"{name!r} is unknown; {nearest(name, ALL_OPERATORS)}")
    if "quantize_op_types" in section:
        for name in FLOAT_OPERATORS:
            if name in found:
                warn(f"{where}: {section.name}.quantize_op_types: {name} stays float, it is slower in int8 on a CPU")
    with_weights = tuple(name for name in found if name in OPERATORS)
    if not with_weights:
        raise section.error(
            "quantize_op_types", f"names no operator with weights; {', '.join(ALL_OPERATORS)} have some"
        )
    return with_weights


def read_post_quantization(node: Located, warn: Warn) -> PostQuantization:
    """Read ``QuantPost``.

    Raises:
        InputError: an unknown key or algorithm, or a wrong type.
    """
    shared = ("quantize_op_types", "weight_bits", "activation_bits", "is_full_quantize", "onnx_format")
    ignored = ("epochs", "lr", "regions", "region_weights_names", "simulate_activation_quant", "skip_tensor_list")
    own = ("batch_size", "batch_nums", "algo", "hist_percent", "recon_level", "bias_correction", "bias_correct")
    kinds = ("weight_quantize_type", "activation_quantize_type")
    section = Section(node, "QuantPost", (*own, *shared, *ignored, *kinds))
    algorithm = section.choice("algo", tuple(ALGORITHMS), "hist")
    where = section.node("algo").where
    if algorithm in ("KL", "emd", "ptf"):
        warn(f"{where}: QuantPost.algo {algorithm}: the observer {ALGORITHMS[algorithm]} takes its place")
    section.without_effect(ignored, warn, "nothing is reconstructed layer by layer")
    if section.number("hist_percent", 0.9999, 0.5, 1.0) != 0.9999:
        warn(f"{section.node('hist_percent').where}: QuantPost.hist_percent: 0.9999 of the values are kept")
    if section.optional_text("recon_level") is not None:
        where = section.node("recon_level").where
        warn(
            f"{where}: QuantPost.recon_level: no reconstruction layer by layer; train with QuantAware and Distillation"
        )
    taken = {key: section.node(key) for key in (*shared, *kinds) if key in section}
    bias = section.flag("bias_correction", section.flag("bias_correct", False))
    return PostQuantization(
        ALGORITHMS[algorithm],
        section.integer("batch_nums", 1, 1) if "batch_nums" in section else None,
        section.integer("batch_size", 32, 1),
        bias,
        read_quantization(Located(taken, node.where), "QuantPost", warn),
    )


def read_pruning(node: Located, warn: Warn) -> Pruning:
    """Read ``ChannelPrune``; the channels stay, as long as nothing here takes them away.

    Raises:
        InputError: an unknown key, or a ratio that is not below 1.
    """
    section = Section(node, "ChannelPrune", ("pruned_ratio", "prune_params_name", "criterion"))
    ratio = section.numbers("pruned_ratio")
    if not ratio or min(ratio) < 0 or max(ratio) >= 1:
        raise section.error("pruned_ratio", "must be at least 0 and below 1")
    said = "no channels are taken away, which `ocrslim prune` does; the model is quantized and distilled"
    warn(f"{node.where}: ChannelPrune: {said}")
    criterion = section.choice("criterion", ("l1_norm", "bn_scale", "geometry_median"), "l1_norm")
    return Pruning(ratio, section.texts("prune_params_name", ()), criterion)


def read_training(node: Located, warn: Warn) -> ExampleTraining:
    """Read ``TrainConfig``.

    Raises:
        InputError: an unknown key, schedule or optimiser, or a wrong type.
    """
    ignored = ("recompute_config", "sharding_config", "sparse_model", "use_fleet")
    known = (
        *("epochs", "train_iter", "eval_iter", "logging_iter", "learning_rate", "optimizer_builder"),
        *("optimizer", "optim_args", "origin_metric", "target_metric", "amp_config", *ignored),
    )
    section = Section(node, "TrainConfig", known)
    for key in ignored:
        if key in section and section.node(key).value is not False:
            warn(f"{section.node(key).where}: TrainConfig.{key}: has no effect; the models are small enough without")
    amp = "amp_config" in section and section.node("amp_config").value is not False
    if amp:
        said = "has no effect; --amp decides: a half type on a GPU, float32 on a CPU"
        warn(f"{section.node('amp_config').where}: TrainConfig.amp_config: {said}")
    return ExampleTraining(
        section.integer("epochs", 1, 1),
        section.integer("train_iter", 1, 1) if "train_iter" in section else None,
        section.integer("eval_iter", 1000, 1),
        section.integer("logging_iter", 10, 1),
        read_learning_rate(section, warn),
        read_optimizer(section, warn),
        section.number("origin_metric", 0.0) if "origin_metric" in section else None,
        section.number("target_metric", 0.0) if "target_metric" in section else None,
        amp,
    )
