"""The recipe of the PaddleSlim example's files: which model they mean, and scoring it on their data.

``ocrslim compress --config_path X.yaml --save_dir D`` and ``ocrslim eval --config_path X.yaml`` begin here.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from ocrslim.config.paddleslim import ExampleConfig, ExampleModel
from ocrslim.config.profile import Task
from ocrslim.errors import InputError, ModelError
from ocrslim.evaluate import EvalResult, evaluate
from ocrslim.graph.importers.source import ModelSource, open_model
from ocrslim.graph.importers.zoo import MODELS
from ocrslim.report.run_log import progress_bar
from ocrslim.slimming.training.labelled_loader import open_labelled

__all__ = ["evaluate_example", "open_example_model", "open_teacher"]

DOWNLOADS = "https://paddleocr.bj.bcebos.com/PP-OCRv{}/chinese/{}.tar"  # version, name


def open_example_model(config: ExampleConfig) -> tuple[ModelSource, tuple[str, ...]]:
    """Open the model that ``Global`` names.

    ``model_dir`` is a folder, or the official name of a model, which is then fetched. The characters are those of
    ``character_dict_path``; where that file is missing but the model carries its own, these.

    Args:
        config: the file.

    Returns:
        tuple: the model; what had to be said about it.

    Raises:
        ModelError: there is no such model or dictionary, or the model is for the other task.
    """
    model = config.model
    warnings = []
    dictionary = model.dictionary if model.task == "rec" else None
    if dictionary is not None and not dictionary.is_file():
        warnings.append(
            f"Global.character_dict_path {dictionary}: no such file; the dictionary beside the model is used"
        )
        dictionary = None
    source = open_model(_spec(config, model), dictionary)
    _check_task(config, source, model.task)
    if model.task == "rec" and source.characters is None:
        raise ModelError(
            f"{config.path}: Global.character_dict_path {model.dictionary}: no such file (paths are relative to "
            f"{Path.cwd()}), and the model comes without one; PaddleOCR's is ppocr/utils/ppocr_keys_v1.txt"
        )
    if model.task == "rec" and source.use_space != model.use_space:
        said = "has" if source.use_space else "has not"
        warnings.append(f"Global.use_space_char {str(model.use_space).lower()}: the model {said} a class for the space")
    return source, tuple(warnings)


def open_teacher(config: ExampleConfig, student: ModelSource) -> ModelSource:
    """Return the teacher that ``Distillation`` names; the float model itself where it names none.

    Args:
        config: the file.
        student: the model to compress.

    Raises:
        ModelError: there is no such model, or it is for the other task.
    """
    distillation = config.distillation
    if distillation is None or distillation.teacher_dir is None:
        return student
    named = replace(
        config.model,
        folder=distillation.teacher_dir,
        model_file=distillation.teacher_model,
        params_file=distillation.teacher_params,
    )
    teacher = open_model(_spec(config, named), config.model.dictionary if student.task == "rec" else None)
    _check_task(config, teacher, student.task)
    return teacher


def evaluate_example(
    config: ExampleConfig,
    *,
    engine: str = "openvino",
    threads: int = 2,
    limit: int | None = None,
    loose: bool = False,
    console: Console | None = None,
) -> tuple[EvalResult, tuple[str, ...]]:
    """Score the model of ``Global`` on the data of ``Eval``, with the file's pre- and post-processing and metric.

    Lines are squeezed into ``RecResizeImg.image_shape``, as PaddleOCR's evaluation does.

    Args:
        config: the file.
        engine: see :func:`ocrslim.evaluate.evaluate`.
        threads: of the engine.
        limit: score the first ``limit`` images only.
        loose: see :func:`ocrslim.evaluate.evaluate`.
        console: where a progress bar is shown.

    Returns:
        tuple: what the evaluation found; the warnings of opening the model.

    Raises:
        InputError: the file has no ``Eval``, or the model or the data can't be used.
        EngineError: the engine failed.
    """
    if config.eval is None:
        raise InputError(f"{config.path}: has no Eval section; it says which images to score on")
    found = open_labelled(config.eval, config.model.task, seed=0)  # the data first: its absence is the usual mistake
    source, warnings = open_example_model(config)
    with progress_bar(source.name, console or Console(quiet=True)) as update:
        result = evaluate(
            source,
            found.samples[:limit],
            engine=engine,
            profile=config.profile,
            threads=threads,
            loose=loose,
            rec_width="fixed",
            ignore_space=config.metric.ignore_space,
            skipped=found.skipped,
            progress=update,
        )
    return result, warnings


def _spec(config: ExampleConfig, model: ExampleModel) -> str | Path:
    """Return what names the model for :func:`open_model`."""
    if model.folder.is_file():
        return model.folder
    if model.folder.is_dir():
        named = model.folder / model.model_file if model.model_file else model.folder
        _check_params(config, model)
        return named if named.is_file() else model.folder
    if model.folder.name in MODELS:
        return model.folder.name
    version = re.search(r"PP-OCRv(\d)", model.folder.name)
    name = model.folder.name if version else f"ch_PP-OCRv3_{model.task}_infer"
    archive = DOWNLOADS.format(version.group(1) if version else 3, name)
    raise ModelError(
        f"{config.path}: Global.model_dir {model.folder}: no such folder (paths are relative to {Path.cwd()}); unpack "
        f"the model there, such as {archive}, or write the name of one that `ocrslim models` lists"
    )


def _check_params(config: ExampleConfig, model: ExampleModel) -> None:
    """Refuse parameters under another name than the program's: the two belong together."""
    if not model.model_file or not model.params_file:
        return
    program, parameters = Path(model.model_file), Path(model.params_file)
    old = (program.name, parameters.name) == ("__model__", "__params__")
    if (model.folder / program).is_file() and not old and program.stem != parameters.stem:
        raise ModelError(
            f"{config.path}: Global.params_filename {parameters}: must be called as the program is, {program.stem}"
            ".pdiparams; rename one of the two"
        )


def _check_task(config: ExampleConfig, source: ModelSource, task: Task) -> None:
    if source.task != task:
        raise ModelError(f"{config.path}: Global.model_type is {task}, but {source.name} is a {source.task} model")
