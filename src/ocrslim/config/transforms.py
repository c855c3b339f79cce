"""The transforms that a PaddleSlim or PaddleOCR file lists under ``dataset.transforms``, as typed frozen settings.

They are read in :mod:`ocrslim.config.transform_list` and done in :mod:`ocrslim.ocr.pipeline`; names and defaults are
PaddleOCR's (``ppocr/data/imaug``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ocrslim.config.profile import IMAGENET_MEAN, IMAGENET_STD

__all__ = [
    "CTCLabelEncode",
    "DecodeImage",
    "DetLabelEncode",
    "DetResizeForTest",
    "EastRandomCropData",
    "IaaAugment",
    "KeepKeys",
    "MakeBorderMap",
    "MakeShrinkMap",
    "MultiLabelEncode",
    "NormalizeImage",
    "RecAug",
    "RecConAug",
    "RecResizeImg",
    "ToCHWImage",
    "Transform",
]


@dataclass(frozen=True)
class DecodeImage:
    """Decode the file; ``img_mode`` is the order of the channels, or ``GRAY`` three times the same."""

    img_mode: Literal["BGR", "RGB", "GRAY"] = "RGB"


@dataclass(frozen=True)
class DetLabelEncode:
    """Read the label's JSON into polygons."""


@dataclass(frozen=True)
class IaaAugment:
    """Geometric changes, in this order: (kind, its numbers).

    ``("Fliplr", (p,))`` and ``("Flipud", (p,))`` mirror with chance p, ``("Affine", (low, high))`` rotates by degrees,
    ``("Resize", (low, high))`` scales both sides by one factor.
    """

    augmenters: tuple[tuple[str, tuple[float, ...]], ...] = (
        ("Fliplr", (0.5,)),
        ("Affine", (-10.0, 10.0)),
        ("Resize", (0.5, 3.0)),
    )


@dataclass(frozen=True)
class EastRandomCropData:
    """Cut a window that crosses no text, and bring it to ``size`` (width, height in pixels)."""

    size: tuple[int, int] = (640, 640)
    max_tries: int = 10
    min_crop_side_ratio: float = 0.1
    keep_ratio: bool = True


@dataclass(frozen=True)
class MakeBorderMap:
    """Draw the threshold map of DB."""

    shrink_ratio: float = 0.4
    thresh_min: float = 0.3
    thresh_max: float = 0.7


@dataclass(frozen=True)
class MakeShrinkMap:
    """Draw the probability map of DB."""

    shrink_ratio: float = 0.4
    min_text_size: float = 8.0


@dataclass(frozen=True)
class NormalizeImage:
    """``(image * scale - mean) / std``; ``order`` says whether channels come last (hwc) or first (chw)."""

    scale: float = 1.0 / 255.0
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    order: Literal["hwc", "chw"] = "chw"


@dataclass(frozen=True)
class ToCHWImage:
    """Channels first."""


@dataclass(frozen=True)
class KeepKeys:
    """What of the sample goes into the batch."""

    keep_keys: tuple[str, ...]


@dataclass(frozen=True)
class RecConAug:
    """With chance ``prob``, join up to ``ext_data_num`` other lines to the line."""

    prob: float = 0.5
    ext_data_num: int = 1
    image_shape: tuple[int, int] = (32, 320)  # height, width
    max_text_length: int = 25


@dataclass(frozen=True)
class RecAug:
    """Bend, crop, blur, tint, shake, speckle and invert a line, each with its own chance."""

    tia_prob: float = 0.4
    crop_prob: float = 0.4
    reverse_prob: float = 0.4
    noise_prob: float = 0.4
    jitter_prob: float = 0.4
    blur_prob: float = 0.4
    hsv_aug_prob: float = 0.4


@dataclass(frozen=True)
class MultiLabelEncode:
    """Encode the text for CTC and for an attention branch; exported models have the CTC branch only."""

    gtc_encode: Literal["SARLabelEncode", "NRTRLabelEncode"] = "SARLabelEncode"


@dataclass(frozen=True)
class CTCLabelEncode:
    """Encode the text for CTC."""


@dataclass(frozen=True)
class RecResizeImg:
    """Bring a line to ``image_shape`` (channels, height, width); ``padding`` keeps its shape and pads with zeros."""

    image_shape: tuple[int, int, int] = (3, 48, 320)
    padding: bool = True


@dataclass(frozen=True)
class DetResizeForTest:
    """Resize as at inference: by a side's length, to an ``image_shape`` (height, width), or by the longer side.

    With ``keep_ratio`` the width of ``image_shape`` is the image's own, up to ``max_side_limit``.
    """

    limit_side_len: int = 736
    limit_type: Literal["min", "max"] = "min"
    max_side_limit: int = 4000
    image_shape: tuple[int, int] | None = None
    keep_ratio: bool = False
    resize_long: int | None = None


Transform = (
    DecodeImage
    | DetLabelEncode
    | IaaAugment
    | EastRandomCropData
    | MakeBorderMap
    | MakeShrinkMap
    | NormalizeImage
    | ToCHWImage
    | KeepKeys
    | RecConAug
    | RecAug
    | MultiLabelEncode
    | CTCLabelEncode
    | RecResizeImg
    | DetResizeForTest
)
