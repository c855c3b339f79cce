"""Reads the list of transforms of a PaddleSlim or PaddleOCR file; see :mod:`ocrslim.config.transforms`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from ocrslim.config.located import Located, Section, nearest
from ocrslim.config.profile import IMAGENET_MEAN, IMAGENET_STD
from ocrslim.config.transforms import (
    CTCLabelEncode,
    DecodeImage,
    DetLabelEncode,
    DetResizeForTest,
    EastRandomCropData,
    IaaAugment,
    KeepKeys,
    MakeBorderMap,
    MakeShrinkMap,
    MultiLabelEncode,
    NormalizeImage,
    RecAug,
    RecConAug,
    RecResizeImg,
    ToCHWImage,
    Transform,
)
from ocrslim.errors import InputError

__all__ = ["KEYS", "TRANSFORMS", "read_transforms"]

KEYS = {
    "DetLabelEncode": ("polys", "ignore_tags", "texts"),
    "DetResizeForTest": ("shape",),
    "MakeBorderMap": ("threshold_map", "threshold_mask"),
    "MakeShrinkMap": ("shrink_map", "shrink_mask"),
    "MultiLabelEncode": ("label_ctc", "label_sar", "label_gtc", "length"),
    "CTCLabelEncode": ("label", "label_ctc", "length"),
    "RecResizeImg": ("valid_ratio",),
}
"""What a transform adds to a sample, beside ``image``, ``label`` and ``img_path``, which it has from the start."""
Warn = Callable[[str], None]


def read_transforms(entries: list[Located], name: str, warn: Warn) -> tuple[Transform, ...]:
    """Read a list of transforms.

    Args:
        entries: each a mapping of one name to its arguments, or a bare name.
        name: of the list in the file, for errors.
        warn: told what has no effect here.

    Raises:
        InputError: an unknown transform or argument, a wrong type, or ``KeepKeys`` of what no transform made.
    """
    found: list[Transform] = []
    made = {"image": 0, "label": 0, "img_path": 0}
    for entry in entries:
        kind, arguments = _entry(entry, name)
        reader = TRANSFORMS[kind]
        found.append(reader(arguments, f"{name}.{kind}", warn))
        made |= dict.fromkeys(KEYS.get(kind, ()), 0)
        last = found[-1]
        for key in last.keep_keys if isinstance(last, KeepKeys) else ():
            if key not in made:
                said = nearest(key, sorted(made))
                raise InputError(f"{entry.where}: {name}.KeepKeys: no transform before it makes {key!r}; {said}")
    return tuple(found)


def _entry(entry: Located, name: str) -> tuple[str, Located]:
    kind, arguments = entry.value, Located(None, entry.where)
    if isinstance(entry.value, dict):
        if len(entry.value) != 1:
            raise InputError(f"{entry.where}: {name}: each transform is one entry, got {', '.join(entry.value)}")
        kind, arguments = next(iter(entry.value.items()))
    if not isinstance(kind, str) or kind not in TRANSFORMS:
        raise InputError(f"{entry.where}: {name}: {kind!r} is no transform; {nearest(str(kind), tuple(TRANSFORMS))}")
    return kind, arguments


def _decode(node: Located, name: str, warn: Warn) -> DecodeImage:
    section = Section(node, name, ("img_mode", "channel_first", "ignore_orientation"))
    if section.flag("channel_first", False):
        raise section.error("channel_first", "must be false: the transforms after it take height, width, channels")
    if section.flag("ignore_orientation", False):
        warn(f"{section.where}: {name}.ignore_orientation: images are turned upright by their EXIF all the same")
    return DecodeImage(cast(Any, section.choice("img_mode", ("BGR", "RGB", "GRAY"), "RGB")))


def _det_label(node: Located, name: str, warn: Warn) -> DetLabelEncode:
    Section(node, name, ())
    return DetLabelEncode()


def _iaa(node: Located, name: str, warn: Warn) -> IaaAugment:
    section = Section(node, name, ("augmenter_args",))
    if "augmenter_args" not in section:
        return IaaAugment()
    return IaaAugment(tuple(_augmenter(item, f"{name}.augmenter_args") for item in section.items("augmenter_args")))


def _augmenter(node: Located, name: str) -> tuple[str, tuple[float, ...]]:
    section = Section(node, name, ("type", "args"))
    kind = section.choice("type", ("Fliplr", "Flipud", "Affine", "Resize"))
    key = {"Affine": "rotate", "Resize": "size"}.get(kind, "p")
    arguments = Section(section.node("args"), f"{name}.{kind}", (key,))
    if key == "p":
        return kind, (arguments.number("p", 0.5 if kind == "Fliplr" else None, most=1.0),)
    values = arguments.numbers(key)
    low, high = (values[0], values[-1]) if len(values) in (1, 2) else (1.0, 0.0)
    if kind == "Affine" and len(values) == 1:
        low = high  # imgaug takes a single number as it is
    if low > high or (kind == "Resize" and low <= 0):
        raise arguments.error(key, "must be one number, or the lower and the upper of two")
    return kind, (low, high)


def _crop(node: Located, name: str, warn: Warn) -> EastRandomCropData:
    section = Section(node, name, ("size", "max_tries", "min_crop_side_ratio", "keep_ratio"))
    width, height = (int(value) for value in section.numbers("size", (640, 640), 2))
    if min(width, height) < 32 or width % 32 or height % 32:
        raise section.error(
            "size", f"must be multiples of 32, got {width} and {height}: the detector halves it 5 times"
        )
    return EastRandomCropData(
        (width, height),
        section.integer("max_tries", 10, 1),
        section.number("min_crop_side_ratio", 0.1, most=1.0),
        section.flag("keep_ratio", True),
    )


def _border(node: Located, name: str, warn: Warn) -> MakeBorderMap:
    section = Section(node, name, ("shrink_ratio", "thresh_min", "thresh_max", "total_epoch"))
    _no_growth(section, warn)
    low, high = section.number("thresh_min", 0.3, most=1.0), section.number("thresh_max", 0.7, most=1.0)
    if low >= high:
        raise section.error("thresh_max", f"must be above thresh_min, {low:g}")
    return MakeBorderMap(section.number("shrink_ratio", 0.4, 0.01, 0.99), low, high)


def _shrink(node: Located, name: str, warn: Warn) -> MakeShrinkMap:
    section = Section(node, name, ("shrink_ratio", "min_text_size", "total_epoch"))
    _no_growth(section, warn)
    return MakeShrinkMap(section.number("shrink_ratio", 0.4, 0.01, 0.99), section.number("min_text_size", 8.0))


def _no_growth(section: Section, warn: Warn) -> None:
    if "total_epoch" in section:
        warn(f"{section.where}: {section.name}.total_epoch: shrink_ratio stays as it is over the few epochs of a run")


def _normalize(node: Located, name: str, warn: Warn) -> NormalizeImage:
    section = Section(node, name, ("scale", "mean", "std", "order"))
    std = section.numbers("std", IMAGENET_STD, 3)
    if min(std) <= 0:
        raise section.error("std", "must be above 0")
    order = cast(Any, section.choice("order", ("hwc", "chw"), "chw"))
    scale = section.number("scale", 1 / 255, 1e-6, 1e6)  # it is divided by
    return NormalizeImage(scale, section.numbers("mean", IMAGENET_MEAN, 3), std, order)


def _to_chw(node: Located, name: str, warn: Warn) -> ToCHWImage:
    Section(node, name, ())
    return ToCHWImage()


def _keep(node: Located, name: str, warn: Warn) -> KeepKeys:
    section = Section(node, name, ("keep_keys",))
    keys = section.texts("keep_keys")
    if "image" not in keys:
        raise section.error("keep_keys", "must name image")
    return KeepKeys(keys)


def _con_aug(node: Located, name: str, warn: Warn) -> RecConAug:
    section = Section(node, name, ("prob", "ext_data_num", "image_shape", "max_text_length"))
    height, width, _ = (int(value) for value in section.numbers("image_shape", (32, 320, 3), 3))
    if min(height, width) < 1:
        raise section.error("image_shape", "must be height, width and channels")
    probability = section.number("prob", 0.5, most=1.0)
    return RecConAug(
        probability, section.integer("ext_data_num", 1), (height, width), section.integer("max_text_length", 25)
    )


def _rec_aug(node: Located, name: str, warn: Warn) -> RecAug:
    chances = ("tia_prob", "crop_prob", "reverse_prob", "noise_prob", "jitter_prob", "blur_prob", "hsv_aug_prob")
    section = Section(node, name, (*chances, "use_tia", "aug_prob"))
    common = section.number("aug_prob", 0.4, most=1.0)  # the name of older releases, one chance for all
    values = {key: section.number(key, common, most=1.0) for key in chances}
    if not section.flag("use_tia", True):
        values["tia_prob"] = 0.0
    return RecAug(**values)


def _multi_label(node: Located, name: str, warn: Warn) -> MultiLabelEncode:
    section = Section(node, name, ("gtc_encode",))
    encode = section.choice("gtc_encode", ("SARLabelEncode", "NRTRLabelEncode"), "SARLabelEncode")
    return MultiLabelEncode(cast(Any, encode))


def _ctc_label(node: Located, name: str, warn: Warn) -> CTCLabelEncode:
    Section(node, name, ())
    return CTCLabelEncode()


def _rec_resize(node: Located, name: str, warn: Warn) -> RecResizeImg:
    section = Section(node, name, ("image_shape", "infer_mode", "character_dict_path", "padding", "eval_mode"))
    for key in ("infer_mode", "eval_mode"):
        if section.flag(key, False):
            warn(f"{section.where}: {name}.{key}: lines are brought to image_shape all the same")
    shape = tuple(int(value) for value in section.numbers("image_shape", (3, 48, 320), 3))
    if shape[0] != 3 or shape[1] < 8 or shape[2] < 8:
        raise section.error("image_shape", f"must be 3 channels, height, width, got {list(shape)}")
    return RecResizeImg((3, shape[1], shape[2]), section.flag("padding", True))


def _det_resize(node: Located, name: str, warn: Warn) -> DetResizeForTest:
    known = ("limit_side_len", "limit_type", "image_shape", "keep_ratio", "resize_long", "max_side_limit")
    section = Section(node, name, known)
    if "resize_long" in section:
        warn(f"{section.where}: {name}.resize_long: shrinks to it, to multiples of 32; smaller images stay as they are")
    shape = None
    if "image_shape" in section:
        height, width = (int(value) for value in section.numbers("image_shape", None, 2))
        if height < 32 or width < 32 or height % 32 or width % 32:
            raise section.error("image_shape", f"must be multiples of 32, got {height} and {width}")
        shape = height, width
    return DetResizeForTest(
        section.integer("limit_side_len", 736, 32),
        cast(Any, section.choice("limit_type", ("min", "max"), "min")),
        section.integer("max_side_limit", 4000, 32),
        shape,
        section.flag("keep_ratio", False),
        section.integer("resize_long", 960, 32) if "resize_long" in section else None,
    )


TRANSFORMS: dict[str, Callable[[Located, str, Warn], Transform]] = {
    "DecodeImage": _decode,
    "DetLabelEncode": _det_label,
    "IaaAugment": _iaa,
    "EastRandomCropData": _crop,
    "MakeBorderMap": _border,
    "MakeShrinkMap": _shrink,
    "NormalizeImage": _normalize,
    "ToCHWImage": _to_chw,
    "KeepKeys": _keep,
    "RecConAug": _con_aug,
    "RecAug": _rec_aug,
    "MultiLabelEncode": _multi_label,
    "CTCLabelEncode": _ctc_label,
    "RecResizeImg": _rec_resize,
    "DetResizeForTest": _det_resize,
}
"""The readers of transforms by name."""
