"""A model however the user names it: by its zoo name, as a file, a folder or an archive, in ONNX or in Paddle."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx_ir as ir
import yaml

from ocrslim.config.profile import Task
from ocrslim.config.safe_yaml import LOADER, UNREADABLE, check_yaml
from ocrslim.errors import ModelError
from ocrslim.graph.importers.onnx import external_files, load_onnx
from ocrslim.graph.importers.paddle.files import ARCHIVES, PaddleFiles, find, unpack
from ocrslim.graph.importers.paddle.importer import import_paddle
from ocrslim.graph.importers.zoo import MODELS, ZooModel, cache_folder, pull

__all__ = ["ModelSource", "open_model"]


FILES = ("inference.onnx", "model.onnx")
RANKS: dict[int, Task] = {4: "det", 3: "rec"}  # probability map [N, 1, H, W]; frames [N, T, classes]
POST_PROCESSES: dict[str, Task] = {"DBPostProcess": "det", "CTCLabelDecode": "rec"}
NAMELESS = (*FILES, "inference.pdmodel", "inference.json", "model.pdmodel", "__model__")  # the folder says more
MAX_TEXT = 16 << 20  # bytes of an inference.yml or a dictionary; the largest known have 0.3 million
YML_BOUNDS = 40, 500_000  # levels and values; a dictionary has 18,000
DICTIONARY = "dictionary.txt"
DICTIONARIES = ("ppocr_keys_v1.txt", "*dict*.txt")  # what PaddleOCR's own are called


@dataclass(frozen=True)
class ModelSource:
    """A model file and what is known about it.

    Args:
        path: the ONNX file; of a Paddle model the one in the cache that it was converted into.
        name: the official name where there is one, else the file's or the folder's.
        task: det or rec.
        inference_yml: the parsed ``inference.yml`` beside the file; ``None`` without one.
        characters: a recogniser's dictionary without blank and space; ``None`` for a detector or without one.
        sha256: of the file; where its weights lie in files beside it, of all of them.
        licence: SPDX identifier where the model is known.
        use_space: the classes end with a space that is not in the dictionary.
        paddle: the files that a Paddle model was read from; ``None`` for one that came as ONNX.
    """

    path: Path
    name: str
    task: Task
    inference_yml: Mapping[str, Any] | None
    characters: tuple[str, ...] | None
    sha256: str
    licence: str | None
    use_space: bool = True
    paddle: PaddleFiles | None = None

    def to_json(self) -> dict[str, Any]:
        """Return what a run's ``result.json`` says of its model; paths hold from any working directory."""
        return {
            "name": self.name,
            "task": self.task,
            "sha256": self.sha256,
            "licence": self.licence,
            "path": os.path.abspath(self.path),
            "paddle": os.path.abspath(self.paddle.program) if self.paddle else None,
        }

    def file_for(self, engine: str) -> Path:
        """Return the file that an engine loads: Paddle's own where the model came as such and the engine is Paddle."""
        return self.paddle.program if self.paddle is not None and engine.startswith("paddle") else self.path


def open_model(spec: str | Path, dictionary: str | Path | None = None) -> ModelSource:
    """Find a model; a zoo name is fetched unless it is in the cache, a Paddle model is converted to ONNX there.

    Args:
        spec: a zoo name; an ONNX file; a ``.pdmodel`` or PIR ``.json`` file; a folder that holds ``inference.onnx``,
            ``model.onnx``, ``inference.pdmodel`` or ``inference.json`` and ``.pdiparams``, or ``__model__`` and
            ``__params__``; or a ``.tar`` of such a folder of Paddle's.
        dictionary: file of a recogniser's characters, one a line; ``None`` takes the one that the model comes with:
            its metadata, ``inference.yml``, ``dictionary.txt``, else ``ppocr_keys_v1.txt`` or the one ``*dict*.txt``.

    Raises:
        ModelError: there is no such model, it can't be read, its task is unclear, or its dictionary has not as many
            entries as it has classes.
    """
    found = pull(str(spec)) / FILES[0] if str(spec) in MODELS else _found(Path(spec))
    if isinstance(found, PaddleFiles):
        paddle, origin, path = found, found.program, import_paddle(found, _paddle_cache())
    else:
        paddle, origin, path = None, found, found
    model = load_onnx(path)
    config = _read_yml(origin.parent / "inference.yml")
    sha256 = _sha256(path)
    known = next((entry for entry in MODELS.values() if entry.sha256 == sha256), None)
    name = _name(origin, config, known)
    task = _task(origin, model, name, config)
    characters, use_space = None, True
    if task == "rec":
        characters = _characters(origin, model, config) if dictionary is None else _read_dictionary(Path(dictionary))
        use_space = _has_space(origin, model, characters)
    licence = known.licence if known else None
    return ModelSource(path, name, task, config, characters, sha256, licence, use_space, paddle)


def _sha256(path: Path) -> str:
    """Return the hash of a model: two graphs that are the same, with other weights beside them, are two models."""
    digest = hashlib.sha256(path.read_bytes())
    for file in external_files(path):
        digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()


def _paddle_cache() -> Path:
    return cache_folder() / "paddle"


def _found(path: Path) -> Path | PaddleFiles:
    """Return the ONNX file or the Paddle files that a path means."""
    try:
        return _sought(path)
    except OSError as error:  # a name that is too long, or a folder that one may not enter
        raise ModelError(f"{path}: can't be opened ({error.strerror}); name a file or folder you may read") from error


