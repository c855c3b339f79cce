"""The recipe of the PaddleSlim example's files: which model they mean, and scoring it on their data.

``ocrslim compress --config_path X.yaml --save_dir D`` and ``ocrslim eval --config_path X.yaml`` begin here.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from ocrslim.config.paddleslim import ExampleConfig, ExampleModel
from ocrslim.config.paddleslim_data import Dataset
from ocrslim.config.profile import Task, load_profile
from ocrslim.errors import InputError, ModelError
from ocrslim.evaluate import EvalResult, evaluate
from ocrslim.graph.importers.source import ModelSource, open_model
from ocrslim.graph.importers.zoo import MODELS
from ocrslim.made_for import engine_for
from ocrslim.ocr.labels import find_data_dir
from ocrslim.report.run_log import progress_bar
from ocrslim.slimming.training.labelled_loader import open_labelled

__all__ = ["evaluate_example", "open_example_model", "open_teacher", "override"]

DOWNLOADS = "https://paddleocr.bj.bcebos.com/PP-OCRv{}/chinese/{}.tar"  # version, name


def override(
    config: ExampleConfig,
    *,
    data: Path | None = None,
    evaluate: Path | None = None,
    data_dir: Path | None = None,
) -> ExampleConfig:
    """Return the file's settings with what the command line says in place of what the file says.

    Args:
        config: the file.
        data: label file or LMDB of lines in place of the data of ``Train``; its transforms and loader stay.
        evaluate: the same for ``Eval``.
        data_dir: what image paths in these label files, or in the file's own, are relative to; without it they are
            looked for as elsewhere, see :func:`ocrslim.ocr.labels.find_data_dir`.

    Raises:
        DataError: one of the files can't be read.
    """
    scored = config.eval
    if scored is None and evaluate is not None and config.train is not None:
        scored = replace(config.train, name="Eval")
    return replace(config, train=_with_data(config.train, data, data_dir), eval=_with_data(scored, evaluate, data_dir))


def _with_data(dataset: Dataset | None, path: Path | None, data_dir: Path | None) -> Dataset | None:
    if dataset is None or (path is None and data_dir is None):
        return dataset
    if path is None:
        return dataset if data_dir is None else replace(dataset, data_dir=data_dir)
    if path.is_dir():
        return replace(dataset, kind="lmdb", data_dir=path, label_files=(), ratios=(1.0,))
    return replace(dataset, kind="files", data_dir=data_dir or find_data_dir(path), label_files=(path,), ratios=(1.0,))


def open_example_model(
    config: ExampleConfig, model: str | Path | None = None, dictionary: Path | None = None
) -> tuple[ModelSource, tuple[str, ...]]:
    """Open the model that ``Global`` names, or another in its place.

    ``model_dir`` is a folder, or the official name of a model, which is then fetched. The characters are those of
    ``character_dict_path``; where that file is missing but the model carries its own, these.

    Args:
        config: the file.
        model: in place of the file's; the dictionary that it carries goes before the file's.
        dictionary: in place of ``character_dict_path``.

    Returns:
        tuple: the model; what had to be said about it.

    Raises:
        ModelError: there is no such model or dictionary, or the model is for the other task.
    """
    said = config.model
    warnings = []
    named = said.dictionary if said.task == "rec" and dictionary is None else None
    if named is not None and not named.is_file():
        warnings.append(f"Global.character_dict_path {named}: no such file; the dictionary beside the model is used")
        named = None
    if model is None:
        source = open_model(_spec(config, said), dictionary or named)
    else:
        source = open_model(model, dictionary)
        if source.task == "rec" and source.characters is None and named is not None:
            source = open_model(model, named)
    _check_task(config, source, said.task)
    if said.task == "rec" and source.characters is None:
        raise ModelError(
            f"{config.path}: Global.character_dict_path {said.dictionary}: no such file (paths are relative to "
            f"{Path.cwd()}), and the model comes without one; PaddleOCR's is ppocr/utils/ppocr_keys_v1.txt, and "
            "--dict names it"
        )
    if said.task == "rec" and source.use_space != said.use_space:
        has = "has" if source.use_space else "has not"
        warnings.append(f"Global.use_space_char {str(said.use_space).lower()}: the model {has} a class for the space")
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
    model: str | Path | None = None,
    dictionary: Path | None = None,
    profile: str | None = None,
    engine: str | None = None,
    threads: int = 2,
    limit: int | None = None,
    loose: bool = False,
    console: Console | None = None,
) -> tuple[EvalResult, tuple[str, ...]]:
    """Score the model of ``Global`` on the data of ``Eval``, with the file's pre- and post-processing and metric.

    Lines are squeezed into ``RecResizeImg.image_shape``, as PaddleOCR's evaluation does.

    Args:
        config: the file.
        model: see :func:`open_example_model`.
        dictionary: see there.
        profile: see :func:`ocrslim.config.profile.load_profile`; in place of the file's.
        engine: see :func:`ocrslim.evaluate.evaluate_file`.
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
    source, warnings = open_example_model(config, model, dictionary)
    with progress_bar(source.name, console or Console(quiet=True)) as update:
        result = evaluate(
            source,
            found.samples[:limit],
            engine=engine_for([source], engine),
            profile=config.profile if profile is None else load_profile(profile, source.inference_yml),
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
