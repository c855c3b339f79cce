"""A file's list of transforms as one function from a labelled image to what a batch is made of.

The transforms are those of :mod:`ocrslim.config.transforms`. All randomness comes from the generator that is handed
in, so what comes out is a pure function of the image, its label and the generator.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from ocrslim.config import transforms as t
from ocrslim.config.profile import DetProfile, RecProfile
from ocrslim.errors import DataError, InputError
from ocrslim.ocr.ctc import Charset
from ocrslim.ocr.det_augment import crop_window, geometric, place_window
from ocrslim.ocr.det_targets import border_maps, shrink_maps
from ocrslim.ocr.image import MAX_PIXELS, SAID, read_image
from ocrslim.ocr.label_encode import TextEncoder
from ocrslim.ocr.labels import DetSample, RecSample
from ocrslim.ocr.line_augment import augment_rec, join_lines
from ocrslim.ocr.transforms import resize_for_det, resize_for_rec

__all__ = ["Pipeline", "Values"]

Values: TypeAlias = dict[str, Any]
"""A sample on its way. ``image`` is BGR u8 ``[H, W, 3]`` until it is normalised; ``img_path``; ``label`` is a text.

For detection ``polys`` is a list of f32 ``[k, 2]``, ``ignore_tags`` of bool, ``texts`` of str; ``shape`` holds height,
width and both ratios of the resize; ``shrink_map``, ``shrink_mask``, ``threshold_map``, ``threshold_mask`` are f32
``[H, W]``. For recognition ``label_ctc`` is i64 ``[max_text_length]``, padded with 0, ``length`` its length, and
``valid_ratio`` the share of the width that is no padding.
"""
Labelled: TypeAlias = DetSample | RecSample
Draw: TypeAlias = Callable[[np.random.Generator], Labelled]
STRIDE = 32


@dataclass(frozen=True)
class _Context:
    """What a transform may ask for beside its sample."""

    rng: np.random.Generator
    encoder: TextEncoder | None
    partner: Callable[[], Values]


class Pipeline:
    """Applies transforms in their order.

    Args:
        transforms: see :func:`ocrslim.config.transform_list.read_transforms`.
        charset: classes of the recogniser; ``None`` for a detector.
        max_text_length: longer texts are refused, characters.
        partner_transforms: how many transforms a line goes through before it is joined to another.

    Raises:
        InputError: a text is to be encoded without a charset.
    """

    def __init__(
        self,
        transforms: Sequence[t.Transform],
        charset: Charset | None = None,
        max_text_length: int = 25,
        partner_transforms: int = 1,
    ) -> None:
        self.transforms = tuple(transforms)
        encodes = [item for item in self.transforms if isinstance(item, (t.MultiLabelEncode, t.CTCLabelEncode))]
        if encodes and charset is None:
            raise InputError(f"{type(encodes[0]).__name__}: needs a recogniser's dictionary; is model_type right?")
        self._encoder = TextEncoder(charset, max_text_length) if charset else None
        names = [isinstance(item, t.RecConAug) for item in self.transforms]
        # A line that is joined to another is not joined to a third before.
        first_join = names.index(True) if True in names else len(names)
        self._before_joining = self.transforms[: min(partner_transforms, first_join)]

    def __call__(self, sample: Labelled, rng: np.random.Generator, draw: Draw | None = None) -> Values:
        """Make the values of one sample.

        Args:
            sample: image and label.
            rng: all randomness.
            draw: gives another sample, for ``RecConAug``; ``None`` joins nothing.

        Returns:
            dict: what ``KeepKeys`` keeps; everything where there is none.

        Raises:
            DataError: the image can't be read or brought to the size asked for, or its label can't be used; the text
                says why.
            InputError: a transform is in the wrong place.
        """

        def partner() -> Values:
            if draw is None:
                raise DataError("no lines to join")
            return self._apply(self._before_joining, draw(rng), context)

        context = _Context(rng, self._encoder, partner if draw else _no_partner)
        return self._apply(self.transforms, sample, context)

    def _apply(self, transforms: Sequence[t.Transform], sample: Labelled, context: _Context) -> Values:
        values: Values = {"img_path": str(sample.image), "sample": sample}
        values["label"] = sample.text if isinstance(sample, RecSample) else sample.boxes
        for transform in transforms:
            try:
                values = _APPLY[type(transform)](transform, values, context)
            except (cv2.error, MemoryError) as error:  # of an odd shape, which one image has and the others have not
                said = " ".join(str(getattr(error, "err", error)).split())[:SAID]
                raise DataError(f"{sample.image}: {type(transform).__name__} can't be applied ({said})") from error
        values.pop("sample", None)
        return values


def _no_partner() -> Values:
    raise DataError("no lines to join")


def _pixels(values: Values, transform: t.Transform) -> NDArray[np.uint8]:
    """Return the image as long as it is one."""
    image = values.get("image")
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.ndim != 3:
        name = type(transform).__name__
        raise InputError(f"transforms: {name} must come after DecodeImage and before NormalizeImage and RecResizeImg")
    return image


def _polygons(values: Values, transform: t.Transform) -> list[NDArray[np.float32]]:
    if "polys" not in values:
        raise InputError(f"transforms: {type(transform).__name__} must come after DetLabelEncode")
    found: list[NDArray[np.float32]] = values["polys"]
    return found


def _decode(transform: t.DecodeImage, values: Values, context: _Context) -> Values:
    image = read_image(values["sample"].image)
    if transform.img_mode == "RGB":
        image = np.ascontiguousarray(image[..., ::-1])
    elif transform.img_mode == "GRAY":
        image = np.asarray(cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), cv2.COLOR_GRAY2BGR), np.uint8)
    return values | {"image": image}


def _encode_boxes(transform: t.DetLabelEncode, values: Values, context: _Context) -> Values:
    boxes = values["label"]
    if not isinstance(boxes, tuple):
        raise DataError(f"{values['img_path']}: the label holds no boxes")
    return values | {
        "polys": [box.points for box in boxes],
        "ignore_tags": [box.ignore for box in boxes],
        "texts": [box.text for box in boxes],
    }


def _geometric(transform: t.IaaAugment, values: Values, context: _Context) -> Values:
    image, polygons = _pixels(values, transform), _polygons(values, transform)
    image, polygons = geometric(image, polygons, transform.augmenters, context.rng)
    return values | {"image": image, "polys": polygons}


def _crop(transform: t.EastRandomCropData, values: Values, context: _Context) -> Values:
    image, polygons = _pixels(values, transform), _polygons(values, transform)
    read = [polygon for polygon, ignored in zip(polygons, values["ignore_tags"], strict=True) if not ignored]
    height, width = image.shape[:2]
    window = crop_window((height, width), read, transform.max_tries, transform.min_crop_side_ratio, context.rng)
    image, polygons, kept = place_window(image, polygons, window, transform.size, transform.keep_ratio)
    others = {key: [values[key][index] for index in kept] for key in ("ignore_tags", "texts")}
    return values | {"image": image, "polys": polygons} | others


def _border(transform: t.MakeBorderMap, values: Values, context: _Context) -> Values:
    polygons, shape = _polygons(values, transform), _pixels(values, transform).shape[:2]
    ratio, low, high = transform.shrink_ratio, transform.thresh_min, transform.thresh_max
    drawn, mask = border_maps((shape[0], shape[1]), polygons, values["ignore_tags"], ratio, low, high)
    return values | {"threshold_map": drawn, "threshold_mask": mask}


def _shrink(transform: t.MakeShrinkMap, values: Values, context: _Context) -> Values:
    polygons, shape = _polygons(values, transform), _pixels(values, transform).shape[:2]
    ratio, least = transform.shrink_ratio, transform.min_text_size
    drawn, mask = shrink_maps((shape[0], shape[1]), polygons, values["ignore_tags"], ratio, least)
    return values | {"shrink_map": drawn, "shrink_mask": mask}


def _normalize(transform: t.NormalizeImage, values: Values, context: _Context) -> Values:
    shape = (1, 1, 3) if transform.order == "hwc" else (3, 1, 1)
    if values["image"].shape[-1 if transform.order == "hwc" else 0] != 3:
        raise InputError(f"transforms: NormalizeImage.order is {transform.order}, but the image is not")
    mean, std = (np.array(value).reshape(shape) for value in (transform.mean, transform.std))
    # One product and one sum in place instead of three passes over 11 MB of a page.
    image = np.multiply(values["image"], (transform.scale / std).astype(np.float32), dtype=np.float32)
    image -= (mean / std).astype(np.float32)
    return values | {"image": image}


def _to_chw(transform: t.ToCHWImage, values: Values, context: _Context) -> Values:
    return values | {"image": np.ascontiguousarray(values["image"].transpose(2, 0, 1))}


def _keep(transform: t.KeepKeys, values: Values, context: _Context) -> Values:
    missing = [key for key in transform.keep_keys if key not in values]
    if missing:
        raise InputError(f"transforms: KeepKeys asks for {missing[0]}, which no transform made")
    return {key: values[key] for key in transform.keep_keys}


def _join(transform: t.RecConAug, values: Values, context: _Context) -> Values:
    image = _pixels(values, transform)
    if context.partner is _no_partner or context.rng.random() >= transform.prob or not values["label"]:
        return values
    partners = []
    for _ in range(transform.ext_data_num):
        try:
            other = context.partner()
        except DataError:
            continue  # the line stands without it; the stream will name the damaged image when its turn comes
        if other["label"]:
            partners.append((other["image"], other["label"]))
    image, text = join_lines(image, values["label"], partners, transform)
    return values | {"image": image, "label": text}


def _augment(transform: t.RecAug, values: Values, context: _Context) -> Values:
    return values | {"image": augment_rec(_pixels(values, transform), transform, context.rng)}


def _encode_text(transform: t.MultiLabelEncode | t.CTCLabelEncode, values: Values, context: _Context) -> Values:
    assert context.encoder is not None  # Pipeline's constructor checks that
    encoder, text = context.encoder, values["label"]
    if not isinstance(text, str):
        raise DataError(f"{values['img_path']}: has no text as its label")
    numbers = encoder.ctc(text)
    if numbers is None:
        why = f"over {encoder.max_length} characters" if len(text) > encoder.max_length else "not of the dictionary"
        raise DataError(f"{values['img_path']}: the label is {why}: {text[:40]!r}")
    padded = np.zeros(encoder.max_length, np.int64)
    padded[: len(numbers)] = numbers
    length = np.array(len(numbers), np.int64)
    if isinstance(transform, t.CTCLabelEncode):
        return values | {"label": padded, "label_ctc": padded, "length": length}
    key = "label_sar" if transform.gtc_encode == "SARLabelEncode" else "label_gtc"
    attention = encoder.attention(text, transform.gtc_encode)
    if attention is None:  # PaddleOCR drops the line then, though CTC could learn from it
        attention = np.zeros(encoder.max_length, np.int64)
    return values | {"label_ctc": padded, key: attention, "length": length}


def _rec_resize(transform: t.RecResizeImg, values: Values, context: _Context) -> Values:
    image = _pixels(values, transform)
    _, height, width = transform.image_shape
    if not transform.padding:
        image = np.asarray(cv2.resize(image, (width, height)), np.uint8)
    used = min(width, int(np.ceil(height * image.shape[1] / image.shape[0])))
    resized = resize_for_rec(image, RecProfile(height, width, width), width)
    return values | {"image": resized, "valid_ratio": np.array(used / width, np.float32)}


def _det_resize(transform: t.DetResizeForTest, values: Values, context: _Context) -> Values:
    image = _pixels(values, transform)
    height, width = image.shape[:2]
    if transform.image_shape is not None:
        new_height, new_width = transform.image_shape
        if transform.keep_ratio:
            # PaddleOCR has no bound here: a line of 8 x 30,000 pixels would take gigabytes.
            widest = max(STRIDE, min(transform.max_side_limit, MAX_PIXELS // new_height) // STRIDE * STRIDE)
            new_width = min(widest, int(np.ceil(width * new_height / height / STRIDE)) * STRIDE)
        resized = np.asarray(cv2.resize(image, (new_width, new_height)), np.uint8)
        ratios = new_height / height, new_width / width
    else:
        side = transform.resize_long or transform.limit_side_len
        kind = "max" if transform.resize_long else transform.limit_type
        profile = DetProfile(limit_side_len=side, limit_type=kind, max_side=transform.max_side_limit)
        resized, *found = resize_for_det(image, profile)
        ratios = found[0], found[1]
    return values | {"image": resized, "shape": np.array([height, width, *ratios], np.float64)}


_APPLY: dict[type, Callable[[Any, Values, _Context], Values]] = {
    t.DecodeImage: _decode,
    t.DetLabelEncode: _encode_boxes,
    t.IaaAugment: _geometric,
    t.EastRandomCropData: _crop,
    t.MakeBorderMap: _border,
    t.MakeShrinkMap: _shrink,
    t.NormalizeImage: _normalize,
    t.ToCHWImage: _to_chw,
    t.KeepKeys: _keep,
    t.RecConAug: _join,
    t.RecAug: _augment,
    t.MultiLabelEncode: _encode_text,
    t.CTCLabelEncode: _encode_text,
    t.RecResizeImg: _rec_resize,
    t.DetResizeForTest: _det_resize,
}
