"""The YAML files of PaddleSlim's OCR example, read to typed frozen settings.

Every key acts, or a warning says what happens instead; an unknown key or a wrong type is an error that names the file,
the line, and the nearest known name. Paths are relative to the working directory, as in the example.

The learning rate is linear in the batch: the example's 0.00005 belongs to batch 8, and for batch 32 a file says 0.0002.
What ``--devices`` and ``--accumulate`` make of a batch is not the file's: they multiply the rate by themselves
(:meth:`ocrslim.slimming.training.compute.Compute.fit`), and what learns, scales and biases, takes 10 times the file's
(``RATE_FACTOR`` in :mod:`ocrslim.slimming.example`).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from ocrslim.config.located import Located, Section, read_located
from ocrslim.config.paddleslim_data import (
    Dataset,
    ExampleMetric,
    det_profile,
    read_dataset,
    read_metric,
    read_post_process,
)
from ocrslim.config.paddleslim_training import (
    ExampleDistillation,
    ExampleQuantization,
    ExampleTraining,
    PostQuantization,
    Pruning,
    read_distillation,
    read_post_quantization,
    read_pruning,
    read_quantization,
    read_training,
)
from ocrslim.config.profile import Profile, RecProfile, Task
from ocrslim.config.transforms import RecResizeImg

__all__ = ["ExampleConfig", "ExampleModel", "load_config"]

STRATEGIES = ("Distillation", "QuantAware", "Quantization", "QuantPost", "ChannelPrune")
INSTEAD = {
    "MultiTeacherDistillation": "the float model is the only teacher; name one teacher under Distillation",
    "HyperParameterOptimization": "nothing is searched; `ocrslim sensitivity` says which layers cost accuracy",
    "UnstructurePrune": "weights stay dense: CPUs gain nothing from single zeros",
    "TransformerPrune": "no attention heads are taken away; `ocrslim prune` takes channels",
    "ASPPrune": "weights stay dense: 2:4 sparsity speeds up NVIDIA GPUs only",
}
SECTIONS = ("Global", *STRATEGIES, *INSTEAD, "TrainConfig", "PostProcess", "Metric", "Train", "Eval")


@dataclass(frozen=True)
class ExampleModel:
    """The model to compress.

    Args:
        task: det or rec.
        folder: ``model_dir``, or the official name of a model.
        model_file: in the folder.
        params_file: in the folder; ``None`` where the parameters are in files of their own.
        algorithm: such as DB or SVTR; model and task decide, not this name.
        dictionary: file of characters; ``None`` takes the model's own.
        max_text_length: longer labels are left out of training.
        use_space: the classes end with a space.
    """

    task: Task
    folder: Path
    model_file: str | None
    params_file: str | None
    algorithm: str
    dictionary: Path | None
    max_text_length: int
    use_space: bool


@dataclass(frozen=True)
class ExampleConfig:
    """All that a file says.

    Args:
        path: the file.
        model: what to compress.
        distillation: ``None`` where the file has no such section; the float model teaches all the same.
        quantization: ``None`` where nothing is to become int8 by training.
        post_quantization: ``None`` where nothing is calibrated only.
        pruning: ``None`` where no channels are taken away.
        training: ``None`` where nothing is trained.
        profile: pre- and post-processing, for scoring.
        metric: what is scored.
        train: data to learn from.
        eval: data to score on.
        warnings: what happens instead of what some keys say; each begins with ``file:line``.
    """

    path: Path
    model: ExampleModel
    distillation: ExampleDistillation | None
    quantization: ExampleQuantization | None
    post_quantization: PostQuantization | None
    pruning: Pruning | None
    training: ExampleTraining | None
    profile: Profile
    metric: ExampleMetric
    train: Dataset | None
    eval: Dataset | None
    warnings: tuple[str, ...]


def load_config(path: Path) -> ExampleConfig:
    """Read a file of the example.

    Args:
        path: such as ``ppocrv3_det_qat_dist.yaml``.

    Raises:
        InputError: it can't be read, has an unknown key or a wrong type, or lacks ``Global``.
    """
    root = read_located(path)
    section = Section(root, "", SECTIONS)
    warnings: list[str] = []
    warn = warnings.append
    if "Global" not in section:
        raise section.error("Global", "is missing; it names model_type and model_dir")
    model = _read_model(section.node("Global"), warn)
    for name, instead in INSTEAD.items():
        if name in section:
            warn(f"{section.node(name).where}: {name}: {instead}")
    train = read_dataset(section.node("Train"), "Train", model.task, warn) if "Train" in section else None
    evaluate = read_dataset(section.node("Eval"), "Eval", model.task, warn) if "Eval" in section else None
    post = read_post_process(section.node("PostProcess"), model.task, warn)
    transforms = evaluate.transforms if evaluate else ()
    rec = next((item for item in transforms if isinstance(item, RecResizeImg)), RecResizeImg())
    profile = Profile(path.name, det_profile(post, transforms), RecProfile(*rec.image_shape[1:]))
    return ExampleConfig(
        path,
        model,
        _read(section, "Distillation", read_distillation, warn),
        _read_quantization(section, warn),
        _read(section, "QuantPost", read_post_quantization, warn),
        _read(section, "ChannelPrune", read_pruning, warn),
        _read(section, "TrainConfig", read_training, warn),
        profile,
        read_metric(section.node("Metric"), model.task),
        train,
        evaluate,
        tuple(warnings),
    )


def _read(section: Section, name: str, reader: Any, warn: Any) -> Any:
    """Read a section that may be missing; one that is named but empty has its defaults."""
    return reader(section.node(name), warn) if name in list(section) else None


def _read_quantization(section: Section, warn: Any) -> ExampleQuantization | None:
    names = [name for name in ("QuantAware", "Quantization") if name in list(section)]
    if len(names) == 2:
        raise section.error("Quantization", "is the older name of QuantAware; keep one of the two")
    return read_quantization(section.node(names[0]), names[0], warn) if names else None


def _read_model(node: Located, warn: Any) -> ExampleModel:
    known = (
        *("model_type", "model_dir", "model_filename", "params_filename", "algorithm", "character_dict_path"),
        *("max_text_length", "use_space_char", "input_name", "deploy_hardware", "model_name"),
    )
    section = Section(node, "Global", known)
    task = cast(Task, section.choice("model_type", ("det", "rec")))
    section.without_effect(("model_name",), warn, "the model is the one in model_dir")
    dictionary = section.optional_text("character_dict_path")
    if "deploy_hardware" in section:
        warn(f"{section.node('deploy_hardware').where}: Global.deploy_hardware: --target says what will run the model")
    if "input_name" in section:
        warn(f"{section.node('input_name').where}: Global.input_name: images go to the model's only input")
    algorithm = section.text("algorithm", "DB" if task == "det" else "CRNN")
    if task == "det" and algorithm not in ("DB", "DB++"):
        warn(f"{section.node('algorithm').where}: Global.algorithm {algorithm}: the output is read as DB's map")
    return ExampleModel(
        task,
        Path(section.text("model_dir")),
        section.optional_text("model_filename"),
        section.optional_text("params_filename"),
        algorithm,
        Path(dictionary) if dictionary else None,
        section.integer("max_text_length", 25, 1),
        section.flag("use_space_char", False),
    )
