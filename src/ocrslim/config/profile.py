"""Pre- and post-processing parameters: who deploys the model decides them, so they have names.

The values of the named profiles are those of the programs that they are named after: the PaddleSlim OCR example's
YAML files, PaddleOCR 3.x's pipeline and RapidOCR 3.x. ``model`` is what the model's own ``inference.yml`` says.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from ocrslim.errors import InputError

__all__ = ["PROFILES", "DetProfile", "Profile", "RecProfile", "Task", "load_profile"]

Task = Literal["det", "rec"]
"""Which of the two a model does: finding text, or reading it."""

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class DetProfile:
    """Detection: resize, normalisation and DB post-processing (arXiv 1911.08947).

    Args:
        limit_side_len: bound of the image's side in pixels, applied by ``limit_type``.
        limit_type: ``min`` enlarges until the shorter side reaches the bound, ``max`` shrinks until the longer does.
        max_side: larger images are shrunk to this longer side, pixels, after the rule above.
        mean: per channel, in the order of the image's channels (BGR), for values of 0 to 1.
        std: the same.
        thresh: probability above which a pixel is text.
        box_thresh: mean probability below which a box is dropped.
        unclip_ratio: how far a box is grown: offset = area * ratio / perimeter.
        max_candidates: contours looked at, at most.
        use_dilation: dilate the binary map by 2 x 2 first.
        score_mode: ``fast`` averages within the box, ``slow`` within the contour.
    """

    limit_side_len: int = 736
    limit_type: Literal["min", "max"] = "min"
    max_side: int = 4000
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    thresh: float = 0.3
    box_thresh: float = 0.6
    unclip_ratio: float = 1.5
    max_candidates: int = 1000
    use_dilation: bool = False
    score_mode: Literal["fast", "slow"] = "fast"


@dataclass(frozen=True)
class RecProfile:
    """Recognition: line images of one height; the width follows the image within bounds.

    Args:
        height: pixels.
        width: the width that shorter lines are padded to, pixels.
        max_width: wider lines are squeezed to it, pixels.
        mean: for values of 0 to 1.
        std: the same.
        batch: lines in a batch at deployment.
    """

    height: int = 48
    width: int = 320
    max_width: int = 3200
    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    std: tuple[float, float, float] = (0.5, 0.5, 0.5)
    batch: int = 6


@dataclass(frozen=True)
class Profile:
    """A named pair of parameters for detection and recognition."""

    name: str
    det: DetProfile = dataclasses.field(default_factory=DetProfile)
    rec: RecProfile = dataclasses.field(default_factory=RecProfile)


PROFILES: dict[str, Profile] = {
    "example": Profile("example"),
    "paddleocr": Profile("paddleocr", DetProfile(limit_side_len=64)),
    "rapidocr": Profile(
        "rapidocr",
        DetProfile(
            max_side=2000,
            mean=(0.5, 0.5, 0.5),
            std=(0.5, 0.5, 0.5),
            box_thresh=0.5,
            unclip_ratio=1.6,
            use_dilation=True,
        ),
    ),
}


def load_profile(name: str | None, inference_yml: Mapping[str, Any] | None = None) -> Profile:
    """Return the profile called ``name``.

    Args:
        name: ``example``, ``model``, ``paddleocr`` or ``rapidocr``; ``None`` is ``model`` where the model has an
            ``inference.yml``, else ``example``.
        inference_yml: the parsed ``inference.yml`` of the model, or ``None``.

    Raises:
        InputError: an unknown name, or ``model`` without an ``inference.yml``, or a value of the wrong type in it.

    >>> load_profile("rapidocr").det.unclip_ratio
    1.6
    >>> load_profile(None, {"PostProcess": {"name": "DBPostProcess", "box_thresh": 0.45}}).det.box_thresh
    0.45
    """
    if name is None:
        name = "model" if inference_yml is not None else "example"
    if name == "model":
        if inference_yml is None:
            raise InputError("--profile model: the model has no inference.yml beside it; use --profile example")
        return _from_inference_yml(inference_yml)
    if name not in PROFILES:
        raise InputError(f"--profile {name}: unknown; use one of {', '.join(sorted(PROFILES))}, model")
    return PROFILES[name]


def _from_inference_yml(config: Mapping[str, Any]) -> Profile:
    """Overlay what ``inference.yml`` says on PaddleOCR's defaults; it leaves out what equals a default.

    PaddleOCR shrinks to 960 pixels where the file names no rule for the detector's size.
    """
    operators = _transforms(config)
    det: dict[str, Any] = {"limit_side_len": 960, "limit_type": "max"}
    post = config.get("PostProcess") or {}
    for key in ("thresh", "box_thresh", "unclip_ratio", "max_candidates", "use_dilation", "score_mode"):
        if key in post:
            det[key] = _typed(post[key], getattr(DetProfile(), key), f"PostProcess.{key}")
    resize = operators.get("DetResizeForTest") or {}
    if "resize_long" in resize:
        det |= {"limit_side_len": int(resize["resize_long"]), "limit_type": "max"}
    for key in ("limit_side_len", "limit_type"):
        if key in resize:
            det[key] = _typed(resize[key], getattr(DetProfile(), key), f"DetResizeForTest.{key}")
    normalise = operators.get("NormalizeImage") or {}
    for key in ("mean", "std"):
        if key in normalise:
            det[key] = tuple(float(value) for value in normalise[key])
    rec: dict[str, Any] = {}
    shape = (operators.get("RecResizeImg") or {}).get("image_shape")
    if shape is not None:
        if not isinstance(shape, list) or len(shape) != 3:
            raise InputError(f"inference.yml: RecResizeImg.image_shape must be [3, height, width], got {shape!r}")
        rec |= {"height": int(shape[1]), "width": int(shape[2])}
    return Profile("model", DetProfile(**det), RecProfile(**rec))


def _transforms(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the operators of ``PreProcess.transform_ops`` by name."""
    found: dict[str, Any] = {}
    for operator in (config.get("PreProcess") or {}).get("transform_ops") or []:
        if not isinstance(operator, Mapping):
            raise InputError(f"inference.yml: PreProcess.transform_ops holds {operator!r}; expected a mapping")
        found.update(operator)
    return found


def _typed(value: Any, default: Any, where: str) -> Any:
    """Return ``value`` as the type of ``default``, or say where it is wrong."""
    if isinstance(default, str) or isinstance(value, bool) != isinstance(default, bool):
        valid = isinstance(value, type(default)) and isinstance(value, bool) == isinstance(default, bool)
    else:
        valid = isinstance(value, (int, float))
    if not valid:
        raise InputError(f"inference.yml: {where} must be of type {type(default).__name__}, got {value!r}")
    return type(default)(value)