def _sought(path: Path) -> Path | PaddleFiles:
    if path.is_file() and path.name.lower().endswith(ARCHIVES):
        path = unpack(path, _paddle_cache())
    if path.is_dir():
        for name in FILES:
            if (path / name).is_file():
                return path / name
        paddle = find(path)
        if paddle is None:
            raise ModelError(f"{path}: neither {FILES[0]} nor {FILES[1]} nor a Paddle model is in this folder")
        return paddle
    if not path.exists():
        raise ModelError(f"{path}: no such file, folder or model; `ocrslim models` lists the names")
    return find(path) or path


def _read_yml(path: Path) -> Mapping[str, Any] | None:
    if not path.is_file():
        return None
    try:
        text = _read_text(path, "mend it or take it away")
        check_yaml(text, *YML_BOUNDS)
        config = yaml.load(text, Loader=LOADER)  # noqa: S506 - a safe loader
    except UNREADABLE as error:
        said = getattr(error, "problem", None) or (str(error).splitlines() or ["?"])[0]
        raise ModelError(f"{path}: not readable as YAML ({said}); mend it or take it away") from error
    if not isinstance(config, dict):
        raise ModelError(f"{path}: holds no sections such as Global and PostProcess; mend it or take it away")
    return config


def _read_text(path: Path, again: str) -> str:
    """Read a small file in UTF-8.

    Raises:
        ModelError: it can't be read, is none, or is larger than :data:`MAX_TEXT`.
    """
    try:
        if not path.is_file():  # a device or a pipe may have no end
            raise ModelError(f"{path}: can't be read (no such file); {again}")
        if path.stat().st_size > MAX_TEXT:
            raise ModelError(f"{path}: larger than {MAX_TEXT >> 20} MiB; {again}")
        return path.read_bytes().decode("utf-8")
    except OSError as error:
        raise ModelError(f"{path}: can't be read ({error.strerror}); {again}") from error
    except UnicodeDecodeError as error:
        raise ModelError(f"{path}: not in UTF-8; save it so, or {again}") from error


def _entry(config: Mapping[str, Any] | None, section: str, key: str) -> Any:
    """Return what a section of ``inference.yml`` says; ``None`` where it says nothing."""
    found = (config or {}).get(section)
    return found.get(key) if isinstance(found, Mapping) else None


def _name(path: Path, config: Mapping[str, Any] | None, known: ZooModel | None) -> str:
    if known is not None:
        return known.name
    official = _entry(config, "Global", "model_name")
    if isinstance(official, str) and official:
        return official
    return path.parent.resolve().name if path.name in NAMELESS else path.stem


def _task(path: Path, model: ir.Model, name: str, config: Mapping[str, Any] | None) -> Task:
    """Tell det from rec by the rank of the output, else by inference.yml, else by the name."""
    shape = model.graph.outputs[0].shape
    if shape is not None and len(shape) in RANKS:
        return RANKS[len(shape)]
    post = _entry(config, "PostProcess", "name")
    if isinstance(post, str) and post in POST_PROCESSES:
        return POST_PROCESSES[post]
    words = name.lower().replace("-", "_").split("_")
    if ("det" in words) != ("rec" in words):
        return "det" if "det" in words else "rec"
    raise ModelError(
        f"{path}: is this a text detector or a recogniser? Its output says neither; name it in PostProcess.name of an"
        " inference.yml beside it (DBPostProcess or CTCLabelDecode)"
    )


def _characters(path: Path, model: ir.Model, config: Mapping[str, Any] | None) -> tuple[str, ...] | None:
    """Read the dictionary from the metadata, else inference.yml, else a file beside the model."""
    text = model.metadata_props.get("character")
    if text:
        return _lines(text)
    entries = _entry(config, "PostProcess", "character_dict")
    if entries is not None:
        if not isinstance(entries, list) or not all(isinstance(entry, str) for entry in entries):
            where = path.parent / "inference.yml"
            raise ModelError(f"{where}: PostProcess.character_dict must be a list of quoted texts")
        return tuple(entries)
    beside = path.parent / DICTIONARY
    if not beside.is_file():
        named = sorted({file for pattern in DICTIONARIES for file in path.parent.glob(pattern)})
        if len(named) > 1:
            names = ", ".join(file.name for file in named)
            raise ModelError(f"{path.parent}: holds several dictionaries ({names}); copy the model's to {DICTIONARY}")
        if not named:
            return None
        beside = named[0]
    return _read_dictionary(beside)


def _read_dictionary(path: Path) -> tuple[str, ...]:
    """Read a file of one entry a line."""
    return _lines(_read_text(path, "give the file of the model's characters").replace("\r\n", "\n"))


def _lines(text: str) -> tuple[str, ...]:
    """Split at newlines and nowhere else: entries may be white space, such as U+3000, or other line separators."""
    return tuple(text.removesuffix("\n").split("\n"))


def _has_space(path: Path, model: ir.Model, characters: tuple[str, ...] | None) -> bool:
    """Return whether the classes are blank, dictionary and space, or blank and dictionary."""
    shape = model.graph.outputs[0].shape
    classes = shape[-1] if shape is not None and len(shape) else None
    if characters is None or not isinstance(classes, int) or classes <= 0:
        return True
    if len(characters) + 2 == classes:
        return True
    if len(characters) + 1 == classes:
        return False
    raise ModelError(
        f"{path}: {classes} classes, but a dictionary of {len(characters)} entries; it takes {classes - 2}, or"
        f" {classes - 1} without a space of its own: give the model its own dictionary.txt or inference.yml"
    )
