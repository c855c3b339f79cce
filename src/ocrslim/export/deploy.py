"""``ocrslim export``: from a finished folder of ``ocrslim compress`` to what other software loads as it is."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx_ir.passes import common

from ocrslim.config.profile import Task, load_profile
from ocrslim.engines.session import open_session
from ocrslim.errors import InputError, ModelError
from ocrslim.export.bundle import (
    SIDECARS,
    Deployable,
    Exported,
    is_quantized,
    open_deployable,
    write_model,
    write_readme,
    write_sidecars,
)
from ocrslim.export.landing import folder_for, land
from ocrslim.export.openvino import export_openvino
from ocrslim.export.paddle import export_paddle
from ocrslim.export.paddle_lite import PaddleLiteSession, export_paddle_lite, find_paddle_lite
from ocrslim.export.paddle_source import has_twin
from ocrslim.export.paddleocr import export_paddleocr
from ocrslim.export.rapidocr import export_rapidocr
from ocrslim.export.tensorrt import NOT_RUN, export_tensorrt
from ocrslim.export.verify import Verification, verify_det, verify_rec
from ocrslim.graph.importers.onnx import load_onnx
from ocrslim.graph.importers.paddle.files import PaddleFiles, find
from ocrslim.graph.importers.paddle.importer import import_paddle
from ocrslim.graph.importers.paddle.zoo import pull_paddle
from ocrslim.graph.importers.source import ModelSource, open_model
from ocrslim.graph.passes.shuffle import UnshuffleUpsampling

__all__ = ["BUNDLES", "FORMATS", "Exported", "export_bundle", "export_folder", "rendered_batches"]

BUNDLES = ("paddleocr", "rapidocr", "openvino", "onnx", "tensorrt")
FORMATS = ("paddle", "paddle-lite", *BUNDLES)
MODEL, RESULT = "model.onnx", "result.json"
# Mask IoU and share of frames. Paddle Lite's integer kernels for x86 round more than the others: the same files reached
# 0.975 and 0.97 there, over 0.995 in Paddle Inference; its float kernels agree fully.
REQUIRED: dict[Task, float] = {"det": 0.95, "rec": 0.95}
LINES, PAGES = 16, 4  # rendered to compare by
PAGE_SIDE = 640  # pixels
CHARACTERS = tuple("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789")


def export_folder(
    folder: Path,
    to: str,
    *,
    source: Path | None = None,
    out: Path | None = None,
    quantized: bool = True,
    valid_targets: str = "arm",
) -> Exported:
    """Write a compressed model in another format.

    Args:
        folder: that ``ocrslim compress`` wrote; for one of :data:`BUNDLES` also a float model, however it is named.
        to: one of :data:`FORMATS`.
        source: the Paddle model that was compressed, or the Paddle twin of the ONNX model that was; ``None`` takes the
            one that ``result.json`` names, or the twin that the zoo has.
        out: folder for the files, made if missing; ``None`` is ``folder`` itself, where ``ocrslim eval`` finds them,
            and its subfolder ``paddle_float`` for the float model; of :data:`BUNDLES` a subfolder named as the format.
        quantized: false writes the float model with the trained weights; a folder whose model is float has no other.
        valid_targets: of Paddle Lite, ``arm`` or ``x86``; the latter is run here and compared, int8 or float.

    Raises:
        InputError: the folder, the source or a setting cannot be used, Paddle Lite is missing, or the model was
            compressed for another engine than the one that will run it.
        EngineError: Paddle Lite or OpenVINO failed.
        VerifyError: what was written computes something else than ``model.onnx``, or than the float model.
    """
    if to not in FORMATS:
        raise InputError(f"--to {to}: there is no such format; take one of {', '.join(FORMATS)}")
    if to in BUNDLES:
        if source is not None or not quantized:
            raise InputError(f"--to {to}: --source and --float are for paddle; to export a float model, name it as DIR")
        return export_bundle(folder, to, out)
    if to == "paddle-lite":
        find_paddle_lite()  # what is missing is told before anything is written
    if not (folder / MODEL).is_file():
        raise InputError(f"{folder}: holds no {MODEL}; name a folder that `ocrslim compress` wrote")
    files, model = _paddle_files(folder, source), load_onnx(folder / MODEL)
    common.RemoveUnusedNodesPass()(model)
    UnshuffleUpsampling()(model)  # Paddle's program has the transposed convolution
    quantized = quantized and is_quantized(model)
    target = out or (folder if quantized else folder / "paddle_float")
    try:
        target.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"--out {target}: cannot be written ({error.strerror}); name another folder") from error
    written = export_paddle(model, files.program, files.parameters, target, quantized=quantized)
    beside = tuple(_copy(folder / name, target / name) for name in SIDECARS if (folder / name).is_file())
    if to == "paddle":
        return Exported((*written, *beside))
    made = export_paddle_lite(*written, target / f"model_{valid_targets}.nb", valid_targets)
    every = (made, *written, *beside)
    if valid_targets != "x86":
        return Exported(every)
    if quantized:
        return Exported(every, _compare_lite(folder, made, folder / MODEL))
    return Exported(every, notes=(_compare_float(folder, made, PaddleFiles(*written)),))


def export_bundle(model: str | Path, to: str, out: Path | None = None) -> Exported:
    """Write a folder that another program loads unmodified.

    Args:
        model: a folder that ``ocrslim compress`` wrote, or a float model: a zoo name, a file or a folder.
        to: one of :data:`BUNDLES`.
        out: the folder, made if missing; ``None`` is a subfolder of the model's folder, named as the format. All files
            land there or none does, and only those of an earlier bundle of this kind are replaced.

    Raises:
        InputError: the model was compressed for another engine than the one that will run it, or ``out`` can't be used:
            it is the model's own folder, or holds files of somebody's that would be replaced.
        ModelError: there is no such model, or it can't be put into that format.
        EngineError: OpenVINO can't convert it.
        VerifyError: what was written computes something else than the model.
    """
    deployable = open_deployable(model)
    folder = folder_for(model, deployable.source, to, out, deployable.target is not None)
    return land(folder, f"--out {out}" if out else str(folder), lambda stage: _written(deployable, to, stage))


def _written(deployable: Deployable, to: str, out: Path) -> Exported:
    batches = _rendered(deployable.source)
    if to == "paddleocr":
        return Exported(export_paddleocr(deployable, out))
    if to == "rapidocr":
        return Exported(*export_rapidocr(deployable, out, batches))
    if to == "openvino":
        return Exported(*export_openvino(deployable, out, batches))
    if to == "tensorrt":
        return Exported(*export_tensorrt(deployable, out, batches), (NOT_RUN,))
    return Exported(_plain_folder(deployable, out))


def _plain_folder(deployable: Deployable, out: Path) -> tuple[Path, ...]:
    """Write ``--to onnx``: whoever runs ONNX files themselves finds all that they need."""
    source = deployable.source
    model = write_model(deployable, out / MODEL)
    sidecars = write_sidecars(out, source.inference_yml, source.characters)
    code = (
        "import onnxruntime",
        f'session = onnxruntime.InferenceSession("{out.name}/{MODEL}")',
        "answer = session.run(None, {session.get_inputs()[0].name: batch})[0]",
    )
    notes = ["Pre- and post-processing are in `inference.yml`, where the model came with one."]
    if deployable.target is not None:
        notes.append(f"Run it in {deployable.target}: it was quantized for that, and may read garbage elsewhere.")
    if source.characters is not None:
        notes.append("The dictionary, without blank and space, is in `dictionary.txt` and the metadata `character`.")
    return (model, *sidecars, *write_readme(out, deployable, "ONNX engines", code, notes))


def _rendered(source: ModelSource) -> Iterator[NDArray[np.float32]]:
    """Yield :func:`rendered_batches`, made only when the first is asked for."""
    yield from rendered_batches(source)


def rendered_batches(source: ModelSource) -> list[NDArray[np.float32]]:
    """Return inputs of rendered text to compare engines by: one line or one page a batch, always the same.

    Returns:
        list: float32 ``[1, 3, 48, W]`` for a recogniser, ``[1, 3, 640, 640]`` for a detector.
    """
    from ocrslim.ocr.render import render_lines, render_pages
    from ocrslim.ocr.transforms import normalize, resize_for_rec

    profile = load_profile(None, source.inference_yml)
    if source.task == "rec":
        lines = render_lines(source.characters or CHARACTERS, LINES, seed=0)
        return [resize_for_rec(image, profile.rec, None)[None] for image, _ in lines]
    pages = [image[:PAGE_SIDE, :PAGE_SIDE] for image, *_ in render_pages(PAGES, seed=0)]
    return [normalize(page, profile.det.mean, profile.det.std)[None] for page in pages]


def _compare_lite(folder: Path, made: Path, model: Path) -> Verification:
    """Compare a ``.nb`` file for x86 with what it was made from, an ONNX file in ONNX Runtime."""
    source = open_model(folder)
    onnx = open_session(model, "onnxruntime", 1)
    lite = PaddleLiteSession(made, onnx.input_shape)
    verify = verify_rec if source.task == "rec" else verify_det
    verification = verify(onnx.run, lite, rendered_batches(source), REQUIRED[source.task])
    verification.check()
    return verification


def _compare_float(folder: Path, made: Path, files: PaddleFiles) -> str:
    """Compare a ``.nb`` file with the float model that it was made from, and say so: ``model.onnx`` is another."""
    with tempfile.TemporaryDirectory(prefix="ocrslim-float") as cache:
        found = _compare_lite(folder, made, import_paddle(files, Path(cache)))
    return f"{made.name} agrees with the float {files.program} in ONNX Runtime: {found.kind} {found.value:.4f}"


def _paddle_files(folder: Path, source: Path | None) -> PaddleFiles:
    """Return the Paddle model to write into.

    Raises:
        ModelError: there is none, or it is not of the kind that can be written.
    """
    path = source or _named_in_result(folder)
    if path is None:
        raise ModelError(
            f"{folder}: was compressed from an ONNX file; name the Paddle model of the same weights with --source DIR"
        )
    files = find(path) if path.exists() else None
    if files is None:
        raise ModelError(f"{path}: holds no Paddle model (inference.pdmodel); name it with --source DIR")
    if files.is_pir:
        raise ModelError(
            f"{files.program}: is a program of Paddle 3, which runs quantized models as .pdmodel only; name the"
            " .pdmodel of the same weights with --source, or deploy model.onnx"
        )
    return files


def _named_in_result(folder: Path) -> Path | None:
    path = folder / RESULT
    if not path.is_file():
        return None
    try:
        model: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))["model"]
        named = model.get("paddle")
        if not named and has_twin(model.get("name"), model.get("sha256")):
            return pull_paddle(model["name"])  # the twin of the ONNX file that the zoo has
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(
            f"{path}: is not what `ocrslim compress` writes; name the Paddle model with --source"
        ) from error
    return Path(named) if named else None


def _copy(path: Path, to: Path) -> Path:
    if path.resolve() != to.resolve():
        shutil.copyfile(path, to)
    return to
