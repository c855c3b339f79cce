"""A folder that PaddleOCR 3.x loads: ``inference.onnx`` and an ``inference.yml`` that says all that the pipeline asks.

PaddleX, which PaddleOCR 3 stands on, wants ``Global.model_name`` to be the official name that the caller asks for,
every operator of ``PreProcess`` by name, and a recogniser's characters in ``PostProcess.character_dict``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ocrslim.config.profile import Profile, Task, load_profile
from ocrslim.errors import InputError
from ocrslim.export.bundle import Deployable, require_open_shape, require_target, write_model, write_readme, write_yml

__all__ = ["export_paddleocr", "inference_yml"]

OFFICIAL = re.compile(r"(\w+_)?PP-OCRv\d+_(tiny|small|medium|mobile|server)(_seal)?_(det|rec)(_doc)?")
KIND: Mapping[Task, str] = {"det": "text_detection", "rec": "text_recognition"}
DECODE = {"DecodeImage": {"channel_first": False, "img_mode": "BGR"}}


def export_paddleocr(deployable: Deployable, out: Path) -> tuple[Path, ...]:
    """Write the folder.

    Args:
        deployable: float, or compressed for ONNX Runtime, in which PaddleOCR runs ONNX files.
        out: exists.

    Raises:
        InputError: it was compressed for another engine, or its name is none that PaddleOCR knows.
    """
    require_target(deployable, ("onnxruntime",), "PaddleOCR")
    require_open_shape(deployable, "PaddleOCR")
    name, task = deployable.name, deployable.source.task
    if OFFICIAL.fullmatch(name) is None:
        raise InputError(
            f"{deployable.source.path.parent}: PaddleOCR takes official names only, and {name!r} is none; write"
            f" 'Global: {{model_name: PP-OCRv4_mobile_{task}}}', or what the model was trained from, into an"
            " inference.yml beside the model that you compress"
        )
    model = write_model(deployable, out / "inference.onnx")
    config = write_yml(out / "inference.yml", inference_yml(deployable))
    kind = KIND[task]
    code = (
        "from paddleocr import PaddleOCR",
        f'ocr = PaddleOCR({kind}_model_name="{name}", {kind}_model_dir="{out.name}", engine="onnxruntime")',
        'print(ocr.predict("page.png")[0]["rec_texts"])',
    )
    other: Task = "rec" if task == "det" else "det"
    why = "the model was quantized for it" if deployable.target else "the model is ONNX"
    notes = (
        f'`engine="onnxruntime"` is needed: {why}.'
        f" The other model comes the same way, `{KIND[other]}_model_name` and `_dir`.",
        "Without a network add `use_doc_orientation_classify=False, use_doc_unwarping=False,"
        " use_textline_orientation=False`, or PaddleOCR fetches models for those.",
    )
    return (model, config, *write_readme(out, deployable, "PaddleOCR 3.x", code, notes))


def inference_yml(deployable: Deployable) -> dict[str, Any]:
    """Return the ``inference.yml`` that the model came with, completed by what it may leave out."""
    source = deployable.source
    config: dict[str, Any] = dict(source.inference_yml or {})
    profile = load_profile(None, source.inference_yml)
    config["Global"] = {**(config.get("Global") or {}), "model_name": deployable.name}
    if not (config.get("PreProcess") or {}).get("transform_ops"):
        config["PreProcess"] = {"transform_ops": _operators(source.task, profile)}
    post = dict(config.get("PostProcess") or {})
    if source.task == "rec":
        config["PostProcess"] = {"name": "CTCLabelDecode", **post, "character_dict": list(source.characters or ())}
    else:
        config["PostProcess"] = {"name": "DBPostProcess", **_thresholds(profile), **post}
    return config


def _operators(task: Task, profile: Profile) -> list[dict[str, Any]]:
    if task == "rec":
        return [DECODE, {"RecResizeImg": {"image_shape": [3, profile.rec.height, profile.rec.width]}}]
    det = profile.det
    return [
        DECODE,
        {"DetResizeForTest": {"limit_side_len": det.limit_side_len, "limit_type": det.limit_type}},
        {"NormalizeImage": {"mean": list(det.mean), "std": list(det.std), "scale": "1./255.", "order": "hwc"}},
        {"ToCHWImage": None},
    ]


def _thresholds(profile: Profile) -> dict[str, Any]:
    det = asdict(profile.det)
    return {key: det[key] for key in ("thresh", "box_thresh", "max_candidates", "unclip_ratio")}
