"""Pre- and post-processing parameters: who deploys the model decides them, so they have names.

The values of the named profiles are those of the programs that they are named after: the PaddleSlim OCR example's
YAML files, PaddleOCR 3.x's pipeline and RapidOCR 3.x. ``model`` is what the model's own ``inference.yml`` says.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from ocrslim.errors import InputError

__all__ = ["PROFILES", "DetProfile", "Profile", "RecProfile", "Task", "load_profile"]

Task = Literal["det", "rec"]
"""Which of the two a model does: finding text, or reading it."""

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
CHOICES = {"min": ("min", "max"), "fast": ("fast", "slow")}  # by the default of the key that they are for


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
    post = _section(config.get("PostProcess"), "PostProcess")
    for key in ("thresh", "box_thresh", "unclip_ratio", "max_candidates", "use_dilation", "score_mode"):
        if key in post:
            det[key] = _typed(post[key], getattr(DetProfile(), key), f"PostProcess.{key}")
    resize = _section(operators.get("DetResizeForTest"), "DetResizeForTest")
    if "resize_long" in resize:
        det["limit_side_len"] = _typed(resize["resize_long"], 960, "DetResizeForTest.resize_long")
    for key in ("limit_side_len", "limit_type"):
        if key in resize:
            det[key] = _typed(resize[key], getattr(DetProfile(), key), f"DetResizeForTest.{key}")
    normalise = _section(operators.get("NormalizeImage"), "NormalizeImage")
    for key in ("mean", "std"):
        if key in normalise:
            det[key] = _three(normalise[key], f"NormalizeImage.{key}")
    rec: dict[str, Any] = {}
    shape = _section(operators.get("RecResizeImg"), "RecResizeImg").get("image_shape")
    if shape is not None:
        if not isinstance(shape, list) or len(shape) != 3 or not all(_is_number(size, least=1) for size in shape):
            raise InputError(f"inference.yml: RecResizeImg.image_shape must be [3, height, width], got {shape!r}")
        rec |= {"height": int(shape[1]), "width": int(shape[2])}
    return Profile("model", DetProfile(**det), RecProfile(**rec))


def _transforms(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the operators of ``PreProcess.transform_ops`` by name."""
    found: dict[str, Any] = {}
    operators = _section(config.get("PreProcess"), "PreProcess").get("transform_ops") or []
    if not isinstance(operators, list):
        raise InputError(f"inference.yml: PreProcess.transform_ops must be a list of operators, got {operators!r}")
    for operator in operators:
        if not isinstance(operator, Mapping):
            raise InputError(f"inference.yml: PreProcess.transform_ops holds {operator!r}; expected a mapping")
        found.update(operator)
    return found


def _section(value: Any, where: str) -> Mapping[str, Any]:
    """Return the keys of a section; one that is empty or missing has none."""
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise InputError(f"inference.yml: {where} must hold keys with values, got {value!r}")
    return value


def _typed(value: Any, default: Any, where: str) -> Any:
    """Return ``value`` as the type of ``default``, or say where it is wrong; numbers are never negative."""
    words = CHOICES.get(default, ()) if isinstance(default, str) else ()
    if words:
        valid, wanted = value in words, f"one of {', '.join(words)}"
    elif isinstance(default, bool):
        valid, wanted = isinstance(value, bool), "true or false"
    elif isinstance(default, int):
        valid, wanted = _is_number(value, least=1) and int(value) == value, "a whole number above 0"
    else:
        valid, wanted = _is_number(value, least=0), "a number, 0 or more"
    if not valid:
        raise InputError(f"inference.yml: {where} must be {wanted}, got {value!r}; mend it or take --profile example")
    return type(default)(value)


def _three(value: Any, where: str) -> tuple[float, float, float]:
    """Return the three channels' values, or say where they are wrong."""
    usable = isinstance(value, list) and len(value) == 3 and all(map(_is_number, value))
    if not usable or (where.endswith("std") and 0 in value):
        raise InputError(f"inference.yml: {where} must be three numbers (of std none is 0), got {value!r}")
    return (float(value[0]), float(value[1]), float(value[2]))


def _is_number(value: Any, least: float = -math.inf) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and least <= value < math.inf
